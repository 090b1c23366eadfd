"""The engine's loop, its governor and its recovery, without a process: see penstock.testing.fake."""

import errno
import os
import random
import re
import signal
import warnings
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock import discover
from penstock import events as ev
from penstock.abc import SetAside
from penstock.budget import GiB, MiB
from penstock.engine.messages import Done, Leave, Work
from penstock.errors import (
    CannotKeep,
    DiskFull,
    FunctionRaised,
    PenstockBug,
    RunTakenOver,
    StorageFailed,
    UsageError,
    WorkerDied,
)
from penstock.testing import Deed, FakeBackend, FakeClock, FakeLimit, simulate, simulation


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """What others keep in the shared memory of this machine is no part of a script."""
    monkeypatch.setattr(discover, "shared_files", lambda: 0, raising=False)


def at(number, end="done", *, times=100, **more):
    """Deeds in which one item ends like this the first so many times, and all others are done."""

    def deeds(item, tries):
        return Deed(end=end, **more) if item == number and tries < times else Deed()

    return deeds


def coarse():
    """A clock for runs in which minutes go by."""
    return FakeClock(grain=0.2)


def everything_but(run, items, *missing):
    """Every item was kept exactly once, but for some that were set aside."""
    kept = [each for each in run.results if isinstance(each, int)]
    assert kept == [item for item in range(items) if item not in missing]
    assert sorted(run.aside) == sorted(missing)
    assert run.backend.alive == []


class Babbling(FakeBackend):
    """Workers whose answer to the first batch is no message."""

    def wait(self, timeout):
        told = super().wait(timeout)
        for place, each in enumerate(told):
            if isinstance(getattr(each, "content", None), Done) and not self.babbled:
                self.babbled = True
                told[place] = replace(each, content=object())
        return told

    babbled = False


def test_a_worker_that_answers_with_what_is_no_message_is_replaced():
    """It is not waited for: nothing else would come from it."""
    run = simulate(Babbling(), 300, GiB)
    everything_but(run, 300)
    assert [event.why for event in run.events_of(ev.WorkerEnded)][:1] == ["unfit"]


def test_everything_is_done_and_no_process_was_started():
    run = simulate(FakeBackend(), 300, GiB)
    everything_but(run, 300)
    assert run.aside == {}


def test_a_day_takes_no_time():
    clock = FakeClock(grain=60.0)
    backend = FakeBackend(lambda item, tries: Deed(seconds=600), clock=clock)
    began = clock()
    everything_but(simulate(backend, 600, GiB), 600)
    assert clock() - began >= 600 * 600 / 4


def test_the_same_script_gives_the_same_run():
    def once():
        backend = FakeBackend(lambda item, tries: Deed(0.01 * (1 + item % 7), (1 + item % 50) * MiB))
        return simulate(backend, 200, 256 * MiB).events

    assert once() == once()


def test_the_governor_keeps_the_run_inside_its_budget():
    large = range(20, 33)  # behind those that are tried first: nothing has told of them
    backend = FakeBackend(lambda item, tries: Deed(1.0, (200 if item in large else 20) * MiB))
    run = simulate(backend, 100, 400 * MiB)
    everything_but(run, 100)
    assert backend.paused or backend.killed
    assert max(event.used for event in run.events_of(ev.MemoryRead)) <= 400 * MiB


# --------------------------------------------------------------------------- limits that move


def test_the_budget_follows_a_limit_that_moved_everywhere_at_once():
    backend = FakeBackend(lambda item, tries: Deed(10.0, 20 * MiB), clock=coarse())
    limit = FakeLimit(backend, GiB)
    run = simulation(backend, 40, GiB, limits=[limit], requested="auto")
    stage, seen = run.loop.stage, []

    def look():
        seen.append((stage.budget.bytes, stage.admission.budget.bytes, stage.admission.make_plan().budget))

    backend.clock.after(20.0, look)
    backend.clock.after(21.0, lambda: setattr(limit, "size", 600 * MiB))
    backend.clock.after(40.0, look)
    run.run()
    everything_but(run, 40)
    assert seen == [(GiB,) * 3, (600 * MiB,) * 3]
    assert [event.budget for event in run.events_of(ev.BudgetChanged)] == [600 * MiB]
    assert {"budget": 600 * MiB} in run.lines  # what is set aside later did not fit into this one


