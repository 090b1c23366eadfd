"""Conformance suite for a reducer."""

from __future__ import annotations

import copy
import functools
import pickle
import random
from itertools import pairwise
from typing import Any

import pytest

from penstock import values
from penstock.abc import Reducer
from penstock.testing.comparing import comparable


class ReducerSuite:
    """Subclass it, give ``make`` and ``result_of``.

    ``make()`` returns a reducer, ``result_of(item)`` what the function would return for an item.
    """

    count = 40
    """How many results the tests fold."""

    def make(self) -> Any:
        """The reducer under test."""
        raise NotImplementedError("a ReducerSuite needs make()")

    def result_of(self, item: int) -> Any:
        """The result of an item; always the same for the same item."""
        raise NotImplementedError("a ReducerSuite needs result_of(item)")

    # ------------------------------------------------------------------ what the tests share

    @pytest.fixture
    def reducer(self) -> Any:
        return self.make()

    def state(self, reducer: Any, start: int, stop: int) -> Any:
        """The state after some consecutive results, passed through a journal."""
        state = reducer.start()
        for item in range(start, stop):
            state = reducer.step(state, self.result_of(item))
        return values.loads(values.dumps(state))

    def grains(self, reducer: Any) -> list[Any]:
        """The states in item order as the engine keeps them: one per grain, or per item."""
        grain = reducer.grain or 1
        return [self.state(reducer, at, min(at + grain, self.count)) for at in range(0, self.count, grain)]

    def finished(self, reducer: Any, states: list[Any]) -> Any:
        """The final value, in a form that can be compared."""
        return comparable(reducer.finish(state for state in copy.deepcopy(states)))

    # ------------------------------------------------------------------ the promises

    def test_is_a_reducer(self, reducer: Any) -> None:
        assert isinstance(reducer, Reducer)
        assert reducer.order in ("any", "items")
        assert reducer.grain is None or reducer.grain >= 1
        assert getattr(reducer, "unit", "item") in ("item", "call")
        assert reducer.order == "items" or reducer.grain is None, "a grain has no meaning in any order"

    def test_starts_afresh(self, reducer: Any) -> None:
        before = values.dumps(reducer.start())
        self.state(reducer, 0, self.count)
        assert values.dumps(reducer.start()) == before

    def test_states_survive_the_journal(self, reducer: Any) -> None:
        state = reducer.start()
        for item in range(self.count):
            state = values.loads(values.dumps(reducer.step(state, self.result_of(item))))
        plain = reducer.start()
        for item in range(self.count):
            plain = reducer.step(plain, self.result_of(item))
        assert self.finished(reducer, [state]) == self.finished(reducer, [plain])

    def test_leaves_results_alone(self, reducer: Any) -> None:
        results = [self.result_of(item) for item in range(self.count)]
        before = comparable(copy.deepcopy(results))
        state = reducer.start()
        for result in results:
            state = reducer.step(state, result)
        assert comparable(results) == before

    def test_finishes_a_stream(self, reducer: Any) -> None:
        states = self.grains(reducer)
        whole = self.finished(reducer, states)
        assert whole == self.finished(pickle.loads(pickle.dumps(reducer)), states)

    def test_finishes_no_states(self, reducer: Any) -> None:
        reducer.finish(iter(()))

    def test_does_not_depend_on_the_split(self, reducer: Any) -> None:
        if reducer.grain is not None:
            pytest.skip("this reducer folds per grain: states are not merged within one")
        whole = self.finished(reducer, [self.state(reducer, 0, self.count)])
        draw = random.Random(1)
        for pieces in (2, 3, 7, self.count):
            cuts = [0, *sorted(draw.sample(range(1, self.count), pieces - 1)), self.count]
            states = [self.state(reducer, low, high) for low, high in pairwise(cuts)]
            assert self.finished(reducer, states) == whole
            merged = functools.reduce(reducer.merge, copy.deepcopy(states))
            assert self.finished(reducer, [merged]) == whole

    def test_merging_is_associative(self, reducer: Any) -> None:
        if reducer.grain is not None:
            pytest.skip("this reducer folds per grain: states are not merged within one")
        third = self.count // 3
        states = [
            self.state(reducer, low, high)
            for low, high in ((0, third), (third, 2 * third), (2 * third, self.count))
        ]
        a, b, c = copy.deepcopy(states)
        left = reducer.merge(reducer.merge(a, b), c)
        a, b, c = copy.deepcopy(states)
        right = reducer.merge(a, reducer.merge(b, c))
        assert self.finished(reducer, [left]) == self.finished(reducer, [right])

    def test_the_start_changes_nothing(self, reducer: Any) -> None:
        if reducer.grain is not None:
            pytest.skip("this reducer folds per grain: states are not merged within one")
        state = self.state(reducer, 0, self.count)
        whole = self.finished(reducer, [state])
        assert self.finished(reducer, [reducer.merge(reducer.start(), copy.deepcopy(state))]) == whole
        assert self.finished(reducer, [reducer.merge(copy.deepcopy(state), reducer.start())]) == whole

    def test_any_order_gives_the_same(self, reducer: Any) -> None:
        if reducer.order != "any":
            pytest.skip("this reducer wants item order")
        states = self.grains(reducer)
        whole = self.finished(reducer, states)
        for seed in range(5):
            shuffled = random.Random(seed).sample(states, len(states))
            assert self.finished(reducer, shuffled) == whole
