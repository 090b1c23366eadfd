"""Plays a trace through Penstock's deciding code, without processes: a clock, workers, a kernel.

The code that decides is the real one: Schedule, Workers, Estimate, Admission, governor. Made up here are
the loop between them and the physics:

    a worker is there 15 ms after it was asked for; a batch begins 1 ms after it was given
    a killed worker's memory is back after 40 ms
    a reading is exact; it is taken as often as the governor asks for
    over the budget at a reading, the kernel kills the largest worker, whose memory is back at once
    pausing and going on take no time

What it is not: a forecast. The kernel is harsher here than on a machine, and pausing costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

from traces import Item, MiB, Trace

from penstock.abc import Death
from penstock.budget import Budget, BudgetInForce
from penstock.engine import messages as m
from penstock.engine.decide import governor
from penstock.engine.decide.estimate import Estimate, Wishes
from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.schedule import Schedule
from penstock.engine.parent.admission import Admission, Offer
from penstock.engine.parent.options import Options
from penstock.engine.parent.workers import Workers, WorkerState
from penstock.engine.worker.main import Setup

START, DISPATCH, GONE, KERNEL_GONE = 0.015, 0.001, 0.040, 0.005
IDLE, PARENT = int(2.5 * MiB), 25 * MiB
_EXACT = 1e-9
_LOOKS = 0.02
_LONGEST = 3600.0
"""Seconds of a run that has no end."""

Decide = Callable[..., governor.Orders]


@dataclass
class Body:
    """The process of a worker."""

    number: int
    ready_at: float
    at: int = -1
    """The item that it works on; -1 for none."""
    stop: int = -1
    progress: float = 0.0
    wait: float = 0.0
    """Seconds until its batch begins."""
    retained: int = 0
    paused: bool = False
    began: float = math.inf
    reserved: int = 0
    predicted: int = 0
    calls: list[m.MeasuredCall] = field(default_factory=list)
    cut_at: float = math.inf
    most_retained: int = 0
    gone_at: float = math.inf
    why: str = ""
    by_kernel: bool = False
    highest: int = 0
    before: int = 0
    """What it held a reading ago."""
    worked: float = 0.0
    """Seconds of work in its batch."""
    top: int = 0
    """The highest peak in its batch."""

    @property
    def busy(self) -> bool:
        """Whether it has a batch."""
        return self.at >= 0

    @property
    def lives(self) -> bool:
        """Whether nobody has ended it yet."""
        return self.gone_at == math.inf


@dataclass
class Outcome:
    """What a run came to."""

    seconds: float = 0.0
    kills: int = 0
    kernel_kills: int = 0
    crossings: int = 0
    """Readings over the budget."""
    pauses: int = 0
    useful: float = 0.0
    """Seconds of work that was kept."""
    worked: float = 0.0
    byte_seconds: float = 0.0
    """Bytes held, over time."""
    held: int = 0
    """Batches that stayed under what was predicted of them, of ``bounds``."""
    bounds: int = 0
    projected: float = 0.0
    """Sum over the batches of prediction over peak."""
    decisions: int = 0
    deciding: float = field(default=0.0, compare=False)
    """CPU seconds of them."""
    plans: int = 0
    planning: float = field(default=0.0, compare=False)
    """CPU seconds of these."""
    done: frozenset[int] = frozenset()
    aside: frozenset[int] = frozenset()

    @property
    def repeated(self) -> float:
        """Share of the work that was done for nothing."""
        return max(self.worked - self.useful, 0.0) / self.worked if self.worked else 0.0


class _Source:
    """The items of a trace."""

    def __init__(self, trace: Trace) -> None:
        self._items = trace.items

    def __len__(self) -> int:
        return len(self._items)


class _Sized(_Source):
    """The same, with size hints."""

    def sizes(self, start: int, stop: int) -> list[float]:
        return [item.hint for item in self._items[start:stop]]


class World:
    """One run of a trace.

    Args:
        trace: what there is to do.
        admission: a class like Admission, whose decisions are tried.
        decide: the governor's decision.
        governs: False: nobody reads; only the kernel acts.
        crosses: False: the run is given up at the first reading over the budget.
        before: what an earlier run learnt.
    """

    def __init__(
        self,
        trace: Trace,
        admission: type[Admission] = Admission,
        *,
        decide: Decide = governor.decide,
        governs: bool = True,
        crosses: bool = True,
        before: Learnt | None = None,
    ) -> None:
        self.trace, self.items, self.budget = trace, trace.items, trace.budget
        self.now = 0.0
        self.bodies: dict[int, Body] = {}
        self._decide, self._governs, self._crosses = decide, governs, crosses
        self._started = 0
        self._kernel_count = 0
        self._last_kill = -math.inf
        self._kept: dict[int, float] = {}
        self.out = Outcome()
        # What is asked of a watch, and of its sum of memory.
        self.memory: Any = self
        self.parent, self.backend_held, self.shared = PARENT, 0, 0
        self.admit, self.lateness = True, governor.Lateness()  # its turns come in time
        self.free = self.budget - PARENT
        source, here = (_Sized if trace.hinted else _Source)(trace), Path()
        self.estimate = Estimate(source, batched=False, wishes=Wishes(), cores=trace.workers, before=before)
        first = self.estimate.probes() if len(self.items) > 8 else ()
        self.schedule = Schedule(len(self.items), first=first)
        parts: Any = self  # stands in for backend, watch and clock
        self.crew = Workers(parts, parts, parts, self.schedule.running)
        budget = Budget(self.budget, "made up")
        self.admission = admission(
            Setup(lambda item: item, source, {}, here, here, len(self.items), batched=False, fixed_call=None),
            Options(budget),
            self.schedule,
            self.estimate,
            self.crew,
            BudgetInForce(budget),
        )
        join = getattr(self.admission, "join", None)
        if join is not None:
            join(self)

    # ------------------------------------------------------------------ as clock, watch and backend

    def __call__(self) -> float:
        return self.now

    def held(self, worker: int) -> int:
        """Bytes above idle."""
        body = self.bodies.get(worker)
        return self.held_by(body) if body is not None else 0

    def expect(self, worker: int) -> None:
        """Nothing to do: it holds nothing until it is there."""

    def ready(self, worker: int, *_: int, **__: int) -> None:
        """Nothing to do."""

    def kills_before(self, worker: int) -> int:
        """Nobody else runs here."""
        return 0

    def gone(self, worker: int) -> tuple[str, int]:
        """Why the governor ended it, and the most that it held."""
        body = self.bodies.pop(worker)
        if body.why:
            self._last_kill = -math.inf
        return ("" if body.by_kernel else body.why), body.highest

    def start(self) -> int:
        """One more worker."""
        self._started += 1
        self.bodies[self._started] = Body(self._started, self.now + START)
        return self._started

    def send(self, worker: int, message: object) -> None:
        """Batches are given in :meth:`_give`; this is a farewell."""
        self._end(self.bodies[worker], "", KERNEL_GONE)

    def kill(self, worker: int) -> None:
        """End it."""
        self._end(self.bodies[worker], "", GONE)

    def _end(self, body: Body, why: str, after: float) -> None:
        if body.lives:
            body.highest = max(body.highest, self.held_by(body))
            body.gone_at, body.why = self.now + after, why

    # ------------------------------------------------------------------ physics

    def held_by(self, body: Body) -> int:
        """Bytes above idle that a worker holds now."""
        if body.by_kernel:  # what the kernel ends has its memory taken at once
            return 0
        working = self.items[body.at].held(body.progress) if body.busy else 0
        return int(body.retained + working)

    def used(self) -> int:
        """Bytes of everybody now."""
        return PARENT + sum(IDLE + self.held_by(b) for b in self.bodies.values() if b.ready_at <= self.now)

    def _worst(self) -> int:
        """The most that could be held before anything else is decided."""
        return PARENT + sum(IDLE + b.retained + (b.top if b.busy else 0) for b in self.bodies.values())

    def _advance(self, to: float) -> None:
        lasting = to - self.now
        if lasting > 0:
            before = self.used()
            for body in self.bodies.values():
                if body.busy and body.lives and not body.paused:
                    waits = min(body.wait, lasting)
                    body.wait -= waits
                    body.progress += lasting - waits
                    body.worked += lasting - waits
            self.now = to
            self.out.byte_seconds += (before + self.used()) / 2 * lasting

    def _next_event(self) -> float:
        moment = math.inf
        for body in self.bodies.values():
            if not body.lives:
                moment = min(moment, body.gone_at)
            elif body.busy and not body.paused:
                moment = min(moment, self.now + body.wait + self.items[body.at].seconds - body.progress)
            elif not body.busy and body.ready_at > self.now:
                moment = min(moment, body.ready_at)
        return moment

    # ------------------------------------------------------------------ the run

    def run(self) -> Outcome:
        """Work everything."""
        self.crew.start()
        look_at = turn_at = 0.0
        while not self.schedule.finished and (self._crosses or not self.out.crossings):
            if self.now > _LONGEST:
                raise RuntimeError(f"{self.trace.name}: no end after {_LONGEST:g} s")
            near = self._is_near()
            moment = min(self._next_event(), max(turn_at, self.now + 1e-6))
            if near:
                look_at = max(min(look_at, self.now + _LOOKS), self.now + 1e-6)
                moment = min(moment, look_at)
            self._advance(moment)
            news = self._happen()
            if near and self.now >= look_at - _EXACT:
                news |= self._look()
                look_at = self.now + governor.interval(self.free, self.budget)
            elif not near:
                self.free, self.admit = self.budget - self.used(), True
            if news or self.now >= turn_at - _EXACT:
                self._turn()
                turn_at = self.now + (0.05 if self.estimate.exploring else 0.1)
        self.out.seconds = self.now
        self.out.useful = sum(self._kept.values())
        self.out.done, self.out.aside = frozenset(self._kept), frozenset(self.schedule.aside)
        return self.out

    def _is_near(self) -> bool:
        """Whether readings can make a difference: they take most of the time."""
        return (
            not self.admit
            or self._worst() > self.budget - 1.5 * governor.headroom(self.budget)
            or any(body.paused for body in self.bodies.values())
            or bool(getattr(self.admission, "enforces", False))
        )

    def _happen(self) -> bool:
        news = False
        for body in list(self.bodies.values()):
            if body.gone_at <= self.now + _EXACT:
                self._reap(body)
                news = True
            elif not body.lives:
                continue
            elif body.busy:
                done = body.progress >= self.items[body.at].seconds - _EXACT
                if done and not body.paused and body.wait <= _EXACT:
                    news |= self._item_done(body)
            elif body.ready_at <= self.now + _EXACT:
                worker = self.crew.get(body.number)
                if worker is not None and not worker.ready:
                    self.crew.welcome(worker, m.Ready(IDLE, IDLE))
                    news = True
        return news

    def _turn(self) -> None:
        if not self.admit:
            return
        began = process_time()
        plan = self.admission.make_plan()
        self.out.plans += 1
        self.out.planning += process_time() - began
        for worker in self.crew:
            if not worker.free:
                continue
            began = process_time()
            offer = self.admission.offer(worker, plan, self.now)
            self.out.decisions += 1
            self.out.deciding += process_time() - began
            if isinstance(offer, Offer):
                self._give(worker, offer)
            elif offer == "alone":
                self.crew.dismiss((other for other in self.crew if other is not worker), "evicted")
                return
            elif offer == "full":
                return
        if self.admission.another_worker(plan, self.now):
            self.crew.start()

    def _give(self, worker: WorkerState, offer: Offer) -> None:
        task = offer.task
        self.schedule.give(worker.number, task)
        worker.reserved, worker.guessed = offer.reserve, not offer.known
        worker.shape = offer.shape
        worker.kills_before = self._kernel_count
        body = self.bodies[worker.number]
        body.at, body.stop = task.start, task.stop
        self._skip(body)
        body.progress, body.wait, body.worked, body.began = 0.0, DISPATCH, 0.0, self.now
        body.calls, body.highest = [], body.retained
        body.reserved = offer.reserve
        body.predicted = offer.reserve if offer.known else 0
        body.cut_at = self.now + 2 * self.admission.batch_seconds(self.now)
        body.most_retained = self.admission.retainable()
        self._see_top(body)
        if body.at >= body.stop:  # nothing is left of it
            self._batch_done(body)

    def _skip(self, body: Body) -> None:
        while body.at < body.stop and body.at in self.schedule.aside:
            body.at += 1

    def _see_top(self, body: Body) -> None:
        body.top = max((self.items[k].peak for k in range(body.at, body.stop)), default=0)

    def _item_done(self, body: Body) -> bool:
        item = self.items[body.at]
        peak = item.peak + body.retained
        body.calls.append(m.MeasuredCall(body.at, body.at + 1, peak, item.seconds))
        body.highest = max(body.highest, peak)
        body.retained += item.leaks
        body.at += 1
        body.progress = 0.0
        self._skip(body)
        if body.at < body.stop and self.now <= body.cut_at and body.retained <= body.most_retained:
            self._see_top(body)
            return False
        self._batch_done(body)
        return True

    def _batch_done(self, body: Body) -> None:
        worker = self.crew.get(body.number)
        assert worker is not None
        assert worker.task is not None
        stop, items = body.at, body.at - worker.task.start
        self._kept.update((call.start, call.seconds) for call in body.calls)
        self.out.worked += body.worked
        top = max((call.peak for call in body.calls), default=0)
        if body.predicted and top:
            self.out.bounds += 1
            self.out.held += body.predicted >= top
            self.out.projected += body.predicted / top
        if body.calls:
            # As a worker tells them: the first, the highest and the last.
            highest = max(body.calls, key=lambda call: call.peak)
            told = {call.start: call for call in (body.calls[0], highest, body.calls[-1])}
            calls = [told[start] for start in sorted(told)]
            self.estimate.learn(calls, items, self.now - body.began, first=False, seen=body.highest)
            learn = getattr(self.admission, "learn", None)
            if learn is not None:
                learn(body.calls)
        worker.warm = True
        self.schedule.finish(body.number, stop, ())
        self.admission.kept += items
        body.at, body.began, body.top, body.paused = -1, math.inf, 0, False
        body.calls, body.highest, body.worked = [], 0, 0.0
        if body.retained > self.admission.retainable():
            self.crew.dismiss([worker], "recycled")

    def _reap(self, body: Body) -> None:
        worker = self.crew.get(body.number)
        assert worker is not None
        if body.busy:
            self.out.worked += body.worked
        noted = (body.at, body.at, body.at + 1) if body.busy else (-1, -1, -1)
        death = Death(body.number, 9, None, noted, kernel_killed=body.by_kernel)
        failure = self.crew.reap(worker, death, lambda: self._kernel_count)
        task = worker.task
        if task is None:
            return
        a, b = failure.call
        if failure.cause in ("memory", "governor", "kernel") and task.start <= a < b <= task.stop:
            self.estimate.at_least(a, b, failure.held)
        self.schedule.fail(body.number, failure)

    # ------------------------------------------------------------------ readings

    def _look(self) -> bool:
        """A turn of the governor, or of the kernel; whether batches may start again."""
        used = self.used()
        self.free = self.budget - used
        for body in self.bodies.values():
            if body.busy:
                body.highest = max(body.highest, self.held_by(body))
        if used > self.budget:
            self.out.crossings += 1
            if self._kernel_acts():
                return False
        if not self._governs:
            return False
        self._enforce()
        watched = [
            governor.Watched(b.number, b.began, held, b.reserved, b.paused, 0.0, held > b.before)
            for b in self.bodies.values()
            if b.busy and b.lives
            for held in (self.held_by(b),)
        ]
        for each in watched:
            self.bodies[each.worker].before = each.memory
        orders = self._decide(self.free, self.budget, watched, self.now, self._last_kill)
        before, self.admit = self.admit, orders.admit
        for number in orders.pause:
            self.out.pauses += not self.bodies[number].paused
            self.bodies[number].paused = True
        for number in orders.resume:
            self.bodies[number].paused = False
        for number in orders.kill:
            self.out.kills += 1
            self._last_kill = self.now
            self._end(self.bodies[number], "governor", GONE)
        if orders.drop_idle:
            free = [worker for worker in self.crew if worker.free]
            keep = 0 if any(worker.busy for worker in self.crew) else 1
            self.crew.dismiss(free[keep:], "evicted")
        return self.admit and not before

    def _kernel_acts(self) -> bool:
        living = [body for body in self.bodies.values() if body.busy and not body.by_kernel]
        if not living:
            return False
        victim = max(living, key=self.held_by)
        self.out.kernel_kills += 1
        self._kernel_count += 1
        self._end(victim, "", KERNEL_GONE)
        victim.by_kernel = True
        return True

    def _enforce(self) -> None:
        """What holds more than it was granted is ended, where the rule is like that."""
        busy = [body for body in self.bodies.values() if body.busy]
        if not getattr(self.admission, "enforces", False) or len(busy) < 2:
            return
        for body in busy:
            if body.lives and self.held_by(body) > body.reserved:
                self.out.kills += 1
                self._end(body, "governor", GONE)


def best_fixed(trace: Trace, fixed: Callable[[int], type[Admission]]) -> float:
    """Seconds with the best fixed number of workers with which the budget is never crossed.

    Chosen afterwards, and without the items that never fit.
    """
    items: list[Item] = [item for k, item in enumerate(trace.items) if k not in trace.never]
    plain = Trace(trace.name, tuple(items), trace.budget, trace.workers, trace.hinted)
    best = math.inf
    for count in range(1, trace.workers + 1):
        out = World(plain, fixed(count), governs=False, crosses=count == 1).run()
        if out.crossings and count > 1:
            break
        best = min(best, out.seconds)
    return best