def test_a_limit_that_moves_a_little_or_was_not_asked_for_is_not_followed():
    for requested, size in (("auto", 950 * MiB), (GiB, 600 * MiB)):
        backend = FakeBackend(lambda item, tries: Deed(10.0, 20 * MiB), clock=coarse())
        limit = FakeLimit(backend, GiB)
        backend.clock.after(20.0, lambda limit=limit, size=size: setattr(limit, "size", size))
        run = simulate(backend, 40, GiB, limits=[limit], requested=requested)
        everything_but(run, 40)
        assert run.events_of(ev.BudgetChanged) == []


def test_a_limit_that_looks_lower_for_a_moment_is_not_followed():
    """A process of ours that is ending is charged for a while and is no longer among ours."""
    backend = FakeBackend(lambda item, tries: Deed(10.0, 20 * MiB), clock=coarse())
    limit = FakeLimit(backend, GiB)
    for at in range(20, 80, 12):
        backend.clock.after(float(at), lambda: setattr(limit, "size", 600 * MiB))
        backend.clock.after(at + 1.5, lambda: setattr(limit, "size", GiB))
    run = simulate(backend, 40, GiB, limits=[limit], requested="auto")
    everything_but(run, 40)
    assert run.events_of(ev.BudgetChanged) == []


@pytest.mark.parametrize("size", range(40, 320, 20))
def test_what_others_hold_for_a_while_is_no_items_fault(size):
    """A little may be free: too little for anybody, whose worker would be ended holding next to nothing."""
    backend = FakeBackend(lambda item, tries: Deed(10.0, 100 * MiB), clock=coarse())
    limit = FakeLimit(backend, GiB)
    backend.clock.after(22.0, lambda: setattr(limit, "size", size * MiB))
    backend.clock.after(90.0, lambda: setattr(limit, "size", GiB))
    run = simulate(backend, 20, GiB, limits=[limit], requested=GiB)
    assert [event.projected for event in run.events_of(ev.BatchStarted) if event.projected < 0] == []
    everything_but(run, 20)


def test_a_limit_that_cannot_be_read_any_more_does_not_move_the_budget():
    backend = FakeBackend(lambda item, tries: Deed(10.0, 20 * MiB), clock=coarse())
    wide, narrow = FakeLimit(backend, 64 * GiB), FakeLimit(backend, GiB)
    backend.clock.after(20.0, lambda: setattr(narrow, "error", OSError("stale file handle")))
    with pytest.warns(RuntimeWarning, match="'FakeLimit 1' cannot be read"):
        run = simulate(backend, 40, GiB, limits=[wide, narrow], requested="auto")
    everything_but(run, 40)
    assert run.events_of(ev.BudgetChanged) == []


# --------------------------------------------------------------------------- calls that may not be split


@pytest.mark.parametrize("end", ["crashes", "exits", "killed", "kernel"])
def test_of_a_fixed_call_only_the_item_that_does_it_is_set_aside(end):
    backend = FakeBackend(at(13, end, memory=50 * MiB), batched=True)
    run = simulate(backend, 32, GiB, fixed_call=8, workers=2)
    everything_but(run, 32, 13)
    (aside,) = run.loop.stage.aside
    assert "the call of items 8 to 15, which batched= keeps whole" in aside.message
    assert "other items are done" in aside.message
    searched = [work for work in backend.given if not work.keep]
    assert {work.call for work in searched} == {4, 2, 1}
    assert all((work.start, work.stop) == (8, 16) for work in searched)
    ended = [event.batch for event in run.events if isinstance(event, ev.BatchDone | ev.BatchFailed)]
    assert sorted(ended) == [event.batch for event in run.events_of(ev.BatchStarted)]


