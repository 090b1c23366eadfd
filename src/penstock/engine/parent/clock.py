"""The clock of a stage: passed in, so that a test may pass a fake one.

Covers telling the time, sleeping, and doing something again and again (the governor's turns). A
:class:`Clock` is real: monotonic seconds, and a thread. :class:`penstock.testing.FakeClock` is one whose
hours take no time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from penstock.patience import Unwaiting

_NUDGED = 0.02
"""Seconds from which a wait between two steps can be cut short."""


class Repeated(Protocol):
    """A periodic task, until it is ended."""

    def nudge(self) -> None:
        """Make the next step due now, unless it is due soon anyway."""
        ...

    def end(self, patience: float) -> None:
        """Do no more steps; wait at most so many seconds for the current one."""
        ...


class Clock:
    """The real clock."""

    def __call__(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch, for events."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def repeat(self, step: Callable[[], float | None], name: str) -> Repeated:
        """Call ``step`` periodically, each time after the seconds that it returned; None ends it.

        Args:
            step: must not raise.
            name: of the thread.
        """
        thread = _Thread(step, name)
        thread.start()
        return thread


class _Thread(Unwaiting):
    def __init__(self, step: Callable[[], float | None], name: str) -> None:
        super().__init__(name)
        self._step = step
        self._nudge = threading.Event()
        self._ended = False

    def run(self) -> None:
        try:
            while not self._ended and (wait := self._step()) is not None:
                if wait > _NUDGED:
                    self._nudge.wait(wait)
                else:
                    time.sleep(wait)
                self._nudge.clear()
        finally:
            # As threading does with its target: a method of who holds this thread would be a circle.
            del self._step

    def nudge(self) -> None:
        self._nudge.set()

    def end(self, patience: float) -> None:
        self._ended = True
        self._nudge.set()
        self.join(patience)
