"""Runs one stage: admits batches, hears of receipts and deaths, keeps the journal.

The only place that knows the schedule, the estimate, the backend, the governor's thread and the
journal at once. It decides nothing itself that these could decide purely. One thread; every wait
ends with a message, a death, a notice of the governor, or after a tenth of a second.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import events as ev
from penstock.abc import Backend, Carried, Death, Event, Message, Receipt, Sequential, SetAside
from penstock.budget import Budget, MiB, format_size
from penstock.engine import discover, journal
from penstock.engine import messages as m
from penstock.engine import plan as planning
from penstock.engine.estimate import Estimate, Wishes
from penstock.engine.governor import headroom
from penstock.engine.plan import Plan, Reserved
from penstock.engine.schedule import Failure, Schedule, Task, Verdict
from penstock.engine.watch import Watch
from penstock.engine.worker import Setup, item_name
from penstock.errors import (
    CannotKeep,
    DiskFull,
    FunctionRaised,
    NoBudget,
    PenstockError,
    RunFailed,
    WorkerDied,
)

_TURN = 0.1
_SAMPLE_EVERY = 0.25
_EXPLORE_EVERY = 0.05
"""Seconds between admissions while nothing is known of the footprint."""
_CARGO = 1 * MiB
_FENCE = 1024 * MiB
"""A fence tighter than this hangs numba and fails Parquet's threads."""
_STILLBORN = 5
_ALL_RAISE = 20
_ALL_TOO_LARGE = 5
_GRACE = 3.0
"""Seconds that running batches get to end at a good place after an interrupt."""
_CHORES = 3
_TRIALS = 24
_TRIAL_SECONDS = 15.0


@dataclass(frozen=True)
class Options:
    """How a stage is to be run."""

    budget: Budget
    requested: str | int = "auto"
    wishes: Wishes = field(default_factory=Wishes)
    set_aside: bool | int = False
    """How many items may be set aside without failing the run."""
    stall: float = 600.0
    timeout: float | None = None
    governs: bool = True
    cores: int = 1
    carried_results: bool = False
    """Results of a temporary run travel to this process and are handed to ``collect``."""


@dataclass
class _Worker:
    number: int
    ready: bool = False
    idle_own: int = 0
    warm: bool = False
    batch: int = 0
    task: Task | None = None
    reserved: int = 0
    call: int = 1
    began: float = 0.0
    kills_before: int = 0
    leaving: str = ""
    """Why it was told to end."""
    chore: m.Chore | None = None
    trial: tuple[int, int] | None = None