def test_a_fixed_call_that_only_fails_whole_is_set_aside_whole_and_says_so():
    whole = {"times": 0}

    def deeds(item, tries):
        whole["times"] += item == 8
        return Deed(end="crashes") if item == 8 and whole["times"] <= 3 else Deed()

    run = simulate(FakeBackend(deeds, batched=True), 32, GiB, fixed_call=8)
    everything_but(run, 32, *range(8, 16))
    for aside in run.loop.stage.aside:
        assert "lost its worker 3 times: signal 11 (SIGSEGV)" in aside.message
        assert "none of its parts does, so that all its items are set aside" in aside.message


# --------------------------------------------------------------------------- our own loop


class Flaky:
    """A stranger's limit that raises once."""

    def __init__(self, times=1, after=5):
        self.count, self.after, self.times = 0, after, times

    def read(self):
        self.count += 1
        if self.after < self.count <= self.after + self.times:
            raise OSError("stale file handle")
        return []


@pytest.mark.parametrize("times", [1, 10**9])
def test_a_limit_that_raises_is_named_once_and_left_out(times):
    backend = FakeBackend(at(12, seconds=1.0, memory=900 * MiB))
    with pytest.warns(RuntimeWarning, match="memory limit 'Flaky 0' cannot be read") as told:
        run = simulate(backend, 25, 300 * MiB, limits=[Flaky(times)])
    assert len(told) == 1
    everything_but(run, 25, 12)
    assert run.aside == {12: "memory"}


def test_a_governor_that_fails_ends_the_run_within_a_second():
    backend = FakeBackend(lambda item, tries: Deed(seconds=100), clock=FakeClock(grain=0.1))
    run = simulation(backend, 25, GiB)
    read = backend.read
    broke = []

    def fail():
        if backend.clock() > 1030:
            broke.append(backend.clock())
            raise ZeroDivisionError("a bug of ours")
        return read()

    backend.read = fail
    with pytest.raises(PenstockBug, match=r"governor.*ZeroDivisionError: a bug of ours") as told:
        run.run()
    assert isinstance(told.value.__cause__, ZeroDivisionError)
    assert len(broke) == 1
    assert backend.clock() - broke[0] < 1.0
    assert backend.alive == []


@pytest.mark.parametrize("value", ["10min", 0, -1.0, float("nan"), True])
def test_nothing_invalid_reaches_the_governor(value):
    for name in ("stall", "timeout"):
        with pytest.raises(UsageError, match=f"{name} must be"):
            simulation(FakeBackend(), 3, GiB, **{name: value})


# --------------------------------------------------------------------------- the recovery table, row by row


def failed(run):
    """(cause, alone) of each batch that failed."""
    begun = {event.batch: event for event in run.events_of(ev.BatchStarted)}
    return [(event.cause, begun[event.batch].alone) for event in run.events_of(ev.BatchFailed)]


def test_an_item_that_is_too_large_runs_alone_before_it_is_set_aside():
    run = simulate(FakeBackend(at(12, seconds=1.0, memory=900 * MiB)), 25, 300 * MiB)
    everything_but(run, 25, 12)
    assert run.aside == {12: "memory"}
    assert failed(run)[-1] == ("governor", True)
    (aside,) = run.loop.stage.aside
    assert "needs more than" in aside.message
    assert "one worker alone may use" in aside.message


@pytest.mark.parametrize("end", ["memory error", "kernel"])
def test_other_ways_to_run_out_of_memory(end):
    once = simulate(backend := FakeBackend(at(12, end, times=1)), 25, 300 * MiB, limits=[])
    everything_but(once, 25)
    backend = FakeBackend(at(12, end))
    run = simulate(backend, 25, GiB, limits=[FakeLimit(backend, GiB)])
    everything_but(run, 25, 12)
    assert run.aside == {12: "memory"}
    assert failed(run) == [({"memory error": "memory"}.get(end, end), alone) for alone in (False, True)]


