"""What is told of memory that was short: how long cores waited for it, and what more of it would buy."""

import pytest

from penstock import advice, discover
from penstock import events as ev
from penstock.budget import GiB, MiB
from penstock.report.tally import Tally
from penstock.testing import Deed, FakeBackend, FakeClock, simulate


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """What others keep in the shared memory of this machine is no part of a script."""
    monkeypatch.setattr(discover, "shared_files", lambda: 0, raising=False)


def run(memory, budget, *, items, workers, seconds=2.0, cores=None):
    """A run, its seconds, and its report."""
    backend = FakeBackend(lambda item, tries: Deed(seconds, memory * MiB), clock=FakeClock(grain=0.02))
    began = backend.clock()
    done = simulate(backend, items, budget, workers=workers, cores=cores, memory=memory * MiB)
    took = backend.clock() - began
    tally = Tally()
    tally(ev.StageStarted(at=0, items=items, done=0, budget=budget, origin="", workers=None))
    for event in done.events_of(ev.Planned):
        tally(event)
    end = {"outcome": "done", "done": items, "set_aside": 0, "cpu": 1.0, "peak": budget // 2, "projected": 0}
    waited = done.loop.stage.admission.waiting.seconds
    tally(ev.StageEnded(at=9, seconds=took, waited=waited, **end))
    return done, took, tally.report()


def test_where_one_fits_the_other_core_waits_all_the_time():
    _, took, report = run(600, 1 * GiB, items=8, workers=2)
    assert took >= 16
    # But for the last item, behind which nobody waits.
    assert 0.75 * took <= report.waited_seconds <= took - 2 + 0.2


def test_no_more_than_the_cores_wait_and_no_more_are_promised():
    done, took, report = run(600, 1 * GiB, items=8, workers=4, cores=2)
    assert 0.75 * took <= report.waited_seconds <= took
    assert [event.most_workers for event in done.events_of(ev.Planned)] == [2] * len(
        done.events_of(ev.Planned)
    )
    assert report.seconds_with_most == pytest.approx(took / 2)


def test_where_all_fit_nobody_waits():
    _, _, report = run(20, 4 * GiB, items=8, workers=2)
    assert report.waited_seconds == 0


@pytest.mark.parametrize("workers", [3, 4, 6])
def test_the_budget_that_is_advised_gives_the_workers_and_the_time_that_are_promised(workers):
    done, _, report = run(400, 1 * GiB, items=24, workers=workers)
    last = done.events_of(ev.Planned)[-1]
    assert last.workers < last.most_workers == workers
    assert any(f"{workers} workers instead of {last.workers}" in said for said in report.next_time("slurm"))
    again, then, _ = run(400, advice.rounded(last.enough_for_most), items=24, workers=workers)
    assert again.events_of(ev.Planned)[-1].workers == workers
    assert then == pytest.approx(report.seconds_with_most, rel=0.15)
    # And it is the least: with a tenth less there is one fewer.
    less, _, _ = run(400, int(0.9 * last.enough_for_most), items=24, workers=workers)
    assert less.events_of(ev.Planned)[-1].workers < workers
