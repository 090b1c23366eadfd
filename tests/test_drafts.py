"""Drafts lie in their owner's folder, which is a fence: without it nothing gets or loses a final name."""

import errno
import os
import signal
from pathlib import Path

import pytest

import penstock
from penstock import drafts, files
from penstock.abc import Batch
from penstock.errors import RunTakenOver
from penstock.sharing import Share, set_share
from penstock.sinks import Arrays, Collect, Files, Parquet

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def run(tmp_path):
    """A run folder in which this process makes drafts."""
    folder = tmp_path / "run"
    token = folder / ".penstock" / "drafts" / TOKEN
    token.mkdir(parents=True)
    drafts.make_in(token)
    yield folder
    drafts.forget(token)


def token_of(run):
    return run / ".penstock" / "drafts" / TOKEN


def take_over(run):
    """What a successor does first."""
    ours = run / ".penstock" / "drafts" / ("f" * 32)
    ours.mkdir()
    drafts.fence(token_of(run), ours)


def write_late(run, path, *, as_folder=False):
    """The run is taken over between the draft and its final name."""
    with files.atomic(path) as draft:
        draft.mkdir() if as_folder else draft.write_text("late")
        take_over(run)


def test_a_draft_lies_in_its_owners_folder(run):
    with files.atomic(run / "a.txt") as draft:
        assert draft.parent == token_of(run)
        draft.write_text("whole")
        assert not (run / "a.txt").exists()
    assert (run / "a.txt").read_text() == "whole"
    assert not any(token_of(run).iterdir())


def test_each_worker_has_a_folder_of_its_own_in_it(run):
    name = drafts.make_own_in(token_of(run))
    with files.atomic(run / "a.txt") as draft:
        assert draft.parent == token_of(run) / name
        draft.write_text("whole")
    assert drafts.make_own_in(token_of(run)) != name, "as two processes of one number in two containers"


def test_what_lies_in_no_run_has_its_draft_beside_it(run, tmp_path):
    names = set()
    for _ in range(2):
        with files.atomic(tmp_path / "b.txt") as draft:
            assert draft.parent == tmp_path
            names.add(draft.name)
            draft.write_text("whole")
    assert len(names) == 2
    assert not any(str(os.getpid()) == part for name in names for part in name.split("."))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.txt", "run"]


def test_of_two_runs_one_in_the_other_the_inner_one_is_meant(run):
    inner = run / "inner" / ".penstock" / "drafts" / TOKEN
    inner.mkdir(parents=True)
    drafts.make_in(inner)
    try:
        assert drafts.place_for(run / "inner" / "x") == inner
        assert drafts.place_for(run / "x") == token_of(run)
        assert drafts.place_for(run.parent / "x") is None
    finally:
        drafts.forget(inner)


def test_a_final_on_another_disk_has_its_draft_beside_it_and_needs_the_folder_too(run, monkeypatch):
    stage = run / "stage"
    stage.mkdir()
    stat = Path.stat

    class Elsewhere:
        st_dev = -1

    monkeypatch.setattr(Path, "stat", lambda path, **more: Elsewhere if path == stage else stat(path, **more))
    with files.atomic(stage / "a") as draft:
        assert draft.parent == stage
        draft.write_text("whole")
    assert [path.name for path in stage.iterdir()] == ["a"]
    with pytest.raises(RunTakenOver):
        write_late(run, stage / "b")
    assert [path.name for path in stage.iterdir()] == ["a"]


@pytest.mark.parametrize("as_folder", [False, True])
def test_no_rename_succeeds_behind_the_fence(run, as_folder):
    with pytest.raises(RunTakenOver, match="over, or somebody has removed it"):
        write_late(run, run / "a", as_folder=as_folder)
    assert not (run / "a").exists()
    with pytest.raises(RunTakenOver), files.atomic(run / "a"):
        raise AssertionError("never begun")


def test_nothing_is_removed_behind_the_fence(run):
    (run / "a").write_text("mine")
    files.discard(run / "a")
    files.discard(run / "not there")
    (run / "b").mkdir()
    (run / "b" / "inner").write_text("mine")
    files.discard(run / "b")
    assert [path.name for path in run.iterdir()] == [".penstock"]
    take_over(run)
    (run / "a").write_text("the successor's")
    for name in ("a", "not there"):
        with pytest.raises(RunTakenOver):
            files.discard(run / name)
    assert (run / "a").read_text() == "the successor's"


