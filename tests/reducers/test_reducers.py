import dataclasses
import operator
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import values
from penstock.errors import UsageError
from penstock.reducers import Count, Fold, Sum
from penstock.testing import ReducerSuite


class TestSumOfIntegers(ReducerSuite):
    def make(self):
        return Sum()

    def result_of(self, item):
        return (-7) ** item if item % 3 else bool(item % 2)


class TestSumOfIntegerArrays(ReducerSuite):
    def make(self):
        return Sum()

    def result_of(self, item):
        return np.arange(6, dtype=np.uint8).reshape(2, 3) * (item % 40)


class TestSumOfFloats(ReducerSuite):
    def make(self):
        return Sum(grain=7)

    def result_of(self, item):
        return 0.1 * 10.0 ** (item % 17) * (-1) ** item


class TestSumOfFloatArrays(ReducerSuite):
    def make(self):
        return Sum(grain=7)

    def result_of(self, item):
        return np.float32(1.1) ** np.arange(item % 5, item % 5 + 4, dtype=np.float32)


class TestSumOfComplex(ReducerSuite):
    def make(self):
        return Sum(grain=3)

    def result_of(self, item):
        return complex(item, 0.1)


class TestCount(ReducerSuite):
    def make(self):
        return Count()

    def result_of(self, item):
        return (
            ["abc", ["a", "b", "a"], {"a": item, "c": 2}, (), iter("xyz")][item % 5]
            if item % 5 < 4
            else "xyz"
        )


def _append(state, result):
    state["last"] = result
    state["sum"] = state["sum"] * 0.5 + result
    return state


def _join(left, right):
    return {"last": right["last"], "sum": left["sum"] / 3 + right["sum"]}


class TestFold(ReducerSuite):
    def make(self):
        return Fold(_append, {"last": None, "sum": 0.0}, _join, grain=8)

    def result_of(self, item):
        return item * 0.1


class TestFoldThatIsAssociative(ReducerSuite):
    def make(self):
        return Fold(lambda state, result: [*state, result], list, operator.add, grain=None)

    def result_of(self, item):
        return item

    def test_finishes_a_stream(self, reducer):
        # A lambda cannot be pickled here; the engine uses cloudpickle.
        assert self.finished(reducer, self.grains(reducer)) == list(range(self.count))


class TestFoldWithFinish(ReducerSuite):
    def make(self):
        return Fold(operator.add, 0, finish=list, grain=8)

    def result_of(self, item):
        return item


def fold(reducer, results):
    grain = reducer.grain or len(results) or 1
    states = []
    for at in range(0, len(results), grain):
        state = reducer.start()
        for result in results[at : at + grain]:
            state = reducer.step(state, result)
        states.append(values.loads(values.dumps(state)))
    return reducer.finish(iter(states))


# ------------------------------------------------------------------ Sum


@given(st.lists(st.integers(), max_size=20))
def test_sum_of_integers_is_exact(numbers):
    assert fold(Sum(), numbers) == sum(numbers)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50), st.integers(1, 20))
def test_sum_of_floats_is_close_and_a_float(numbers, grain):
    total = fold(Sum(grain=grain), numbers)
    assert type(total) is float
    assert total == pytest.approx(float(sum(map(Fraction, numbers))), abs=1e-3)


def test_sum_kinds():
    assert fold(Sum(), []) == 0
    assert fold(Sum(), [True, np.bool_(True), np.uint8(250), np.int64(2**62), 2**70]) == 252 + 2**62 + 2**70
    assert fold(Sum(grain=2), [1, 0.5, np.float32(0.25)]) == 1.75
    total = fold(Sum(), [np.array([True, False])] * 300)
    assert (total.dtype, total.tolist()) == (np.int64, [300, 0])
    total = fold(Sum(grain=64), [np.full(2, 0.1, np.float32)] * 3)
    assert total.dtype == np.float64
    assert fold(Sum(), [np.array(3)] * 2) == 6
    assert fold(Sum(grain=4), [np.arange(2), np.array([0.5, 0.5])]).tolist() == [0.5, 1.5]


def test_sum_orders():
    assert (Sum().order, Sum().grain) == ("any", None)
    assert (Sum(grain=5).order, Sum(grain=5).grain) == ("items", 5)


@pytest.mark.parametrize("inexact", [0.5, 1j, np.float32(1), np.zeros(3), np.zeros(2, complex)])
def test_sum_of_floats_needs_a_grain(inexact):
    with pytest.raises(TypeError, match=r"depends on their order: give a grain, as in Sum\(grain=64\)"):
        Sum().step(Sum().start(), inexact)


