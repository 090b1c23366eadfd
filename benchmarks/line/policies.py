"""The deciders: Penstock's own, and others in its place, so that all the rest is equal.

    now        the code as it is
    again      the same, after another run of the family; ``light``, ``heavy``: where that took a quarter,
               or four times as much
    bounds     the rule before it: the 95 % bounds of all calls add up, workers by the largest size hint,
               long batches, and a governor that pauses at 1.5 headrooms and lets the oldest run on
    oracle     knows each item's peak, and works in order: what prediction can give
    q75, q90   that quantile of the last 256 peaks is reserved for each item
    workqueue  first allocation by most throughput (Tovar et al., IPDPS 2018), rounded up to 1/64 of the
               budget; what outgrows it is killed, and again alone
    fixed      so many workers, and nothing else

Wherever nothing is known yet, all explore as Penstock does.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from penstock.engine.decide import governor
from penstock.engine.decide.estimate import Shape
from penstock.engine.decide.futures import ExpectedBatch
from penstock.engine.decide.plan import Plan, room
from penstock.engine.decide.tasks import Task
from penstock.engine.messages import MeasuredCall
from penstock.engine.parent.admission import Admission
from penstock.engine.parent.workers import WorkerState

if TYPE_CHECKING:
    from world import Decide, World

_KEPT = 256
_SHORT = 0.1
"""Seconds of a batch of the others: what they admit is one item."""
_STEPS = 64


@dataclass(frozen=True)
class Policy:
    """A name, and who decides."""

    name: str
    admission: type[Admission]
    decide: Decide
    remembers: float = 0.0
    """Begins with what another run of the family took, times this; 0: with nothing."""


class _Bounds(Admission):
    """The sum of bounds."""

    def make_plan(self) -> Plan:
        """As many workers as calls of the largest size hint fit."""
        plan, largest = super().make_plan(), self._estimate.largest(1)
        workers = plan.most_workers
        while workers > 1 and workers * largest > room(plan.budget, plan.reserved, workers):
            workers -= 1
        self.plan = replace(plan, workers=workers, most_workers=workers, most_calls=0)
        return self.plan

    def _reserve(
        self, task: Task, call: int, shape: Shape, worker: WorkerState, running: list[WorkerState], now: float
    ) -> int | None:
        bound = self._estimate.bound(shape, first=not worker.warm)
        if bound is None or not running:
            return super()._reserve(task, call, shape, worker, running, now)
        need = max(bound, task.floor)
        taken = sum(self._crew.committed(other) for other in self._crew if other is not worker)
        return need if taken + need <= self.room() else None

    def _fits(self, batch: ExpectedBatch, room: int) -> bool:
        bound = self._estimate.usual(1)
        return bound + sum(self._crew.committed(worker) for worker in self._crew) <= room


def two_lines(
    free: int, budget: int, watched: Sequence[governor.Watched], now: float, last_kill: float
) -> governor.Orders:
    """Pauses at 1.5 headrooms; at the critical line the oldest runs on."""
    keep = governor.headroom(budget)
    if free >= keep // 2:
        free = free - keep // 2 if free >= 1.5 * keep else keep // 2 + min(free, keep) // 4
        return governor.decide(free, budget, watched, now, last_kill)
    orders = governor.decide(free, budget, watched, now, last_kill)
    oldest = min(
        (each for each in watched if not each.paused), key=lambda w: (w.began, w.worker), default=None
    )
    runs_on = oldest.worker if oldest else -1
    dying = not orders.kill
    return replace(orders, pause=() if dying else tuple(w for w in orders.pause if w != runs_on))


class _Reserving(Admission):
    """Reserves what :meth:`need` says for each batch, as long as the sum has room."""

    def join(self, world: World) -> None:
        """Told of the world once it is made."""
        self.world = world
        self._options = replace(self._options, most_batch_seconds=_SHORT)
        self._peaks: deque[int] = deque(maxlen=_KEPT)
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._ranked: list[int] = []

    def learn(self, calls: Iterable[MeasuredCall]) -> None:
        """These calls were measured."""
        for call in calls:
            if len(self._peaks) == _KEPT:
                del self._ranked[bisect_left(self._ranked, self._peaks[0])]
            self._peaks.append(call.peak)
            self._seconds.append(call.seconds)
            insort(self._ranked, call.peak)

    def need(self, task: Task) -> int:
        """Bytes to reserve."""
        raise NotImplementedError

    def knows(self) -> bool:
        """Whether there is anything to go by."""
        return bool(self._peaks)

    def make_plan(self) -> Plan:
        """As many workers as there are cores: the sum decides."""
        self.plan = replace(super().make_plan(), workers=self.world.trace.workers)
        return self.plan

    def retainable(self) -> int:
        """As with a plan of all cores."""
        return max(32 << 20, self.budget.bytes // (2 * self.world.trace.workers + 2))

    def another_worker(self, plan: Plan, now: float) -> bool:
        """As many workers as cores, one after another, once something is known."""
        alive = [worker for worker in self._crew if not worker.leaving]
        if not self._schedule.left or self._schedule.only_alone or len(alive) >= plan.workers:
            return not alive and bool(self._schedule.left)
        known = self._estimate.footprint.known or now - self.last > 0.05
        return known and all(worker.ready and worker.busy for worker in alive)

    def _reserve(
        self, task: Task, call: int, shape: Shape, worker: WorkerState, running: list[WorkerState], now: float
    ) -> int | None:
        if not self.knows():
            return super()._reserve(task, call, shape, worker, running, now)
        need, room = max(self.need(task), task.floor, 1), self.room()
        if not running:
            return min(need, room) if room > 0 else need
        taken = sum(self._crew.committed(other) for other in self._crew if other is not worker)
        return need if taken + need <= room else None


class _Oracle(_Reserving):
    def knows(self) -> bool:
        return True

    def need(self, task: Task) -> int:
        kept = max((body.retained for body in self.world.bodies.values()), default=0)
        return max(self.world.items[k].peak for k in range(task.start, task.stop)) + kept


def _quantile(q: float) -> type[Admission]:
    class Quantile(_Reserving):
        def need(self, task: Task) -> int:
            rank = math.ceil((len(self._ranked) + 1) * q)
            return self._ranked[min(rank, len(self._ranked)) - 1]

    return Quantile


class _WorkQueue(_Reserving):
    enforces = True

    def need(self, task: Task) -> int:
        if task.floor:
            return self.spare()
        step = self.budget.bytes // _STEPS
        return -(-_first_allocation(self._peaks, self._seconds) // step) * step


def _first_allocation(peaks: Sequence[int], seconds: Sequence[float]) -> int:
    """The allocation with the most throughput: small ones run side by side, and fail more often."""
    pairs = sorted(zip(peaks, seconds, strict=True))
    total, most = sum(seconds), pairs[-1][0]
    beyond, best, chosen = total, -math.inf, most
    for k, (peak, lasting) in enumerate(pairs):
        beyond -= lasting
        if k + 1 < len(pairs) and pairs[k + 1][0] == peak:
            continue
        below = (k + 1) / len(pairs)
        score = (most / max(peak, 1) * below + 1 - below) / (total + beyond)
        if score > best:
            best, chosen = score, peak
    return chosen


def fixed(count: int) -> type[Admission]:
    """So many workers, whatever they take."""

    class Fixed(_Reserving):
        def make_plan(self) -> Plan:
            if self.plan is None:  # nothing else in it counts
                self.plan = replace(super().make_plan(), workers=count)
            return self.plan

        def another_worker(self, plan: Plan, now: float) -> bool:
            return len(self._crew) < count and bool(self._schedule.left)

        def _reserve(
            self,
            task: Task,
            call: int,
            shape: Shape,
            worker: WorkerState,
            running: list[WorkerState],
            now: float,
        ) -> int | None:
            return self.budget.bytes

    return Fixed


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("now", Admission, governor.decide),
        Policy("again", Admission, governor.decide, remembers=1),
        Policy("light", Admission, governor.decide, remembers=0.25),
        Policy("heavy", Admission, governor.decide, remembers=4),
        Policy("bounds", _Bounds, two_lines),
        Policy("oracle", _Oracle, governor.decide),
        Policy("q75", _quantile(0.75), governor.decide),
        Policy("q90", _quantile(0.90), governor.decide),
        Policy("workqueue", _WorkQueue, governor.decide),
    )
}