def test_a_folder_for_drafts_is_never_made_again(run):
    """A function of the run before makes the folders of its own scratch again: the fence holds."""
    name = drafts.make_own_in(token_of(run))
    take_over(run)
    with pytest.raises(FileNotFoundError):
        drafts.make_own_in(token_of(run))
    assert not (token_of(run) / name).exists()
    scratch = run / ".penstock" / "job" / "scratch" / TOKEN
    assert token_of(run) not in scratch.parents


def test_other_errors_stay_what_they_are(run):
    with pytest.raises(FileNotFoundError, match="no such input"), files.atomic(run / "a"):
        raise FileNotFoundError(errno.ENOENT, "no such input")
    with pytest.raises(FileNotFoundError), files.atomic(run / "no folder" / "a"):
        raise AssertionError("never begun")


# --------------------------------------------------------------------------- sinks that wake up late


def half_of(run, sink):
    """Results of one grain, of which the second comes when the run was taken over, and fails."""
    item = run / ".penstock" / "scratch" / "item"
    item.mkdir(parents=True)
    (item / "out").write_text("mine")
    yield {Files: item / "out", Parquet: {"a": 1}, Arrays: 1.0, Collect: "x" * 100_000}[type(sink)]
    take_over(run)
    for name in ("000000000-out", "part-000000000-000000001.parquet", "part-000000000-000000001.npy"):
        (run / name).write_text("the successor's")
    raise RuntimeError("a late failure")


@pytest.mark.parametrize("sink", [Files(grain=2), Parquet(grain=2), Arrays(grain=2), Collect()], ids=repr)
def test_a_late_failure_takes_nothing_from_the_successor(run, sink):
    set_share(Share(memory=1 << 20, threads=1, attempt=0, scratch=run / ".penstock" / "scratch"))
    try:
        with pytest.raises((RuntimeError, RunTakenOver)):
            sink.write(Batch(0, 2), half_of(run, sink), run)
    finally:
        set_share(None)
    kept = {path.name: path.read_text() for path in run.iterdir() if path.name != ".penstock"}
    assert len(kept) == 3
    assert set(kept.values()) == {"the successor's"}


@pytest.mark.parametrize("sink", [Parquet(grain=2), Arrays(grain=2)], ids=repr)
def test_a_late_grain_without_rows_takes_nothing_from_the_successor(run, sink):
    aside = [penstock.SetAside(item, str(item), "raised", "because") for item in (0, 1)]
    take_over(run)
    suffix = "parquet" if isinstance(sink, Parquet) else "npy"
    part = run / f"part-000000000-000000001.{suffix}"
    part.write_text("the successor's")
    with pytest.raises(RunTakenOver):
        sink.write(Batch(0, 2, (0, 1)), iter(aside), run)
    assert part.read_text() == "the successor's"


# --------------------------------------------------------------------------- workers that die


class Halves:
    """A stranger's sink that sweeps nothing; the first worker to write item 3 dies with half a part."""

    grain = 1

    def __init__(self, marker):
        self._marker = marker

    def open(self, folder, items):
        """Nothing to prepare."""

    def write(self, batch, results, folder):
        path = folder / f"part-{batch.start}.txt"
        with penstock.atomic(path) as draft, open(draft, "w") as file:
            for result in results:
                file.write(str(result))
                file.flush()
                if batch.start == 3 and not self._marker.exists():
                    self._marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return penstock.abc.Receipt((penstock.abc.Part(path.name, *files.proof(path)),))

    def close(self, receipts, folder):
        """Nothing to finish."""

    def result(self, folder):
        return sorted(path.read_text() for path in folder.glob("part-*.txt"))


def test_drafts_of_a_worker_that_died_are_removed_while_the_run_goes_on(tmp_path):
    seen = []

    def look(event):
        if isinstance(event, penstock.events.BatchDone):
            seen.append(sorted(path.name for path in tmp_path.glob("run/.penstock/drafts/*/*/*")))

    report = penstock.run(
        str, 8, tmp_path / "run", into=Halves(tmp_path / "died"), workers=1, observers=[look]
    )
    assert (tmp_path / "died").exists()
    assert list(report.result) == [str(item) for item in range(8)]
    assert seen
    assert not any(seen), "of the worker that died"
    assert penstock.verify(tmp_path / "run").ok
    assert not (tmp_path / "run" / ".penstock" / "drafts").exists()