def test_a_call_that_is_too_large_is_halved():
    backend = FakeBackend(lambda item, tries: Deed(0.001, MiB), batched=True)
    held = backend._held  # a call takes what its items take together, once calls have grown

    def together(worker):
        items = worker.call[1] - worker.call[0] if worker.deed is not None else 0
        return 300 * MiB if items > 16 else held(worker)

    backend._held = together
    run = simulate(backend, 2000, 300 * MiB)
    everything_but(run, 2000)
    assert {work.call for work in backend.given} >= {1, 16}
    assert {cause for cause, _ in failed(run)} == {"governor"}


def test_who_was_ended_to_make_room_runs_again():
    # They grow at once, behind those that were tried first: the youngest goes.
    large = range(20, 33)
    backend = FakeBackend(lambda item, tries: Deed(1.0, (200 if item in large else 20) * MiB))
    run = simulate(backend, 100, 300 * MiB)
    everything_but(run, 100)
    assert "governor" in {cause for cause, _ in failed(run)}


def test_who_is_killed_by_somebody_else_runs_again_ten_times_the_last_three_alone():
    everything_but(simulate(FakeBackend(at(5, "killed", times=10)), 25, GiB), 25)
    run = simulate(FakeBackend(at(5, "killed")), 25, GiB)
    everything_but(run, 25, 5)
    assert run.aside == {5: "died"}
    assert [alone for _, alone in failed(run)] == [False] * 8 + [True] * 3
    (aside,) = run.loop.stage.aside
    assert "signal 9 from outside" in aside.message


@pytest.mark.parametrize(("end", "told"), [("crashes", r"signal 11 \(SIGSEGV\)"), ("exits", "exit code 3")])
def test_a_crash_is_tried_twice_more(end, told):
    everything_but(simulate(FakeBackend(at(5, end, times=2)), 25, GiB), 25)
    run = simulate(FakeBackend(at(5, end)), 25, GiB)
    everything_but(run, 25, 5)
    assert run.aside == {5: "died"}
    assert run.backend.tries[5] == 3
    (aside,) = run.loop.stage.aside
    assert re.search(told, aside.message)


def test_a_batch_that_dies_before_any_item_is_halved_and_its_grain_fails_the_run():
    class Touchy(FakeBackend):
        def send(self, worker, content):
            if isinstance(content, Work) and content.start <= 37 < content.stop:
                self.kill_from_outside(worker, signal.SIGSEGV)
            else:
                super().send(worker, content)

    run = simulation(Touchy(), 60, GiB)
    with pytest.raises(WorkerDied, match="the worker that should keep items 37 to 38 fails again and again"):
        run.run()
    assert run.backend.alive == []
    assert run.aside == {37: "died"}


def test_a_stalled_worker_is_ended_and_its_item_set_aside():
    run = simulate(FakeBackend(at(5, "hangs"), clock=coarse()), 25, GiB, stall=60.0)
    everything_but(run, 25, 5)
    assert run.aside == {5: "stalled"}
    assert run.backend.tries[5] == 3
    everything_but(simulate(FakeBackend(at(5, "hangs", times=2), clock=coarse()), 25, GiB, stall=60.0), 25)


def test_an_item_over_its_timeout_is_tried_once_more():
    run = simulate(FakeBackend(at(5, "spins"), clock=coarse()), 25, GiB, timeout=60.0)
    everything_but(run, 25, 5)
    assert run.aside == {5: "stalled"}
    assert run.backend.tries[5] == 2
    everything_but(simulate(FakeBackend(at(5, "spins", times=1), clock=coarse()), 25, GiB, timeout=60.0), 25)


def test_an_item_that_raises_is_set_aside_or_fails_the_run_behind_the_others():
    run = simulate(FakeBackend(at(5, "raises")), 25, GiB)
    everything_but(run, 25, 5)
    assert run.aside == {5: "raised"}
    run = simulation(FakeBackend(at(5, "raises")), 25, GiB, set_aside=False)
    with pytest.raises(FunctionRaised, match="item 5"):
        run.run()
    everything_but(run, 25, 5)


