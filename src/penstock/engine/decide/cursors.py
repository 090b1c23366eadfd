"""The stretches of a sequential source, and which worker's cursor is in each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Set

from penstock.intervals import Intervals


class Stretches:
    """Where stretches begin, and the workers' cursors in them.

    A stretch begins with a whole grain; what lies before it, the worker of the stretch before reads on.

    Args:
        starts: the items where the source can be entered.
        items: how many there are.
        unit: items of a grain.
    """

    def __init__(self, starts: Iterable[int], items: int, unit: int) -> None:
        # At the first grain that begins in each; where none does, nowhere.
        rounded = sorted({-(-start // unit) * unit for start in (0, *starts)})
        self._starts = [start for start in rounded if start < items] or [0]
        self._items = items
        self._unit = unit
        self._cursors: dict[int, int] = {}

    def of(self, item: int) -> int:
        """The stretch that an item lies in."""
        return bisect_right(self._starts, item) - 1

    def find(self, worker: int, size: int, pending: Intervals, busy: Set[int]) -> tuple[int, int] | None:
        """The next items for a worker: in its own stretch if its cursor has any, else in a free one.

        Args:
            worker: who asks.
            size: at most so many items, whole grains.
            pending: items that wait.
            busy: stretches that are being read.
        """
        mine = [k for k, owner in self._cursors.items() if owner == worker and k not in busy]
        for stretch in (*mine, None):
            at = 0 if stretch is None else self._starts[stretch]
            while (found := pending.first(at=at)) is not None:
                k = self.of(found[0])
                if stretch is not None and k != stretch:
                    break
                end = self._end(k)
                taken_by_other = stretch is None and self._cursors.get(k, worker) != worker
                if k in busy or taken_by_other:
                    at = end
                    continue
                stop = min(found[1], found[0] + size)
                # Stretches of one grain each (a plain file's blocks) may be worked in one go.
                if stop > end:
                    stop = min(stop, self._end(self._last_single(k, stop)))
                return found[0], stop
        return None

    def enter(self, worker: int, item: int) -> None:
        """A worker reads the stretch of an item from now on."""
        stretch = self.of(item)
        if not self._is_single(stretch):
            self._cursors[stretch] = worker

    def leave(self, item: int, done: Intervals) -> None:
        """Drop the cursor in the stretch of an item once all of it is done."""
        stretch = self.of(item)
        if next(done.gaps(self._starts[stretch], self._end(stretch)), None) is None:
            self._cursors.pop(stretch, None)

    def forget(self, worker: int) -> None:
        """Drop the cursors of a dead worker."""
        self._cursors = {k: owner for k, owner in self._cursors.items() if owner != worker}

    def holds(self, worker: int, pending: Intervals) -> bool:
        """Whether a worker is in the middle of a stretch."""
        return any(
            owner == worker and pending.overlaps(self._starts[k], self._end(k))
            for k, owner in self._cursors.items()
        )

    def _last_single(self, stretch: int, stop: int) -> int:
        """The last of the stretches of a single grain that go on from ``stretch`` before ``stop``."""
        k = stretch
        while self._is_single(k) and self._end(k) < stop and self._is_single(k + 1):
            k += 1
        return k

    def _is_single(self, stretch: int) -> bool:
        return self._end(stretch) - self._starts[stretch] <= self._unit

    def _end(self, stretch: int) -> int:
        return self._starts[stretch + 1] if stretch + 1 < len(self._starts) else self._items
