"""What ``penstock watch`` and ``penstock ls`` show of runs, from the files of their folders alone."""

import io
import json
import os
import re
import sys
from dataclasses import replace

import pytest
from made_up_runs import Stage, tiny

import penstock
from penstock import event_lines, layout
from penstock import events as ev
from penstock.cli import main
from penstock.cli.watch import Screen, follow
from penstock.record.following import LockWatch
from penstock.record.lock import RunLock
from penstock.record.lock_file import Holder


class Held:
    """A holder that is there as long as ``held`` says."""

    def __init__(self, *, held=True):
        self.held = held

    def __call__(self, _):
        return Holder(1, "here", "", 0.0, alive=True) if self.held else None


class Telling:
    """A sleep: each time it writes some more events, and may end the run."""

    def __init__(self, folder, *pieces):
        self.path = folder / layout.STATE / layout.EVENTS
        self.path.parent.mkdir(exist_ok=True, parents=True)
        self.pieces, self.holder = list(pieces), Held(held=False)

    def __call__(self, _):
        held, events = self.pieces.pop(0)
        with open(self.path, "a") as file:
            file.writelines(f"{event_lines.to_line(event)}\n" for event in events)
        self.holder.held = held


def followed(folder, *pieces, wait=True, live=False):
    """What a screen says of a run of which the pieces are told, one a look."""
    stream, telling = io.StringIO(), Telling(folder, *pieces)
    with Screen(folder, stream=stream, live=live) as screen:
        follow(folder, screen, wait=wait, sleep=telling, watched=LockWatch(folder, holder=telling.holder))
    assert telling.pieces == []
    return stream.getvalue()


def test_a_run_is_followed_from_before_its_beginning_through_a_resume_to_its_end(tmp_path):
    first = list(Stage(outcome="interrupted"))
    half = len(first) // 2
    done = first[-1].done
    second = list(Stage(start=first[-1].at + 100, done=done))
    said = followed(
        tmp_path, (True, first[:half]), (True, first[half:-1]), (False, first[-1:]),
        (True, second[:-1]), (False, second[-1:]),
    )  # fmt: skip
    waits, goes, *_ = lines = said.splitlines()
    assert waits.startswith("waiting for a run to begin in ")
    assert " of 600 items" in goes
    stopped = f"interrupted at {done:,} of 600 items; to go on: penstock resume {tmp_path}"
    assert stopped in lines
    assert any(line.startswith("set aside sub-") for line in lines)


def test_a_run_that_dies_is_told_with_what_is_lost_and_waited_for(tmp_path):
    events = list(Stage())
    said = followed(tmp_path, (True, events[:-40]), (False, []), (True, events[-40:]), (False, []))
    (died,) = [line for line in said.splitlines() if "the last run died at" in line]
    assert "working on items" in died
    assert died.endswith(f"to go on: penstock resume {tmp_path}")


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([], "waiting for a run to begin in "),
        ([Stage(outcome="interrupted")], "interrupted at "),
        ([list(Stage())[:-1]], "the last run died at "),
    ],
)
def test_without_waiting_it_leaves_when_nobody_runs_there(tmp_path, pieces, said):
    telling = Telling(tmp_path, *((False, piece) for piece in pieces))
    while telling.pieces:
        telling(1)
    assert said in followed(tmp_path, wait=False)


