"""The items that were given up, and whether the run may still succeed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from penstock.abc import SetAside

_ALL_FAIL = 20
"""So many failures before anything succeeds: the function is wrong, not the items."""
_ALL_TOO_LARGE = 5
"""The same for memory, where each costs a worker."""


class Aside:
    """Items set aside, by number.

    Args:
        before: those of earlier runs, which stay so.
        allowed: True: any number; False: none; a number: at most so many.
        endless: items keep coming, and nothing that befalls some of them ends the run.
    """

    def __init__(self, before: Mapping[int, SetAside], *, allowed: bool | int, endless: bool) -> None:
        self.items = dict(before)
        self._allowed = allowed
        self._endless = endless
        self._failures = {"memory": 0, "other": 0}

    def __len__(self) -> int:
        return len(self.items)

    def put(self, each: SetAside) -> None:
        """One more."""
        self.items[each.item] = each

    def among(self, start: int, stop: int) -> list[SetAside]:
        """Those of some items, in item order."""
        return [self.items[item] for item in sorted(self.items) if start <= item < stop]

    def count(self, reason: str, times: int = 1) -> None:
        """So many failures for a reason; a call that may not be split is one, however many items it has."""
        self._failures["memory" if reason == "memory" else "other"] += times

    def __iter__(self) -> Iterator[SetAside]:
        return iter(self.items.values())

    @property
    def too_many(self) -> bool:
        """Whether there are more than the run may succeed with."""
        return (
            len(self) > 0
            if self._allowed is False
            else self._allowed is not True and len(self) > self._allowed
        )

    def stops(self, kept: int) -> str:
        """Why the run should stop at once: ``"hopeless"``, ``"too many"``, or ``""``.

        Where none are allowed, the other items are finished first.
        """
        if self._endless:
            return ""
        failures = self._failures
        if kept == 0 and (failures["other"] >= _ALL_FAIL or failures["memory"] >= _ALL_TOO_LARGE):
            return "hopeless"
        return "too many" if not isinstance(self._allowed, bool) and self.too_many else ""
