"""Admission control: which batch may start, and how many bytes it reserves. The first fence.

One more starts while the running ones and it fit in enough of their futures: see ``decide/futures.py``.
While nothing is known of the footprint, one more batch is let in now and then as long as what the running
ones hold leaves plenty of room: probing is working.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from penstock import asking
from penstock.abc import Carried
from penstock.budget import Budget, BudgetInForce, GiB, MiB
from penstock.engine.decide import plan as planning
from penstock.engine.decide.estimate import Estimate, Shape
from penstock.engine.decide.futures import ExpectedBatch
from penstock.engine.decide.governor import headroom, is_punctual
from penstock.engine.decide.plan import Plan, Reserved
from penstock.engine.decide.schedule import Schedule
from penstock.engine.decide.tasks import Task
from penstock.engine.parent.options import Options
from penstock.engine.parent.workers import Workers, WorkerState
from penstock.engine.worker.main import Setup

EXPLORE_SECONDS = 0.05
"""Between admissions while nothing is known of the footprint."""
_EXPLORE_LEAST = 16 * MiB
_FEW = 4
"""Calls that say little of those to come."""
_PATIENCE = 10.0
"""Seconds that a batch waits for memory which others hold, before it is tried in what there is."""
_CARGO = 1 * MiB
_FENCE = 1 * GiB
"""A fence tighter than this hangs numba and fails Parquet's threads."""
_DEEP = 4
"""So many calls for each worker must wait before several of them travel together."""
_AT_ONCE = 0.004
"""Seconds of calls that may travel together though few wait: no more than their messages would take."""
_NEW = 0
"""The number of a worker that is not there yet."""
_WORTH_STARTING = 0.06
"""Seconds of work left per worker that make another one worth its start."""


@dataclass(frozen=True)
class Offer:
    """A batch that may start now."""

    task: Task
    call: int
    reserve: int
    known: bool
    """Whether the reserve is a prediction."""
    shape: Shape
    """Of its calls."""


class CoresWaiting:
    """For how long cores were idle because memory lacked for a call.

    Args:
        now: when the stage began.
    """

    def __init__(self, now: float) -> None:
        self._lacking, self._looked = 0, now
        self.seconds = 0.0
        """Of all cores, added up."""

    def look(self, now: float) -> None:
        """Begin a turn: what lacked memory at the last turn has waited until now."""
        self.seconds += self._lacking * max(now - self._looked, 0.0)
        self._lacking, self._looked = 0, now

    def lack(self, cores: int) -> None:
        """So many more calls lack memory in this turn."""
        self._lacking = cores


