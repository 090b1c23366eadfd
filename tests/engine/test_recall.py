"""What earlier runs took: gone by at first, dropped when it is not so, never worth more than the budget."""

import json
import math
from contextlib import suppress
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import discover
from penstock import events as ev
from penstock.budget import Budget, GiB, MiB, format_size
from penstock.engine.decide.estimate import Estimate, Wishes
from penstock.engine.decide.footprint import Footprint, Observation
from penstock.engine.decide.grow import Growth, grown
from penstock.engine.decide.learnt import KEPT, Learnt, Sample, from_json
from penstock.engine.decide.plan import Reserved
from penstock.engine.decide.recall import COUNTS_FOR, Recall, chance, differ, spread
from penstock.errors import CannotFit
from penstock.testing import Deed, FakeBackend, FakeClock, simulate

NOTHING = Reserved(0, 0, 0)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """What others keep in the shared memory of this machine is no part of a script."""
    monkeypatch.setattr(discover, "shared_files", lambda: 0, raising=False)


def learnt(*peaks, **more):
    """Of calls of one item that took so many MiB."""
    seen = tuple(Observation(1.0, 1.0, int(peak * MiB)) for peak in peaks)
    return Learnt(**{"observations": seen, "items": len(seen), "reserved": NOTHING, **more})


def recall(*peaks, scales=False):
    return Recall(scales=scales, declared=None, before=learnt(*peaks))


def call(peak, hint=1.0):
    return Observation(hint, hint, int(peak * MiB))


# --------------------------------------------------------------------------- chances


@pytest.mark.parametrize(("old", "new"), [(5, 3), (4, 4), (1, 5)])
def test_the_chance_is_that_of_all_orders(old, new):
    orders = list(combinations(range(old + new), new))
    for above in range(1, new + 1):
        top = set(range(old + new - above, old + new))
        counted = sum(top <= set(order) for order in orders) / len(orders)
        assert math.isclose(chance(above, new, old), counted)


def test_nearly_alike_is_alike_and_twice_as_much_is_not():
    before = [100 + n % 17 for n in range(128)]
    before.sort()
    assert not differ(before, sorted(105 + n % 17 for n in range(64)))
    assert differ(before, [200.0] * 4)
    assert differ(before, [50.0] * 4)
    assert not differ(before, [200.0] * 2)


# --------------------------------------------------------------------------- how long it stands


def test_it_stands_while_the_calls_are_alike_and_then_is_not_needed():
    known = recall(*[50 + n % 9 for n in range(KEPT)])
    assert known.unconfirmed
    assert known.news == [
        "begins with what 128 calls of earlier runs took: 54.0 MiB in the median, at most 58.0 MiB"
    ]
    for n in range(KEPT):
        assert known.stands
        assert known.calls == COUNTS_FOR
        known.observe(call(50 + n * 5 % 9))
        assert not known.unconfirmed
    assert not known.stands
    assert known.calls == 0
    assert len(known.news) == 1


@pytest.mark.parametrize("factor", [0.3, 2, 10])
def test_it_is_dropped_when_the_calls_are_of_another_kind(factor):
    known = recall(*[50 + n % 9 for n in range(KEPT)])
    for n in range(5):
        known.observe(call(factor * (50 + n)))
    assert not known.stands
    assert known.news[-1].startswith("goes no longer by earlier runs: ")
    assert known.learnt() == tuple(call(factor * (50 + n)) for n in range(5))


def test_one_call_over_all_is_enough_at_the_beginning_even_before_it_ends():
    held, ended, died = (recall(*range(50, 100)) for _ in range(3))
    held.heed([call(1), call(60), call(90)])
    assert held.stands
    held.heed([call(1), call(400)])
    ended.observe(call(400))
    died.at_least(call(400))
    for known in (held, ended, died):
        assert not known.stands
        assert "took more than all 50 before" in known.news[-1]


def test_a_heavy_one_later_is_no_news():
    known = recall(*[50 + n % 9 for n in range(20)])
    for n in range(15):
        known.observe(call(50 + n % 9))
    known.observe(call(90))
    assert known.stands
    assert known.footprint.bound(1, 1) >= 90 * MiB


