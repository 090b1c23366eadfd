"""Measurements of earlier runs: how long a run relies on them, and what makes it stop. Pure.

A memory of calls is no promise. So it counts for few calls; nothing starts quickly by it before a call of
this run is measured (see :mod:`penstock.engine.parent.admission`); and it is dropped as a whole once the
calls of this run cannot be of its kind. Then the run knows what it would know without it: a drop costs
little, and so does one too many. After as many calls of this run as were kept it is not needed any more.

Sources: chance that the k largest of n + m exchangeable values are all among the m new ones, k factors
(m - i) / (n + m - i) (exceedances, Gumbel & von Schelling 1950); difference of two samples after Smirnov
(1948), one-sided.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence

from penstock.budget import format_size
from penstock.engine.decide.footprint import Footprint, Observation
from penstock.engine.decide.learnt import KEPT, Learnt, Sample
from penstock.plurals import plural

COUNTS_FOR = 32
"""For so many calls of this run those before count, at most."""
_ALIKE = 1.1
"""What differs by no more than this factor is alike."""
_DOUBT = 0.05
"""Calls over all before, of which the chance is less, are of another kind."""
_APART = math.sqrt(-math.log(0.01) / 2)
"""The same for two samples as a whole, at 1 in 100."""
_FEW = 3


class Recall:
    """The model of a call: from this run's calls, and at first from those of earlier runs.

    Args:
        scales, declared: as for a :class:`Footprint`.
        before: what earlier runs learnt, where there is anything.
    """

    def __init__(self, *, scales: bool, declared: int | None, before: Learnt | None = None) -> None:
        self._scales, self._declared = scales, declared
        self._own = Footprint(scales=scales, declared=declared)
        self._sample = Sample()
        self._kept: Learnt | None = None
        self._both: Footprint | None = None
        self._ratios: list[float] = []
        """What calls of this run took, by the scale of those before; in order."""
        self.given_up = 0
        """Calls of this run that were set aside as too large."""
        self.news: list[str] = []
        """What is to be said of it; whoever says it takes it out."""
        if before is not None:
            self.begin(before)

    def begin(self, kept: Learnt) -> None:
        """Start from an earlier run's measurements, if nothing is known yet."""
        if not kept.observations or self._kept is not None or self.measured or self._own.known:
            return
        self._kept = kept
        self._was = Footprint(scales=self._scales)
        self._was.recall(kept.observations, kept.firsts)
        self._both = Footprint(scales=self._scales, declared=self._declared)
        self._both.recall(spread(kept.observations), kept.firsts)
        peaks = sorted(seen.peak for seen in kept.observations)
        self.news.append(
            f"begins with what {plural(len(peaks), 'call')} of earlier runs took: "
            f"{format_size(peaks[len(peaks) // 2])} in the median, at most {format_size(peaks[-1])}"
        )

    @property
    def footprint(self) -> Footprint:
        """The current model."""
        return self._both or self._own

    @property
    def stands(self) -> bool:
        """Whether earlier runs still count."""
        return self._both is not None

    @property
    def tried(self) -> int:
        """How many of this run's calls count."""
        return self._own.tried

    @property
    def unconfirmed(self) -> bool:
        """Whether earlier runs count and no call of this one was measured yet."""
        return self._both is not None and not self._own.tried

    @property
    def measured(self) -> int:
        """How many of this run's calls were measured."""
        return len(self._sample)

    @property
    def calls(self) -> int:
        """How many calls of earlier runs count."""
        return min(len(self._kept.observations), COUNTS_FOR) if self._both and self._kept else 0

    @property
    def most_items(self) -> int:
        """The most items of a call in earlier runs that count; 0 if none do."""
        return self._kept.call if self._both and self._kept else 0

    def observe(self, seen: Observation, *, first: bool = False) -> None:
        """Learn from a call of this run, as :meth:`Footprint.observe` does."""
        if not (first and len(self._sample)):
            self._sample.add(seen)
        self._own.observe(seen, first=first)
        if self._both is None:
            return
        self._both.observe(seen, first=first)
        # A worker's first call has its imports in it: it tells only where it is more than those were too.
        if not first or seen.peak > _ALIKE * max(self._was.first(), self._was.top):
            insort(self._ratios, self._ratio(seen))
        self._judge_above(self._ratios, max(self._own.tried, len(self._ratios)))
        self._judge_all()
        if self._own.tried >= KEPT:
            self._both = self._kept = None

    def at_least(self, seen: Observation) -> None:
        """Learn from a call that died, as :meth:`Footprint.at_least` does."""
        self._own.at_least(seen)
        if self._both is not None:
            self._both.at_least(seen)
            self.heed([seen])

    def gave_up(self, seen: Observation) -> None:
        """Remember for later runs an item that was set aside: it takes more than that."""
        self._sample.add(seen)
        self.given_up += 1

    def heed(self, running: Iterable[Observation]) -> None:
        """Look at running calls: one that exceeds the model is known before it ends."""
        if self._both is None:
            return
        living = [self._ratio(seen) for seen in running]
        self._judge_above([*self._ratios, *living], len(self._ratios) + len(living))

    def learnt(self) -> tuple[Observation, ...]:
        """Measurements to keep: this run's calls, after those that it started with."""
        before = self._kept.observations if self._kept is not None else ()
        return (*before, *self._sample.kept())[-KEPT:]

    def _ratio(self, seen: Observation) -> float:
        return seen.peak / self._was.scale(seen.largest, seen.total)

    def _judge_above(self, ratios: Sequence[float], calls: int) -> None:
        """Drop earlier runs where too many calls take more than all of theirs."""
        before = self._was.ratios
        above = sum(ratio > _ALIKE * before[-1] for ratio in ratios)
        if above and chance(above, calls, len(before)) < _DOUBT:
            who = f"{above} of the first {calls:,} calls" if calls > 1 else "the first call"
            self._drop(f"{who} took more than all {len(before)} before")

    def _judge_all(self) -> None:
        """Drop them where the calls of this run are lighter or heavier as a whole."""
        before, now = self._was.ratios, self._ratios
        if self._both is not None and differ(before, now):
            times = now[len(now) // 2] / before[len(before) // 2]
            self._drop(f"the first {plural(len(now), 'call')} took {times:.2g} times as much, in the median")

    def _drop(self, why: str) -> None:
        self._both = self._kept = None
        self.news.append(f"goes no longer by earlier runs: {why}")


def spread(observations: Sequence[Observation]) -> list[Observation]:
    """At most 32 values, evenly chosen by size, the largest included."""
    ordered = sorted(observations, key=lambda seen: seen.peak)
    step = -(-len(ordered) // COUNTS_FOR)
    kept = {id(seen) for seen in ordered[::-1][::step]}
    return [seen for seen in observations if id(seen) in kept]


def chance(above: int, new: int, old: int) -> float:
    """Probability that so many or more of the new values lie above all old ones, if all are of one kind."""
    return math.prod((new - i) / (new + old - i) for i in range(above))


def differ(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether two sorted samples are of different kinds, by more than a little."""
    if len(now) < _FEW:
        return False
    most = _APART * math.sqrt((len(before) + len(now)) / (len(before) * len(now)))
    return _gap(before, now) > most or _gap(now, before) > most


def _gap(low: Sequence[float], high: Sequence[float]) -> float:
    """By how much more of ``low`` than of ``high`` lies under a value, where that is most."""
    return max(
        (rank + 1) / len(low) - bisect_right(high, _ALIKE * value) / len(high)
        for rank, value in enumerate(low)
    )
