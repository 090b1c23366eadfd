"""When to read a tree again: seldom in calm, at once near a limit, and for a bounded share of a core."""

from __future__ import annotations

from penstock.budget import GiB

COST = 0.003
"""Share of one core that the readings may take."""
_CREDIT = 0.05
"""CPU seconds that may be spent at once, while much happens."""
_QUICK, _CALM, _SLOWEST = 0.01, 0.1, 0.5
_FIRST_LIST, _LIST = 0.02, 1.0
"""Seconds between readings of each process where the group's counter tells the sum and stands still: at the
start, and later."""
_FILL_RATE = 6 * GiB
"""Bytes that one core can touch in a second."""


def pace(cost: float, credit: float, changed: bool, before: float, distance: float) -> float:
    """Seconds until the next reading. Pure.

    Args:
        cost: CPU seconds that a reading takes.
        credit: CPU seconds that may be spent now; saved up in calm.
        changed: whether what is held has changed since the last one.
        before: seconds between the last two.
        distance: bytes until something must be done; infinite where nothing ever is.
    """
    least = _QUICK if credit > 0 else min(max(cost / COST, _QUICK), _SLOWEST)
    calm = least if changed else min(before * 1.5, max(least, _CALM))
    # Close to the line the cost does not matter: it is crossed within a few readings.
    close = distance / (4 * _FILL_RATE)
    return min(calm, max(close, _QUICK if not changed else 0.001))


class Cadence:
    """The interval between readings, adapted to their cost so far."""

    def __init__(self) -> None:
        self.interval = _QUICK
        """Seconds until the next reading."""
        self._cost, self._credit = 0.0, _CREDIT

    def next(self, spent: float, since: float, *, changed: bool, distance: float) -> float:
        """Seconds until the next reading, after one.

        Args:
            spent: CPU seconds that it took.
            since: seconds since the one before.
            changed: whether what is held has changed.
            distance: bytes until something must be done.
        """
        self._cost = spent if self._cost == 0.0 else 0.8 * self._cost + 0.2 * spent
        self._credit = min(self._credit + COST * since - spent, _CREDIT)
        self.interval = pace(self._cost, self._credit, changed, self.interval, distance)
        return self.interval


class ListingTimes:
    """When to list each process and its owner: more often soon after the start, when much changes."""

    def __init__(self) -> None:
        self._at, self._every = 0.0, _FIRST_LIST

    def is_due(self, now: float) -> bool:
        """Whether it is time; in seconds since the epoch."""
        return now - self._at >= self._every

    def done(self, now: float) -> None:
        """The listing was made."""
        self._at, self._every = now, min(2 * self._every, _LIST)
