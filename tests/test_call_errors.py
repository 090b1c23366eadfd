"""What a call raises arrives as itself, whatever it is made of."""

import sys
import threading

import pytest

from penstock.pool.calls import _failed
from penstock.pool.spool import load


class Two(Exception):
    """Cannot be made from its ``args``."""

    def __init__(self, one, other):
        super().__init__(f"{one} {other}")
        self.lock = threading.Lock()


def arrived(error, folder):
    try:
        raise error
    except BaseException as raised:
        succeeded, (came, text) = load(_failed(raised, folder))
    assert succeeded is False
    assert type(error).__name__ in text
    return came


def test_a_group_is_caught_by_its_parts(tmp_path):
    noted = ValueError(1)
    noted.add_note("seen")
    error = ExceptionGroup("several", [noted, ExceptionGroup("inner", [KeyError("k"), Two(1, 2)])])
    error.add_note("of all")
    seen = {}
    try:
        raise arrived(error, tmp_path)
    except* ValueError as group:
        seen["value"] = group
    except* Two as group:
        seen["two"] = group
    except* KeyError as group:
        seen["key"] = group
    assert str(seen["two"].exceptions[0].exceptions[0]) == "1 2"
    assert seen["value"].exceptions[0].__notes__ == ["seen"]
    assert seen["value"].__notes__ == ["of all"]
    assert seen["key"].exceptions[0].message == "inner"


def test_a_group_of_interrupts_is_one(tmp_path):
    came = arrived(BaseExceptionGroup("both", [KeyboardInterrupt(), ValueError(2)]), tmp_path)
    assert type(came) is BaseExceptionGroup
    assert [type(each) for each in came.exceptions] == [KeyboardInterrupt, ValueError]


class Thing:
    """Is equal to itself only."""


@pytest.mark.parametrize("about", [KeyError("in"), Thing(), float("nan"), [Thing(), ""], {"a": Thing()}])
def test_an_exception_about_what_has_no_equal_is_itself(about, tmp_path):
    came = arrived(RuntimeError("while", about), tmp_path)
    assert type(came) is RuntimeError
    assert came.args[0] == "while"
    assert type(came.args[1]) is type(about)


def test_one_that_says_something_else_when_it_is_made_again_is_put_together(tmp_path):
    class Twice(Exception):
        def __init__(self, text):
            super().__init__(f"({text})")

    sys.modules[__name__].Twice = Twice
    Twice.__qualname__ = "Twice"
    try:
        assert str(arrived(Twice("a"), tmp_path)) == "(a)"
    finally:
        del sys.modules[__name__].Twice