class Interrupt(Exception):
    """Ctrl-C or SIGTERM: the run was left resumable."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Loop:
    """One stage.

    Args:
        setup: the job, as workers get it.
        options: how to run it.
        backend: opened with the job.
        gauge: the ceilings.
        book: the journal to write to.
        past: what it said before.
        stage: the stage's name.
        emit: takes every event.
        collect: takes (start, list) of a temporary run's results.
        interrupts: signals that ask to stop.
        beat: called every few seconds (the run lock's heartbeat).
    """

    def __init__(
        self,
        setup: Setup,
        options: Options,
        backend: Backend,
        gauge: discover.Gauge,
        book: journal.Journal,
        past: journal.Past,
        *,
        stage: str,
        emit: Callable[[Event], None],
        collect: Callable[[int, list[Any]], None] | None = None,
        interrupts: Any = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._setup = setup
        self._options = options
        self._backend = backend
        self._gauge = gauge
        self._journal = book
        self._past = past
        self._stage = stage
        self._emit = emit
        self._collect = collect
        self._interrupts = interrupts
        self._beat = beat
        self.budget = options.budget
        self.estimate = Estimate(
            setup.source, batched=setup.batched, wishes=options.wishes, cores=options.cores, stage=stage
        )
        grains = [room.grain for room in setup.rooms.values() if room.grain]
        self.schedule = Schedule(
            setup.items,
            math.lcm(*grains) if grains else None,
            done=past.done,
            set_aside=past.aside,
            starts=setup.source.starts() if isinstance(setup.source, Sequential) else None,
            first=self.estimate.probes() if setup.items > 8 else (),
            fixed_call=setup.fixed_call is not None,
        )
        self.aside: dict[int, SetAside] = dict(past.aside)
        self.watch = Watch(
            backend,
            gauge,
            self.budget.bytes,
            stall=options.stall,
            timeout=options.timeout,
            governs=options.governs,
        )
        self._workers: dict[int, _Worker] = {}
        self._batches = 0
        self._began = time.monotonic()
        self._admitted = -math.inf
        self._sampled = self._beaten = self._gauged = self._began
        self._stillborn = 0
        self._kept_items = 0
        self._raised_items = 0
        self._too_large = 0
        self._largest_need = 0
        self._results = 0
        self._plan: Plan | None = None
        self._announced: tuple[int, int, int] = (0, 0, 0)
        self._lines: list[dict[str, Any]] = []
        self._pending_events: list[Event] = []
        self._chore_failed: dict[str, int] = {}
        self._chore_done: Any = None
        self._restless = 1.0

    # ------------------------------------------------------------------ the whole

    def run(self, *, opened: bool) -> Any:
        """Do what is not done; what the reducers made, in a temporary run.

        Raises:
            Interrupt: a signal asked to stop; the running batches were finished or dropped.
            PenstockError: the run cannot go on.
        """
        if self._options.governs:
            self.watch.start()
        try:
            self._first_worker()
            if not opened:
                self._do(m.Chore("open"))
                self._journal.write({"opened": True})
            while not self.schedule.finished:
                self._turn()
            self._commit()
            self._judge()
            made = self._do(m.Chore("close", self._setup.machinery / "journal"))
            self._journal.write({"closed": True})
            return made
        except BaseException:
            self._drop_running()
            raise
        finally:
            self._dismiss_all()
            self.watch.stop()
            self._take_sample(force=True)

    def try_out(self) -> Plan:
        """Have a worker do a few calls, dropping their results, and tell the plan."""
        if self._options.governs:
            self.watch.start()
        try:
            self._first_worker()
            self._trials()
            return self.plan()
        finally:
            self._dismiss_all()
            self.watch.stop()

    def _trials(self) -> None:
        items = self._setup.items
        began = time.monotonic()
        probes = self.estimate.probes(_TRIALS - 2)
        call = self._setup.fixed_call or 1
        while probes and items > 1 and time.monotonic() - began < _TRIAL_SECONDS:
            start = min(probes.pop(0), max(items - call, 0))
            self._try(start, min(start + call, items))
            if not probes and self._setup.batched and not self._setup.fixed_call:
                larger = min(self.plan().call, items // 2)
                if larger > call:
                    call, probes = larger, self.estimate.probes(2)

    def _try(self, start: int, stop: int) -> None:
        """One trial; a worker that dies over it has taught us a lower bound."""
        worker = next((w for w in self._workers.values() if w.ready and not w.leaving), None)
        while worker is None:
            if not self._workers:
                self._start_worker()
            self._hear(self._backend.wait(_TURN))
            worker = next((w for w in self._workers.values() if w.ready), None)
        worker.trial = (start, stop)
        self.watch.began(worker.number, 0)
        source = self._setup.source
        cargo = source.carry(start, stop) if isinstance(source, Carried) else None
        self._backend.send(
            worker.number,
            m.Work(
                start, stop, (), call=stop - start, seconds=math.inf, memory=self.budget.bytes, fence=0,
                threads=self._options.cores, attempt=0, keep=False, cargo=cargo,
            ),
        )  # fmt: skip
        while worker.trial is not None and worker.number in self._workers:
            if number := self._asked_to_stop():
                raise Interrupt(number)
            self._hear(self._backend.wait(_TURN))
            self._heed()

    def plan(self) -> Plan:
        """The plan as of now."""
        self._plan = self.estimate.plan(self.budget, self._reserved())
        return self._plan

    def _reserved(self) -> Reserved:
        own = max((worker.idle_own for worker in self._workers.values()), default=0)
        return Reserved(
            parent=self.watch.parent,
            backend=self.watch.backend_held,
            worker=own,
            results=max(self._projected_results() - self._results, 0),
            others=self.watch.shared,
        )

    def _projected_results(self) -> int:
        """Bytes that collected results will take in this process, as they are going."""
        if not self._results or not self._kept_items:
            return 0
        return int(self._results / self._kept_items * self._setup.items)

    def _turn(self) -> None:
        now = time.monotonic()
        if number := self._asked_to_stop():
            self._wind_down()
            raise Interrupt(number)
        self._admit(now)
        self._hear(self._backend.wait(self._patience(now)))
        self._heed()
        self._commit()
        now = time.monotonic()
        if now - self._sampled >= _SAMPLE_EVERY * self._restless:
            self._sampled = now
            self._take_sample()
            self._restless = min(self._restless * 1.01, 8.0)  # a long run needs no fine picture
        if now - self._beaten >= 5.0:
            self._beaten = now
            self._beat()
            self._reread_budget()

    def _patience(self, now: float) -> float:
        exploring = not self.estimate.footprint.known and any(w.task for w in self._workers.values())
        return _EXPLORE_EVERY if exploring else _TURN

    # ------------------------------------------------------------------ admission

    def _admit(self, now: float) -> None:
        if not self.watch.admit:
            return
        plan = self.plan()
        self._announce(plan)
        idle = [w for w in self._workers.values() if w.ready and not w.task and not w.leaving]
        for worker in idle:
            if not self._give_next(worker, plan, now):
                break
        else:
            self._more_workers(plan, now)

    def _give_next(self, worker: _Worker, plan: Plan, now: float) -> bool:
        """Give the worker its next batch; False when there is no room, so nobody else need be asked."""
        running = [w for w in self._workers.values() if w.task is not None]
        if len(running) >= plan.workers:
            return False
        lone_first = self.schedule.lone >= 3 and self._kept_items == 0
        task = self.schedule.propose(worker.number, self._size(plan, now), alone_first=lone_first)
        if task is None:
            return True
        if task.alone and running:
            return False
        if task.alone and len(self._workers) > 1:
            self._dismiss([w for w in self._workers.values() if w is not worker], "room")
            return False
        task = self._with_light_cargo(task)
        call = self._call(task, plan)
        reserve = self._reserve(task, call, worker, running, now)
        if reserve is None:
            return False
        self._give(worker, task, call, reserve, now, known=self.estimate.footprint.known)
        return True

    def _size(self, plan: Plan, now: float) -> int:
        seconds = planning.batch_seconds(now - self._began)
        return self.estimate.batch(plan.call, self.schedule.left, plan.workers, seconds=seconds)

    def _call(self, task: Task, plan: Plan) -> int:
        call = self._setup.fixed_call or plan.call
        if not task.fresh and task.alone and not self._setup.fixed_call:
            call = 1
        return min(call, task.call) if task.call is not None else call

    def _with_light_cargo(self, task: Task) -> Task:
        """Shorten a batch whose items would be heavy to carry."""
        weigh = getattr(self._setup.source, "weigh", None)
        if weigh is None or not isinstance(self._setup.source, Carried) or not task.fresh:
            return task
        weight = weigh(task.start, task.stop)
        if weight <= _CARGO:
            return task
        grain = self.schedule.grain or 1
        items = max(int((task.stop - task.start) * _CARGO / weight) // grain, 1) * grain
        return Task(task.start, min(task.start + items, task.stop))

    def _reserve(
        self, task: Task, call: int, worker: _Worker, running: list[_Worker], now: float
    ) -> int | None:
        """Bytes to admit the batch with, or None when it must wait."""
        room = self._room()
        taken = sum(self._committed(w) for w in self._workers.values() if w is not worker)
        bound = self.estimate.bound(task.start, task.stop, call, first=not worker.warm)
        if not running:  # somebody always runs; what it needs beyond the room, the governor sees
            need = max(bound or 0, task.floor)
            return min(need, room) if need else room
        if bound is None:
            # Nothing is known yet: one more now and then, while what is seen leaves plenty of room.
            seen = max(self.watch.held(w.number) for w in running)
            need = max(2 * seen, 16 * MiB)
            if now - self._admitted < _EXPLORE_EVERY or seen == 0:
                return None
            taken = sum(max(self.watch.held(w.number), need) for w in running)
            return need if taken + need <= room else None
        need = max(bound, task.floor)
        return need if taken + need <= room else None

    def _room(self) -> int:
        reserved = self._reserved()
        room = planning.room(
            self.budget.bytes, reserved, len(self._workers), kills_group=self.budget.kills_group
        )
        # What others took under a ceiling meanwhile is not ours to plan with.
        held = sum(self.watch.held(worker) for worker in self._workers)
        return min(room, self.watch.free - headroom(self.budget.bytes) + held)

    def _committed(self, worker: _Worker) -> int:
        held = self.watch.held(worker.number)
        return max(worker.reserved, held) if worker.task is not None else held

    def _give(self, worker: _Worker, task: Task, call: int, reserve: int, now: float, *, known: bool) -> None:
        given = self.schedule.give(worker.number, task)
        self._batches += 1
        self._admitted = now
        worker.task, worker.batch, worker.reserved, worker.began = task, self._batches, reserve, now
        worker.call = call
        worker.kills_before = discover.kernel_kills(self.watch.ceilings)
        self.watch.began(worker.number, reserve)
        carried = isinstance(self._setup.source, Carried)
        plan = self._plan
        threads = max(self._options.cores // max(plan.workers if plan else 1, 1), 1)
        self._backend.send(
            worker.number,
            m.Work(
                start=task.start,
                stop=task.stop,
                without=tuple(self.aside[item] for item in given.without),
                call=call,
                seconds=2 * planning.batch_seconds(now - self._began),
                memory=self._retainable(),
                fence=0 if task.alone else max(self.budget.bytes, _FENCE),
                threads=self._options.cores if task.alone else threads,
                attempt=task.attempt,
                cargo=self._setup.source.carry(task.start, task.stop) if carried else None,
            ),
        )
        self._say(
            ev.BatchStarted,
            batch=worker.batch, worker=worker.number, start=task.start, stop=task.stop, call=call,
            projected=reserve if known else 0, alone=task.alone,
        )  # fmt: skip

    def _retainable(self) -> int:
        """Bytes that a worker may keep from batch to batch before it is replaced."""
        workers = self._plan.workers if self._plan else 1
        return max(32 * MiB, self.budget.bytes // (2 * workers + 2))

    def _announce(self, plan: Plan) -> None:
        """Say the plan when it is first known and when it has changed much."""
        if not plan.tried and not plan.declared:
            return
        old = self._announced
        new = (plan.workers, plan.call, plan.footprint)
        if new[0] == old[0] and old[1] and 0.5 < new[1] / old[1] < 2 and 0.67 < new[2] / max(old[2], 1) < 1.5:
            return
        self._announced = new
        self._say(
            ev.Planned,
            workers=plan.workers, call=plan.call, batch=plan.batch, reserved=plan.reserved.total(plan.workers),
            footprint=plan.footprint, projected=plan.projected,
        )  # fmt: skip

    # ------------------------------------------------------------------ workers

    def _first_worker(self) -> None:
        """Start one worker and learn what an idle one takes."""
        self._start_worker()
        while not any(worker.ready for worker in self._workers.values()):
            if number := self._asked_to_stop():
                raise Interrupt(number)
            self._hear(self._backend.wait(_TURN))
            if not self._workers:
                self._start_worker()
        if not self._options.governs:
            return
        self.watch.tick()
        reserved = self._reserved()
        if planning.room(self.budget.bytes, reserved, 1) <= 0:
            needed = int((reserved.total(1) + 16 * MiB) / 0.875)
            raise NoBudget(
                f"a budget of {format_size(self.budget.bytes)} ({self.budget.origin}) is too small: before any "
                f"item, {format_size(reserved.total(1))} are taken (this process {format_size(reserved.parent)}, "
                f"fork server {format_size(reserved.backend)}, one idle worker {format_size(reserved.worker)}) and "
                f"{format_size(headroom(self.budget.bytes))} are kept free. The smallest budget that would do is "
                f"{format_size(needed)}.",
                needed=needed,
            )

    def _start_worker(self) -> None:
        number = self._backend.start()
        self._workers[number] = _Worker(number)

    def _more_workers(self, plan: Plan, now: float) -> None:
        """Start another worker where there is work for it that is worth its start."""
        alive = [w for w in self._workers.values() if not w.leaving]
        if len(alive) >= plan.workers or any(not w.ready for w in alive) or not self.schedule.left:
            return
        if self.schedule.only_alone and alive:
            return
        each = self.estimate.seconds_per_item
        if each and self.schedule.left * each < 0.06 * (len(alive) + 1):
            return
        if not each and alive and now - self._admitted < _EXPLORE_EVERY:
            return
        bound = self.estimate.footprint.bound(1.0, 1.0)
        taken = sum(self._committed(w) for w in self._workers.values())
        if not alive or (bound or 0) + taken <= self._room():
            self._start_worker()

    def _dismiss(self, workers: Iterable[_Worker], why: str) -> None:
        for worker in workers:
            if not worker.leaving:
                worker.leaving = why
                if worker.ready:
                    self._backend.send(worker.number, m.Leave())
                else:
                    self._backend.kill(worker.number)

    def _dismiss_all(self) -> None:
        self._dismiss(self._workers.values(), "done")
        deadline = time.monotonic() + 1.0
        while self._workers and time.monotonic() < deadline:
            self._hear(self._backend.wait(0.05))
        for worker in list(self._workers):
            self._backend.kill(worker)
        deadline = time.monotonic() + 5.0
        while self._workers and time.monotonic() < deadline:
            self._hear(self._backend.wait(0.05))

    def _drop_running(self) -> None:
        for worker in self._workers.values():
            if worker.task is not None or worker.chore is not None:
                worker.leaving = worker.leaving or "interrupted"
                self._backend.kill(worker.number)

    # ------------------------------------------------------------------ hearing

    def _hear(self, happened: list[Message | Death]) -> None:
        for each in happened:
            worker = self._workers.get(each.worker)
            if worker is None:
                continue
            if isinstance(each, Death):
                self._died(worker, each)
            elif isinstance(each.content, m.Ready):
                worker.ready, worker.idle_own = True, each.content.own
                self._stillborn = 0
                self.watch.ready(worker.number, each.content.memory, each.content.own)
                self._say(ev.WorkerStarted, worker=worker.number)
            elif isinstance(each.content, m.Done):
                self._done(worker, each.content)
            elif isinstance(each.content, m.ChoreDone):
                worker.chore = None
                self._chore_done = each.content
            elif isinstance(each.content, m.Failed):
                self._failed(worker, each.content)

    def _done(self, worker: _Worker, done: m.Done) -> None:
        seen = self.watch.ended(worker.number)
        if worker.trial is not None:
            self.estimate.learn(
                done.calls, done.stop - worker.trial[0], done.seconds, first=done.first, seen=seen
            )
            worker.trial, worker.warm = None, True
            return
        kept = self.schedule.finish(worker.number, done.stop, (each.item for each in done.set_aside))
        items = done.stop - kept.start
        known = bool(worker.reserved) and self.estimate.footprint.known
        self.estimate.learn(done.calls, items, done.seconds, first=done.first, seen=seen)
        without = (
            [self.aside[item] for item in self.aside if kept.start <= item < done.stop] if self.aside else []
        )
        for each in done.set_aside:
            self._put_aside(each)
        self._keep(kept.start, done.stop, done.receipts, [*without, *done.set_aside])
        peak = max(seen, *(call.peak for call in done.calls)) if done.calls else seen
        self._kept_items += items - len(done.set_aside)
        self._pending_events.append(
            ev.BatchDone(
                at=time.time(), stage=self._stage, batch=worker.batch, worker=worker.number, start=kept.start,
                stop=done.stop, seconds=done.seconds, peak=peak, projected=worker.reserved if known else 0,
                retained=done.retained,
            )
        )  # fmt: skip
        worker.task, worker.warm = None, True
        if done.imported:
            preload = getattr(self._backend, "preload", None)
            if callable(preload):
                preload(done.imported)
        if done.grown > self._retainable() and not self.schedule.holds_cursor(worker.number):
            self._dismiss([worker], "recycled")

    def _keep(
        self,
        start: int,
        stop: int,
        receipts: Mapping[str, Iterable[tuple[int, int, Receipt]]],
        aside: list[SetAside],
    ) -> None:
        if self._collect is not None and self._options.carried_results:
            for a, _, receipt in receipts.get("", ()):
                self._results += _weight(receipt.value)
                self._collect(a, receipt.value)
            receipts = {}
        self._lines.append(journal.kept(start, stop, receipts, aside))

    def _commit(self) -> None:
        """Write what was heard in this turn; only then is it told."""
        if self._lines:
            try:
                self._journal.write(*self._lines)
            except OSError as error:
                raise self._no_room(str(error.filename or self._setup.machinery), error) from error
            self._lines.clear()
        for event in self._pending_events:
            self._emit(event)
        self._pending_events.clear()

    def _failed(self, worker: _Worker, failed: m.Failed) -> None:
        seen = self.watch.ended(worker.number)
        if failed.cause == "disk":
            raise self._no_room(failed.file, None)
        if failed.cause == "prepare":
            raise _with_cause(
                FunctionRaised(f"prepare() or an input failed in a worker: {failed.error}: {failed.message}"),
                failed,
            )
        if worker.chore is not None:
            self._chore_trouble(worker, failed)
            return
        if worker.trial is not None:
            if failed.cause == "memory":
                self.estimate.at_least(*worker.trial, max(failed.held, seen))
            worker.trial = None
            return
        if worker.task is None:
            return
        if failed.cause == "kept":
            self._refused(failed)
        cause: Any = "memory" if failed.cause == "memory" else "kept"
        self._fell(
            worker, Failure(cause, failed.item, failed.call, max(failed.held, seen), worker.reserved), failed
        )

    def _refused(self, failed: m.Failed) -> None:
        """A result that cannot be kept: of a type that is wrong for every item, unless told to go on."""
        if self._options.set_aside is False or failed.item < 0:
            name = item_name(self._setup.source, failed.item) if failed.item >= 0 else "?"
            raise _with_cause(
                CannotKeep(f"the result of item {name} cannot be kept: {failed.message}"), failed
            )

    def _died(self, worker: _Worker, death: Death) -> None:
        del self._workers[worker.number]
        self.schedule.forget_worker(worker.number)
        why, held = self.watch.gone(worker.number)
        failure = self._diagnose(worker, death, why, held)
        self._say(
            ev.WorkerEnded, worker=worker.number, why=worker.leaving or why or failure.detail or failure.cause
        )
        if not worker.ready and not worker.leaving:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                raise WorkerDied(
                    f"{_STILLBORN} workers in a row died before they began ({failure.detail or failure.cause}): the "
                    "function's prepare() or its inputs take too much, or crash. See workers.log in the run folder."
                )
        if worker.trial is not None and failure.cause in ("governor", "kernel"):
            self.estimate.at_least(*worker.trial, held)
        if worker.task is not None:
            self._fell(worker, failure, None)
        elif worker.chore is not None:
            self._chore_trouble(worker, None)

    def _diagnose(self, worker: _Worker, death: Death, why: str, held: int) -> Failure:
        """Every way a worker can die, as one cause."""
        item, a, b = death.noted
        rest = {"item": item, "call": (a, b), "held": held, "reserved": worker.reserved}
        if worker.leaving:
            return Failure("dropped", detail=worker.leaving, **rest)  # type: ignore[arg-type]
        if why == "lock":
            return Failure("dropped", detail="paused while the others waited", **rest)  # type: ignore[arg-type]
        if why:
            return Failure(why, **rest)  # type: ignore[arg-type]
        if death.signal in (signal.SIGKILL, signal.SIGTERM):
            kernel = discover.kernel_kills(self._gauge.read()) > worker.kills_before
            if kernel and death.signal == signal.SIGKILL:
                return Failure("kernel", detail="signal 9, out-of-memory kill", **rest)  # type: ignore[arg-type]
            return Failure("killed", detail=f"signal {death.signal}", **rest)  # type: ignore[arg-type]
        if death.signal is not None:
            name = signal.Signals(death.signal).name
            return Failure("crashed", detail=f"signal {death.signal} ({name})", **rest)  # type: ignore[arg-type]
        return Failure("crashed", detail=f"exit code {death.code}", **rest)  # type: ignore[arg-type]

    def _fell(self, worker: _Worker, failure: Failure, failed: m.Failed | None) -> None:
        """A batch did not end: learn from it, requeue it, or set its culprit aside."""
        task = worker.task
        assert task is not None
        worker.task = None
        a, b = failure.call
        if failure.cause in ("memory", "governor", "kernel") and task.start <= a < b <= task.stop:
            self.estimate.at_least(a, b, failure.held)
        verdict = self.schedule.fail(worker.number, failure)
        self._say(
            ev.BatchFailed,
            batch=worker.batch, worker=worker.number, start=task.start, stop=task.stop, cause=_told(failure.cause),
            item=failure.item, held=failure.held, message=failed.message if failed else failure.detail,
        )  # fmt: skip
        if verdict is not None:
            self._set_aside(verdict, failure, failed)

    def _set_aside(self, verdict: Verdict, failure: Failure, failed: m.Failed | None) -> None:
        for item in verdict.items:
            each = SetAside(
                item, item_name(self._setup.source, item), verdict.reason,
                self._sentence(verdict, failure, failed), failed.error if failed else "",
                failed.traceback if failed else "", failure.held if verdict.reason == "memory" else 0,
            )  # fmt: skip
            self._put_aside(each)
            self._lines.append({"aside": [journal.plain(each)]})

    def _sentence(self, verdict: Verdict, failure: Failure, failed: m.Failed | None) -> str:
        if verdict.reason == "memory":
            room = planning.room(self.budget.bytes, self._reserved(), 1)
            self._largest_need = max(self._largest_need, failure.held)
            return (
                f"needs more than {format_size(failure.held)}; one worker alone may use {format_size(room)} "
                f"(budget {format_size(self.budget.bytes)}, {self.budget.origin})"
            )
        if verdict.reason == "kept":
            return f"its result cannot be kept: {failed.message if failed else ''}"
        times = f"{verdict.times} time{'' if verdict.times == 1 else 's'}"
        if failure.cause == "timeout":
            return f"took longer than the timeout of {self._options.timeout:g} s, {times}"
        if failure.cause == "stalled":
            return f"used no CPU and did no I/O for {self._options.stall:g} s, {times}"
        return f"its worker died, {times}: {failure.detail}"

    def _put_aside(self, each: SetAside) -> None:
        self.aside[each.item] = each
        self.schedule.aside.add(each.item)
        self._pending_events.append(
            ev.ItemSetAside(
                at=time.time(), stage=self._stage, item=each.item, name=each.name, reason=each.reason,
                message=each.message.split("\n", 1)[0],
            )
        )  # fmt: skip
        self._raised_items += each.reason != "memory"
        self._too_large += each.reason == "memory"
        allowed = self._options.set_aside
        hopeless = self._kept_items == 0 and (
            self._raised_items >= _ALL_RAISE or self._too_large >= _ALL_TOO_LARGE
        )
        if hopeless or (not isinstance(allowed, bool) and len(self.aside) > allowed):
            self._commit_quietly()
            raise self.failure(hopeless=hopeless)

    def _commit_quietly(self) -> None:
        self._commit()

    # ------------------------------------------------------------------ chores

    def _do(self, chore: m.Chore) -> Any:
        """Have a worker do something that is no batch, governed like the rest."""
        self._chore_done = None
        while self._chore_done is None:
            if number := self._asked_to_stop():
                raise Interrupt(number)
            doing = any(worker.chore is not None for worker in self._workers.values())
            idle = [w for w in self._workers.values() if w.ready and not w.leaving and w.task is None]
            if not doing and idle and self.watch.admit:
                worker = idle[0]
                self._dismiss(idle[1:], "room")
                worker.chore, worker.began = chore, time.monotonic()
                self.watch.began(worker.number, 0)
                self._backend.send(worker.number, chore)
            elif not doing and not any(not w.leaving for w in self._workers.values()):
                self._start_worker()
            self._hear(self._backend.wait(_TURN))
            self._heed()
            if time.monotonic() - self._beaten >= 5.0:
                self._beaten = time.monotonic()
                self._beat()
        for worker in self._workers.values():
            self.watch.ended(worker.number)
        return self._chore_done.value

    def _chore_trouble(self, worker: _Worker, failed: m.Failed | None) -> None:
        chore, worker.chore = worker.chore, None
        assert chore is not None
        times = self._chore_failed[chore.what] = self._chore_failed.get(chore.what, 0) + 1
        if failed is not None and failed.cause != "memory":
            kind = failed.error.rsplit(".", 1)[-1]
            error = CannotKeep if kind == "CannotKeep" else FunctionRaised
            what = "finishing the results" if chore.what == "close" else "preparing the result folder"
            raise _with_cause(error(f"{what} failed: {failed.error}: {failed.message}"), failed)
        if times >= _CHORES:
            raise RunFailed(
                f"the worker that should {chore.what} the results died {times} times for want of memory or "
                "otherwise; see workers.log in the run folder. Everything done is kept: raise the budget and "
                "run the same command again."
            )

    # ------------------------------------------------------------------ heeding

    def _heed(self) -> None:
        """Act on what the governor did."""
        for notice in self.watch.notices():
            if notice.what == "paused":
                self._say(ev.WorkerPaused, worker=notice.worker, free=notice.free)
            elif notice.what == "resumed":
                self._say(ev.WorkerResumed, worker=notice.worker)
            elif notice.what == "drop_idle":
                keep = 0 if any(w.task or w.chore for w in self._workers.values()) else 1
                idle = [w for w in self._workers.values() if w.ready and not w.task and not w.chore]
                self._dismiss(idle[keep:], "room")

    def _reread_budget(self) -> None:
        """Follow a ceiling that moved during the run, where it moved much."""
        try:
            ours = self.watch.used
            found = discover.choose(self.watch.ceilings, self._options.requested, ours)
        except PenstockError:
            return  # others took everything: the governor sees that in what is free
        if (
            abs(found.bytes - self.budget.bytes) > 0.1 * self.budget.bytes
            and self._options.requested == "auto"
        ):
            self.budget = found
            self.watch.budget = found.bytes
            self._say(ev.BudgetChanged, budget=found.bytes, origin=found.origin)

    def _take_sample(self, *, force: bool = False) -> None:
        sample = self.watch.sample()
        if sample is not None:
            workers = {str(worker): held for worker, held in sample.workers.items()}
            self._say(ev.MemoryRead, used=sample.used, workers=workers, free=sample.free)

    # ------------------------------------------------------------------ ending

    def _asked_to_stop(self) -> int:
        return self._interrupts.number if self._interrupts is not None else 0

    def _wind_down(self) -> None:
        """Let the running batches end at the next possible place; drop those that do not."""
        for worker in self._workers.values():
            if worker.task is not None:
                self._backend.cut(worker.number)
        deadline = time.monotonic() + _GRACE
        while any(w.task for w in self._workers.values()) and time.monotonic() < deadline:
            self._hear(self._backend.wait(0.05))
        self._commit()

    def _judge(self) -> None:
        """Every item is done or set aside: is that a success?"""
        allowed = self._options.set_aside
        if self.aside and (allowed is False or (not isinstance(allowed, bool) and len(self.aside) > allowed)):
            raise self.failure()

    def failure(self, *, hopeless: bool = False) -> PenstockError:
        """The error for the items that were set aside, the first of them as its cause."""
        from penstock.engine.verdicts import failure_of

        return failure_of(
            list(self.aside.values()), self._setup.items, self.budget, self._reserved(), hopeless=hopeless
        )

    def _no_room(self, file: str, error: OSError | None) -> DiskFull:
        folder = Path(file) if file else self._setup.folder
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
        return DiskFull(
            f"the disk of {folder} is full ({format_size(free)} left). Everything journaled is kept: make room, "
            "then run the same command again."
        )

    def _say(self, kind: type[Event], **values: Any) -> None:
        self._emit(kind(at=time.time(), stage=self._stage, **values))


def _told(cause: str) -> str:
    return "interrupted" if cause == "dropped" else cause


def _weight(results: Any) -> int:
    """Bytes that a list of results takes here, from a sample of it."""
    import sys

    if not results:
        return 0
    some = results[:: max(len(results) // 16, 1)]
    each = sum(getattr(result, "nbytes", 0) + sys.getsizeof(result) for result in some) / len(some)
    return int(each * len(results)) + 8 * len(results)


def _with_cause(error: RunFailed, failed: m.Failed) -> RunFailed:
    from penstock.engine.verdicts import stand_in

    error.__cause__ = stand_in(failed.error, failed.message, failed.traceback)
    return error
