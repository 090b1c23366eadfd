"""How long something has been waited for, counting only time in which this process was awake."""

from __future__ import annotations


class Patience:
    """Counts the seconds of a wait from look to look, at most ``step`` for each.

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
