"""Runs one stage: admits batches, hears of receipts and deaths, keeps the journal.

The only place that knows the schedule, the admission, the backend, the governor's thread and the
journal at once. It decides nothing itself that these could decide purely. One thread; every wait
ends with a message, a death, a notice of the governor, or after a tenth of a second.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from penstock import events as ev
from penstock.abc import Backend, Carried, Death, Event, Message, Receipt, Reducer, Sequential, SetAside
from penstock.budget import Budget
from penstock.engine import discover, journal, verdicts
from penstock.engine import messages as m
from penstock.engine.admission import EXPLORE_SECONDS, Admission, Offer
from penstock.engine.aside import Aside
from penstock.engine.chores import Chores
from penstock.engine.crew import Crew, Worker
from penstock.engine.estimate import Estimate, Wishes
from penstock.engine.faults import item_name
from penstock.engine.interrupts import Interrupt
from penstock.engine.plan import Plan
from penstock.engine.schedule import Failure, Schedule, Verdict
from penstock.engine.watch import Watch
from penstock.engine.worker import Setup
from penstock.errors import PenstockError

_TURN = 0.1
"""Seconds after which the loop looks up though nothing happened."""
_IDLE_TURN = 5.0
"""The same while there is nothing to do."""
_SAMPLE_EVERY = 0.25
_SAMPLE_AT_LEAST = 0.9
"""With a turn of the loop, a reading at least every second."""
_BEAT_EVERY = 5.0
_GRACE = 3.0
"""Seconds that running batches get to end at a good place after an interrupt."""
_CROWDED = 5.0
"""Seconds that this process may hold so much that nothing can run."""


@dataclass(frozen=True)
class Options:
    """How a stage is to be run."""

    budget: Budget
    requested: str | int = "auto"
    """What the user asked for as budget."""
    wishes: Wishes = field(default_factory=Wishes)
    set_aside: bool | int = False
    """How many items may be set aside without failing the run."""
    stall: float = 600.0
    timeout: float | None = None
    governs: bool = True
    """Whether there are workers to pause and kill."""
    cores: int = 1
    endless: bool = False
    """Whether items keep coming: nothing that befalls some of them ends it."""
    most_batch_seconds: float = math.inf
    """A batch should not take longer than this."""


class Book(Protocol):
    """Where a loop writes what is kept: a journal, or nothing for what is not resumed."""

    def write(self, *entries: Mapping[str, Any]) -> None:
        """Append and commit."""
        ...


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
        collect: takes (first item, results) of a run whose results come to this process.
        interrupts: has ``number``, the signal that asks to stop, or 0.
        beat: called every few seconds (the run lock's heartbeat).
    """

    def __init__(
        self,
        setup: Setup,
        options: Options,
        backend: Backend,
        gauge: discover.Gauge,
        book: Book,
        past: journal.Past,
        *,
        stage: str,
        emit: Callable[[Event], None],
        collect: Callable[[int, list[Any]], None] | None,
        interrupts: Any,
        beat: Callable[[], None],
    ) -> None:
        self._setup = setup
        self._options = options
        self.backend = backend
        self._gauge = gauge
        self._journal = book
        self._stage = stage
        self._emit = emit
        self._collect = collect
        self._interrupts = interrupts
        self._beat = beat
        self._began = self._beaten = time.monotonic()
        self._sampled = -math.inf
        self.aside = Aside(past.aside, allowed=options.set_aside, endless=options.endless)
        self.estimate = Estimate(
            setup.source, batched=setup.batched, wishes=options.wishes, cores=options.cores, stage=stage
        )
        self.schedule = _schedule(setup, past, self.estimate)
        self.watch = Watch(
            backend,
            gauge,
            options.budget.bytes,
            stall=options.stall,
            timeout=options.timeout,
            governs=options.governs,
        )
        self.crew = Crew(backend, self.watch)
        self.chores = Chores(backend, self.crew, self.watch)
        self.admission = Admission(
            setup.source,
            self.schedule,
            self.estimate,
            self.watch,
            self.crew,
            budget=options.budget,
            fixed_call=setup.fixed_call,
            results=self._results_to_come,
            began=self._began,
            most_seconds=options.most_batch_seconds,
        )
        self._batches = 0
        self._results = 0
        self._announced = (0, 0, 0)
        self._lines: list[dict[str, Any]] = []
        self._kept_events: list[Event] = []
        self._sample_every = _SAMPLE_EVERY
        self._no_room_since = math.inf

    @property
    def done(self) -> int:
        """Items whose results are kept."""
        return len(self.schedule.done) - sum(each.item in self.schedule.done for each in self.aside)

    # ------------------------------------------------------------------ the whole

    def run(self, *, opened: bool) -> Any:
        """Do what is not done; what the reducers made, in a temporary run.

        Raises:
            Interrupt: a signal asked to stop; the running batches were finished or dropped.
            PenstockError: the run cannot go on.
        """
        with self:
            if not opened:
                self._do(m.Chore("open"))
                self._journal.write(
                    journal.opened(
                        name for name, room in self._setup.rooms.items() if isinstance(room, Reducer)
                    )
                )
            while not self.schedule.finished:
                self._turn()
            self._commit()
            if self.aside.too_many:
                raise self._failure()
            made, told = self._do(m.Chore("close", self._setup.machinery / "journal"))
            self._journal.write(journal.closed(told))
            return made

    def _do(self, chore: m.Chore) -> Any:
        return self.chores.do(
            chore, turn=self.turn_ears, no_room=lambda: self._wait_for_room(time.monotonic())
        )

    def serve(self, take_in: Callable[[], bool]) -> None:
        """Work items that keep coming.

        Args:
            take_in: calls :meth:`extend` for what has come; False when no more will.
        """
        with self:
            while True:
                more = take_in()
                if not self.schedule.finished:
                    self._turn()
                elif more:
                    self._commit()
                    self.turn_ears(_IDLE_TURN)
                else:
                    self._commit()
                    return

    def extend(self, items: int) -> None:
        """There are so many items now."""
        self.schedule.extend(items)
        self.estimate.items = items

    def __enter__(self) -> Loop:
        if self._options.governs:
            self.watch.start()
        try:
            self._first_worker()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.crew.drop("interrupted")
        self._end()

    def _end(self) -> None:
        """Leave no worker behind."""
        self.crew.dismiss(self.crew, "done")
        for seconds in (1.0, 5.0):
            deadline = time.monotonic() + seconds
            while len(self.crew) and time.monotonic() < deadline:
                for each in self.backend.wait(0.05):
                    worker = self.crew.get(each.worker)
                    if worker is not None and isinstance(each, Death):
                        self._bury(worker, each)
            self.crew.kill_all()
        self.watch.stop()
        self._take_sample()

    def _first_worker(self) -> None:
        """Start one worker, learn what an idle one takes, and refuse a budget that has no room for it."""
        while not any(worker.ready for worker in self.crew):
            if not len(self.crew):
                self.crew.start()
            self.turn_ears()
        if self._options.governs:
            self.watch.tick()
            verdicts.check_budget(self.admission.budget, self.admission.reserved())
            self._keep_time()

    def _turn(self) -> None:
        self._admit(time.monotonic())
        self.turn_ears(EXPLORE_SECONDS if not self.estimate.footprint.known else _TURN)
        self._commit()

    def _keep_time(self) -> None:
        """What is due from time to time: readings and signs of life, whatever is being done."""
        now = time.monotonic()
        if now - self._sampled >= self._sample_every and self._take_sample():
            self._sampled = now
            # A long run needs no fine picture, but should it die, the last reading must be young.
            self._sample_every = min(self._sample_every * 1.01, _SAMPLE_AT_LEAST)
        if now - self._beaten >= _BEAT_EVERY:
            self._beaten = now
            self._beat()
            self._reread_budget()

    def _crowded(self) -> bool:
        """Whether this process itself holds so much that no worker has room."""
        return self._options.governs and self.admission.spare() <= 0

    def _wait_for_room(self, now: float) -> None:
        """There is no room to start anything. Where nothing runs that could give some, not for ever.

        Nobody can pause or kill this process, nor others: what they hold may be freed, so it is
        waited for a while, and then the run ends before the kernel must end it.
        """
        if self.crew.running:
            self._no_room_since = math.inf
            return
        self._no_room_since = min(self._no_room_since, now)
        reserved, budget = self.admission.reserved(), self.admission.budget
        ours = reserved.parent > budget.bytes / 2
        if now - self._no_room_since > (_CROWDED if ours else self._options.stall):
            raise verdicts.crowded(reserved.parent if ours else 0, self.watch.free, budget)

    def turn_ears(self, patience: float = _TURN) -> None:
        """Hear what happened, waiting at most so long; heed the governor and the signals."""
        if self._interrupts.number:
            self._wind_down()
            raise Interrupt(self._interrupts.number)
        self._hear(self.backend.wait(patience))
        self._heed()
        self._keep_time()

    # ------------------------------------------------------------------ down: batches

    def _admit(self, now: float) -> None:
        if not self.watch.admit or self._crowded():
            self._wait_for_room(now)
            return
        self._no_room_since = math.inf
        plan = self.admission.make_plan()
        self._announce(plan)
        for worker in self.crew:
            if not worker.free:
                continue
            offer = self.admission.offer(worker, plan, now)
            if isinstance(offer, Offer):
                self._give(worker, offer, now)
            elif offer == "alone":
                self.crew.dismiss((other for other in self.crew if other is not worker), "room")
                return
            elif offer == "full":
                return
        if self.admission.another_worker(plan, now):
            self.crew.start()

    def _give(self, worker: Worker, offer: Offer, now: float) -> None:
        task, source = offer.task, self._setup.source
        given = self.schedule.give(worker.number, task)
        self._batches += 1
        worker.task, worker.batch = task, self._batches
        worker.reserved, worker.guessed = offer.reserve, not offer.known
        worker.kills_before = discover.kernel_kills(self.watch.ceilings)
        self.watch.began(worker.number, offer.reserve)
        # Told first: should everything be killed now, what the worker works on is known.
        self._say(
            ev.BatchStarted,
            batch=worker.batch,
            worker=worker.number,
            start=task.start,
            stop=task.stop,
            call=offer.call,
            projected=offer.reserve if offer.known else 0,
            alone=task.alone,
        )
        threads = self.admission.plan.threads if self.admission.plan else 1
        if task.alone:
            threads = min(self._options.cores, self._options.wishes.threads or self._options.cores)
        self.backend.send(
            worker.number,
            m.Work(
                start=task.start,
                stop=task.stop,
                without=tuple(self.aside.items[item] for item in given.without),
                call=offer.call,
                seconds=2 * self.admission.batch_seconds(now),
                memory=self.admission.retainable(),
                fence=self.admission.fence(task),
                threads=threads,
                attempt=task.attempt,
                cargo=source.carry(task.start, task.stop) if isinstance(source, Carried) else None,
            ),
        )

    def _announce(self, plan: Plan) -> None:
        """Say the plan when it is first known and when it has changed much."""
        if not plan.tried and not plan.declared:
            return
        old, new = self._announced, (plan.workers, plan.call, max(plan.footprint, 1))
        if old[0] == new[0] and 0.5 < new[1] / old[1] < 2 and 0.67 < new[2] / old[2] < 1.5:
            return
        self._announced = new
        self._say(
            ev.Planned,
            workers=plan.workers,
            call=plan.call,
            batch=plan.batch,
            reserved=plan.reserved.total(plan.workers),
            footprint=plan.footprint,
            projected=plan.projected,
        )

    # ------------------------------------------------------------------ up: receipts

    def _hear(self, happened: list[Message | Death]) -> None:
        for each in happened:
            worker = self.crew.get(each.worker)
            if worker is None:
                continue
            if isinstance(each, Death):
                self._died(worker, each)
            elif isinstance(each.content, m.Ready):
                self.crew.welcome(worker, each.content)
                self._say(ev.WorkerStarted, worker=worker.number)
            elif isinstance(each.content, m.Done):
                self._done(worker, each.content)
            elif isinstance(each.content, m.ChoreDone):
                self.chores.done(worker, each.content)
            elif isinstance(each.content, m.Failed):
                self._failed(worker, each.content)

    def _done(self, worker: Worker, done: m.Done) -> None:
        seen = self.watch.ended(worker.number)
        start = worker.trial[0] if worker.trial is not None else worker.task.start if worker.task else 0
        predicted = worker.reserved if self.estimate.footprint.known else 0
        self.estimate.learn(done.calls, done.stop - start, done.seconds, first=done.first, seen=seen)
        worker.warm = True
        if done.imported and callable(preload := getattr(self.backend, "preload", None)):
            preload(done.imported)
        if worker.trial is not None:
            worker.trial = None
            return
        self.schedule.finish(worker.number, done.stop, (each.item for each in done.set_aside))
        worker.task = None
        self.aside.count("raised", len(done.set_aside))
        for each in done.set_aside:
            self._put_aside(each)
        self._keep(start, done)
        self._kept_events.append(
            ev.BatchDone(
                at=time.time(),
                stage=self._stage,
                batch=worker.batch,
                worker=worker.number,
                start=start,
                stop=done.stop,
                seconds=done.seconds,
                peak=max(seen, *(call.peak for call in done.calls)) if done.calls else seen,
                projected=predicted,
                retained=done.retained,
            )
        )
        if done.grown > self.admission.retainable() and not self.schedule.holds_cursor(worker.number):
            self.crew.dismiss([worker], "recycled")
        self._stop_if_hopeless()

    def _keep(self, start: int, done: m.Done) -> None:
        aside = self.aside.among(start, done.stop)
        self.admission.kept += done.stop - start - len(aside)
        receipts: Mapping[str, Iterable[tuple[int, int, Receipt]]] = done.receipts
        if self._collect is not None:
            for first, _, receipt in done.receipts[""]:
                self._results += verdicts.weight(receipt.value)
                self._collect(first, receipt.value)
            receipts = {}
        self._lines.append(journal.kept(start, done.stop, receipts, aside))

    def _results_to_come(self) -> int:
        """Bytes that collected results will still take in this process, as it is going."""
        if not self.admission.kept or self._options.endless:
            return 0
        return int(self._results * (self._setup.items / self.admission.kept - 1))

    def _commit(self) -> None:
        """Write what was heard in this turn; only then is it told."""
        if self._lines:
            try:
                self._journal.write(*self._lines)
            except OSError as error:
                raise verdicts.disk_full(error.filename or self._setup.machinery) from error
            self._lines.clear()
        for event in self._kept_events:
            self._emit(event)
        self._kept_events.clear()

    # ------------------------------------------------------------------ up: failures

    def _failed(self, worker: Worker, failed: m.Failed) -> None:
        seen = self.watch.ended(worker.number)
        chore, worker.chore = worker.chore, None
        trial, worker.trial = worker.trial, None
        if failed.cause in ("disk", "prepare"):
            raise verdicts.of_worker(failed, self._setup.folder)
        if chore is not None:
            failure = Failure("memory", held=max(failed.held, seen))
            self.chores.trouble(chore, failure, failed, self.admission.budget)
        elif trial is not None:
            if failed.cause == "memory":
                self.estimate.at_least(*trial, max(failed.held, seen))
        elif worker.task is not None:
            if failed.cause == "kept" and (self._options.set_aside is False or failed.item < 0):
                raise verdicts.of_worker(
                    failed, self._setup.folder, item_name(self._setup.source, failed.item)
                )
            cause: Any = "memory" if failed.cause == "memory" else "kept"
            self._fell(
                worker,
                Failure(cause, failed.item, failed.call, max(failed.held, seen), worker.reserved),
                failed,
            )

    def _died(self, worker: Worker, death: Death) -> None:
        chore, trial = worker.chore, worker.trial
        failure = self._bury(worker, death)
        if trial is not None and failure.cause in ("governor", "kernel"):
            self.estimate.at_least(*trial, failure.held)
        if worker.task is not None:
            self._fell(worker, failure, None)
        elif chore is not None:
            self.chores.trouble(chore, failure, None, self.admission.budget)

    def _bury(self, worker: Worker, death: Death) -> Failure:
        self.schedule.forget_worker(worker.number)
        failure = self.crew.bury(worker, death, lambda: discover.kernel_kills(self._gauge.read()))
        why = worker.leaving or failure.detail or failure.cause
        self._say(ev.WorkerEnded, worker=worker.number, why=why)
        return failure

    def _fell(self, worker: Worker, failure: Failure, failed: m.Failed | None) -> None:
        """A batch did not end: learn from it, requeue it, or set its culprit aside."""
        task, worker.task = worker.task, None
        assert task is not None
        a, b = failure.call
        if failure.cause in ("governor", "kernel") and self._crowded():
            failure = replace(failure, cause="dropped")  # not its own doing
        if failure.cause in ("memory", "governor", "kernel") and task.start <= a < b <= task.stop:
            self.estimate.at_least(a, b, failure.held)
        verdict = self.schedule.fail(worker.number, failure)
        self._say(
            ev.BatchFailed,
            batch=worker.batch,
            worker=worker.number,
            start=task.start,
            stop=task.stop,
            cause="interrupted" if failure.cause == "dropped" else failure.cause,
            item=failure.item,
            held=failure.held,
            message=failed.message if failed else failure.detail,
        )
        if verdict is not None:
            self._set_aside(verdict, failure, failed)
            self._stop_if_hopeless()

    def _set_aside(self, verdict: Verdict, failure: Failure, failed: m.Failed | None) -> None:
        alone = self.admission.spare()
        sentence = verdicts.sentence(
            verdict, failure, failed, alone, self.admission.budget, self._options.timeout, self._options.stall
        )
        self.aside.count(verdict.reason)
        for item in verdict.items:
            each = SetAside(
                item,
                item_name(self._setup.source, item),
                verdict.reason,
                sentence,
                failed.error if failed else "",
                failed.traceback if failed else "",
                failure.held if verdict.reason == "memory" else 0,
            )
            self._put_aside(each)
            self._lines.append({"aside": [journal.plain(each)]})

    def _put_aside(self, each: SetAside) -> None:
        self.aside.put(each)
        self._kept_events.append(
            ev.ItemSetAside(
                at=time.time(),
                stage=self._stage,
                item=each.item,
                name=each.name,
                reason=each.reason,
                message=each.message.split("\n", 1)[0],
            )
        )

    def _stop_if_hopeless(self) -> None:
        why = self.aside.stops(self.admission.kept)
        if why:
            self._commit()
            raise self._failure(hopeless=why == "hopeless")

    def _failure(self, *, hopeless: bool = False) -> PenstockError:
        return verdicts.failure_of(
            list(self.aside),
            self._setup.items,
            self.admission.budget,
            self.admission.reserved(),
            hopeless=hopeless,
        )

    # ------------------------------------------------------------------ heeding

    def _heed(self) -> None:
        """Tell and follow what the governor did."""
        for notice in self.watch.notices():
            if notice.what == "paused":
                self._say(ev.WorkerPaused, worker=notice.worker, free=notice.free)
            elif notice.what == "resumed":
                self._say(ev.WorkerResumed, worker=notice.worker)
            elif notice.what == "drop_idle":
                free = [worker for worker in self.crew if worker.free]
                keep = 0 if any(worker.busy for worker in self.crew) else 1
                self.crew.dismiss(free[keep:], "room")

    def _reread_budget(self) -> None:
        """Follow a ceiling that moved during the run, where it moved much."""
        if self._options.requested != "auto":
            return
        try:
            found = discover.choose(self.watch.ceilings, "auto", self.watch.used)
        except PenstockError:
            return  # others took everything: what is free tells the governor
        old = self.admission.budget.bytes
        if abs(found.bytes - old) > 0.1 * old:
            self.admission.budget = found
            self.watch.budget = found.bytes
            self._say(ev.BudgetChanged, budget=found.bytes, origin=found.origin)

    def _take_sample(self) -> bool:
        """Tell the highest reading since the last; False when there was none."""
        sample = self.watch.sample()
        if sample is not None:
            workers = {str(worker): held for worker, held in sample.workers.items()}
            self._say(ev.MemoryRead, used=sample.used, workers=workers, free=sample.free)
        return sample is not None

    def _wind_down(self) -> None:
        """Let the running batches end at the next possible place; those that do not are dropped."""
        for worker in self.crew.running:
            self.backend.cut(worker.number)
        deadline = time.monotonic() + getattr(self._interrupts, "grace", _GRACE)
        while self.crew.running and time.monotonic() < deadline:
            self._hear(self.backend.wait(0.05))
            self._keep_time()
        self._commit()

    def _say(self, kind: type[Event], **values: Any) -> None:
        self._emit(kind(at=time.time(), stage=self._stage, **values))


def _schedule(setup: Setup, past: journal.Past, estimate: Estimate) -> Schedule:
    grains = [room.grain for room in setup.rooms.values() if room.grain]
    return Schedule(
        setup.items,
        # Fixed calls are the same in every batch of whole grains; without grains, of whole calls.
        math.lcm(*grains) if grains else setup.fixed_call,
        done=past.done,
        set_aside=past.aside,
        starts=setup.source.starts() if isinstance(setup.source, Sequential) else None,
        first=estimate.probes() if setup.items > 8 else (),
        fixed_call=setup.fixed_call is not None,
    )
