"""Progress by callback: calls your function with the state of the run, at intervals."""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock import events as ev
from penstock.report.live import LiveState

_EVERY = 0.1


class Called:
    """An observer that calls a function with the state of the run, at most ten times a second.

    Also with the beginning and the end of each stage. What it raises is told in a warning, as an observer's.

    Args:
        function: called with a :class:`~penstock.report.live.LiveState`, always the same.
        clock: seconds, for tests.
    """

    def __init__(
        self, function: Callable[[LiveState], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._function, self._clock = function, clock
        self._state = LiveState(clock())
        self._due = clock()

    def __call__(self, event: ev.Event) -> None:
        """Take the next event."""
        now = self._clock()
        self._state.take(event, now)
        if now >= self._due or isinstance(event, ev.StageStarted | ev.StageEnded):
            self._due = now + _EVERY
            self._function(self._state)
