"""Downsamples long series in bounded memory: what a chart needs of 10^6 events.

Each gatherer keeps a bounded number of places. When there are more it doubles the width of a
place and merges neighbours, so that the peak, the counts and the broken bounds all survive.
Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Moment:
    """A reading: the highest within its stretch of time."""

    at: float
    used: int
    rows: Mapping[int, int]
    """Bytes by row of the chart."""
    free: int
    """Bytes that were left."""
    session: int
    """Which of the runs of this folder."""


class Peaks:
    """Readings over time, at most ``limit``, the highest of each stretch."""

    def __init__(self, limit: int = 1000) -> None:
        self.limit = limit
        self.width = 0.01
        self.moments: list[Moment] = []

    def add(self, moment: Moment) -> None:
        """Add a reading; times ascend."""
        self._append(moment)
        # Sessions are never merged, however many there are.
        while len(self.moments) > max(self.limit, 2 * moment.session):
            self.width *= 2
            before, self.moments = self.moments, []
            for each in before:
                self._append(each)

    def _append(self, moment: Moment) -> None:
        if self.moments:
            last = self.moments[-1]
            if last.session == moment.session and int(last.at / self.width) == int(moment.at / self.width):
                if moment.used > last.used:
                    self.moments[-1] = moment
                return
        self.moments.append(moment)


@dataclass(slots=True)
class Bar:
    """One or more batches (or pauses) that a chart's row shows as one rectangle."""

    row: int
    start: float
    stop: float
    count: int
    first: int
    last: int
    busy: float
    peak: int
    causes: Counter[str] = field(default_factory=Counter)
    text: str = ""


class Bars:
    """Rectangles over time by row, at most ``limit``; close neighbours in a row are merged."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.width = 0.02
        self.total = 0
        self.rows: dict[int, list[Bar]] = {}

    def add(self, bar: Bar) -> None:
        """Add a rectangle; times ascend within a row."""
        self._append(bar)
        # Rows are never merged, however many there are.
        while self.total > max(self.limit, 2 * len(self.rows)):
            self.width *= 2
            before, self.rows, self.total = self.rows, {}, 0
            for bars in before.values():
                for each in bars:
                    self._append(each)

    def _append(self, bar: Bar) -> None:
        bars = self.rows.setdefault(bar.row, [])
        if bars and bar.stop - bars[-1].start <= self.width:
            last = bars[-1]
            last.stop = max(last.stop, bar.stop)
            last.count += bar.count
            last.first, last.last = min(last.first, bar.first), max(last.last, bar.last)
            last.busy += bar.busy
            last.peak = max(last.peak, bar.peak)
            last.causes.update(bar.causes)
            last.text = last.text or bar.text
        else:
            bars.append(bar)
            self.total += 1

    def __iter__(self) -> Iterator[Bar]:
        for row in sorted(self.rows):
            yield from self.rows[row]


class Steps:
    """A value that changes now and then: at most 400 changes ``(at, value, text)``."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, int, str]] = []

    def add(self, at: float, value: int, text: str = "") -> None:
        """Set the value from now on, 0 for none; an equal value is no change."""
        if self.changes and self.changes[-1][1:] == (value, text):
            return
        self.changes.append((at, value, text))
        if len(self.changes) > 400:  # the first and the last stay, of two neighbours the larger
            inner = self.changes[1:-1]
            pairs = [max(inner[i : i + 2], key=lambda c: c[1]) for i in range(0, len(inner), 2)]
            self.changes = [self.changes[0], *pairs, self.changes[-1]]


@dataclass(slots=True)
class ChartMark:
    """Something that happened, or several such things close together."""

    kind: str
    """``"died"``, ``"split"``, ``"recycled"``, ``"set aside"`` or ``"resumed"``."""
    at: float
    count: int
    text: str


class Marks:
    """Marks of one kind, at most ``limit``; close neighbours are merged and counted."""

    def __init__(self, kind: str, limit: int = 120) -> None:
        self.kind, self.limit = kind, limit
        self.width = 0.05
        self.total = 0
        self.marks: list[ChartMark] = []

    def add(self, at: float, text: str, count: int = 1) -> None:
        """Add one mark, or several at once."""
        self.total += count
        self._append(ChartMark(self.kind, at, count, text))
        while len(self.marks) > self.limit:
            self.width *= 2
            before, self.marks = self.marks, []
            for mark in before:
                self._append(mark)

    def _append(self, mark: ChartMark) -> None:
        # Nodes tell late what happened: most marks come last, but not all.
        place = bisect_right(self.marks, mark.at, key=lambda each: each.at)
        if place and mark.at - self.marks[place - 1].at <= self.width:
            self.marks[place - 1].count += mark.count
        else:
            self.marks.insert(place, mark)


@dataclass(slots=True)
class Cell:
    """Batches with about the same predicted and measured peaks."""

    count: int
    predicted: float
    measured: float
    text: str


class Pairs:
    """Predicted against measured peaks, counted in cells of a few per cent."""

    def __init__(self, limit: int = 700) -> None:
        self.limit = limit
        self.per_octave = 16.0
        self.total = self.over = 0
        self.cells: dict[tuple[int, int], Cell] = {}

    def add(self, predicted: int, measured: int, text: str) -> None:
        """Add a batch; both in bytes."""
        self.total += 1
        self.over += measured > predicted
        self._put(Cell(1, predicted, measured, text))
        while len(self.cells) > self.limit:
            self.per_octave /= 2
            before, self.cells = self.cells, {}
            for cell in before.values():
                self._put(cell)

    def _put(self, cell: Cell) -> None:
        # A cell lies wholly under or wholly over the bound: a broken one is never averaged away.
        over = cell.measured > cell.predicted
        column = int(math.log2(max(cell.predicted, 1)) * self.per_octave)
        row = int(math.log2(max(cell.measured, 1)) * self.per_octave)
        key = (column, row * 2 + over)
        seen = self.cells.get(key)
        if seen is None:
            self.cells[key] = cell
            return
        both = seen.count + cell.count
        seen.predicted += (cell.predicted - seen.predicted) * cell.count / both
        seen.measured += (cell.measured - seen.measured) * cell.count / both
        seen.count = both
