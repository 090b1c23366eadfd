"""The folder of a run: what is left of it when a run is refused, or ends in an unusual way."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile

import pytest

import penstock
from penstock.errors import UsageError
from penstock.events import StageEnded
from penstock.record.described import described
from penstock.supervise.record import CommandRecord


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"call": 0}])
def test_a_run_that_is_refused_leaves_no_temporary_folder(tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UsageError):
        penstock.Run(None, **wrong)
    assert not list(tmp_path.iterdir())


def test_an_observer_that_fails_at_the_end_does_not_turn_the_report_into_another(tmp_path):
    def fail(item):
        raise ValueError(item)

    def observe(event):
        if isinstance(event, StageEnded):
            raise KeyError("observer")

    into = tmp_path / "run"
    with pytest.raises(penstock.RunFailed):
        penstock.run(fail, 3, into, backend="inline")
    before = json.loads((into / "report.json").read_text())
    assert before["outcome"] == "failed"
    with pytest.raises(penstock.RunFailed), pytest.warns(RuntimeWarning, match="KeyError: 'observer'"):
        penstock.run(fail, 3, into, backend="inline", observers=[observe])
    after = json.loads((into / "report.json").read_text())
    told = ("outcome", "done", "set_aside", "message")
    assert [after[name] for name in told] == [before[name] for name in told]


def test_drafts_of_a_killed_run_are_gone_with_the_next_and_nothing_else_is(tmp_path):
    into = tmp_path / "run"
    penstock.run(abs, 3, into, backend="inline")
    before = set(into.iterdir())
    gone = 1 << 23  # the kernel gives no number over 2^22
    for name in (f".results.jsonl.{gone}.tmp", f".summary.json.{gone}.tmp"):
        (into / name).write_text("half")
    folder = into / f".000000001-out.{gone}.tmp"
    folder.mkdir()
    (folder / "inner").write_text("half")
    others = {into / ".notes.tmp", into / f".summary.json.{os.getpid()}.tmp", into / ".a.draft-12ab.tmp"}
    for path in others:
        path.write_text("not ours, or of a process that lives")
    left = into / ".penstock" / "drafts" / ("0123456789abcdef" * 2)
    left.mkdir(parents=True)
    (left / "draft-1.tmp").write_text("half")
    assert penstock.run(abs, 3, into, backend="inline").done == 3
    assert set(into.iterdir()) == before | others
    assert not left.parent.exists()


def test_a_stage_cannot_have_the_name_of_something_of_the_engines(tmp_path):
    with penstock.Run(tmp_path, backend="inline") as run:
        for name in ("drafts", "lock", "events.jsonl"):
            with pytest.raises(UsageError, match="the engine keeps something of that name"):
                run.stage(name, penstock.Job(source=penstock.sources.Range(2), function=abs))


@pytest.mark.parametrize(
    "name", ["lock", "owner", "lock.guard", "events.jsonl", "workers.log", "drafts", "job"]
)
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_a_run_folder_with_pipes_and_devices_in_it_hangs_nobody(name, kind, tmp_path):
    """It may have been unpacked from anywhere."""
    path = tmp_path / "run" / ".penstock" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with contextlib.suppress(penstock.PenstockError):
        assert penstock.run(abs, 3, tmp_path / "run", budget="400MiB", workers=1).result == [0, 1, 2]
    with contextlib.suppress(penstock.PenstockError):
        penstock.verify(tmp_path / "run")


@pytest.mark.parametrize("name", ["events.jsonl", "workers.log", "job/journal", "job/trial"])
def test_nothing_is_written_through_a_link_in_a_run_folder(name, tmp_path):
    """What a run appends to its journal and logs, or cuts off them, would be a file of yours elsewhere."""
    penstock.run(abs, 3, tmp_path / "run", backend="inline")
    mine = tmp_path / "mine"
    mine.write_text("without an end")
    path = tmp_path / "run/.penstock" / name
    path.unlink(missing_ok=True)
    path.symlink_to(mine)
    with pytest.raises(penstock.CannotResume, match="is a link, so no run made it"):
        penstock.run(abs, 3, tmp_path / "run", backend="inline")
    assert mine.read_text() == "without an end"


def test_half_a_line_behind_a_finished_journal_is_cut_off(tmp_path):
    for _ in range(2):
        penstock.run(abs, 3, tmp_path / "run", backend="inline")
        assert not penstock.verify(tmp_path / "run").faults
        with (tmp_path / "run/.penstock/job/journal").open("ab") as file:
            file.write(b"half a line")


@pytest.mark.parametrize("name", ["events.jsonl", "made_with.json", "job/journal", "../report.json"])
def test_a_folder_where_a_file_of_a_run_belongs_is_named(name, tmp_path):
    penstock.run(abs, 3, tmp_path / "run", backend="inline")
    path = tmp_path / "run/.penstock" / name
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(penstock.CannotResume, match="is a folder, so no run made it"):
        penstock.run(abs, 3, tmp_path / "run", backend="inline")


def test_a_folder_where_the_report_of_a_stage_goes_gives_way(tmp_path):
    """Else nobody could write it, the run was done, and verify found that."""
    penstock.run(abs, 3, tmp_path / "run", backend="inline")
    (tmp_path / "run/.penstock/job/report.json").unlink()
    (tmp_path / "run/.penstock/job/report.json").mkdir()
    (tmp_path / "run/results.jsonl").unlink()  # so that there is something to do
    penstock.run(abs, 3, tmp_path / "run", backend="inline")
    assert not penstock.verify(tmp_path / "run").faults


def test_a_folder_where_a_result_goes_is_named(tmp_path):
    penstock.run(abs, 3, tmp_path / "run", backend="inline")
    (tmp_path / "run/.penstock/job/journal").unlink()
    (tmp_path / "run/results.jsonl").unlink()
    (tmp_path / "run/results.jsonl").mkdir()
    with pytest.raises(penstock.PenstockError, match=r"a folder has the name of a file .*results.jsonl"):
        penstock.run(abs, 3, tmp_path / "run", backend="inline")


def test_nothing_is_cleared_away_through_a_link_in_a_run_folder(tmp_path):
    penstock.run(abs, 3, tmp_path / "run", backend="inline")
    mine = tmp_path / "work/scratch/mine"
    mine.mkdir(parents=True)
    (tmp_path / "run/.penstock/stage").symlink_to(tmp_path / "work")
    with pytest.raises(penstock.CannotResume, match="is a link, so no run made it"):
        penstock.run(abs, 3, tmp_path / "run", backend="inline")
    assert mine.is_dir()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_the_record_of_a_command_is_written_to_no_link_and_no_pipe(kind, tmp_path):
    state = tmp_path / "run/.penstock"
    state.mkdir(parents=True)
    (state / "exec.json").write_text("{}")
    mine = tmp_path / "mine"
    mine.touch()
    os.mkfifo(state / "events.jsonl") if kind == "pipe" else (state / "events.jsonl").symlink_to(mine)
    with pytest.raises(penstock.CannotResume, match="so no run made it"), CommandRecord(tmp_path / "run"):
        pass
    assert mine.read_bytes() == b""


@pytest.mark.parametrize("damage", ["pipe", "endless", "deep"])
def test_a_description_from_anywhere_is_read_without_waiting_and_in_bounded_depth(damage, tmp_path):
    path = tmp_path / "described.json"
    if damage == "deep":
        path.write_text("[" * 60_000)
    else:
        os.mkfifo(path) if damage == "pipe" else path.symlink_to("/dev/zero")
    assert described(tmp_path) == {}


REFUSED = {
    "x" * 300: "File name too long",
    "a/" * 2500: "File name too long",
    "a\0b": "null byte",
    "loop": "Too many levels of symbolic links",
    "loop/run": "Too many levels of symbolic links",
    "away": "away is a link to elsewhere/gone, which is not there",
    "away/run": "away is a link to elsewhere/gone, which is not there",
    "file/run": "Not a directory",
    "file": "file is a file; a run needs a folder",
    "pipe": "pipe is a pipe; a run needs a folder",
    "zero": "zero is a device; a run needs a folder",
    "taken": r"taken holds 1 file \(a\\nb\) but no run",
}


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: name[:10].replace("\0", "0"))
def test_what_cannot_be_a_folder_is_refused_in_a_sentence(name, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "away").symlink_to("elsewhere/gone")
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "a\nb").touch()
    with pytest.raises((UsageError, penstock.CannotResume), match=REFUSED[name]) as told:
        penstock.run(abs, 3, f"{tmp_path}/{name}", backend="inline")
    assert "\n" not in str(told.value)


def test_a_result_that_became_a_loop_of_links_is_a_fault_and_no_traceback(tmp_path):
    penstock.run(abs, 3, tmp_path / "run", backend="inline")
    (tmp_path / "run" / "results.jsonl").unlink()
    (tmp_path / "run" / "results.jsonl").symlink_to("results.jsonl")
    assert not penstock.verify(tmp_path / "run").ok


SHORT = """
import resource, sys
import cloudpickle, json, tempfile  # what is to be loaded is there
import penstock
penstock.run(abs, 3, budget="400MiB", workers=1)
resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
for left in range(8, 63, 3):
    held = []
    try:
        while True:
            held.append(open("/dev/null"))
    except OSError:
        pass
    for each in held[:left]:
        each.close()
    try:
        told = penstock.run(abs, 3, sys.argv[1] + str(left), budget="400MiB", workers=1).done
    except penstock.PenstockError as error:
        told = str(error)
    for each in held[left:]:
        each.close()
    print(left, told)
"""


def test_where_no_more_files_may_be_opened_that_is_said(tmp_path):
    """Whichever was one too many: of the lock, the journal, the workers, or to look at them."""
    out = subprocess.run(
        [sys.executable, "-c", SHORT, f"{tmp_path}/run-"], capture_output=True, text=True, timeout=120
    )
    assert out.returncode == 0, out.stderr
    told = [line.partition(" ")[2] for line in out.stdout.splitlines()]
    assert all(each == "3" or "ulimit -n says how many may be" in each for each in told), told
    assert len(told) == 19
    assert told[-1] == "3"
