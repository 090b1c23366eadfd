"""When a run gives up early: a matter of the job alone, never of luck, workers or batches."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock.abc import SetAside
from penstock.budget import GiB
from penstock.cli import with_flags
from penstock.engine.decide.schedule import Schedule
from penstock.engine.parent.set_aside import SetAsideItems, sample
from penstock.errors import PenstockError
from penstock.testing import Deed, FakeBackend, simulation
from penstock.testing import misfortune as mf


def given_up(item, reason="raised"):
    return SetAside(item, str(item), reason, "")


@settings(deadline=None)
@given(items=st.integers(0, 100_000), unit=st.integers(1, 3000), stream=st.booleans())
def test_the_sample_is_spread_over_the_input(items, unit, stream):
    places = sample(items, unit, stream=stream)
    units = -(-items // unit)
    if not places:
        assert units <= 20, "it would be all there is"
        return
    chosen = [item for place in places for item in place]
    assert all(0 <= item < items for item in chosen)
    assert len(set(chosen)) == len(chosen)
    assert 17 <= len(chosen) <= 21, "the last place may be a short one"
    assert len({item // unit for item in chosen}) == len(places) >= 5
    assert places[0][0] == 0
    reach = units if not stream else min(units, max(units // 20, 200))
    gaps = sorted(place[0] // unit for place in places)
    assert gaps[-1] == reach - 1
    widest = max(b - a for a, b in pairwise(gaps))
    assert widest <= reach * min(0.5, 4 / len(places)) + 1
    if stream:
        assert [place[0] for place in places] == sorted(place[0] for place in places)


def outcome(items, failing, unit, data, *, allowed, reason, most_workers=3):
    """Work a schedule with made-up workers: why it stopped, and what was kept."""
    schedule = Schedule(items, unit, first=[0, items - 1, items // 2])
    aside = SetAsideItems({}, allowed=allowed, decisive=sample(items, unit))
    workers = data.draw(st.integers(1, most_workers))
    while not schedule.finished:
        for worker in range(workers):
            if worker not in schedule.running:
                task = schedule.propose(worker, data.draw(st.integers(1, 40)))
                if task is not None:
                    schedule.give(worker, task)
        worker = data.draw(st.sampled_from(sorted(schedule.running)))
        task = schedule.running[worker].task
        raised = [item for item in range(task.start, task.stop) if item in failing]
        schedule.finish(worker, task.stop, raised)
        for item in raised:
            schedule.try_first(aside.put(given_up(item, reason)))
        if why := aside.abort_reason():
            return why, len(schedule.done)
    return "", items - len(aside)


FAILING = {
    "the first 20": lambda items: set(range(20)),
    "the first half": lambda items: set(range(items // 2)),
    "all but the last": lambda items: set(range(items - 1)),
    "every second": lambda items: set(range(0, items, 2)),
    "nearly all": lambda items: set(range(items)) - set(range(7, items, 50)),
}


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    items=st.integers(30, 300),
    unit=st.sampled_from([1, 2, 7]),
    reason=st.sampled_from(["raised", "memory"]),
)
@pytest.mark.parametrize("which", FAILING)
def test_what_fails_only_in_places_stops_nothing(which, data, items, unit, reason):
    failing = FAILING[which](items)
    decisive = [item for place in sample(items, unit) for item in place]
    firsts = [place[0] for place in sample(items, unit)[:5]]
    wrong = bool(decisive) and failing.issuperset(firsts if reason == "memory" else decisive)
    why, kept = outcome(items, failing, unit, data, allowed=False, reason=reason)
    assert why == ("hopeless" if wrong else ""), "whatever the workers and the batches"
    if not wrong:
        assert kept == items - len(failing & set(range(items)))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), items=st.integers(30, 3000), unit=st.sampled_from([1, 2, 10]))
def test_a_function_that_is_wrong_is_found_soon(data, items, unit):
    decisive = sample(items, unit)
    every = set(range(items))
    why, tried = outcome(items, every, unit, data, allowed=False, reason="raised", most_workers=1)
    assert why == ("hopeless" if decisive else "")
    if decisive:
        assert tried <= (len(decisive) + 1) * unit, "the first item, and then the sample"


@settings(deadline=None, max_examples=30)
@given(
    data=st.data(), reason=st.sampled_from(["raised", "memory", "died"]), allowed=st.sampled_from([True, 300])
)
def test_who_allows_it_is_not_stopped(data, reason, allowed):
    assert outcome(300, set(range(300)), 1, data, allowed=allowed, reason=reason) == ("", 0)


def test_a_number_stops_at_the_first_one_too_many():
    aside = SetAsideItems({7: given_up(7)}, allowed=3, decisive=sample(1000, 1))
    for item in (1, 2):
        assert aside.put(given_up(item)) == ()
        assert aside.abort_reason() == ""
    aside.put(given_up(3))
    assert aside.abort_reason() == "too many"


def test_what_an_earlier_run_kept_speaks_for_the_function():
    """A resume that only tries the failed items again does not say that everything failed."""
    schedule = Schedule(100, done=[(25, 100)])
    aside = SetAsideItems({}, allowed=False, decisive=sample(100, 1))
    for item in range(25):
        schedule.try_first(aside.put(given_up(item)))
    assert aside.abort_reason() == ""


# --------------------------------------------------------------------------- with workers that die


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("grain", [None, 5])
@pytest.mark.parametrize("end", ["raises", "crashes", "memory error"])
def test_whether_a_run_goes_on_does_not_depend_on_workers(end, grain, workers):
    """However items fail: the first 20 stop nothing, all of them do; and with set_aside=True nothing does."""

    def run(failing, items=100, **options):
        backend = FakeBackend(lambda item, tries: Deed(end=end if item in failing else "done"), grain=grain)
        return simulation(backend, items, GiB, workers=workers, **options)

    first = run(range(20), set_aside=False)
    with pytest.raises(PenstockError) as caught:
        first.run()
    assert "sample" not in str(caught.value)
    assert [each for each in first.results if isinstance(each, int)] == list(range(20, 100))
    wrong = run(range(1000), 1000, set_aside=False)
    with pytest.raises(PenstockError, match="sample of items spread over the input failed"):
        wrong.run()
    assert len(wrong.aside) < 200
    allowed = run(range(100), set_aside=True).run()
    assert sorted(allowed.aside) == list(range(100))


# --------------------------------------------------------------------------- through a whole run


@pytest.mark.parametrize("options", [{}, {"into": penstock.sinks.Collect(cap=1000)}, {"workers": 1}])
def test_the_first_20_raise_and_all_others_are_done(options):
    report = penstock.run(mf.Raise(range(20)), 100, set_aside=True, backend="inline", **options)
    assert (report.outcome, report.done, report.set_aside_total) == ("done", 80, 20)
    with pytest.raises(penstock.FunctionRaised, match="20 of 100 items were set aside") as caught:
        penstock.run(mf.Raise(range(20)), 100, backend="inline", **options)
    assert caught.value.report.done == 80, "the others are finished first"


def test_all_raise_and_all_are_set_aside_where_that_is_allowed():
    report = penstock.run(mf.Raise(range(100)), 100, set_aside=True, backend="inline")
    assert (report.outcome, report.done, report.set_aside_total) == ("done", 0, 100)


def test_a_wrong_function_ends_early_and_the_message_says_how_to_go_on():
    with pytest.raises(penstock.FunctionRaised) as caught:
        penstock.run(mf.Raise(range(10_000)), 10_000, backend="inline")
    assert caught.value.report.set_aside_total < 1000
    assert "set_aside=True (--set-aside all) goes on" in str(caught.value)
    told = with_flags(str(caught.value))
    assert "--set-aside all goes on" in told
    assert "set_aside" not in told
