"""Kernel kills around a command: the counters of its groups and of the machine, and their increases."""

from __future__ import annotations

import time

from penstock import discover
from penstock.budget import Ceiling
from penstock.supervise.group import Group
from penstock.supervise.verdict import Rise, Scope

_LOOK = 0.5
"""Seconds between readings of the ceilings and their counters."""
_SCOPES: tuple[Scope, ...] = ("ours", "group", "machine")


class KernelKills:
    """The ceilings over a command, and the history of their kill counters.

    Args:
        gauge: the ceilings.
        group: the innermost group.
        ours: whether that group holds nobody else.
    """

    def __init__(self, gauge: discover.Gauge, group: Group, *, ours: bool) -> None:
        self._gauge, self._group = gauge, group
        self.ceilings: tuple[Ceiling, ...] = gauge.read()
        self.rises: list[Rise] = []
        """Kernel kills, as the counters told them."""
        self._in_group: int | None = None
        self._counts = self._count(ours)
        self._at, self._looked = time.time(), 0.0

    @property
    def are_counted(self) -> bool:
        """Whether kernel kills are counted anywhere here."""
        return bool(self._counts)

    def is_due(self, now: float) -> bool:
        """Whether the last reading is old enough."""
        return now - self._looked >= _LOOK

    def has_risen(self) -> bool:
        """Whether the group's own counter has moved since it was read: a quick check."""
        return self._group.kernel_kills() != self._in_group

    def look(self, now: float, held: int, *, ours: bool) -> None:
        """Read the ceilings, and compare their counters with the last reading.

        Args:
            now: seconds since the epoch.
            held: the most bytes that the command held a moment ago.
            ours: whether the innermost group holds nobody else.
        """
        self._looked = now
        self.ceilings = self._gauge.read()
        counts = self._count(ours)
        risen = [
            (_SCOPES.index(scope), count - self._counts[origin][1], origin)
            for origin, (scope, count) in counts.items()
            if origin in self._counts and count > self._counts[origin][1]
        ]
        if risen:
            # The narrowest counter speaks: the wider ones count the same kills, and others'.
            level, count, origin = min(risen)
            scope = _SCOPES[level]
            if scope != "machine" or all(each == "machine" for each, _ in counts.values()):
                self.rises.append(Rise(count, origin, scope, self._at, now, held))
        self._counts, self._at = counts, now

    def _count(self, ours: bool) -> dict[str, tuple[Scope, int]]:
        """Counters by origin: (whose processes they count, kills so far)."""
        found: dict[str, tuple[Scope, int]] = {}
        own = str(self._group.folder)
        kills = self._in_group = self._group.kernel_kills()
        if kills is not None:
            found[own] = ("group", kills)
        for ceiling in self.ceilings:
            if ceiling.kernel_kills is not None and ceiling.scope == "tree":
                scope: Scope = "group" if "cgroup" in ceiling.origin else "machine"
                found[ceiling.origin] = (scope, ceiling.kernel_kills)
        if not ours:
            return found
        # Of our own group, and of those below it, every process is ours.
        return {
            origin: ("ours" if own in origin else scope, count) for origin, (scope, count) in found.items()
        }
