"""How much memory will a call take? A predictive bound, learnt from measured calls.

    footprint = fixed + a * (largest size hint of the call) + b * (sum of its hints)

Three honest models run side by side: least squares on the size hints with a floored margin, the
running maximum, and the 95 % quantile of the last calls, which forgets a lone heavy item. The one
with the smallest loss so far is believed. A bound, not a mean: no prediction is safe for an unseen
heavy item, so the governor and the recovery stand behind it; pausing loses no work, which is why
one miss in twenty costs less than room kept free for it all the time.
All sizes in bytes above the idle worker. Pure: no clock, no I/O.

Sources: distribution-free margin of n residuals (P(next > max of n) = 1/(n+1)); pinball loss
for choosing (Koenker & Bassett 1978).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from penstock.budget import MiB
from penstock.engine.decide.futures import PeakRatios

_KEPT = 256
"""Observations kept for the fit: enough for a 1/257 miss rate, cheap to refit."""
_MARGIN = 0.10
"""Floor of the margin: a perfect fit so far is not a perfect fit."""
_FLOOR = 1 * MiB
"""The least that any call is predicted to take: allocators work in such steps."""
_MOST = float(1 << 60)
"""The most: no machine has it, and sums of it are still numbers."""
_COVERAGE = 0.95
"""Share of calls that should stay under the bound: being under costs 19 times what being over costs."""
_RECENT = 128
"""Calls whose peaks stand for those to come: fewer than for the fit, so that news counts."""
_LATEST = 16
"""The same where the last few foretell the next one better: what comes in order, or has changed."""
_BETTER = 0.8
"""They are followed where their loss is at most so much of the loss of all."""
_RANKS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles by which a window is judged."""
_FORGETS = 0.95
"""Weight of its losses so far at each new call."""
_EXPLAINS = 0.8
"""A fit is followed where it leaves at most this share of the variance of the logarithm."""
_FADE = 0.99
"""Weight of the losses so far at each new call: the last hundred decide."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured call."""

    largest: float
    """Largest size hint of its items."""
    total: float
    """Sum of the size hints of its items."""
    peak: int
    """Measured peak in bytes above the idle worker."""


