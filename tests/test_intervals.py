"""Intervals against a set of integers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penstock.intervals import Intervals

PAIR = st.tuples(st.integers(-5, 40), st.integers(-5, 40))
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove"]), PAIR), max_size=25)


def both(steps):
    intervals, model = Intervals(), set()
    for what, (start, stop) in steps:
        getattr(intervals, what)(start, stop)
        (model.update if what == "add" else model.difference_update)(range(start, stop))
    return intervals, model


@given(STEPS)
def test_holds_what_a_set_holds(steps):
    intervals, model = both(steps)
    assert len(intervals) == len(model)
    assert {item for start, stop in intervals for item in range(start, stop)} == model
    assert [item in intervals for item in range(-6, 42)] == [item in model for item in range(-6, 42)]


@given(STEPS)
def test_is_sorted_and_disjoint_with_gaps_between(steps):
    pairs = list(both(steps)[0])
    assert all(start < stop for start, stop in pairs)
    assert all(left[1] < right[0] for left, right in pairwise(pairs))


@given(STEPS, PAIR)
def test_gaps_and_overlaps(steps, pair):
    intervals, model = both(steps)
    start, stop = pair
    gaps = list(intervals.gaps(start, stop))
    assert [item for a, b in gaps for item in range(a, b)] == [
        i for i in range(start, stop) if i not in model
    ]
    assert all(a < b for a, b in gaps)
    assert intervals.overlaps(start, stop) == bool(model & set(range(start, stop)))


@given(STEPS, st.integers(0, 41))
def test_first(steps, at):
    intervals, model = both(steps)
    after = sorted(item for item in model if item >= at)
    found = intervals.first(at=at)
    if not after:
        assert found is None
        return
    start, stop = found
    assert start == after[0]
    assert set(range(start, stop)) <= model
    assert stop not in model


@given(st.lists(PAIR, max_size=20))
def test_is_built_from_pairs_in_any_order(pairs):
    assert list(Intervals(pairs)) == list(Intervals(reversed(pairs)))


def test_a_million_neighbours_are_one_pair():
    intervals = Intervals((item, item + 1) for item in range(10_000))
    assert list(intervals) == [(0, 10_000)]
    assert len(intervals) == 10_000