@pytest.mark.parametrize(
    "wrong", ["1", None, [1, 2], {"a": 1}, np.array(["a"]), np.array([object()]), np.datetime64("2020-01-01")]
)
def test_sum_refuses_what_is_no_number(wrong):
    with pytest.raises(TypeError, match=r"Sum adds numbers and NumPy arrays of numbers, not"):
        Sum().step(None, wrong)


def test_sum_refuses_mixed_shapes():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        fold(Sum(), [np.arange(2), np.arange(3)])
    with pytest.raises(ValueError, match=r"a number and an array"):
        fold(Sum(), [np.arange(2), 3])


@pytest.mark.parametrize(
    "arrays",
    [
        [np.array([2**62]), np.array([2**62])],
        [np.array([-(2**63)]), np.array([-1])],
        [np.array([2**63], np.uint64)],
    ],
)
def test_sum_of_arrays_says_when_it_overflows(arrays):
    with pytest.raises(OverflowError, match=r"2\*\*63"):
        fold(Sum(), arrays)


def test_sum_does_not_overflow_in_the_middle_of_the_range():
    assert fold(Sum(), [np.array([2**62]), np.array([2**62 - 1])]).tolist() == [2**63 - 1]
    assert fold(Sum(), [np.array([-(2**62)]), np.array([-(2**62)])]).tolist() == [-(2**63)]


@pytest.mark.parametrize("grain", [0, -3])
def test_grains_have_items(grain):
    with pytest.raises(UsageError, match="at least 1 was expected"):
        Sum(grain=grain)
    with pytest.raises(UsageError, match="at least 1 was expected"):
        Fold(operator.add, 0, operator.add, grain=grain)


# ------------------------------------------------------------------ Count


@given(st.lists(st.lists(st.text(max_size=2), max_size=5), max_size=10))
def test_count_counts(results):
    counted = fold(Count(), results)
    assert counted == Counter(key for keys in results for key in keys)
    assert list(counted) == [
        key for key, _ in sorted(counted.items(), key=lambda entry: (-entry[1], entry[0]))
    ]


def test_count_kinds():
    assert fold(Count(), ["ab", ["ab", "c"], {"c": np.int64(5)}, (key for key in "xx")]) == {
        "c": 6,
        "ab": 2,
        "x": 2,
    }


@pytest.mark.parametrize("wrong", [5, None, [5], {5: 1}, {"a": 1.5}, [b"a"], 2.5])
def test_count_refuses(wrong):
    with pytest.raises(TypeError):
        Count().step({}, wrong)


def test_count_has_no_grain():
    with pytest.raises(UsageError, match=r"no grain"):
        Count(grain=5)


# ------------------------------------------------------------------ Fold


def test_fold_needs_a_way_to_put_states_together():
    with pytest.raises(UsageError, match=r"merge\(left, right\)"):
        Fold(operator.add, 0)
    with pytest.raises(UsageError, match=r"needs merge"):
        Fold(operator.add, 0, finish=list, grain=None)
    with pytest.raises(UsageError, match=r"cannot merge"):
        Fold(operator.add, 0, finish=list).merge(1, 2)


def test_fold_does_not_share_its_start():
    start = {"seen": []}
    reducer = Fold(lambda s, r: (s["seen"].append(r), s)[1], start, lambda a, b: a, grain=1)
    reducer.step(reducer.start(), 1)
    assert start == {"seen": []}
    assert reducer.start() == {"seen": []}


def test_fold_of_nothing_is_its_start():
    assert fold(Fold(operator.add, 5, operator.add), []) == 5


def test_fold_finish_takes_every_grain():
    assert fold(Fold(operator.add, 0, finish=list, grain=2), [1, 2, 3, 4, 5]) == [3, 7, 5]


def test_fold_tells_a_change_of_its_functions():
    fold = Fold(operator.add, 0, operator.add)
    assert fold == Fold(operator.add, 0, operator.add)
    assert fold != Fold(operator.add, 1, operator.add)
    assert fold != Fold(operator.mul, 0, operator.add)
    assert {field.name for field in dataclasses.fields(fold)} > {"grain", "_step", "_start"}


def test_fold_says_what_it_is():
    assert repr(Fold(_append, dict, _join, grain=3)) == "Fold(step=_append, start=dict, merge=_join, grain=3)"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            (0, operator.add, operator.add),
            r"Fold takes step\(state, result\), not 0: the order is Fold\(step, start",
        ),
        ((None, 0, operator.add), r"Fold takes step\(state, result\), not None"),
        ((_append, _join, _join), r"Fold calls start\(\), which _join cannot be called as"),
        ((_append, 0, 5), r"Fold takes merge\(left, right\), not 5"),
        ((_append, 0, None, "list"), r"Fold takes finish\(states\), not 'list'"),
    ],
)
def test_functions_of_a_fold_in_another_order_are_told_at_once(given, said):
    with pytest.raises(UsageError, match=said):
        Fold(*given)
