"""Will they all fit? Monte Carlo draws of what running calls, and the next one, may still take.

The sum of bounds is no bound of the sum: large calls seldom meet. So futures are drawn. In each, every
call ends at a peak that calls like it were seen to have, given what it holds already; beyond the largest
of n seen with a chance of 1 in n + 1, on a Pareto tail. One more may start while the share of futures in
which they do not all fit is at most

    1 / (1 + K * calls)

for a call that waits for nothing costs about 1 / calls of the speed, and one that must be paused about K
times that. Where the governor comes too late to pause anybody before the budget is exceeded, no future may
exceed it. Pure: the draws are the same each time, stratified, and each worker has its own.

Sources: P(next > max of n) = 1 / (n + 1) for exchangeable observations; Pareto tail above a high
threshold (Pickands 1975); the share that is worth it by the balance of two costs, as a newsvendor's.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add, itemgetter

from penstock.budget import format_size

DRAWS = 64
"""Futures: a share is then told to 1 in 64."""
_COST = 0.2
"""What a pause costs, in waits."""
_TAIL = (0.05, 1.0)
"""Least and largest exponent of the tail."""
_TAIL_UNKNOWN = 0.5
"""The same while fewer than four were seen."""
_FARTHEST = 0.999
"""Of the tail, the farthest rank that is drawn."""
CALLS = (2, 4, 8, 16, 32, 64)
"""Calls of a batch that are weighed, where not everything that may come fits at once."""
_WORD = (1 << 64) - 1
_USUAL = 1 << 32
"""Workers that are only thought of have numbers from here on."""


@dataclass(frozen=True, slots=True)
class ExpectedBatch:
    """A batch of calls, as far as its memory depends on it."""

    worker: int
    """Who works it; sets its draws."""
    scale: float
    """Bytes of a call that takes what its size explains: a ratio of 1."""
    least: int = 0
    """Bytes that it holds, or was seen to need."""
    calls: int = 1
    """Calls one after another: the largest of them counts."""
    start: int = 0
    """Bytes that imports and compiling take of a worker's first call."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """The result of weighing."""

    calls: int
    """How many run together."""
    over: int
    """Futures in which they do not fit."""
    worth: int
    """Up to so many of them are worth it."""
    room: int
    """Bytes that they have."""
    excess: bool = False
    """Whether one future exceeds what none may."""

    @property
    def admits(self) -> bool:
        """Whether the last batch may start."""
        return self.over <= self.worth and not self.excess

    def __str__(self) -> str:
        return (
            f"of {DRAWS} draws of what {self.calls} calls may take, {self.over} go over "
            f"{format_size(max(self.room, 0))}; up to {self.worth} are worth it"
        )