def test_a_terminal_is_drawn_on_and_left_clean(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    events = list(Stage())
    stream, telling = io.StringIO(), Telling(tmp_path, (True, events[:300]), (False, events[300:]))
    stream.isatty = lambda: True
    with Screen(tmp_path, stream=stream, live=True) as screen:
        follow(tmp_path, screen, wait=True, sleep=telling, watched=LockWatch(tmp_path, holder=telling.holder))
    said = stream.getvalue()
    assert "worker 0" in said
    assert "memory" in said
    assert "\x1b[2K" in said


@pytest.fixture
def finished(tmp_path):
    """A folder of runs: done, done with an item set aside, failed, died, running, and no run."""

    def fails(x):
        if x == 1:
            raise ValueError("no header")
        return x

    runs = tmp_path / "runs"
    penstock.run(abs, 3, runs / "done", backend="inline")
    penstock.run(fails, 3, runs / "2026" / "some", backend="inline", set_aside=True)
    with pytest.raises(penstock.PenstockError):
        penstock.run(fails, 3, runs / "failed", backend="inline")
    for name in ("died", "running"):
        state = runs / name / layout.STATE
        state.mkdir(parents=True)
        with open(state / layout.EVENTS, "w") as file:
            file.writelines(f"{event_lines.to_line(event)}\n" for event in list(tiny())[:-1])
    lock = RunLock(runs / "running" / layout.STATE)
    dead = runs / "died" / layout.STATE / layout.LOCK
    told = json.loads((runs / "running" / layout.STATE / layout.LOCK).read_bytes())
    dead.write_text(json.dumps(told | {"started": "1"}) + "\n")
    (runs / "no run").mkdir()
    (runs / "link").symlink_to(runs / "done")
    yield runs
    lock.release()


def test_the_runs_below_a_folder_are_listed_with_what_became_of_them(finished, runner):
    found = runner.invoke(main, ["ls", str(finished)])
    assert found.exit_code == 0, found.output
    head, *rows = found.stdout.splitlines()
    assert head.split()[:3] == ["run", "outcome", "items"]
    told = {row.split()[0].removeprefix(f"{finished}/"): row for row in rows}
    assert set(told) == {"done", "2026/some", "failed", "died", "running"}
    assert "3 of 3" in told["done"]
    assert "2 of 3, 1 set aside" in told["2026/some"]
    for name in ("done", "failed", "died", "running"):
        assert told[name].split()[1] == name
    assert told["2026/some"].split()[1] == "done"


def test_they_are_listed_as_json_too(finished, runner):
    found = runner.invoke(main, ["ls", str(finished), "--json"])
    told = {
        os.path.relpath(each["folder"], finished): each for each in map(json.loads, found.stdout.splitlines())
    }
    assert told["2026/some"]["set_aside"] == 1
    assert told["done"]["done"] == told["done"]["items"] == 3
    assert told["done"]["budget"] > 0
    # Of what has no report its events tell.
    for name in ("died", "running"):
        assert (told[name]["done"], told[name]["items"]) == (3, 3)
        assert told[name]["peak"] > 0


def test_a_supervised_command_is_listed_by_how_it_ended(tmp_path, runner):
    state = tmp_path / "exec" / layout.STATE
    state.mkdir(parents=True)
    (state / layout.EXEC).write_text('{"command": ["make", "all"], "code": 2, "advised": 67108864}')
    at = 1.7e9
    with open(state / layout.EVENTS, "w") as file:
        for event in (
            ev.StageStarted(at=at, items=1, done=0, budget=1 << 30, origin="cgroup", workers=None),
            ev.CommandStarted(at=at, pid=7, command=("make", "all"), folder="/x"),
            ev.MemoryRead(at=at + 1, used=5 << 20, workers={"7": 5 << 20}, free=1 << 29),
            ev.StageEnded(at=at + 2, outcome="failed", done=0, set_aside=0, seconds=2.0, cpu=1.0,
                          peak=5 << 20, projected=0, message="it ended with exit code 2"),
        ):  # fmt: skip
            file.write(event_lines.to_line(event) + "\n")
    row = runner.invoke(main, ["ls", str(tmp_path)]).stdout.splitlines()[1]
    assert row.split()[1] == "failed"
    assert "5.0 MiB" in row
    assert " of 1 " not in row
    told = runner.invoke(main, ["report", str(tmp_path / "exec"), "--for", "slurm"])
    assert "make all" in told.stdout
    assert "exit code 2" in told.stdout
    assert "--mem=64M" in told.stdout
    for word in ("items", "workers", "batches", "reserved", "to go on"):
        assert word not in told.output

    (state / layout.EXEC).write_text(
        '{"command": ["make"], "code": 137, "advised": 67108864, "complete": false}'
    )
    told = runner.invoke(main, ["report", str(tmp_path / "exec"), "--for", "slurm"])
    assert re.search(r"needed +more than 5.0 MiB", told.stdout)
    assert "try #SBATCH --mem=64M" in told.stdout


def test_a_folder_without_runs_and_one_that_is_not_there(tmp_path, runner):
    nothing = runner.invoke(main, ["ls", str(tmp_path)])
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "no runs in" in nothing.stderr
    assert runner.invoke(main, ["ls", str(tmp_path / "x")]).exit_code == 2


def test_a_damaged_report_is_no_report(finished, runner):
    (finished / "done" / layout.REPORT).write_text('{"schema": 1, "items": "many"}')
    found = runner.invoke(main, ["ls", str(finished / "done"), "--json"])
    assert json.loads(found.stdout)["outcome"] == "unknown"


@pytest.mark.parametrize(("name", "code"), [("done", 0), ("2026/some", 5), ("failed", 1)])
def test_a_run_that_is_over_is_told_with_its_exit_code(finished, runner, name, code):
    found = runner.invoke(main, ["watch", str(finished / name)])
    assert found.exit_code == code, found.output
    assert "measured" in found.stdout


@pytest.mark.parametrize(
    ("outcome", "told", "code"),
    [
        ("failed", 3, 3), ("failed", 4, 4), ("failed", 137, 137), ("interrupted", 143, 143),
        ("failed", None, 1), ("interrupted", None, 130), ("failed", 70_000, 1),
        ("failed", 0, 1), ("done", 3, 5),
    ],
)  # fmt: skip
def test_the_code_that_was_told_of_the_end_is_the_exit_code(tmp_path, runner, outcome, told, code):
    state = tmp_path / layout.STATE
    state.mkdir()
    *events, end = list(Stage(outcome=outcome))
    lines = [event_lines.to_line(event) + "\n" for event in (*events, replace(end, code=told))]
    (state / layout.EVENTS).write_text("".join(lines))
    found = runner.invoke(main, ["watch", "--no-wait", str(tmp_path)])
    assert found.exit_code == code, found.output


def raises(_):
    raise ValueError("no")


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (raises, {}),
        (abs, {"budget": "1MiB"}),
        (str, {}),
        (raises, {"set_aside": True}),
        (lambda _: {0: 1}, {}),
    ],
)
def test_the_end_of_a_run_is_told_with_the_code_of_its_error(tmp_path, runner, function, options):
    code = 0
    try:
        report = penstock.run(function, 3, tmp_path / "x", backend="inline", **options)
    except penstock.PenstockError as error:
        code = error.exit_code
    else:
        code = 5 if report.set_aside_total else 0
    if not (tmp_path / "x" / layout.STATE / layout.EVENTS).is_file():
        pytest.fail("it has not begun")
    found = runner.invoke(main, ["watch", "--no-wait", str(tmp_path / "x")])
    assert found.exit_code == code, found.output


@pytest.mark.parametrize(("folder", "flags"), [("no run", ["--no-wait"]), ("x", ["--no-wait"]), ("x/y", [])])
def test_where_no_run_can_be_watched_it_says_so(finished, runner, folder, flags):
    found = runner.invoke(main, ["watch", str(finished / folder), *flags])
    assert found.exit_code == 2, found.output


def test_names_from_outside_are_nothing_that_a_terminal_obeys(tmp_path, runner):
    folder = tmp_path / "a\x1b[31mb"
    penstock.run(abs, 3, folder, backend="inline")
    for verb in ("ls", "watch"):
        found = runner.invoke(main, [verb, str(folder)])
        assert "\x1b" not in found.output
        assert "\\x1b[31m" in found.output, sys.stderr