def test_a_result_that_cannot_be_kept():
    run = simulate(FakeBackend(at(5, "cannot keep")), 25, GiB)
    everything_but(run, 25, 5)
    assert run.aside == {5: "kept"}
    with pytest.raises(CannotKeep, match="item 5"):
        simulate(FakeBackend(at(5, "cannot keep")), 25, GiB, set_aside=False)


class Book:
    """A journal whose writes fail a few times, from a moment on."""

    def __init__(self, number, *, good=3, times=10**9):
        self.number, self.good, self.times = number, good, times
        self.lines = []

    def write(self, *entries):
        if len(self.lines) >= self.good and self.times > 0:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number), "/runs/x/.penstock/job/journal")
        self.lines += entries


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_journal_that_cannot_be_written_for_a_moment_loses_nothing(number):
    run = simulate(FakeBackend(), 60, GiB, book=(book := Book(number, times=4)))
    everything_but(run, 60)
    kept = [line["kept"] for line in book.lines if "kept" in line]
    assert sorted(item for start, stop in kept for item in range(start, stop)) == list(range(60))


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EIO, StorageFailed, r"job/journal cannot be read or written: Input/output error \(EIO\)"),
        (errno.EROFS, StorageFailed, r"Read-only file system \(EROFS\)"),
        (errno.ENOSPC, DiskFull, "is full"),
    ],
)
def test_a_journal_that_cannot_be_written_ends_the_run_and_says_why(number, kind, words):
    run = simulation(FakeBackend(), 60, GiB, book=(book := Book(number)))
    with pytest.raises(kind, match=words) as told:
        run.run()
    assert type(told.value) is kind
    assert run.backend.alive == []
    journaled = [line["kept"] for line in book.lines if "kept" in line]
    assert [
        [event.start, event.stop] for event in run.events_of(ev.BatchDone)
    ] == journaled  # no more is told


def test_a_part_that_cannot_be_written_is_tried_again_and_then_told():
    run = simulate(FakeBackend(at(12, "io error", times=4)), 60, GiB)
    everything_but(run, 60)
    run = simulation(FakeBackend(at(12, "io error")), 60, GiB)
    with pytest.raises(StorageFailed, match=r"Input/output error \(EIO\)"):
        run.run()
    assert run.backend.tries[12] == 6
    with pytest.raises(DiskFull):
        simulate(FakeBackend(at(12, "no space")), 60, GiB)


@pytest.mark.parametrize("what", ["open", "close"])
def test_a_chore_that_cannot_write_is_tried_again_and_then_told(what):
    def chores(times):
        return lambda name, tries: Deed(0.01, 0, end="io error" if name == what and tries < times else "done")

    everything_but(simulate(FakeBackend(chores=chores(2)), 25, GiB), 25)
    with pytest.raises(StorageFailed, match=r"\(EIO\)"):
        simulate(FakeBackend(chores=chores(3)), 25, GiB)


# --------------------------------------------------------------------------- who does not answer


def test_a_worker_that_never_gets_ready_is_ended_after_the_stall():
    backend = FakeBackend(births=lambda number: "hangs" if number in (1, 3) else "ready", clock=coarse())
    run = simulate(backend, 25, GiB, stall=60.0)
    everything_but(run, 25)
    assert 1 in backend.killed


def test_workers_that_cannot_be_started_are_tried_again_with_growing_waits():
    backend = FakeBackend(births=lambda number: "ready" if number > 4 else "unborn")
    began = backend.clock()
    everything_but(simulate(backend, 25, GiB), 25)
    assert backend.clock() - began > 1.5
    with pytest.raises(WorkerDied, match=r"5 workers in a row .*the fork failed, as the script says"):
        simulate(FakeBackend(births=lambda number: "unborn"), 25, GiB)


