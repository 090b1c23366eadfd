"""The error tree: as drawn, with an exit code each, and able to travel."""

import pickle
import re
from pathlib import Path

import pytest

import penstock
from penstock import errors

CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.PenstockError)
]


def drawn():
    """(name, depth) of every line of the tree in the docstring."""
    return [
        (match[2], len(match[1]) // 4)
        for match in re.finditer(r"^    ([│├└─ ]*)([A-Z]\w+)", errors.__doc__, re.MULTILINE)
    ]


def test_the_drawing_is_the_tree():
    above, told = [], {}
    for name, depth in drawn():
        above[depth:] = [name]
        told[name] = above[depth - 1] if depth else None
    for name, parent in told.items():
        base = getattr(errors, name).__mro__[1].__name__
        assert base == (parent or "Exception")
    assert {cls.__name__ for cls in CLASSES} == set(told)


def test_the_drawing_in_the_docs_is_the_same():
    docs = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
    text = docs[docs.index("```text\nPenstockError") :]
    shown = re.findall(r"^([│├└─ ]*)([A-Z]\w+)", text[: text.index("\n```\n")], re.MULTILINE)
    assert [(name, len(left) // 4) for left, name in shown] == drawn()


def test_people_catch_what_they_know():
    """``except MemoryError``, ``except ValueError``: what a caller writes who has never heard of us."""
    with pytest.raises(MemoryError):
        raise errors.ItemTooLarge("too large", needed=3)
    with pytest.raises(ValueError, match="wrong"):
        raise errors.UsageError("wrong")


CODES = {"CannotFit": 3, "BadInput": 4, "SourceChanged": 4, "PluginError": 2, "UsageError": 2}


@pytest.mark.parametrize("cls", CLASSES)
def test_exit_codes(cls):
    expected = next((CODES[base.__name__] for base in cls.__mro__ if base.__name__ in CODES), 1)
    assert cls.exit_code == expected


def test_each_has_a_docstring():
    assert all(cls.__doc__ for cls in CLASSES)


@pytest.mark.parametrize(
    "error",
    [
        errors.BadInput("no number", file="a.csv", place="line 3"),
        errors.BadInput("no number"),
        errors.ItemTooLarge("too large", needed=3),
        errors.WorkerDied("died"),
        errors.SetAside(3, "sub", "memory", "needs more", "MemoryError", "tb", 7),
        errors.UsageError("wrong"),
        errors.UnknownPlugin("sink", "x", ["b", "a"]),
        errors.MissingExtra("It", "zarr", "snv"),
    ],
)
def test_they_cross_between_processes(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_wording():
    assert str(errors.BadInput("no number", file="a.csv", place="line 3")) == "a.csv, line 3: no number"
    assert str(errors.UnknownPlugin("sink", "x", ["b", "a"])) == "no sink is called 'x'; known: a, b"
    typo = errors.UnknownPlugin("sink", "parqet", ["parquet", "files"])
    assert str(typo) == "no sink is called 'parqet'; did you mean 'parquet'? Known: files, parquet"
    assert "known: none" in str(errors.UnknownPlugin("sink", "x", []))
    assert "pip install 'penstock[snv]'" in str(errors.MissingExtra("It", "zarr", "snv"))
    assert str(errors.SetAside(3, "sub-031", "memory", "needs more")) == "item sub-031: needs more"
    assert "Traceback" not in repr(errors.SetAside(3, "sub-031", "raised", "no", "E", "Traceback ..."))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"set_aside": -1}, "set_aside must be True, False or a number of items, not -1"),
        ({"set_aside": "few"}, "set_aside must be True, False or a number of items, not 'few'"),
        ({"workers": "two"}, "workers must be a number of at least 1, not 'two'"),
        ({"workers": 0}, "workers must be a number of at least 1, not 0"),
        ({"call": "ten"}, "call must be a number of at least 1, not 'ten'"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(wrong, said):
    with pytest.raises(errors.UsageError, match=re.escape(said)):
        penstock.run(abs, [1], **wrong)
