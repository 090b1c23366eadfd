"""A plan on nodes: how many workers fit on each, how many leases, how long.

Arithmetic on what a few items took here and on what each node would have; nothing is tried there.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.abc import NodeOffer
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.engine.decide.leases import Leases
from penstock.engine.decide.plan import Plan
from penstock.plurals import plural


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node that would take part."""

    host: str
    budget: int
    """Bytes."""
    cores: int
    workers: int
    why: str = ""
    """Why it would have none; empty where it has."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A plan spread over nodes."""

    nodes: tuple[PlannedNode, ...]
    least: int
    """Bytes of the smallest budget in which a node has a worker."""
    leases: int
    """About how many, at most: a lease is of whole parts of the results. 0 where the time is unknown."""
    seconds: float
    """Predicted wall seconds for all items, the end included, where some nodes wait; 0 when unknown."""

    @property
    def workers(self) -> int:
        """Workers on all nodes together."""
        return sum(node.workers for node in self.nodes)

    def rows(self) -> list[tuple[str, str, str]]:
        """(word, number, where from), as those of a plan."""
        working = [node for node in self.nodes if node.workers]
        if not working:
            return [("nodes", "none", f"a node needs at least {format_size(self.least)} for a worker")]
        rows = [("nodes", str(len(working)), f"of {len(self.nodes)}, with {plural(self.workers, 'worker')}")]
        if self.leases:
            rows.append(("leases", str(self.leases), "at most about: each is of whole parts of the results"))
            rows.append(("on nodes", format_seconds(self.seconds), "about, for all items"))
        return rows


def spread(plan: Plan, offers: Sequence[NodeOffer], *, workers: int | None = None) -> Spread:
    """Spread a plan's items over nodes.

    Args:
        plan: by what items took here.
        offers: who is there.
        workers: at most so many on a node; None: as many as it has cores.
    """
    nodes = tuple(_node(plan, offer, workers) for offer in offers)
    rates = [node.workers / plan.seconds_per_item for node in nodes if node.workers and plan.seconds_per_item]
    leases, seconds = _worked(plan.items, rates) if rates else (0, 0.0)
    return Spread(nodes, plan.budget_for(1), leases, seconds)


def _node(plan: Plan, offer: NodeOffer, workers: int | None) -> PlannedNode:
    most = 0 if offer.why else max(min(workers or offer.cores, offer.cores, plan.items), 1)
    fitting = next((count for count in range(most, 0, -1) if plan.budget_for(count) <= offer.budget), 0)
    small = f"needs {format_size(plan.budget_for(1))} for a worker, and has {format_size(offer.budget)}"
    return PlannedNode(
        offer.host, offer.budget, offer.cores, fitting, offer.why or ("" if fitting else small)
    )


def _worked(items: int, rates: Sequence[float]) -> tuple[int, float]:
    """How many leases there are, and when the last is over, where nothing goes wrong.

    Args:
        items: how many.
        rates: items a second of each node.
    """
    leases, count, now = Leases(items), 0, 0.0
    ends: list[tuple[float, int, int, int, int]] = []
    free = [0.0] * len(rates)
    for number in range(len(rates)):
        leases.join(str(number))
    while not leases.finished:
        for name in leases.wanting:
            while (lent := leases.lend(name)) is not None:
                number = int(name)
                stop = min(lent.stop, lent.start + max(int(lent.seconds * rates[number]), 1))
                free[number] = max(free[number], now) + (stop - lent.start) / rates[number]
                heapq.heappush(ends, (free[number], number, lent.ticket, lent.start, stop))
                count += 1
        now, number, ticket, start, stop = heapq.heappop(ends)
        leases.settle(str(number), ticket, [(start, stop)], rate=rates[number])
    return count, now