def test_workers_that_are_there_go_on_where_no_more_can_be_started():
    """Descriptors or processes may do for one and not for two."""
    backend = FakeBackend(
        lambda item, tries: Deed(2.0), births=lambda number: "ready" if number == 1 else "unborn"
    )
    everything_but(simulate(backend, 25, GiB), 25)
    assert backend.clock() > 50


def test_a_worker_that_was_told_to_leave_and_does_not_is_ended():
    """One that somebody stopped while it was idle would be waited for, where an item must be alone."""

    class Deaf(FakeBackend):
        asked = 0

        def send(self, worker, content):
            if isinstance(content, Leave):
                self.asked += 1
                self.stop_from_outside(worker)
            super().send(worker, content)

    def deeds(item, tries):
        return Deed(1.0, end="kernel" if item == 30 and tries == 0 else "done")

    backend = Deaf(deeds)
    run = simulation(backend, 40, GiB, limits=[FakeLimit(backend, GiB)])
    end, left = run.loop._end, []
    run.loop._end = lambda: (left.append(backend.asked), end())
    run.run()
    everything_but(run, 40)
    assert failed(run) == [("kernel", False)]
    assert left[0] > 1  # in the midst of the run


@pytest.mark.parametrize(("before", "cause"), [(60.0, "killed"), (1.0, "kernel")])
def test_a_kill_of_the_kernel_counts_only_just_before_a_worker_is_gone(before, cause):
    """Where no group is our own, the count is of others' processes too: a batch may last for hours."""

    def somebody_else_is_killed():
        backend.kernel_kills += 1

    def deeds(item, tries):
        if item != 30 or tries:
            return Deed()
        backend.clock.after(100.0 - before, somebody_else_is_killed)
        return Deed(100.0, end="killed")

    backend = FakeBackend(deeds, clock=coarse())
    run = simulate(backend, 40, GiB, workers=1, limits=[FakeLimit(backend, GiB)])
    everything_but(run, 40)
    assert {each.cause for each in run.events_of(ev.BatchFailed)} == {cause}
    if cause == "kernel":
        assert "others' processes count in it too" in run.events_of(ev.BatchFailed)[0].message


def test_a_chore_that_hangs_is_tried_again_and_fails_the_run():
    chores = {"open": 1, "close": 2}
    backend = FakeBackend(
        chores=lambda what, tries: Deed(0.01, 0, end="hangs" if tries < chores[what] else "done"),
        clock=coarse(),
    )
    everything_but(simulate(backend, 25, GiB, stall=60.0), 25)
    chores["close"] = 3
    backend = FakeBackend(chores=backend._chores, clock=coarse())
    run = simulation(backend, 25, GiB, stall=60.0)
    with pytest.raises(WorkerDied, match="should close the results died 3 times: it used no CPU"):
        run.run()
    assert backend.alive == []


def test_a_fork_server_that_is_lost_takes_its_workers_and_the_run_goes_on():
    backend = FakeBackend(lambda item, tries: Deed(1.0))
    for when in (1005.0, 1006.5, 1010.0):
        backend.clock.at(when, backend.lose_server)
    everything_but(simulate(backend, 60, GiB), 60)


def test_a_machine_that_slept_stalls_nobody():
    backend = FakeBackend(lambda item, tries: Deed(50.0, cpu=0.0), clock=coarse())
    run = simulation(backend, 8, GiB, stall=60.0)
    clock = backend.clock

    def sleep():
        """Nobody runs for a while: neither workers nor we."""
        for worker in backend._workers.values():
            worker.began += 600
        clock._now += 600

    clock.at(1045.0, sleep)
    run.run()
    everything_but(run, 8)
    assert backend.killed == []


def test_a_run_that_is_anothers_now_kills_its_workers_first_and_writes_nothing():
    backend = FakeBackend(lambda item, tries: Deed(1.0))
    said = []

    class Told(Book):
        def write(self, *entries):
            said.append("written")
            super().write(*entries)

    kill = backend.kill
    backend.kill = lambda worker: (said.append("killed"), kill(worker))

    def awake():
        if backend.clock() > 1010:
            if "taken over" not in said:
                said.append("taken over")
            raise RunTakenOver("process 7 on another host has it")

    run = simulation(backend, 60, GiB, awake=awake, book=Told(0, times=0))
    with pytest.raises(RunTakenOver):
        run.run()
    after = said[said.index("taken over") + 1 :]
    assert after
    assert set(after) == {"killed"}
    assert backend.alive == []
    assert backend.clock() < 1011


