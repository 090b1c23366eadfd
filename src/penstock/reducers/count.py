"""Counts how often each key occurs."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from penstock.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Count:
    """Counts keys exactly, in any order.

    A result is a key (a string), an iterable of keys, or a mapping from keys to counts. What is
    kept is a dict from key to count, the most frequent first, equal counts by key. All keys are
    held at once: it is meant for up to some millions of them.

    Raises:
        TypeError: a key that is not a string, or a count that is not an integer.
    """

    grain: None = None

    def __post_init__(self) -> None:
        if self.grain is not None:
            raise UsageError("Count has no grain: counts do not depend on how items are grouped")

    @property
    def order(self) -> Literal["any"]:
        """Counts are exact in any order."""
        return "any"

    def start(self) -> dict[str, int]:
        """No keys."""
        return {}

    def step(self, state: dict[str, int], result: Any) -> dict[str, int]:
        """Add the keys of one result to ``state``."""
        for key, count in _counts(result):
            if type(key) is not str:
                raise TypeError(
                    f"Count counts strings, not the {type(key).__qualname__} {key!r}: return str(key)"
                )
            state[key] = state.get(key, 0) + count
        return state

    def merge(self, left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
        """Add the counts of ``right`` to ``left``."""
        for key, count in right.items():
            left[key] = left.get(key, 0) + count
        return left

    def finish(self, states: Iterator[dict[str, int]]) -> dict[str, int]:
        """All counts, the most frequent first."""
        total: dict[str, int] = {}
        for state in states:
            total = self.merge(total, state)
        return dict(sorted(total.items(), key=lambda entry: (-entry[1], entry[0])))


def _counts(result: Any) -> Iterable[tuple[Any, int]]:
    if isinstance(result, str):
        return ((result, 1),)
    if isinstance(result, Mapping):
        return ((key, operator.index(count)) for key, count in result.items())
    if isinstance(result, Iterable):
        return ((key, 1) for key in result)
    raise TypeError(
        "Count takes a string, an iterable of strings or a mapping to integers, "
        f"not {type(result).__qualname__}"
    )