class Admission:
    """Decides what starts next.

    Args:
        setup: the job.
        options: how its stage is run.
        schedule, estimate, crew: of the stage.
        budget: in force.
    """

    def __init__(
        self,
        setup: Setup,
        options: Options,
        schedule: Schedule,
        estimate: Estimate,
        crew: Workers,
        budget: BudgetInForce,
    ) -> None:
        self._options = options
        self._cargo = setup.source if isinstance(setup.source, Carried) else None
        self._fixed_call = setup.fixed_call
        self._schedule = schedule
        self._estimate = estimate
        self._crew = crew
        self._budget = budget
        self._began = crew.clock()
        self.most_items = options.most_items
        """A worker that was given so many is replaced."""
        self.last = self._grew = -math.inf
        """When something was admitted."""
        self._seen = 0
        self._short_since = math.inf
        self._held_until = -math.inf
        self._waited, self._waiting_since = 0.0, math.inf
        self.waiting = CoresWaiting(self._began)
        self.plan: Plan | None = None
        self.kept = 0
        """Items kept in this run."""
        self.collected = 0
        """Bytes of their results, where these are collected in this process."""

    # ------------------------------------------------------------------ the arithmetic

    @property
    def budget(self) -> Budget:
        """The budget in force."""
        return self._budget.now

    def reserved(self, *, to_come: bool = True) -> Reserved:
        """What is taken before any item.

        Args:
            to_come: with what collected results are expected to take in the end. It is a projection from
                those that came: fewer calls run at once because of it, but never none.
        """
        parent = self._crew.memory.parent
        here = min(self.collected, parent)
        return Reserved(
            parent=parent - here,
            backend=self._crew.memory.backend_held,
            worker=self._crew.idle_own,
            results=here + (self._results_to_come() if to_come else 0),
            others=self._crew.memory.shared,
        )

    def _results_to_come(self) -> int:
        """Bytes that collected results will still take in this process, as it is going."""
        left = self._estimate.items - self.kept
        return self.collected * max(left, 0) // self.kept if self.kept else 0

    def make_plan(self) -> Plan:
        """The plan at this moment."""
        self.plan = self._estimate.plan(self.budget, self.reserved())
        return self.plan

    def room(self, *, to_come: bool = True) -> int:
        """Bytes that calls may take together beside the present workers."""
        reserved, group = self.reserved(to_come=to_come), self.budget.kills_group
        room = planning.room(self.budget.bytes, reserved, len(self._crew), kills_group=group)
        # What others took under a ceiling meanwhile is not ours to plan with.
        held = sum(self._crew.held(worker) for worker in self._crew)
        return min(room, self._crew.memory.free - headroom(self.budget.bytes) + held)

    def spare(self) -> int:
        """Bytes for a single worker's call if no other runs."""
        reserved, group = self.reserved(to_come=False), self.budget.kills_group
        alone = planning.room(self.budget.bytes, reserved, 1, kills_group=group)
        return alone if self.budget.per_process is None else min(alone, self.budget.per_process)

    def retainable(self) -> int:
        """Bytes that a worker may retain from batch to batch before it is recycled."""
        workers = self.plan.workers if self.plan else 1
        return max(32 * MiB, self.budget.bytes // (2 * workers + 2))

    def fence(self, task: Task) -> int:
        """Bytes of private memory that a batch may map beyond what is mapped; 0: unlimited."""
        return 0 if task.alone else max(self.budget.bytes, _FENCE)

    def batch_seconds(self, now: float) -> float:
        """How long a batch should take now."""
        return min(planning.batch_seconds(now - self._began), self._options.most_batch_seconds)

    # ------------------------------------------------------------------ what starts

    def lack(self) -> None:
        """Note that one more call lacks memory in this turn."""
        most = self.plan.most_workers if self.plan else self._estimate.most_workers
        most = min(most, self._estimate.cores)  # more may have been asked for
        self.waiting.lack(min(max(most - len(self._crew.running), 0), self._schedule.left))

    def used_up(self, worker: WorkerState) -> bool:
        """Whether the worker has had its maximum of items."""
        return self.most_items is not None and worker.given >= self.most_items

    def hold(self, until: float) -> None:
        """Start nothing before a moment: results cannot be written just now."""
        self._held_until = max(self._held_until, until)

    def held(self, now: float) -> bool:
        """Whether nothing may start yet."""
        return now < self._held_until

    def offer(self, worker: WorkerState, plan: Plan, now: float) -> Offer | str:
        """What ``worker`` should do now; else ``"nothing"`` for it, ``"full"``, or ``"alone"``: a task
        waits for everybody else to be gone."""
        running = self._crew.running
        if len(running) >= plan.most_workers:  # how many fit, the sum of what they take decides
            return "full"
        # Where nothing has succeeded yet, a few that failed say more than trying all the others.
        lone_first = self._schedule.lone >= 3 and self.kept == 0
        size = self._estimate.batch(
            plan.call, self._schedule.left, plan.workers, seconds=self.batch_seconds(now)
        )
        if self._options.endless:
            size = self._few(plan, now)
        size = planning.shortened(size, plan, now - self._began)
        if self.most_items is not None:
            size = min(size, self.most_items - worker.given)
        task = self._schedule.propose(worker.number, size, alone_first=lone_first)
        if task is None:
            return "nothing"
        if task.alone and running:
            return "full"
        if task.alone and len(self._crew) > 1:
            return "alone"
        task = self._with_light_cargo(task)
        call = self._call(task, plan)
        if self._options.endless:
            call = min(call, task.stop - task.start)
        shape = self._estimate.shape(task.start, task.stop, call)
        reserve = self._reserve(task, call, shape, worker, running, now)
        if reserve is None:
            self.lack()
            return "full"
        self.last = now
        return Offer(task, call, reserve, self._estimate.footprint.known, shape)

    def _few(self, plan: Plan, now: float) -> int:
        """Items of one batch where none should wait: several only of short ones.

        Of a deep queue as many as make a batch; of a few, a fair share for everybody who is free, as long as
        they take no longer than a message each would.
        """
        left, each = self._schedule.left, self._estimate.seconds_per_item
        size = self._estimate.batch(1, left, plan.workers, seconds=self.batch_seconds(now))
        deep = min(size, left // (_DEEP * plan.workers))
        free = sum(worker.free for worker in self._crew)
        few = min(int(_AT_ONCE / each), math.ceil(left / max(free, 1))) if each else 1
        return max(deep, few, 1)

    def another_worker(self, plan: Plan, now: float) -> bool:
        """Whether one more worker fits and is worth starting."""
        alive = [worker for worker in self._crew if not worker.leaving]
        left = self._schedule.left
        waited = self._count_waiting(bool(left), now)
        if len(alive) >= plan.most_workers or any(not worker.ready for worker in alive) or not left:
            return False
        if not alive:
            return True
        if self._schedule.only_alone:
            return False
        each = self._estimate.seconds_per_item
        # Calls that nobody has begun for a while may be what those wait for that run.
        waits = self._options.endless and now - self.last >= EXPLORE_SECONDS
        # A few calls now, and a few again: it is worth it in the end.
        work = max(left * each, waited if self._options.endless else 0.0)
        if each and work < _WORTH_STARTING * (len(alive) + 1) and not waits:
            return False
        if not each and now - self.last < EXPLORE_SECONDS:
            return False
        self._waited = 0.0
        room = self.room()
        if self._estimate.footprint.known:
            fits = self._fits(self._estimate.expect(_NEW, self._estimate.usual_shape(plan.call)), room)
        else:
            fits = sum(self._crew.committed(worker) for worker in alive) <= room
        if not fits:
            self.lack()
        return fits

    def _count_waiting(self, waiting: bool, now: float) -> float:
        """Seconds in which items waited for a worker, since the last one was started."""
        self._waited += max(now - self._waiting_since, 0.0)
        self._waiting_since = now if waiting else math.inf
        return self._waited

    def _call(self, task: Task, plan: Plan) -> int:
        if self._fixed_call is not None:
            return min(self._fixed_call, task.call or self._fixed_call)
        call = 1 if task.alone else plan.call
        return min(call, task.call) if task.call is not None else call

    def _with_light_cargo(self, task: Task) -> Task:
        """Shorten a batch whose items would be heavy to carry."""
        if self._cargo is None or not task.fresh:
            return task
        weight = asking.weigh(self._cargo, task.start, task.stop)
        if weight <= _CARGO:
            return task
        grain = self._schedule.grain or 1
        items = max(int((task.stop - task.start) * _CARGO / weight) // grain, 1) * grain
        return Task(task.start, min(task.start + items, task.stop))

    def _short(self, need: int, room: int, now: float) -> bool:
        """Whether to wait a little: what is missing is held by others, or by somebody who is dying."""
        if not self._options.governs:
            return False
        usual = self.spare() + self.reserved().others
        if self.collected > usual:  # nobody frees what results take
            return False
        if room >= 0.9 * usual or need <= room:
            self._short_since = math.inf
            return False
        self._short_since = min(self._short_since, now)
        return now - self._short_since < _PATIENCE

    def _settled(self, seen: int, now: float) -> bool:
        """Whether what the running ones hold has stopped growing for a while."""
        if seen > self._seen * 1.05 + 1 * MiB:
            self._seen, self._grew = seen, now
        # What holds nothing yet may still begin to: it gets longer to show.
        return now - max(self._grew, self.last) >= (EXPLORE_SECONDS if seen else 5 * EXPLORE_SECONDS)

    def _reserve(
        self, task: Task, call: int, shape: Shape, worker: WorkerState, running: list[WorkerState], now: float
    ) -> int | None:
        """Bytes to admit a batch with; None when it must wait."""
        room = self.room()
        if running and self._estimate.recall.stands and self._is_soon(running, now):
            return None
        first = not worker.warm
        if running and self._is_unknown():
            return self._explore(worker, running, room, now)
        if running:
            least = max(task.floor, self._crew.held(worker))
            if not self._fits(self._estimate.expect(worker.number, shape, least=least, first=first), room):
                return None
        need = max(self._estimate.bound(shape, first=first) or 0, task.floor)
        if running:
            return need
        # Somebody always runs; what it takes beyond the room, the governor sees.
        room = self.room(to_come=False)
        if self._short(need or room, room, now):
            return None
        return min(need, room) if need else room

    def _is_soon(self, running: list[WorkerState], now: float) -> bool:
        """Whether to see first what those running hold: it may be more than in any earlier run."""
        self._estimate.heed(
            (other.shape, self._crew.held(other)) for other in running if other.shape is not None
        )
        return self._estimate.recall.unconfirmed and now - self.last < EXPLORE_SECONDS

    def _is_unknown(self) -> bool:
        """Whether it must be seen what the running ones take before another starts.

        Where the governor comes late, the first few are not believed: the next may be many times as large,
        and nobody would pause it in time.
        """
        footprint = self._estimate.footprint
        told = self._options.wishes.memory is not None or self._estimate.recall.stands
        return not footprint.known or (footprint.tried < _FEW and not told and not self._is_punctual(2))

    def _is_punctual(self, cores: int) -> bool:
        return is_punctual(self._crew.late, cores, self.budget.bytes)

    def _explore(self, worker: WorkerState, running: list[WorkerState], room: int, now: float) -> int | None:
        """Bytes to admit a batch with of which nothing is known."""
        seen = max(self._crew.held(other) for other in running)
        need = max(2 * seen, _EXPLORE_LEAST)
        if not self._settled(seen, now):
            return None
        taken = sum(max(self._crew.committed(other), need) for other in self._crew if other is not worker)
        return need if taken + need <= room else None

    def _fits(self, batch: ExpectedBatch, room: int) -> bool:
        """Whether one more batch fits beside those that run, in enough of their futures."""
        batches = []
        for worker in self._crew:
            if worker.number == batch.worker:
                continue
            held = self._crew.held(worker)
            if worker.task is None or worker.shape is None:
                room -= held
            else:
                least = max(held, worker.task.floor)
                first = not worker.warm
                batches.append(self._estimate.expect(worker.number, worker.shape, least=least, first=first))
        never = self._never(room, len(batches) + 1)
        return self._estimate.weigh([*batches, batch], room, self.spare(), never).admits

    def _never(self, room: int, calls: int) -> float:
        """Bytes that calls must exceed in no future: a late governor cannot pause them before the budget."""
        cores = min(self._estimate.cores, calls)
        if self._is_punctual(cores):
            return math.inf
        return room + headroom(self.budget.bytes)
