"""What if there were ten times the items, or items of twice the size? A plan from what was learnt. Pure.

No item is tried. Memory grows with the size as the line through the calls that were seen says; where they say
nothing of it, in proportion. An item's time is taken to grow as its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.budget import Budget
from penstock.engine.decide.estimate import Estimate, Wishes
from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.plan import Plan


@dataclass(frozen=True, slots=True)
class Growth:
    """Factors."""

    items: float = 1.0
    """On the number of items."""
    size: float = 1.0
    """On the size of each."""

    def __str__(self) -> str:
        told = []
        if self.items != 1:
            told.append(f"{self.items:g} times the items")
        if self.size != 1:
            told.append(f"items {self.size:g} times as large")
        return " and ".join(told) or "the same again"


class _Imagined:
    """A source of items that are not there: all of the mean size, and one of the largest."""

    def __init__(self, items: int, mean: float, largest: float) -> None:
        self._items, self._mean, self._largest = items, mean, largest

    def __len__(self) -> int:
        return self._items

    def sizes(self, start: int, stop: int) -> Sequence[float]:
        first = min(self._largest, self._mean * self._items) if start == 0 else self._mean
        rest = (self._mean * self._items - first) / max(self._items - 1, 1) if start == 0 else self._mean
        return [first, *[rest] * (stop - start - 1)]


def grown(
    learnt: Learnt, growth: Growth, *, budget: Budget, workers: int | None, call: int | None, cores: int,
    stage: str = "",
) -> Plan:  # fmt: skip
    """The plan for so much more.

    Args:
        learnt: of a run as it was.
        growth: how much more there is to be.
        budget: in which it is to run.
        workers: at most so many; None: as many as there are cores for.
        call: at most so many items a call; None: as the plan chooses.
        cores: that there will be.
        stage: for the plan.
    """
    wishes = Wishes(
        workers=min(workers or cores, learnt.stretches or cores),
        call=call,
        fixed_call=None if isinstance(learnt.batched, bool) else learnt.batched,
        memory=learnt.memory or None,
        threads=learnt.threads or None,
    )
    items = max(math.ceil(learnt.items * growth.items), 1)
    source = _Imagined(items, learnt.mean_hint * growth.size, learnt.largest_hint * growth.size)
    estimate = Estimate(source, batched=bool(learnt.batched), wishes=wishes, cores=cores, stage=stage)
    for seen in learnt.observations:
        estimate.recall.observe(seen)
    estimate.measured_call = learnt.call
    estimate.seconds_per_item = learnt.seconds_per_item * growth.size
    results = int(learnt.reserved.results * growth.items * growth.size)
    return estimate.plan(budget, replace(learnt.reserved, results=results))