class Footprint:
    """The learnt memory bound of a call.

    Args:
        scales: whether a call's memory may grow with its number of items (a batched function);
            without it the items of a call are worked one after another.
        declared: a bound in bytes that the user stated; believed until a call exceeds it.
    """

    def __init__(self, *, scales: bool, declared: int | None = None) -> None:
        self._scales = scales
        self._declared = declared
        self._seen: deque[Observation] = deque(maxlen=_KEPT)
        self._top = Observation(0, 0, 0)
        self._most_total = 0.0
        self._most_largest = 0.0
        self._firsts: deque[int] = deque(maxlen=16)
        self._count = 0
        self._fit: tuple[float, float, float] | None = None
        self._margin = 0.0
        self._fitted_at = 0
        self._losses = {"max": 0.0, "quantile": 0.0, "fit": 0.0}
        self._sorted: list[int] = []
        """The peaks of the calls kept, in order of size."""
        self._recent, self._latest = _Window(_RECENT), _Window(_LATEST)
        """Peaks of the last calls, relative to what their size explains."""
        self._explains = False
        """Whether the fit says what the size explains."""

    @property
    def tried(self) -> int:
        """How many calls were measured."""
        return self._count

    @property
    def known(self) -> bool:
        """Whether there is anything to predict from."""
        return self._count > 0 or self._declared is not None or self._top.peak > 0

    @property
    def median(self) -> int:
        """Median peak of the calls kept, in bytes."""
        return self._sorted[len(self._sorted) // 2] if self._sorted else 0

    def observe(self, seen: Observation, *, first: bool = False) -> None:
        """Learn from one measured call; ``first`` marks a worker's first, with its imports and JIT."""
        if first:
            self._firsts.append(seen.peak)
            if self._count:
                return  # its extra memory says nothing about later calls
        predicted = self._predictions(seen.largest, seen.total)
        if self._count:
            for name, bound in predicted.items():
                self._losses[name] = _FADE * self._losses[name] + _pinball(seen.peak, bound)
        self._remember(seen)
        if seen.peak >= self._top.peak:
            self._top = seen
        self._count += 1
        missed = seen.peak > predicted["fit"]
        if self._count < 32 or missed or self._count - self._fitted_at >= 16:
            self._refit()

    def recall(self, before: Iterable[Observation], firsts: Iterable[int]) -> None:
        """Learn from an earlier run's calls, all at once and before any of this run; they fit no model."""
        for seen in before:
            self._remember(seen)
            if seen.peak >= self._top.peak:
                self._top = seen
            self._count += 1
        self._firsts.extend(firsts)
        self._refit()
        for seen in self._seen:
            for name, bound in self._predictions(seen.largest, seen.total).items():
                self._losses[name] = _FADE * self._losses[name] + _pinball(seen.peak, bound)

    def at_least(self, seen: Observation) -> None:
        """Learn from a call that died holding ``seen.peak``: it needs more than that.

        A single item that is too large says nothing about the others; a call of several that is
        too large says that such calls are.
        """
        several = seen.total > seen.largest
        if several or not self.known:
            self._remember(seen)
        if self._scales and several and seen.peak >= self._top.peak:
            self._top = seen

    def bound(self, largest: float, total: float, *, first: bool = False) -> int | None:
        """Predicted bound in bytes of a call with these size hints; None when nothing is known."""
        if not self.known:
            return None
        if self._believed is not None:
            return max(self._believed, self._of_first() if first else 0)
        bounds = self._predictions(largest, total)
        name = min(self._losses, key=self._losses.__getitem__) if self._count >= 5 else "max"
        predicted = min(max(bounds[name], _FLOOR), _MOST)
        return int(max(predicted, self._of_first() * (1 + _MARGIN)) if first else predicted)

    def scale(self, largest: float, total: float) -> float:
        """Bytes of a call as its size alone explains; its ratio is 1."""
        if self._believed is not None:
            return 1.0
        return min(self._explained(largest, total), _MOST)

    def peaks(self) -> PeakRatios:
        """Recent calls' peaks relative to their scale. Requires :attr:`known`."""
        if self._believed is not None:
            return PeakRatios([float(self._believed)], exact=True)
        return PeakRatios(self._latest.ordered if self.changing else self.ratios)

    @property
    def changing(self) -> bool:
        """Whether the last few calls predict the next better than many do: the items are ordered."""
        return self._latest.full and self._latest.loss < _BETTER * self._recent.loss

    @property
    def ratios(self) -> list[float]:
        """Up to 128 calls' peaks relative to their scale, in order of size. Requires :attr:`known`."""
        return self._recent.ordered or [float(max(self._top.peak, _FLOOR))]

    def first(self) -> int:
        """Bytes that a worker's first call takes at least."""
        return int(self._of_first() * (1 + _MARGIN))

    @property
    def firsts(self) -> tuple[int, ...]:
        """Peaks of workers' first calls, the most recent, in bytes."""
        return tuple(self._firsts)

    @property
    def top(self) -> int:
        """The highest peak seen, in bytes."""
        return self._top.peak

    @property
    def _believed(self) -> int | None:
        """The declared bound, while no call exceeded it."""
        return self._declared if self._declared is not None and self._top.peak <= self._declared else None

    def _explained(self, largest: float, total: float) -> float:
        if self._explains and self._fit is not None:
            fixed, a, b = self._fit
            return max(fixed + a * largest + b * total, float(_FLOOR))
        return self._stretch(largest, total)

    def _of_first(self) -> int:
        """What workers' first calls took: imports and JIT are alike, a heavy item among them is not."""
        firsts = sorted(self._firsts)
        return firsts[3 * len(firsts) // 4] if len(firsts) > 3 else firsts[len(firsts) // 2] if firsts else 0

    def _remember(self, seen: Observation) -> None:
        if len(self._seen) == _KEPT:
            del self._sorted[bisect_left(self._sorted, self._seen[0].peak)]
        self._seen.append(seen)
        insort(self._sorted, seen.peak)
        self._most_total = max(self._most_total, seen.total)
        self._most_largest = max(self._most_largest, seen.largest)
        ratio = self._ratio(seen)
        self._recent.add(ratio)
        self._latest.add(ratio)

    def _ratio(self, seen: Observation) -> float:
        return max(seen.peak, _FLOOR) / self._explained(seen.largest, seen.total)

    def _predictions(self, largest: float, total: float) -> dict[str, float]:
        """What each model says; a model that has nothing to say yet says the maximum."""
        by_max = self._stretched(self._top.peak, largest, total)
        by_fit = self._by_fit(largest, total)
        return {
            "max": by_max,
            "quantile": self._stretched(self._quantile(), largest, total),
            "fit": by_max if by_fit is None else by_fit,
        }

    def _quantile(self) -> int:
        rank = math.ceil((len(self._sorted) + 1) * _COVERAGE)
        return self._sorted[min(rank, len(self._sorted)) - 1] if self._sorted else 0

    def _stretched(self, peak: int, largest: float, total: float) -> float:
        """A peak with a margin, stretched for calls larger than any seen."""
        # Few observations know little: 20 % at first, 10 % later.
        margin = _MARGIN if self._count >= 30 else 2 * _MARGIN
        return peak * self._stretch(largest, total) * (1 + margin)

    def _stretch(self, largest: float, total: float) -> float:
        """By how much a call is larger than any seen."""
        stretch = 1.0
        if self._scales and total > self._most_total > 0:
            stretch = total / self._most_total
        if largest > self._most_largest > 0:
            stretch = max(stretch, largest / self._most_largest)
        return stretch

    def _by_fit(self, largest: float, total: float) -> float | None:
        if self._fit is None:
            return None
        fixed, a, b = self._fit
        predicted = fixed + a * largest + b * total
        return predicted + max(self._margin, _MARGIN * predicted, _FLOOR)

    def _refit(self) -> None:
        self._fitted_at = self._count
        self._fit = _least_squares(self._seen, both=self._scales)
        self._relate()
        if self._fit is None:
            return
        fixed, a, b = self._fit
        self._margin = max(seen.peak - (fixed + a * seen.largest + b * seen.total) for seen in self._seen)

    def _relate(self) -> None:
        """Relate the last peaks to what the fit says, where that explains enough of them."""
        before, self._explains = self._explains, self._fit is not None
        if not self._explains and not before:
            return
        last = list(self._seen)[-_RECENT:]
        ratios = [self._ratio(seen) for seen in last]
        if self._explains and not _explains(ratios, [float(max(seen.peak, _FLOOR)) for seen in last]):
            self._explains = False
            if not before:
                return
            ratios = [self._ratio(seen) for seen in last]
        self._recent.fill(ratios)
        self._latest.fill(ratios)


class _Window:
    """The last values, and how well they have foretold the next one: pinball loss at five quantiles.

    Args:
        most: of them are kept.
    """

    def __init__(self, most: int) -> None:
        self._last: deque[float] = deque(maxlen=most)
        self.ordered: list[float] = []
        """In order of size."""
        self.loss = 0.0

    @property
    def full(self) -> bool:
        """Whether there are as many as are kept."""
        return len(self._last) == self._last.maxlen

    def add(self, value: float) -> None:
        """One more."""
        if self.ordered:
            count = len(self.ordered)
            off = [(rank, value - self.ordered[int(rank * count)]) for rank in _RANKS]
            self.loss = _FORGETS * self.loss + sum(max(rank * by, (rank - 1) * by) for rank, by in off)
        if self.full:
            del self.ordered[bisect_left(self.ordered, self._last[0])]
        self._last.append(value)
        insort(self.ordered, value)

    def fill(self, values: list[float]) -> None:
        """These instead: they mean something else now, and nothing was foretold by them."""
        self._last.clear()
        self._last.extend(values)
        self.ordered, self.loss = sorted(self._last), 0.0


def _explains(ratios: list[float], peaks: list[float]) -> bool:
    """Whether relating them makes peaks that much more alike."""
    return _log_variance(ratios) < _EXPLAINS * _log_variance(peaks)


def _log_variance(values: list[float]) -> float:
    logs = [math.log(value) for value in values]
    mean = sum(logs) / len(logs)
    return sum((each - mean) ** 2 for each in logs) / len(logs)


def _pinball(peak: float, bound: float) -> float:
    return _COVERAGE * (peak - bound) if peak > bound else (1 - _COVERAGE) * (bound - peak)


def _least_squares(seen: deque[Observation], *, both: bool) -> tuple[float, float, float] | None:
    """Fit (fixed, a, b), none of them negative, to at least four calls of differing hints.

    Tries the hints apart and together and takes the smallest residual: exact for three
    unknowns, and free of a dependency.
    """
    if len(seen) < 4:
        return None
    peaks = [float(each.peak) for each in seen]
    columns = {"a": [each.largest for each in seen], "b": [each.total for each in seen]}
    best: tuple[float, tuple[float, float, float]] | None = None
    for names in (("a",), ("b",), ("a", "b")) if both else (("a",),):
        solved = _solve([columns[name] for name in names], peaks)
        if solved is None or any(value < 0 for value in solved[1:]):
            continue
        slopes = dict(zip(names, solved[1:], strict=True))
        fit = (max(solved[0], 0.0), slopes.get("a", 0.0), slopes.get("b", 0.0))
        residual = sum(
            (each.peak - fit[0] - fit[1] * each.largest - fit[2] * each.total) ** 2 for each in seen
        )
        if best is None or residual < best[0] * 0.99:
            best = (residual, fit)
    return best[1] if best else None


def _solve(columns: list[list[float]], target: list[float]) -> list[float] | None:
    """Least squares of ``target`` on a constant and one or two columns; None when they are degenerate."""
    count = len(target)
    mean_target = sum(target) / count
    means = [sum(column) / count for column in columns]
    centred = [[value - mean for value in column] for column, mean in zip(columns, means, strict=True)]
    rest = [value - mean_target for value in target]
    gram = [[sum(x * y for x, y in zip(left, right, strict=True)) for right in centred] for left in centred]
    if any(gram[i][i] <= 1e-12 * (1 + means[i] ** 2) * count for i in range(len(columns))):
        return None
    right = [sum(x * y for x, y in zip(column, rest, strict=True)) for column in centred]
    if len(columns) == 1:
        slopes = [right[0] / gram[0][0]]
    else:
        determinant = gram[0][0] * gram[1][1] - gram[0][1] ** 2
        if determinant <= 1e-9 * gram[0][0] * gram[1][1]:
            return None
        slopes = [
            (right[0] * gram[1][1] - right[1] * gram[0][1]) / determinant,
            (right[1] * gram[0][0] - right[0] * gram[0][1]) / determinant,
        ]
    fixed = mean_target - sum(slope * mean for slope, mean in zip(slopes, means, strict=True))
    return [fixed, *slopes]
