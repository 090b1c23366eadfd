"""A fold in item order with functions of your own."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from penstock.errors import UsageError
from penstock.foreign import shown
from penstock.outputs import check_many

_ORDER = "the order is Fold(step, start, merge, finish)"


@dataclass(frozen=True, init=False, repr=False)
class Fold:
    """Folds results in item order: ``state = step(state, result)``.

    Each grain of items is folded on its own, from a fresh start; ``merge`` puts the states of
    neighbouring grains together, from left to right. The grains are fixed, so the result is the same
    for any batch, budget and worker, floats included. Write ``merge(start, x)`` so that it is x.

    Args:
        step: ``step(state, result) -> state``; may change and return the state it gets.
        start: the state before any result, or a function that makes it. States are JSON values
            and NumPy arrays.
        merge: ``merge(left, right) -> state``; may change and return ``left``.
        finish: ``finish(states) -> value``: takes an iterator over all states in item order, in place
            of merging them.
        grain: items folded on their own; None when ``merge`` is exactly associative.

    Raises:
        UsageError: neither ``merge`` nor ``finish``, a grain that is no whole number of at least 1, no grain
            without ``merge``, or what cannot be called so.
    """

    # Private, as step, start, merge and finish are its methods; fields, so that they are in the job's key.
    grain: int | None
    _step: Callable[[Any, Any], Any]
    _start: Any
    _merge: Callable[[Any, Any], Any] | None
    _finish: Callable[[Iterator[Any]], Any] | None

    def __init__(
        self,
        step: Callable[[Any, Any], Any],
        start: Any | Callable[[], Any],
        merge: Callable[[Any, Any], Any] | None = None,
        finish: Callable[[Iterator[Any]], Any] | None = None,
        *,
        grain: int | None = 256,
    ) -> None:
        functions = {"step(state, result)": step, "merge(left, right)": merge, "finish(states)": finish}
        for call, function in functions.items():
            if not callable(function) and (function is not None or function is step):
                raise UsageError(f"Fold takes {call}, not {shown(function, 60)}: {_ORDER}")
        if callable(start) and not _takes_nothing(start):
            raise UsageError(f"Fold calls start(), which {_named(start)} cannot be called as: {_ORDER}")
        if merge is None and finish is None:
            raise UsageError(
                "Fold needs merge(left, right), which puts the states of neighbouring grains together, "
                "or finish(states), which takes them all in order"
            )
        if grain is not None:
            check_many(self, grain=grain)
        if grain is None and merge is None:
            raise UsageError("Fold(grain=None) needs merge(left, right): batches are then cut anywhere")
        given = {"grain": grain, "_step": step, "_start": start, "_merge": merge, "_finish": finish}
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        given = {"step": self._step, "start": self._start, "merge": self._merge, "finish": self._finish}
        named = [f"{name}={_named(value)}" for name, value in given.items() if value is not None]
        return f"Fold({', '.join(named)}, grain={self.grain})"

    @property
    def order(self) -> Literal["items"]:
        """``"items"``: neighbours are merged from left to right."""
        return "items"

    def start(self) -> Any:
        """The initial state, a fresh one each time."""
        return self._start() if callable(self._start) else copy.deepcopy(self._start)

    def step(self, state: Any, result: Any) -> Any:
        """Fold one result in."""
        return self._step(state, result)

    def merge(self, left: Any, right: Any) -> Any:
        """Merge the states of two neighbours.

        Raises:
            UsageError: this Fold has no ``merge``.
        """
        if self._merge is None:
            raise UsageError("this Fold cannot merge states: give it merge=")
        return self._merge(left, right)

    def finish(self, states: Iterator[Any]) -> Any:
        """Your ``finish``, or all states merged from left to right; the initial state if there are none."""
        if self._finish is not None:
            return self._finish(states)
        try:
            total = next(states)
        except StopIteration:
            return self.start()
        for state in states:
            total = self.merge(total, state)
        return total


def _takes_nothing(start: Callable[..., Any]) -> bool:
    try:
        inspect.signature(start).bind()
    except TypeError:
        return False
    except ValueError:  # it has no signature that could be asked for
        return True
    return True


def _named(value: Any) -> str:
    return getattr(value, "__qualname__", None) or repr(value)
