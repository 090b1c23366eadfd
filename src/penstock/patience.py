"""How long something has been waited for, how long to wait at a time, and where nothing may be waited for."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

_SLICE = 1.0
"""Seconds of one wait of :func:`slices`."""


def slices(timeout: float | None = None) -> Iterator[float]:
    """Seconds to wait for a lock at a time, once at least, until they are ``timeout``; None for no end.

    Python acts on a signal when its main thread runs again. Of one that comes just before that thread begins
    to wait for a lock, or that the kernel gives to another thread, the wait does not hear: it must end by
    itself, or Ctrl-C does nothing until what is waited for has come.
    """
    until = math.inf if timeout is None else time.monotonic() + timeout
    left = until - time.monotonic()
    yield max(min(left, _SLICE), 0.0)
    while (left := until - time.monotonic()) > 0:
        yield min(left, _SLICE)


class Unwaiting(threading.Thread):
    """A thread of ours in which nobody may wait for workers, since these may wait for it.

    Python collects garbage on whichever thread comes to it: so the finalizer of somebody's object, that shuts
    an executor down and waits for its end, may be run in the midst of the governor's turn.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)


def may_wait() -> bool:
    """Whether this thread may wait for workers."""
    return not isinstance(threading.current_thread(), Unwaiting)


class Patience:
    """Counts the seconds of a wait in which this process was awake, from look to look, at most ``step`` each.

    A process that was stopped, or whose machine slept, wakes up to clocks that have gone on: what did not
    answer meanwhile could not, and is given its time again.

    Args:
        seconds: that are waited at most.
        step: seconds between two looks that count at most.
    """

    def __init__(self, seconds: float, step: float = 1.0) -> None:
        self._seconds = seconds
        self._step = step
        self._waited = 0.0
        self._looked: float | None = None

    def over(self, now: float) -> bool:
        """Nothing came again: returns whether the wait has lasted too long."""
        if self._looked is not None:
            self._waited += min(now - self._looked, self._step)
        self._looked = now
        return self._waited >= self._seconds

    def renew(self) -> None:
        """Something came, or nothing is waited for: start over."""
        self._waited, self._looked = 0.0, None
