"""Overdue batches: results so far are delivered at once, and calls not yet begun are taken back while a
worker is idle.

Each happens in two looks, a moment apart. What a worker has laid down is read up to where it was at the
look before. A batch is first cut, which keeps its worker from beginning another call, and what its note
then says at the next look is what it has begun: the rest is anybody's. The deciding part is pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from penstock import events as ev
from penstock.engine.apart import frames
from penstock.engine.parent.stage import Stage
from penstock.engine.parent.workers import WorkerState

LATE = 0.02
"""Seconds after which a batch is looked at."""
_SETTLED = 0.001
"""Seconds in which what one process writes is seen by the other."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running batch of several calls."""

    worker: int
    start: int
    stop: int
    item: int
    """The call that its worker is at; outside of the batch where it is between calls."""
    began: float
    asked: float = math.inf
    """When it was cut."""


def decide(
    batches: Iterable[Running], idle: int, waiting: int, now: float
) -> tuple[list[int], list[tuple[int, int]]]:
    """Which batches to cut, and from which to take back the items after a given one.

    Args:
        batches: that are worked.
        idle: workers that could work something at once, or be started.
        waiting: calls that nobody has.
        now: the time.

    Returns:
        Workers; and (worker, first item that is taken back).
    """
    ask: list[int] = []
    take: list[tuple[int, int]] = []
    late = [each for each in batches if now - each.began >= LATE]
    for each in sorted(late, key=lambda each: each.item - each.stop):
        begun = each.start <= each.item < each.stop
        if each.asked <= now - _SETTLED:
            if begun and each.item + 1 < each.stop:
                take.append((each.worker, each.item + 1))
        elif math.isinf(each.asked) and begun and each.item + 1 < each.stop and waiting < idle:
            ask.append(each.worker)
            waiting += each.stop - each.item - 1
    return ask, take


class Overdue:
    """Checks the batches of a stage whose items keep coming.

    Args:
        stage: the stage.
        collect: takes (first item, results).
    """

    def __init__(self, stage: Stage, collect: Callable[[int, list[Any]], None]) -> None:
        self._stage = stage
        self._collect = collect
        self._early = stage.powers.early
        self._held_since = -math.inf
        self._told = False

    def turn(self, most: float) -> float:
        """Seconds until the next check, at most so many."""
        several = [worker for worker in self._stage.crew.running if _is_several(worker)]
        if any(worker.cut_at < math.inf for worker in several):
            return min(most, 2 * _SETTLED)
        if several or self._stage.schedule.left:
            return min(most, LATE)
        return most

    def attend(self, now: float) -> None:
        """Check every batch once."""
        stage = self._stage
        batches = []
        for worker in stage.crew.running:
            late = _is_several(worker) and now - worker.began >= LATE
            if late and self._tell(worker) and (task := worker.task) is not None:
                item = stage.backend.noted(worker.number)[0]
                batches.append(
                    Running(worker.number, task.start, task.stop, item, worker.began, worker.cut_at)
                )
        if batches:
            ask, take = decide(batches, self._idle(), stage.schedule.left, now)
            for number in ask:
                stage.backend.cut(number)
                if (worker_ := stage.crew.get(number)) is not None:
                    worker_.cut_at = now
            for number, stop in take:
                if stage.crew.get(number) is not None:
                    stage.schedule.take_back(number, stop)
        self._mind_waiting(now)

    def _idle(self) -> int:
        """Workers that could begin something now."""
        stage = self._stage
        alive = [worker for worker in stage.crew if not worker.leaving]
        plan = stage.admission.plan
        most = plan.workers if plan is not None else 1
        return max(most - sum(worker.task is not None for worker in alive), 0)

    def _tell(self, worker: WorkerState) -> bool:
        """Hand on the results that lie there since the last look, but for the batch's last.

        False while the worker has not begun the batch: all that its note says is of another.
        """
        task = worker.task
        assert task is not None
        number, data = self._early(worker.number)
        if number != worker.batch:
            return False
        size, worker.early = worker.early, len(data)
        if not size:
            return True
        results = frames(data[:size])[: task.stop - 1 - worker.first]
        new = results[worker.came_early :]
        if new:
            first = worker.first + worker.came_early
            worker.came_early = len(results)
            self._stage.schedule.advance(worker.number, worker.first + worker.came_early)
            self._stage.admission.kept += len(new)
            self._collect(first, new)
        return True

    def _mind_waiting(self, now: float) -> None:
        """Say so when memory has held calls back for long: it may be that others wait for them."""
        stage = self._stage
        running = len(stage.crew.running)
        held = stage.schedule.left and 0 < running < stage.estimate.most_workers
        since = max(self._held_since, stage.admission.last)
        if not held or math.isinf(since):
            self._held_since, self._told = (now if held else -math.inf), False
        elif since > self._held_since:  # another one began meanwhile
            self._held_since, self._told = since, False
        elif not self._told and now - self._held_since >= stage.options.stall:
            self._told = True
            stage.ledger.say(
                ev.CallsWait,
                waiting=stage.schedule.left,
                running=running,
                free=max(stage.watch.memory.free, 0),
                seconds=now - self._held_since,
            )


def _is_several(worker: WorkerState) -> bool:
    return worker.task is not None and worker.apart
