"""State of the batch a worker is working: the request, its progress, and the measured calls."""

from __future__ import annotations

import time
from collections.abc import MutableSequence, Sequence
from typing import Any

from penstock.engine import messages as m
from penstock.engine.apart import Apart
from penstock.engine.weight import weight

_MOST_CALLS = 64
"""Measured calls are thinned out above so many."""


class WorkedBatch:
    """A batch in progress in a worker.

    Args:
        work: what the parent asked for.
        words: the worker's note.
        each: estimated bytes of a result, by the batch before; 0 where there was none.
    """

    def __init__(self, work: m.Work, words: MutableSequence[int], each: float = 0.0) -> None:
        self._began = time.perf_counter()
        self._calls: list[m.MeasuredCall] = []
        self.work = work
        self.apart = Apart(words, work.start) if work.apart else None
        """Whether, and how, its items are worked each for itself."""
        self.stop = work.start
        """Behind the last item that was worked."""
        self.held = 0
        """Bytes above idle when the last call ended."""
        self._results = 0
        """Estimated bytes of its results so far, where they go up."""
        self.each = each
        """Estimated bytes of a result."""
        self.slowest: m.MeasuredCall | None = None

    def add(self, call: m.MeasuredCall) -> None:
        """Add a call that has ended."""
        self._calls.append(call)
        if self.slowest is None or call.seconds > self.slowest.seconds:
            self.slowest = call
        if len(self._calls) > _MOST_CALLS:
            self._calls = list(self.telling())

    def telling(self) -> tuple[m.MeasuredCall, ...]:
        """The first call, the highest and the last: those that a footprint can learn from."""
        calls = self._calls
        if len(calls) <= 3:
            return tuple(calls)
        highest = max(calls, key=lambda call: call.peak)
        return tuple(dict.fromkeys((calls[0], highest, calls[-1])))

    def seconds(self) -> float:
        """Wall seconds since it began."""
        return max(0.0, time.perf_counter() - self._began)  # a function may replace that clock

    def weigh(self, results: Sequence[Any]) -> None:
        """Count what results weigh that go up together."""
        if self.work.results:
            self._results += weight(results)
            self.each = self._results / max(self.stop - self.work.start, 1)

    def most_items(self) -> int:
        """Items of the next call: whose results may go up together with those before."""
        if not self.work.results:
            return self.work.call
        left = self.work.results - self._results
        return max(min(int(left / self.each) if self.each else 1, self.work.call), 1)

    def is_heavy(self) -> bool:
        """Whether its results are as heavy as may go up together."""
        return self._results > self.work.results

    def is_late(self) -> bool:
        """Whether it has lasted longer than intended."""
        return self.seconds() > self.work.seconds
