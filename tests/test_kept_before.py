"""A run folder of an earlier version, whose journal knows no owners, is read, verified, reported and resumed.

``tests/kept_before/run`` was made by the version before a run folder had one owner: a stage that had ended,
with an item set aside, and one that was interrupted with 6 of 12 items kept.
"""

import importlib
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import penstock
from penstock.cli import main
from penstock.record import journal
from penstock.record.lock_file import read_owner

HERE = Path(__file__).parent / "kept_before"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(HERE / "run", tmp_path / "run"))


@pytest.fixture
def job(monkeypatch):
    """The module of its functions, under the name that its key tells."""
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("kept_before")
    del sys.modules["kept_before"]


def book(folder, stage):
    return folder / ".penstock" / stage / "journal"


def test_it_is_read(folder):
    past = journal.read(book(folder, "squares"))
    assert (past.owner, past.kept, sorted(past.aside), past.closed) == (0, 9, [3], True)
    past = journal.read(book(folder, "texts"))
    assert (list(past.done), past.closed) == ([(0, 4), (10, 12)], False)
    assert [batch.start for batch, _ in journal.receipts(book(folder, "texts"), "")] == [0, 2, 10]


def test_it_is_verified(folder):
    found = penstock.verify(folder)
    assert [(stage.stage, stage.done, stage.missing) for stage in found.stages] == [
        ("squares", 9, 0),
        ("texts", 6, 6),
    ]
    assert [fault.file for fault in found.faults] == [".penstock/texts/journal"]
    assert "6 missing: 4-9" in found.faults[0].found
    (folder / "texts" / "000000002-text.txt").write_text("item 7\n")
    assert len(penstock.verify(folder).faults) == 2


def test_it_is_reported(folder):
    told = CliRunner().invoke(main, ["report", str(folder)])
    assert told.exit_code == 0, told.output
    assert "squares" in told.output
    assert "texts" in told.output


def test_it_is_resumed(folder, job):
    before = {path.name: path.read_bytes() for path in (folder / "texts").iterdir()}
    with penstock.Run(folder, budget="500MiB", set_aside=True, backend="inline") as run:
        squares, texts = job.do(run)
    assert squares.missing == (3,)
    assert [path.read_text() for path in texts.open()] == [f"item {item}\n" for item in range(12)]
    assert before.items() <= {path.name: path.read_bytes() for path in (folder / "texts").iterdir()}.items()
    assert penstock.verify(folder).ok
    lines = book(folder, "texts").read_bytes().splitlines()
    assert [b'"owner":1' in line for line in lines] == [False] * 6 + [True] * (len(lines) - 6)
    assert read_owner(folder / ".penstock").number == 1


def test_it_is_resumed_by_workers(folder, job):
    with penstock.Run(folder, budget="500MiB", set_aside=True, workers=1) as run:
        _, texts = job.do(run)
    assert len(texts.open()) == 12
    assert penstock.verify(folder).ok
