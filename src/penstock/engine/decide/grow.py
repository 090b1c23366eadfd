"""What if there were ten times the items, or items of twice the size? The plan from past measurements. Pure.

No item is tried. Memory grows with the size as the line through the calls that were seen says; where they say
nothing of it, in proportion. An item's time is taken to grow as its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.budget import Budget, format_size
from penstock.engine.decide.estimate import Estimate, Wishes
from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.plan import Plan, room
from penstock.errors import CannotFit
from penstock.plurals import plural


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth factors."""

    items: float = 1.0
    """On the number of items."""
    size: float = 1.0
    """On the size of each."""

    def __str__(self) -> str:
        told = []
        if self.items != 1:
            told.append(f"{_factor(self.items)} times the items")
        if self.size != 1:
            each = "each " if told else "items "
            told.append(f"{each}{_factor(self.size)} times as large")
        return ", ".join(told) or "the same again"


def _factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


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
    """The plan for a grown input.

    Args:
        learnt: of a run as it was.
        growth: how much more there is to be.
        budget: in which it is to run.
        workers: at most so many; None: as many as there are cores for.
        call: at most so many items a call; None: as the plan chooses.
        cores: that there will be.
        stage: for the plan.

    Raises:
        CannotFit: what was seen, grown, is more than one worker alone may use.
    """
    wishes = Wishes(
        workers=min(workers or cores, learnt.stretches or cores),
        call=call,
        fixed_call=None if isinstance(learnt.batched, bool) else learnt.batched,
        # What was stated is of items as they were.
        memory=(learnt.memory or None) if growth.size == 1 else None,
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
    plan = estimate.plan(budget, replace(learnt.reserved, results=results))
    _check_room(estimate, plan, growth, wishes.fixed_call or 1, budget, learnt.died)
    return replace(plan, median=estimate.typical(plan.call), died=learnt.died)


def _check_room(
    estimate: Estimate, plan: Plan, growth: Growth, call: int, budget: Budget, died: int
) -> None:  # fmt: skip
    """Refuse what cannot fit, without any margin for what nobody has seen.

    Args:
        estimate: what was learnt, of the items as they will be.
        plan: the plan, which takes no more than there is.
        growth: how much more there is.
        call: items of the smallest call.
        budget: the budget.
        died: calls of which only the least that they take is known.
    """
    if not estimate.footprint.known:
        return
    expected = max(estimate.heaviest(call), estimate.typical(call, largest=True))
    alone = room(budget.bytes, plan.reserved, 1, kills_group=budget.kills_group)
    if budget.per_process is not None:
        alone = min(alone, budget.per_process)
    if expected <= alone:
        return
    said = (
        f"{growth}: the heaviest call takes {format_size(expected)} by what the last run took, and one "
        f"worker alone may use {format_size(max(alone, 0))} (budget {budget}; before any item "
        f"{format_size(plan.reserved.total(1))} are taken)"
    )
    if budget.per_process is not None and budget.per_process < expected:
        raise CannotFit(f"{said}: no single process may have more than {format_size(budget.per_process)}")
    bound = max(estimate.largest(call), expected)
    needed = replace(plan, share=None, footprint=bound).budget_for(1)
    would = f"A budget of {format_size(needed)} would do."
    if died:
        would = (
            f"{plural(died, 'call')} ran out of memory before they had all that they asked for: "
            f"try a budget of {format_size(needed)} or more."
        )
    raise CannotFit(f"{said}. {would}", needed=needed)
