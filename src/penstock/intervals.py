"""A set of integers kept as sorted, disjoint intervals: 10^6 items in a row are one pair."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """Sorted, disjoint, half-open intervals of integers."""

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._size = 0
        for start, stop in pairs:
            self.add(start, stop)

    def __len__(self) -> int:
        """The number of integers in the set."""
        return self._size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __contains__(self, item: int) -> bool:
        place = bisect_right(self._starts, item) - 1
        return place >= 0 and item < self._stops[place]

    def add(self, start: int, stop: int) -> None:
        """Add ``start <= i < stop``; idempotent."""
        if start >= stop:
            return
        left = bisect_left(self._stops, start)
        right = bisect_right(self._starts, stop)
        if left < right:
            start = min(start, self._starts[left])
            stop = max(stop, self._stops[right - 1])
        self._size += stop - start
        self._size -= sum(
            b - a for a, b in zip(self._starts[left:right], self._stops[left:right], strict=True)
        )
        self._starts[left:right] = [start]
        self._stops[left:right] = [stop]

    def remove(self, start: int, stop: int) -> None:
        """Remove ``start <= i < stop``; idempotent."""
        if start >= stop:
            return
        left = bisect_right(self._stops, start)
        right = bisect_left(self._starts, stop)
        if left >= right:
            return
        first, last = self._starts[left], self._stops[right - 1]
        self._size -= sum(
            b - a for a, b in zip(self._starts[left:right], self._stops[left:right], strict=True)
        )
        rest = [(a, b) for a, b in ((first, start), (stop, last)) if a < b]
        self._size += sum(b - a for a, b in rest)
        self._starts[left:right] = [a for a, _ in rest]
        self._stops[left:right] = [b for _, b in rest]

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether any of ``start <= i < stop`` is in the set."""
        place = bisect_right(self._stops, start)
        return place < len(self._starts) and self._starts[place] < stop and start < stop

    def first(self, *, at: int = 0) -> tuple[int, int] | None:
        """The first interval that ends after ``at``, cut to begin at ``at`` or later."""
        place = bisect_right(self._stops, at)
        if place >= len(self._starts):
            return None
        return max(self._starts[place], at), self._stops[place]

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The intervals of ``start <= i < stop`` that are not in the set."""
        at = start
        for place in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[place] >= stop:
                break
            if at < self._starts[place]:
                yield at, self._starts[place]
            at = self._stops[place]
        if at < stop:
            yield at, stop
