"""A call whose items were all set aside before: nothing is called, so it is no measurement."""

import json

import pytest

from penstock import discover
from penstock import events as ev
from penstock.budget import MiB
from penstock.engine import messages as m
from penstock.engine.decide.estimate import Estimate, Wishes
from penstock.report import listed
from penstock.report.tally import Tally
from penstock.sources import Range
from penstock.testing import Deed, FakeBackend, FakeClock, simulate


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """What others keep in the shared memory of this machine is no part of a script."""
    monkeypatch.setattr(discover, "shared_files", lambda: 0, raising=False)


@pytest.mark.parametrize(
    ("known", "span"),
    [
        ((), (4, 9, ())),
        ((2, 9), (4, 9, ())),
        ((4, 5, 8), (6, 8, ())),
        ((6,), (4, 9, (6,))),
        ((4, 6), (5, 9, (6,))),
        (range(4, 9), (9, 9, ())),
    ],
)
def test_a_call_is_as_long_as_what_was_worked_of_it(known, span):
    assert m.worked_span(4, 9, set(known)) == span


class Sizes(Range):
    """Items whose sizes are their numbers."""

    def sizes(self, start, stop):
        return [float(item) for item in range(start, stop)]


def test_only_the_sizes_of_items_that_were_worked_count():
    estimate = Estimate(Sizes(20), batched=True, wishes=Wishes(), cores=1)
    estimate.learn([m.MeasuredCall(2, 9, 5 * MiB, 3.0, without=(7,))], 7, 3.0, first=False, seen=0)
    (seen,) = estimate.recall.learnt()
    assert (seen.largest, seen.total, seen.peak) == (8, 2 + 3 + 4 + 5 + 6 + 8, 5 * MiB)
    assert estimate.measured_call == 6
    assert estimate.seconds_per_item == 0.5
    before = json.dumps(estimate.recall.learnt(), default=str)
    estimate.learn([], 5, 0.0, first=True, seen=900 * MiB)
    assert json.dumps(estimate.recall.learnt(), default=str) == before


def half(item, tries):
    return Deed(1.0, (20 if item % 2 == 0 else 600) * MiB)


def run(deeds, items, **more):
    kept = []
    backend = FakeBackend(deeds, clock=FakeClock(grain=0.01), **more)
    done = simulate(backend, items, 400 * MiB, workers=2, set_aside=True, keep=kept.append)
    return done, kept


@pytest.mark.parametrize("grain", [None, 1, 3])
def test_what_was_set_aside_is_in_no_bound_and_no_list_of_calls(grain):
    done, kept = run(half, 12, grain=grain)
    assert set(done.aside) == set(range(1, 12, 2))
    tally = Tally()
    tally(ev.StageStarted(at=0, items=12, done=0, budget=400 * MiB, origin="", workers=None))
    for event in done.events:
        tally(event)
    report = tally.report()
    named = [*report.heaviest, *report.slowest]
    assert named
    for call in named:
        assert set(range(call.start, call.stop)) - set(done.aside)
    assert report.heaviest[0].peak >= 20 * MiB
    assert report.predictions[0] <= sum(event.heaviest >= 0 for event in done.events_of(ev.BatchDone))
    rows = [dict(zip(listed.COLUMNS, row, strict=True)) for row in listed.rows(done.events)]
    assert sum(row["items"] for row in rows) == 6
    assert all(row["items"] for row in rows if row["outcome"] == "done")
    # What was too large is kept as what it held at the least; nothing as less than an item takes.
    assert min(each.peak for each in kept[-1].observations) >= 20 * MiB
    assert max(each.peak for each in kept[-1].observations) > 200 * MiB
    assert kept[-1].died == 6


def test_of_a_run_in_which_nothing_was_done_nothing_is_remembered():
    done, kept = run(lambda item, tries: Deed(1.0, 600 * MiB), 6, grain=1)
    assert len(done.aside) == 6
    assert not kept
