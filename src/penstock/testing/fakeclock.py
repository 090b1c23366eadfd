"""A fake clock for tests: time advances only when somebody waits."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

from penstock.engine.parent.clock import Clock


class FakeClock(Clock):
    """A clock that stands still until somebody waits.

    Args:
        grain: seconds that go by at least in each wait and between two turns of the governor: larger
            ones make long runs quick, as a busy machine would make them coarse.
        late: seconds by which each turn of the governor comes late, as on a crowded machine.
    """

    def __init__(self, grain: float = 0.0, late: float = 0.0) -> None:
        self.grain = grain
        self.late = late
        self._now = 1000.0
        self._count = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self.most_seconds = 100 * 3600.0
        """A run that takes longer does not end."""

    def __call__(self) -> float:
        """Seconds."""
        return self._now

    def wall(self) -> float:
        """Seconds since the epoch, on a day in 2001."""
        return 1_000_000_000.0 + self._now

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.advance(self._now + seconds)

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Schedule a callback at a time."""
        heapq.heappush(self._queue, (max(when, self._now), next(self._count), do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Schedule a callback so many seconds from now."""
        self.at(self._now + seconds, do)

    def next_due(self) -> float:
        """Time of the next callback; infinite if there is none."""
        return self._queue[0][0] if self._queue else math.inf

    def advance(self, until: float) -> None:
        """Advance to a time, running the callbacks that are due."""
        while self._queue and self._queue[0][0] <= until:
            when, _, do = heapq.heappop(self._queue)
            self._now = max(self._now, when)
            do()
        self._now = max(self._now, until)
        if self._now > self.most_seconds:
            raise AssertionError(f"the run has not ended after {self._now:,.0f} s")

    def repeat(self, step: Callable[[], float | None], name: str) -> _Steps:
        """Call it periodically as time advances, from now on."""
        return _Steps(self, step)


class _Steps:
    def __init__(self, clock: FakeClock, step: Callable[[], float | None]) -> None:
        self._clock = clock
        self._step: Callable[[], float | None] | None = step
        self._next = clock()
        clock.at(self._next, self._do)

    def _do(self) -> None:
        if self._step is None or self._clock() < self._next:
            return
        wait = self._step()
        if wait is None:
            self._step = None
            return
        self._next = self._clock() + max(wait, self._clock.grain) + self._clock.late
        self._clock.at(self._next, self._do)

    def nudge(self) -> None:
        soon = self._clock() + self._clock.grain
        if self._step is not None and self._next > soon:
            self._next = soon
            self._clock.at(soon, self._do)

    def end(self, patience: float) -> None:
        self._step = None
