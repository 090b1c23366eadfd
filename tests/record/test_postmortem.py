"""After everything was killed at once: when it died, at which items, at what memory, and what is lost."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from waiting import LIMIT, Lateness, read_bytes, until

import penstock
from penstock import event_lines, sinks
from penstock import events as ev
from penstock.intervals import Intervals
from penstock.record import journal, postmortem
from penstock.record.lock_file import Holder
from penstock.record.postmortem import PostMortem, examine
from penstock.sources import Range

PENSTOCK = Path(sys.executable).with_name("penstock")
KILLS = 12
JOB = """
import os
import time
import penstock

def work(item):
    log = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"%d\\n" % item)
    os.close(log)
    held = bytearray(6 << 20)
    time.sleep(float(os.environ.get("ITEM_SECONDS", "0.05")))
    return item + len(held) * 0

job = penstock.Job(source=penstock.sources.Range(240), function=work, into="collect")
"""


def start(folder, *words, **environ):
    return subprocess.Popen(
        [PENSTOCK, *words, "--budget", "300MiB", "--workers", "2"], cwd=folder,
        env=os.environ | {"CALLS": str(folder / "calls"), **environ}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def tree(pid):
    """A process and all below it, the oldest first."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, read_bytes(task).split())
    return found


def kill_all(process):
    """As the kernel or a scheduler would: everything at once, without a word."""
    assert process.poll() is None, "it ended before"
    for pid in tree(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    at = time.time()
    process.communicate(timeout=LIMIT)
    return at


def killed_run(folder, seconds):
    """A run that was killed so many seconds after its first batch began; when that was."""
    folder.mkdir()
    (folder / "mine.py").write_text(JOB)
    process = start(folder, "run", "mine.py:job", "--into", "r")
    events = folder / "r" / ".penstock" / "events.jsonl"
    until(lambda: b'"batch_started"' in read_bytes(events), program=process)
    time.sleep(seconds)
    return kill_all(process)


def calls(folder):
    return [int(line) for line in (folder / "calls").read_text().split()]


def said_by(folder, *words):
    done = subprocess.run([PENSTOCK, *words], cwd=folder, capture_output=True, text=True, timeout=LIMIT)
    assert "Traceback" not in done.stderr
    return done


def doing(found):
    """What is said of the batches; none runs between the end of one and the beginning of the next."""
    return f"working on items {postmortem.ranges(found.running)}" if found.running else "no batch running"


def test_kills_of_everything_at_random_moments(tmp_path):
    """Each names time, items and memory, and only items of running batches are lost."""
    chance = random.Random(20)

    def one(number, seconds):
        folder = tmp_path / str(number)
        with Lateness() as late:
            at = killed_run(folder, seconds)
        found = postmortem.of_run(folder / "r")
        past = journal.read(folder / "r" / ".penstock" / "job" / "journal")
        assert -2.5 - late.slack < found.at - at < 0.5, "the time of its death"
        assert -2.5 - late.slack < found.read_at - at < 0.5, "a young reading"
        assert 10 << 20 < found.used < 300 << 20 == found.budget
        assert (found.items, found.kept) == (240, past.kept)
        running = Intervals(found.running)
        lost = [item for pair in found.running for item in range(*pair) if item not in past.done]
        assert found.lost == len(lost), "none, when it was killed with a batch just journaled"
        assert all(item in past.done or item in running for item in calls(folder)), "what was being worked"
        assert str(found).startswith("the last run died at 20")
        assert f"{doing(found)}; {past.kept} of 240 items are kept" in str(found)
        return bool(running)

    with ThreadPoolExecutor(2) as pool:  # cores
        named = list(pool.map(one, range(KILLS), [chance.uniform(0, 0.7) for _ in range(KILLS)]))
    assert sum(named) > KILLS / 2, "the items; none, when it was killed between two batches"


def test_report_verify_and_resume_say_it_and_resume_repeats_only_what_was_running(tmp_path):
    folder = tmp_path / "a"
    killed_run(folder, 0.3)
    found = postmortem.of_run(folder / "r")
    before = calls(folder)
    report = said_by(folder, "report", "r", "--page")
    assert str(found) in report.stdout
    assert " died " in report.stdout
    assert "Died without a word" in (folder / "r" / "report.html").read_text()
    assert doing(found) in (folder / "r" / "report.html").read_text()
    as_json = json.loads(said_by(folder, "report", "r", "--json").stdout)
    assert as_json["outcome"] == "died"
    assert as_json["died"]["message"] == str(found)
    assert as_json["died"]["running"] == [list(pair) for pair in found.running]
    verified = said_by(folder, "verify", "r")
    assert verified.returncode == 1
    assert str(found) in verified.stdout
    assert ".penstock/job/journal: expected 240 items kept or set aside, found" in verified.stdout

    resumed = start(folder, "resume", "r", ITEM_SECONDS="0.01")
    _, told = resumed.communicate(timeout=LIMIT)
    assert resumed.returncode == 0, told
    assert found.sentence("the run before this one") in told
    again = calls(folder)[len(before) :]
    repeated = [item for item in again if item in before]
    assert len(repeated) <= found.lost
    assert all(item in Intervals(found.running) for item in repeated)
    assert sorted(set(before + again)) == list(range(240))

    # Once is enough: the run that went on ended well.
    assert postmortem.of_run(folder / "r") is None
    assert said_by(folder, "verify", "r").returncode == 0
    assert json.loads(said_by(folder, "report", "r", "--json").stdout)["died"] is None
    assert "died at" in (folder / "r" / "report.html").read_text(), "the page keeps the history"


def slow(item):
    time.sleep(1.8)
    return item


@dataclass(frozen=True)
class SlowToClose(sinks.Collect):
    """Takes long to put its results together."""

    def close(self, receipts, folder):
        time.sleep(1.8)
        return super().close(receipts, folder)


def test_the_last_reading_is_young_whatever_the_run_is_doing(tmp_path):
    job = penstock.Job(source=Range(1), function=slow, into=SlowToClose())
    with Lateness() as late:
        job.run(tmp_path / "r", budget="300MiB")
    events = list(event_lines.read(tmp_path / "r" / ".penstock" / "events.jsonl"))
    readings = [event.at for event in events if isinstance(event, ev.MemoryRead)]
    (first,) = [event.at for event in events if isinstance(event, ev.BatchStarted)]
    assert readings[0] <= first, "there is one before the first batch"
    assert events[-1].at - first > 3.5
    assert max(b - a for a, b in pairwise([*readings, events[-1].at])) < 1.5 + late.slack


def test_a_running_run_has_not_died(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "mine.py").write_text(JOB)
    process = start(folder, "run", "mine.py:job", "--into", "r", ITEM_SECONDS="0.03")
    journal_of_it = folder / "r" / ".penstock" / "job" / "journal"
    until(lambda: b'"kept"' in read_bytes(journal_of_it), program=process)
    assert postmortem.of_run(folder / "r") is None
    report = json.loads(said_by(folder, "report", "r", "--json").stdout)
    verified = said_by(folder, "verify", "r")
    if process.poll() is None:
        assert (report["outcome"], report["died"]) == ("running", None)
        assert f"running: process {process.pid} on " in verified.stdout
        assert verified.returncode == 1
    process.communicate(timeout=LIMIT)
    assert postmortem.of_run(folder / "r") is None


def test_a_supervised_command_that_died_with_its_supervisor_is_told_of(tmp_path):
    code = "import time; held = bytearray(50 << 20); time.sleep(1000)"
    words = [PENSTOCK, "exec", "--into", "r", "--", sys.executable, "-c", code]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    events = tmp_path / "r" / ".penstock" / "events.jsonl"

    def most():
        """What it was seen to hold."""
        read = [event.used for event in event_lines.read(events) if isinstance(event, ev.MemoryRead)]
        return max(read, default=0)

    with Lateness() as late:
        until(lambda: events.is_file() and most() > 50 << 20, program=process)
        at = kill_all(process)
    found = postmortem.of_run(tmp_path / "r")
    assert found.command
    assert found.used > 50 << 20
    assert -2.5 - late.slack < found.at - at < 0.5
    report = said_by(tmp_path, "report", "r")
    assert str(found) in report.stdout
    assert "in use, the command running" in report.stdout
    refused = said_by(tmp_path, "verify", "r")
    assert (refused.returncode, refused.stdout) == (2, "")


# --------------------------------------------------------------------------- from events alone


def started(at=100.0, stage="", items=400, done=300):
    return ev.StageStarted(
        at=at, stage=stage, items=items, done=done, budget=2 << 30, origin="you", workers=None
    )


def batch(number, start, stop, at=101.0, stage=""):
    return ev.BatchStarted(
        at=at, stage=stage, batch=number, worker=number, start=start, stop=stop, call=1, projected=0
    )


def done(number, start, stop, at=102.0, stage=""):
    return ev.BatchDone(
        at=at, stage=stage, batch=number, worker=number, start=start, stop=stop, seconds=1.0, peak=5,
        projected=6, retained=0,
    )  # fmt: skip


def failed(number, start, stop, at=102.0):
    return ev.BatchFailed(
        at=at, batch=number, worker=number, start=start, stop=stop, cause="killed", item=start, held=5
    )


def read(used, at=103.0, stage=""):
    return ev.MemoryRead(at=at, stage=stage, used=used, workers={}, free=5)


def ended(at=104.0, stage="", done=400):
    return ev.StageEnded(
        at=at, stage=stage, outcome="done", done=done, set_aside=0, seconds=1.0, cpu=1.0, peak=7, projected=8
    )


def test_of_a_run_on_nodes_it_tells_how_many_worked():
    """What they had open, only they knew."""
    there = {"host": "h", "budget": 1 << 30, "origin": "", "cores": 1}
    events = [
        started(),
        *(ev.NodeJoined(at=101.0, node=f"n{number}", **there) for number in (1, 2, 3)),
        ev.NodeLeft(at=102.0, node="", why="its host was refused: it was never there"),
        ev.NodeLeft(at=102.0, node="n2", why="killed"),
        done(1, 300, 330),
    ]
    said = str(examine(events))
    assert "2 nodes working; 330 of 400 items are kept, what the 2 nodes had not given back will be" in said
    assert "1 node working" in str(examine([*events, ev.NodeLeft(at=104.0, node="n1", why="k")]))


def test_no_events_tell_nothing():
    assert examine([]) is None


def test_batches_without_an_end_were_running():
    found = examine(
        [
            started(), batch(1, 300, 310), batch(2, 310, 320), batch(3, 322, 323), batch(4, 330, 340),
            done(1, 300, 310), read(3 << 29), failed(4, 330, 340, at=104.5),
        ]
    )  # fmt: skip
    assert found == PostMortem(
        at=104.5, used=3 << 29, read_at=103.0, budget=2 << 30, running=((310, 320), (322, 323)), items=400,
        kept=310, lost=11,
    )  # fmt: skip
    assert str(found).endswith(
        "(no sign of life after): 1.5 GiB of 2.0 GiB in use, working on items 310-319, 322; "
        "310 of 400 items are kept, 11 will be repeated"
    )


def test_a_budget_that_moved_counts():
    moved = ev.BudgetChanged(at=102.0, budget=1 << 30, origin="cgroup")
    assert examine([started(), moved]).budget == 1 << 30


def test_only_the_last_stage_counts_and_a_later_run_forgets_the_death_before_it():
    events = [
        started(stage="a"), batch(1, 0, 5, stage="a"), ev.RunDied(at=900.0, died=101.0, message=""),
        started(at=901.0, stage="b", items=7, done=0), batch(1, 2, 4, at=902.0, stage="b"),
    ]  # fmt: skip
    found = examine(events)
    assert (found.stage, found.running, found.at, found.items) == ("b", ((2, 4),), 902.0, 7)
    assert "items of stage b are kept" in str(found)
    assert examine(events[:3]).at == 101.0, "what a later run says is no sign of life"


def test_between_stages_nothing_is_lost():
    found = examine([started(stage="a"), read(9), ended(stage="a")])
    assert (found.between, found.lost, found.kept) == (True, 0, 400)
    assert "stage a had ended; nothing is lost" in str(found)


def test_before_any_reading_and_any_batch():
    found = examine([started()])
    assert "its memory was not read yet, no batch running; 300 of 400 items are kept, nothing is lost" in str(
        found
    )
    assert "no stage had begun; nothing is lost" in str(PostMortem(at=5.0))


def test_many_intervals_are_counted():
    assert postmortem.ranges((at, at + 2) for at in range(0, 80, 10)) == (
        "0-1, 10-11, 20-21, 30-31, 40-41, 50-51, and 4 more"
    )


# --------------------------------------------------------------------------- from a folder


def put(folder, events, entries=(), *, torn=b""):
    (folder / ".penstock" / "job").mkdir(parents=True)
    lines = "".join(event_lines.to_line(event) + "\n" for event in events)
    (folder / ".penstock" / "events.jsonl").write_bytes(lines.encode() + torn)
    if entries:
        book = journal.Journal(folder / ".penstock" / "job" / "journal")
        book.write(*entries)
        book.close()


EVENTS = [started(done=0, items=20), batch(1, 0, 5), batch(2, 5, 10), read(1 << 30)]


def test_the_journal_knows_better_what_is_kept(tmp_path):
    put(tmp_path, EVENTS, [{"job": {"source": {"items": 20}}}, {"kept": [0, 5]}, {"kept": [5, 7]}])
    found = postmortem.of_run(tmp_path)
    assert (found.kept, found.lost, found.running) == (7, 3, ((0, 10),))


def test_a_damaged_journal_or_a_torn_line_does_not_hide_the_rest(tmp_path):
    put(tmp_path, EVENTS, torn=b'{"event":"memory_re')
    (tmp_path / ".penstock" / "job" / "journal").write_bytes(b"rubbish\nmore\n")
    found = postmortem.of_run(tmp_path)
    assert (found.kept, found.lost, found.used) == (0, 10, 1 << 30)


def test_a_torn_event_costs_no_other(tmp_path):
    put(tmp_path, EVENTS, torn=b'{"event":"memory_re')
    observed = []
    penstock.run(abs, 3, tmp_path, budget="300MiB", observers=[observed.append])
    told = list(event_lines.read(tmp_path / ".penstock" / "events.jsonl"))
    assert told == [*EVENTS, *observed]
    assert [event.kind for event in observed].count("run_died") == 1
    assert observed[0].died == 103.0
    assert "working on items 0-9; 0 of 20 items are kept, 10 will be repeated" in observed[0].message
    penstock.run(abs, 3, tmp_path, budget="300MiB", observers=[observed.append])
    assert [event.kind for event in observed].count("run_died") == 1, "it is said once"


def test_a_run_that_ended_or_never_was_has_not_died(tmp_path):
    assert postmortem.of_run(tmp_path) is None
    put(tmp_path, [*EVENTS, ended()])
    assert postmortem.of_run(tmp_path) is None


@pytest.mark.parametrize(
    "event",
    [
        ev.Looking(at=110.0, message="looking"),
        ev.TakenBack(at=110.0, items=1, message="1 file did not stand"),
        ev.RunDied(at=110.0, died=104.0, message="the last run died"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_run_that_was_refused_before_it_began_has_not_died(tmp_path, event):
    """It looked at the files, and then found that the job is another one."""
    put(tmp_path, [started(), ended(), event])
    assert postmortem.of_run(tmp_path) is None


def dead_lock(folder, *, boot="another"):
    """The lock of a process that is gone, last touched at 110 s."""
    (folder / ".penstock").mkdir(exist_ok=True)
    path = folder / ".penstock" / "lock"
    here = {"host": "node7"} if boot is None else {"host": socket.gethostname(), "boot": boot}
    path.write_text(json.dumps({"boot": "b", "pid": 77, "since": "2026-01-01 00:00:00", **here}))
    os.utime(path, (110.0, 110.0))


def test_one_that_cannot_be_seen_is_not_called_dead(tmp_path):
    put(tmp_path, [*EVENTS, ended()])
    dead_lock(tmp_path, boot=None)
    assert postmortem.of_run(tmp_path) is None, "it may run"


def test_the_holder_before_a_boot_is_named_and_its_last_beat_counts(tmp_path):
    put(tmp_path, [*EVENTS, ended()])
    dead_lock(tmp_path)
    found = postmortem.of_run(tmp_path)
    assert (found.at, found.between) == (110.0, True)
    assert f"(process 77 on {socket.gethostname()}, no sign of life after)" in str(found)
    assert "the machine was started again since" in str(found)
    assert "the last run gave no sign of life that can be seen from here since" in str(found)
    assert "died" not in str(found), "a clone of this machine may have its name"


def test_a_dead_holder_is_named(tmp_path):
    put(tmp_path, [*EVENTS, ended()])
    found = postmortem.of_dead(tmp_path, Holder(77, "node7", "2026-01-01 00:00:00", 110.0, alive=False))
    assert "the last run died at" in str(found)
    assert "(process 77 on node7, no sign of life after)" in str(found)


def test_a_dead_holder_without_events_is_told_of(tmp_path):
    dead_lock(tmp_path)
    found = postmortem.of_run(tmp_path)
    assert found.at == 110.0
    assert "no stage had begun" in str(found)