def test_a_first_call_with_its_imports_is_no_news_and_a_heavy_one_is():
    before = learnt(*[50] * 64, firsts=(120 * MiB,))
    known = Recall(scales=False, declared=None, before=before)
    known.observe(call(125), first=True)
    assert known.stands
    known = Recall(scales=False, declared=None, before=before)
    known.observe(call(500), first=True)
    assert not known.stands


def test_sizes_are_compared_by_what_they_explain():
    seen = tuple(call(10 * hint, hint) for hint in range(1, 40))
    known = Recall(scales=False, declared=None, before=Learnt(observations=seen, reserved=NOTHING))
    for hint in range(30, 40):
        known.observe(call(10 * hint, hint))
    assert known.stands
    assert known.footprint.bound(80, 80) >= 800 * MiB


PEAKS = st.lists(st.floats(0.01, 3000), min_size=1, max_size=60)


@given(PEAKS, PEAKS)
def test_what_was_dropped_leaves_nothing_behind(before, now):
    known, plain = recall(*before), Footprint(scales=False)
    for number, peak in enumerate(now):
        known.observe(call(peak), first=number < 2)
        plain.observe(call(peak), first=number < 2)
    if not known.stands:
        assert known.footprint.bound(1, 1) == plain.bound(1, 1)
        assert known.footprint.peaks() == plain.peaks()
    assert known.tried == plain.tried


@given(PEAKS)
def test_few_stand_for_many_and_the_largest_is_among_them(peaks):
    seen = [call(peak) for peak in peaks]
    few = spread(seen)
    assert len(few) <= COUNTS_FOR
    assert max(each.peak for each in few) == max(each.peak for each in seen)
    assert [each for each in seen if each in few] == few or len(set(seen)) < len(seen)


# --------------------------------------------------------------------------- what is kept


def test_a_sample_is_spread_over_the_run_and_does_not_grow():
    sample = Sample()
    for n in range(100_000):
        sample.add(Observation(1.0, 1.0, 999_999 if n == 77 else n))
    kept = sample.kept()
    assert 60 <= len(kept) <= KEPT
    assert kept[-1].peak == 999_999
    steps = {b.peak - a.peak for a, b in pairwise(kept[:-1])}
    assert len(steps) == 1


@pytest.mark.parametrize("calls", [0, 1, 2, 127, 128, 129, 255, 256, 257, 1000])
def test_a_sample_is_never_too_many(calls):
    sample = Sample()
    for n in range(calls):
        sample.add(Observation(1.0, 1.0, n))
    assert len(sample.kept()) <= KEPT
    assert (max((each.peak for each in sample.kept()), default=-1)) == calls - 1


def test_short_runs_add_up():
    first = recall(*[50] * 100)
    for _ in range(60):
        first.observe(call(51))
    kept = first.learnt()
    assert len(kept) == KEPT
    assert [each.peak for each in kept[-60:]] == [51 * MiB] * 60