# --------------------------------------------------------------------------- whatever happens

ENDS = [
    "raises",
    "memory error",
    "cannot keep",
    "io error",
    "unfit",
    "crashes",
    "exits",
    "killed",
    "kernel",
    "hangs",
    "spins",
]
TROUBLES = ["killed", "crashed", "stopped", "continued", "server", "limit", "limit fails"]


@st.composite
def scripts(draw):
    items = draw(st.integers(1, 80))
    fates = draw(
        st.dictionaries(st.integers(0, items - 1), st.lists(st.sampled_from(ENDS), max_size=4), max_size=6)
    )
    sizes = draw(st.lists(st.sampled_from([1, 5, 40, 90, 400]), min_size=1, max_size=5))
    trouble = st.tuples(st.floats(0, 30), st.sampled_from(TROUBLES), st.integers(0, 7), st.integers(1, 40))
    happens = draw(st.lists(trouble, max_size=12))
    return {
        "items": items,
        "fates": fates,
        "sizes": sizes,
        "happens": happens,
        "seconds": draw(st.sampled_from([0.001, 0.1, 3.0])),
        "late": draw(st.sampled_from([0.0, 0.02, 1.5])),
        "workers": draw(st.integers(1, 6)),
        "grain": draw(st.sampled_from([None, 1, 7])),
        "batched": draw(st.booleans()),
        "fixed_call": draw(st.sampled_from([None, 4])),
        "coarse": draw(st.sampled_from([0.1, 0.7])),
        "seed": draw(st.integers(0, 99)),
    }


def perform(script):
    chance = random.Random(script["seed"])
    fates, sizes = script["fates"], script["sizes"]

    def deeds(item, tries):
        ends = fates.get(item, [])
        end = ends[tries] if tries < len(ends) else "done"
        return Deed(script["seconds"], sizes[item % len(sizes)] * MiB, end=end)

    backend = FakeBackend(
        deeds,
        clock=FakeClock(grain=script["coarse"]),
        latency=lambda: chance.random() * script["late"],
        batched=script["batched"],
        grain=script["grain"],
    )
    limit, clock = FakeLimit(backend, GiB), backend.clock

    def happen(what, number, size):
        alive = backend.alive
        worker = alive[number % len(alive)] if alive else -1
        if what == "killed":
            backend.kill_from_outside(worker)
        elif what == "crashed":
            backend.kill_from_outside(worker, signal.SIGSEGV)
        elif what == "stopped":
            backend.stop_from_outside(worker)
        elif what == "continued":
            backend.continue_from_outside(worker)
        elif what == "server":
            backend.lose_server()
        elif what == "limit":
            limit.size = 300 * MiB + size * 20 * MiB
        else:
            limit.error = None if limit.error else OSError("stale")

    for when, *what in script["happens"]:
        clock.after(when, partial(happen, *what))
    run = simulation(
        backend,
        script["items"],
        GiB,
        workers=script["workers"],
        limits=[limit],
        requested="auto",
        stall=60.0,
        timeout=90.0,
        fixed_call=script["fixed_call"] if script["batched"] and script["grain"] is None else None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.run()
    return run


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts())
def test_whatever_happens_every_item_is_done_once_or_set_aside_and_the_run_ends(script):
    try:
        run = perform(script)
    except WorkerDied as error:  # whoever opens or closes the results was killed each time, which ends a run
        ends = sum(what in ("killed", "crashed", "server") for _, what, *_ in script["happens"])
        if "the results died 3 times" not in str(error) or ends < 3:
            raise
        return
    items, aside = script["items"], run.aside
    given = [each.item if isinstance(each, SetAside) else each for each in run.results]
    assert given == list(range(items)), "each item exactly once, in order"
    assert sorted(aside) == [each.item for each in run.results if isinstance(each, SetAside)]
    journaled = [line["kept"] for line in run.lines if "kept" in line]
    assert sorted(item for start, stop in journaled for item in range(start, stop)) == list(range(items))
    assert run.backend.alive == []


