"""What others wrote is seen, bounded, and obeyed by no terminal."""

import dataclasses
import json
import os

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import foreign, storage
from penstock.engine.worker import exceptions
from penstock.errors import BadInput, PenstockError, SetAside
from penstock.report.report import Report
from penstock.sources.items import Items

CLIPBOARD = "\x1b]52;c;ZXZpbA==\x07"


class Raises(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class NoText(Exception):
    def __str__(self):
        return 7

    __repr__ = __str__


class Leaves(Exception):
    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class Sly(str):
    def __getitem__(self, _):
        raise RuntimeError("no")

    def __len__(self):
        raise RuntimeError("no")


class GivesSly(Exception):
    def __str__(self):
        return Sly("sly")

    __repr__ = __str__


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int = 3


class Huge(Exception):
    def __str__(self):
        return "x" * 5_000_000


class SyntaxOfAnotherKind(SyntaxError):
    @property
    def lineno(self):
        raise RuntimeError("no")


class AnswersNothing(Exception):
    def __getattribute__(self, _):
        raise RuntimeError("no")


class Lies(Exception):
    """Of whatever kind one asks for."""

    @property
    def __class__(self):
        return MemoryError


class OddFile(OSError):
    def __getattribute__(self, _):
        raise RuntimeError("no")


BAD = [Raises, NoText, Leaves, GivesSly, Frozen, Huge, SyntaxOfAnotherKind, AnswersNothing, Lies, OddFile]


@given(st.text(st.characters(), max_size=300))
def test_a_line_holds_nothing_that_a_terminal_obeys(text):
    told = foreign.line(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in told)
    assert not any("\ud800" <= letter <= "\udfff" for letter in told)
    told.encode()
    assert len(told) <= 10 * len(text)


def test_controls_are_made_visible():
    assert foreign.line(f"a{CLIPBOARD}\nb") == "a\\x1b]52;c;ZXZpbA==\\x07\\nb"
    assert foreign.line("\x9b31m \u202etxt.exe \udcff") == "\\x9b31m \\u202etxt.exe \\udcff"
    assert foreign.lines("a\n\tb\r\x1b") == "a\n\tb\\r\\x1b"
    assert foreign.in_html("<b>\x00\n") == "&lt;b&gt;\\x00\n"


def test_ordinary_texts_stay_as_they_are():
    for text in ("sample_7.fa.gz", "Grüße", "患者 12", "👩\u200d🔬", "می\u200cخواهم"):
        assert foreign.line(text) == text


def test_a_long_text_keeps_both_ends():
    told = foreign.line("a" * 5000 + "b" * 5000)
    assert told.startswith("aaaa")
    assert told.endswith("bbbb")
    assert len(told) <= foreign.LONGEST + 5


@pytest.mark.parametrize("kind", BAD)
def test_no_exception_is_too_odd_to_be_told_of(kind):
    error = None
    try:
        raise kind
    except kind as caught:
        error = caught
    assert not exceptions.out_of_memory(error)
    assert not storage.is_full(error)
    aside = exceptions.set_aside(Items([0, 1]), 1, error, private=False)
    assert kind.__name__ in aside.message
    assert len(aside.message) < 3_000
    assert len(aside.traceback) < 30_000
    exceptions.forget_frames(error)
    assert foreign.frames_of(error) is None
    assert kind.__name__ in foreign.shown(error) or kind in (Huge, GivesSly)


def test_no_exception_is_too_odd_for_a_run():
    def function(item):
        if item:
            raise BAD[item - 1]
        return item

    report = penstock.run(function, len(BAD) + 1, set_aside=True, backend="inline")
    assert [each.error.rpartition(".")[2] for each in report.set_aside] == [kind.__name__ for kind in BAD]


def test_names_of_items_are_bounded_and_never_a_failure():
    class Source:
        def name(self, item):
            return [Raises(), Sly("x" * 9_000), 1 / item if item == 2 else "n"][item] if item < 3 else 1 / 0

    assert "Raises" in exceptions.item_name(Source(), 0, private=False)
    assert len(exceptions.item_name(Source(), 1, private=False)) < 1_010
    assert exceptions.item_name(Source(), 3, private=False) == "3"


def test_errors_and_reports_show_what_others_wrote():
    name = f"a{CLIPBOARD}\nrun  done  forged"
    aside = SetAside(0, name, "raised", f"raised ValueError: {CLIPBOARD}\nforged")
    report = Report(stage="s\x1b", origin="o\x1b", message="m\n\x1b", set_aside=(aside,), set_aside_total=1)
    for text in (
        str(report), report._repr_html_(), str(aside), repr(aside), str(PenstockError(CLIPBOARD)),
        str(BadInput("not it", file=name)),
    ):  # fmt: skip
        assert "\x1b" not in text
        assert "\x07" not in text
    assert not any(line.startswith(("run  done", "forged")) for line in str(report).splitlines())
    assert "\n" not in str(BadInput("not it", file=name))
    assert json.loads(report.to_json())["set_aside"][0]["name"] == name  # as it is, for programs


def test_json_is_read_in_bounded_depth_and_size(tmp_path):
    for deep in (201, 5_000, 200_000):
        with pytest.raises(ValueError, match="deeper"):
            foreign.parse("[" * deep + "]" * deep)
    assert foreign.parse("[" * 200 + "]" * 200)
    path = tmp_path / "x.json"
    path.write_text("[1]")
    assert foreign.read_json(path) == [1]
    with pytest.raises(ValueError, match="at most 2"):
        foreign.read_json(path, most=2)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="regular"):
            foreign.opened(path)
        with pytest.raises(OSError, match="no regular file"):
            foreign.read_start(path, 10)


def test_parts_lie_in_their_folder(tmp_path):
    folder = tmp_path / "run"
    (folder / "a").mkdir(parents=True)
    (folder / "out").symlink_to("/etc")
    (folder / "zero").symlink_to("/dev/zero")
    assert foreign.within(folder, "a/b.txt") == folder / "a/b.txt"
    assert foreign.within(folder, ".") == folder / "."
    for name in ("/dev/zero", "../run/a", "a/../../b", "a//b", "", "..", "x\0y", "out/hostname", "zero", 7):
        with pytest.raises(OSError, match=r"plain name|leads out"):
            foreign.within(folder, name)


@pytest.mark.parametrize("quiet", [None, False, True])
def test_a_warning_is_one_line_and_none_where_quiet_was_asked_for(capsys, quiet):
    if quiet is None:  # called from Python
        foreign.warn("\x1b[2J")
    else:
        with click.Context(click.Command("run")) as outer, click.Context(click.Command("kmers"), outer):
            outer.meta[foreign.QUIET] = quiet
            foreign.warn("\x1b[2J")
    assert capsys.readouterr().err == ("" if quiet else "warning: \\x1b[2J\n")