ODD = [
    {"observations": [[1, 1]]},
    {"observations": [[2, 1, 5]]},
    {"observations": [[1, 1, -5]]},
    {"observations": [[1, 1, 1 << 60]]},
    {"observations": [[1e-300, 1e-300, 100]]},
    {"observations": [[1, 1, 1 << 47]]},
    {"firsts": [1 << 47]},
    {"memory": 1 << 47},
    {"items": (1 << 53) - 1},
    {"mean_hint": 2.0, "largest_hint": 1.0},
    {"seconds_per_item": 1e-300},
    {"seconds_per_item": 1e10},
    {"reserved": {"parent": 1 << 53, "backend": 0, "worker": 0, "results": 0, "others": 0}},
    {"observations": [[1, 1, 1]] * 129},
    {"observations": [[math.nan, 1, 1]]},
    {"observations": "no"},
    {"firsts": [1.5]},
    {"firsts": [0] * 17},
    {"call": True},
    {"items": None},
    {"mean_hint": -1},
    {"largest_hint": math.inf},
    {"seconds_per_item": "1"},
    {"batched": -3},
    {"reserved": {}},
    {"reserved": 7},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_what_is_odd_is_refused_whole(odd):
    right = learnt(5, 7, firsts=(9,), batched=4, threads=2).as_json()
    assert from_json(json.loads(json.dumps(right))) == from_json(right)
    with pytest.raises(ValueError, match=r"."):
        from_json({**right, **odd})
    with pytest.raises(ValueError, match=r"."):
        from_json([right])


# --------------------------------------------------------------------------- a run of the real loop


def run(deeds, *, before=None, items=40, budget=1 * GiB, **more):
    backend = FakeBackend(deeds, clock=FakeClock(grain=0.01))
    kept = []
    done = simulate(backend, items, budget, before=before, keep=kept.append, **more)
    assert [each for each in done.results if isinstance(each, int)] == [
        item for item in range(items) if item not in done.aside
    ]
    assert done.backend.kernel_kills == 0
    return done, kept[-1] if kept else None


def first_starts(done, count):
    """When the first so many batches were begun, from the first on."""
    times = [event.at for event in done.events_of(ev.BatchStarted)]
    return times[count - 1] - times[0]


def test_the_next_run_begins_where_the_last_ended():
    def deeds(item, tries):
        return Deed(seconds=3.0, memory=(100 + item % 5) * MiB)

    first, kept = run(deeds)
    assert len(kept.observations) == 37  # three workers' first calls had their imports in them
    again, _ = run(deeds, before=kept)
    assert again.results == first.results
    assert again.when[39] <= first.when[39]
    assert first_starts(again, 4) < 3  # none has ended by then
    assert [event.message for event in again.events_of(ev.Recalled)] == [
        "begins with what 37 calls of earlier runs took: 102 MiB in the median, at most 104 MiB"
    ]
    assert not first.events_of(ev.Recalled)


def test_before_a_call_has_ended_they_start_one_after_another():
    done, _ = run(lambda item, tries: Deed(seconds=3.0, memory=50 * MiB), items=8, before=learnt(*[50] * 40))
    times = [event.at for event in done.events_of(ev.BatchStarted)][:4]
    assert all(later - sooner >= 0.05 for sooner, later in pairwise(times))


@pytest.mark.parametrize("said", [0.01, 1, 20, 5000])
def test_a_wrong_memory_costs_no_item_and_no_budget(said):
    def deeds(item, tries):
        return Deed(seconds=1.0, memory=400 * MiB)

    plain, _ = run(deeds, items=12)
    wrong, _ = run(deeds, items=12, before=learnt(*[said] * KEPT))
    assert wrong.results == plain.results
    assert not wrong.aside
    assert max(event.used for event in wrong.events_of(ev.MemoryRead)) <= 1 * GiB
    assert [event.message for event in wrong.events_of(ev.Recalled)][1:]


@settings(max_examples=10)
@given(st.lists(st.floats(0.1, 2000), min_size=1, max_size=40), st.integers(1, 900), st.integers(1, 1 << 20))
def test_the_same_results_whatever_is_remembered(peaks, memory, most):
    def deeds(item, tries):
        return Deed(seconds=0.2, memory=(memory if item % 7 == 3 else 1 + memory // 9) * MiB)

    plain, _ = run(deeds, items=16)
    with_memory, _ = run(deeds, items=16, before=learnt(*peaks, call=most))
    assert with_memory.results == plain.results
    assert with_memory.aside == plain.aside


def test_a_resume_of_few_items_keeps_what_it_was_begun_with():
    _, kept = run(lambda item, tries: Deed(memory=50 * MiB), items=3, before=learnt(*[50] * 40))
    assert len(kept.observations) > 40


# --------------------------------------------------------------------------- ten times the data


def test_more_and_larger_items():
    seen = tuple(call(5 + 2 * hint, hint) for hint in range(1, 51))
    before = Learnt(
        observations=seen, items=50, mean_hint=25.5, largest_hint=50.0, seconds_per_item=2.0,
        reserved=Reserved(20 * MiB, 15 * MiB, 4 * MiB, results=10 * MiB),
    )  # fmt: skip

    def plan(budget=8 * GiB, **growth):
        stated = Budget(budget, "a test")
        return grown(before, Growth(**growth), budget=stated, workers=None, call=None, cores=8)

    same, more, larger = plan(), plan(items=10), plan(size=4)
    assert (same.items, more.items, larger.items) == (50, 500, 50)
    assert more.reserved.results == 10 * same.reserved.results
    assert more.seconds == pytest.approx(10 * same.seconds)
    assert larger.seconds_per_item == pytest.approx(4 * same.seconds_per_item)
    # By the line through what was seen: 5 MiB and 2 for each of its size.
    assert (5 + 2 * 4 * 25.5) * MiB <= larger.footprint <= 1.3 * (5 + 2 * 4 * 25.5) * MiB
    assert larger.largest >= (5 + 2 * 4 * 50) * MiB
    assert plan(budget=1 * GiB, size=4).workers < same.workers == 8


def test_without_sizes_memory_grows_in_proportion():
    plan = grown(
        learnt(*[100] * 30), Growth(size=3), budget=Budget(8 * GiB, "a test"), workers=2, call=None, cores=8
    )
    assert 300 * MiB <= plan.footprint <= 400 * MiB
    assert plan.workers == 2


@pytest.mark.parametrize("kills_group", [False, True])
def test_what_cannot_fit_is_refused_with_the_least_budget_that_would_do(kills_group):
    def plan(size, budget):
        stated = Budget(budget, "a test", kills_group=kills_group)
        return grown(learnt(*[100] * 30), Growth(size=size), budget=stated, workers=2, call=None, cores=8)

    with pytest.raises(CannotFit, match=r"items 5 times as large: the heaviest call takes 500 MiB") as told:
        plan(5, 400 * MiB)
    assert f"A budget of {format_size(told.value.needed)} would do" in str(told.value)
    fits = plan(5, told.value.needed)
    assert fits.workers == 1
    assert fits.projected == fits.reserved.total(1) + fits.footprint  # not clipped
    assert fits.median == 500 * MiB
    # What was seen to run in a budget is not refused in it.
    assert plan(1, 400 * MiB).median == 100 * MiB


def test_of_what_ran_out_of_memory_only_the_least_is_known():
    before = learnt(*[20] * 10, *[300] * 6, died=6)
    with pytest.raises(CannotFit, match=r"6 calls ran out of memory .* or more"):
        grown(before, Growth(), budget=Budget(300 * MiB, "a test"), workers=None, call=None, cores=2)
    plan = grown(before, Growth(), budget=Budget(8 * GiB, "a test"), workers=None, call=None, cores=2)
    assert "6 calls ran out of memory: such items need more than is known" in str(plan)


def test_one_large_item_is_enough_not_to_fit():
    before = learnt(*range(10, 40), mean_hint=1.0, largest_hint=30.0)
    with pytest.raises(CannotFit):
        grown(
            before, Growth(), budget=Budget(400 * MiB, "a test"), workers=None, call=None, cores=2
        )  # 30 times the median


def test_what_was_stated_is_of_items_as_they_were():
    before = learnt(*[100] * 30, memory=120 * MiB)
    stated = {"budget": Budget(8 * GiB, "a test"), "workers": 1, "call": None, "cores": 2}
    assert grown(before, Growth(items=3), **stated).footprint == 120 * MiB
    assert grown(before, Growth(size=3), **stated).footprint >= 300 * MiB


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1e-9, 1.0, 3.0, 2.0**53]), st.sampled_from([0, 1, MiB, 1 << 46])),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([0.0, 1e-9, 1.0, 2.0**53]),
    st.sampled_from([0, 1, 10**12]),
    st.sampled_from([0.0, 1e-9, 1.0, 1e9]),
    st.sampled_from([1e-6, 1, 1e6]),
    st.booleans(),
)
def test_whatever_a_file_says_a_plan_is_made_or_refused(calls, hint, items, seconds, factor, scales):
    told = learnt(5, batched=scales, items=items, mean_hint=hint, largest_hint=hint, seconds_per_item=seconds)
    odd = {"observations": [[size, size, peak] for size, peak in calls]}
    before = from_json({**told.as_json(), **odd})
    budget = Budget(1 * GiB, "a test")
    with suppress(CannotFit):
        plan = grown(before, Growth(factor, factor), budget=budget, workers=None, call=None, cores=2)
        assert all(len(number) < 20 for _, number, _ in plan.rows())
    estimate = Estimate([0] * 10, batched=scales, wishes=Wishes(), cores=2, before=before)
    assert all(len(number) < 20 for _, number, _ in estimate.plan(budget, before.reserved).rows())


def test_growth_says_what_it_is():
    assert str(Growth()) == "the same again"
    assert str(Growth(10, 0.5)) == "10 times the items, each 0.5 times as large"
    assert str(Growth(1e6)) == "1,000,000 times the items"
    assert str(Growth(size=2)) == "items 2 times as large"