@dataclass(frozen=True, slots=True)
class PeakRatios:
    """Peaks of past calls relative to what their size explains."""

    ratios: Sequence[float]
    """In order of size; at least one."""
    exact: bool = False
    """Whether nothing is expected beyond the largest: it was declared."""

    @property
    def power(self) -> float:
        """Exponent of the tail: how far the largest of so many lies beyond the median."""
        seen = len(self.ratios)
        if self.exact:
            return 0.0
        if seen < 4:
            return _TAIL_UNKNOWN
        spread = math.log(self.ratios[-1] / self.ratios[seen // 2]) / math.log(2 * seen)
        return min(max(spread, _TAIL[0]), _TAIL[1])


def worth(calls: int) -> int:
    """How many of :data:`DRAWS` futures may overrun for the gain of one more batch, the last of ``calls``."""
    return int(DRAWS / (1 + _COST * calls))


def weigh(
    peaks: PeakRatios, batches: Sequence[ExpectedBatch], room: int, most: int, never: float = math.inf
) -> Weighed:
    """Decide whether the last of these batches may start beside the others.

    Args:
        peaks: what was seen.
        batches: those that run, and the next one last.
        room: bytes that they may take together.
        most: bytes that one alone may use: none is expected to take more.
        never: bytes that they must not exceed in any future.
    """
    count = len(batches)
    allowed = worth(count)
    if sum(batch.least for batch in batches) > room:
        return Weighed(count, DRAWS, allowed, room)
    peaks = _with_living(peaks, batches)
    ratios, power = peaks.ratios, peaks.power
    spreads = [_spread(ratios, power, batch, most) for batch in batches]
    if sum(spread[-1] for spread in spreads) <= room:
        return Weighed(count, 0, allowed, room)
    drawn = (_order(batch.worker)(spread) for batch, spread in zip(batches, spreads, strict=True))
    totals: Sequence[float] = reduce(_added, drawn)
    return Weighed(count, _over(totals, room), allowed, room, max(totals) > never)


def fitting(
    peaks: PeakRatios, scale: float, available: Callable[[int], int], most_workers: int, calls: int = 1
) -> tuple[int, Weighed | None]:
    """How many batches fit together, and the result of weighing one more; None if all fit.

    Args:
        peaks: what was seen.
        scale: of each of their calls.
        available: bytes for so many workers together.
        most_workers: no more are wanted.
        calls: of each batch.
    """
    most, power = available(1), peaks.power
    spread = _spread(peaks.ratios, power, ExpectedBatch(_USUAL, scale, 0, calls), most)
    if most_workers * spread[-1] <= available(most_workers):
        return most_workers, None
    totals: Sequence[float] = _order(_USUAL + 1)(spread)  # alike for all, but for the order
    for count in range(2, most_workers + 1):
        totals = _added(totals, _order(_USUAL + count)(spread))
        room = available(count)
        if count * spread[-1] <= room:
            continue
        weighed = Weighed(count, _over(totals, room), worth(count), room)
        if not weighed.admits:
            return count - 1, weighed
    return most_workers, None


def most_calls(
    peaks: PeakRatios, scale: Callable[[int], float], available: Callable[[int], int], workers: int
) -> int:
    """The most calls a batch, out of :data:`CALLS`, with which as many batches fit together as with one.

    ``scale`` is that of a batch of so many.
    """
    most = 1
    for calls in CALLS:
        if fitting(peaks, scale(calls), available, workers, calls)[0] < workers:
            break
        most = calls
    return most


def farthest(peaks: PeakRatios, batch: ExpectedBatch, most: int) -> float:
    """The most bytes drawn for a batch."""
    return _spread(peaks.ratios, peaks.power, batch, most)[-1]


def _with_living(peaks: PeakRatios, batches: Sequence[ExpectedBatch]) -> PeakRatios:
    """What runs and holds more than the median counts as seen: news comes before a call's end."""
    if peaks.exact:
        return peaks
    median = peaks.ratios[len(peaks.ratios) // 2]
    living = [ratio for batch in batches[:-1] if (ratio := batch.least / batch.scale) > median]
    return PeakRatios(sorted([*peaks.ratios, *living])) if living else peaks


def _added(totals: Sequence[float], drawn: Sequence[float]) -> list[float]:
    """Each future with one batch more."""
    return list(map(add, totals, drawn))


def _over(totals: Sequence[float], room: int) -> int:
    """How many of them are over it."""
    return sum(map(float(room).__lt__, totals))


def _spread(ratios: Sequence[float], power: float, batch: ExpectedBatch, most: int) -> list[float]:
    """The peaks of a batch in all futures, in order of size."""
    scale, calls = batch.scale, _doubled(batch.calls)
    low = bisect_left(ratios, batch.least / scale) if calls == 1 else 0
    seen = len(ratios) - low
    top = max(ratios[-1], batch.least / scale)
    take, beyond = _places(seen, calls)
    peaks = list(take(ratios[low:])) if take is not None else []
    peaks += [top * left**-power for left in beyond]
    if scale != 1:
        peaks = [scale * peak for peak in peaks]
    floor = max(batch.least, batch.start)
    if peaks[-1] > most:  # they are in order of size
        above = bisect_left(peaks, most)
        peaks[above:] = [float(most)] * (DRAWS - above)
    if peaks[0] < floor:
        below = bisect_left(peaks, floor)
        peaks[:below] = [float(floor)] * below
    return peaks


def _doubled(calls: int) -> int:
    """The next power of two: few different ones, so that their draws are made once."""
    return 1 << (calls - 1).bit_length()


@lru_cache(maxsize=1024)
def _places(
    seen: int, calls: int
) -> tuple[Callable[[Sequence[float]], tuple[float, ...]] | None, tuple[float, ...]]:
    """Where evenly spread ranks of the largest of so many calls lie among so many that were seen.

    What takes those among them (at least two), and the share of the tail that lies above each of the others.
    """
    at = [((draw + 0.5) / DRAWS) ** (1 / calls) * (seen + 1) for draw in range(DRAWS)]
    inside = [int(place) for place in at if place < seen]
    beyond = tuple(1 - min(place - seen, _FARTHEST) for place in at if place >= seen)
    if len(inside) == 1:  # so that what takes them gives a tuple
        beyond, inside = (1.0, *beyond), []
    return itemgetter(*inside) if inside else None, beyond


@lru_cache(maxsize=1024)
def _order(worker: int) -> Callable[[Sequence[float]], tuple[float, ...]]:
    """Takes what was drawn in this worker's order."""
    return itemgetter(*sorted(range(DRAWS), key=lambda draw: _mixed(worker * DRAWS + draw)))


def _mixed(number: int) -> int:
    """64 bits that look drawn (SplitMix64, Steele et al. 2014): the same with any Python."""
    number = (number + 1) * 0x9E3779B97F4A7C15 & _WORD
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _WORD
    return number ^ number >> 31