# --------------------------------------------------------------------------- workers that cannot go on


class Seen(FakeBackend):
    """Knows which batch a worker was given first."""

    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.begun = set()
        self.wary = []

    def send(self, worker, content):
        if isinstance(content, Work):
            if content.wary:
                self.wary.append(worker in self.begun)
            self.begun.add(worker)
        super().send(worker, content)


@pytest.mark.parametrize(("grain", "batched"), [(None, False), (8, False), (None, True)])
def test_an_item_that_leaves_its_worker_unfit_is_found_and_set_aside(grain, batched):
    backend = Seen(at(30, "unfit"), grain=grain, batched=batched)
    run = simulate(backend, 60, GiB)
    everything_but(run, 60, 30)
    (aside,) = run.events_of(ev.ItemSetAside)
    assert aside.reason == "died"
    assert aside.message == "lost its worker 3 times: it as the script says"
    assert backend.wary.count(True) == 0, "looked for in a worker that others may have spoilt"
    assert len(backend.wary) >= 2


def test_what_the_items_before_used_up_is_put_down_to_nobody():
    run = simulate(FakeBackend(lambda item, tries: Deed(end="unfit" if tries < 1 else "done")), 25, GiB)
    everything_but(run, 25)


def test_a_chore_in_a_worker_that_is_unfit_is_done_in_another():
    def chores(times):
        return lambda name, tries: Deed(0.01, 0, end="unfit" if tries < times else "done")

    everything_but(simulate(backend := FakeBackend(chores=chores(2)), 25, GiB), 25)
    assert backend.chores_tried == {"open": 3, "close": 3}
    with pytest.raises(WorkerDied, match="died 3 times: as the script says"):
        simulate(FakeBackend(chores=chores(3)), 25, GiB)


def test_a_grain_in_which_another_item_dies_each_time_does_not_run_for_ever():
    deaths = iter(range(100_000))

    def deeds(item, tries):
        return Deed(end="crashes" if item % 8 == next(deaths) % 8 else "done")

    run = simulate(FakeBackend(deeds, grain=8), 16, GiB)
    assert sorted([*run.aside, *(each for each in run.results if isinstance(each, int))]) == list(range(16))


def test_where_nobody_else_could_give_memory_back_nobody_is_waited_for():
    """The backend inline: this process is the only worker, and full."""

    class Here(FakeBackend):
        governs = False

    began = (backend := Here()).clock()
    everything_but(simulate(backend, 25, GiB, held=GiB), 25)
    assert backend.clock() - began < 5
    run = simulate(FakeBackend(), 25, GiB)
    assert max(event.workers for event in run.events_of(ev.Planned)) > 1
    assert max(event.workers for event in simulate(Here(), 25, GiB).events_of(ev.Planned)) == 1


@pytest.mark.parametrize("late", [0.0, 0.004, 0.01, 0.03])
def test_however_late_the_governor_comes_large_calls_that_are_known_do_not_exceed_the_budget(late):
    clock, budget, large = FakeClock(late=late), 200 * MiB, 110 * MiB
    fills = large / (3 * GiB)  # seconds
    meet = {item for item in range(240) if random.Random(item).random() < 0.15}
    backend = FakeBackend(
        lambda item, tries: Deed(2 * fills, large) if item in meet else Deed(0.02, 5 * MiB), clock=clock
    )
    over = []

    def look():
        if sum(backend.tries.values()) > 80 and backend.held > budget:
            over.append(clock())
        clock.after(0.001, look)

    look()
    everything_but(simulate(backend, 240, budget), 240)
    assert over == []
