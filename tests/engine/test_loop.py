"""The engine's loop, its governor and its recovery, without a process: see penstock.testing.fake."""

import pytest

from penstock import events as ev
from penstock.budget import GiB, MiB
from penstock.errors import PenstockBug, UsageError
from penstock.testing import Deed, FakeBackend, FakeClock, FakeLimit, simulate, simulation


def at(number, end="done", *, times=100, **more):
    """Deeds in which one item ends like this the first so many times, and all others are done."""

    def deeds(item, tries):
        return Deed(end=end, **more) if item == number and tries < times else Deed()

    return deeds


def everything_but(run, items, *missing):
    """Every item was kept exactly once, but for some that were set aside."""
    kept = [each for each in run.results if isinstance(each, int)]
    assert kept == [item for item in range(items) if item not in missing]
    assert sorted(run.aside) == sorted(missing)
    assert run.backend.alive == []


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
    assert max(event.used for event in run.told(ev.MemoryRead)) <= 400 * MiB


# --------------------------------------------------------------------------- limits that move


def test_the_budget_follows_a_limit_that_moved_everywhere_at_once():
    backend = FakeBackend(lambda item, tries: Deed(10.0, 20 * MiB))
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
    assert [event.budget for event in run.told(ev.BudgetChanged)] == [600 * MiB]
    assert {"budget": 600 * MiB} in run.lines  # what is set aside later did not fit into this one


def test_a_limit_that_moves_a_little_or_was_not_asked_for_is_not_followed():
    for requested, size in (("auto", 950 * MiB), (GiB, 600 * MiB)):
        backend = FakeBackend(lambda item, tries: Deed(10.0, 20 * MiB))
        limit = FakeLimit(backend, GiB)
        backend.clock.after(20.0, lambda limit=limit, size=size: setattr(limit, "size", size))
        run = simulate(backend, 40, GiB, limits=[limit], requested=requested)
        everything_but(run, 40)
        assert run.told(ev.BudgetChanged) == []


def test_a_limit_that_cannot_be_read_any_more_does_not_move_the_budget():
    backend = FakeBackend(lambda item, tries: Deed(10.0, 20 * MiB))
    wide, narrow = FakeLimit(backend, 64 * GiB), FakeLimit(backend, GiB)
    backend.clock.after(20.0, lambda: setattr(narrow, "error", OSError("stale file handle")))
    with pytest.warns(RuntimeWarning, match="'FakeLimit 1' cannot be read"):
        run = simulate(backend, 40, GiB, limits=[wide, narrow], requested="auto")
    everything_but(run, 40)
    assert run.told(ev.BudgetChanged) == []


# --------------------------------------------------------------------------- our own machinery


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
    backend = FakeBackend(lambda item, tries: Deed(seconds=100))
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
