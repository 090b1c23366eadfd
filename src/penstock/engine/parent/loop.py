"""The event loop of one stage: admits batches, takes receipts and deaths, keeps the journal.

The only place where the parts of a stage meet that act: crew, backend, governor's thread, journal.
It decides nothing itself that these could decide purely. One thread; every wait ends with a message,
a death, a notice of the governor, or after a tenth of a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from penstock import asking, discover, layout
from penstock import events as ev
from penstock.abc import Carried, Death, Message, Receipt
from penstock.engine import messages as m
from penstock.engine.decide import explain
from penstock.engine.parent.admission import EXPLORE_SECONDS, Offer
from penstock.engine.parent.announcing import PlanAnnouncer
from penstock.engine.parent.failed_batches import FailedBatches
from penstock.engine.parent.interrupts import Interrupt
from penstock.engine.parent.no_room import NoRoom
from penstock.engine.parent.overdue import Overdue
from penstock.engine.parent.periodic import Periodic
from penstock.engine.parent.results_here import ResultsHere, results_at_once
from penstock.engine.parent.stage import Stage
from penstock.engine.parent.workers import WorkerState
from penstock.errors import RunTakenOver
from penstock.outputs import is_reducer
from penstock.record import entries, standing

_TURN = 0.1
"""Seconds after which the loop looks up though nothing happened."""
_IDLE_TURN = 5.0
"""The same while there is nothing to do."""
_GRACE = 3.0
"""Seconds that running batches get to end at a good place after an interrupt."""


class Loop:
    """Works on one stage.

    Args:
        stage: its parts; the backend is open.
        collect: takes (first item, results) of a run whose results come to this process.
        interrupts: has ``number``, the signal that asks to stop, or 0.
        beat: called every few seconds, so that the last events survive.
        awake: called with each turn; raises RunTakenOver where we slept and the run is another's now.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        collect: Callable[[int, list[Any]], None] | None,
        interrupts: Any,
        beat: Callable[[], None],
        awake: Callable[[], None] = lambda: None,
    ) -> None:
        self.stage = stage
        self._awake = awake
        self._failures = FailedBatches(stage)
        self._periodic = Periodic(stage, beat)
        self._results = None if collect is None else ResultsHere(stage, collect)
        self._overdue = Overdue(stage, collect) if collect is not None and stage.options.endless else None
        self._interrupts = interrupts
        self._ledger = stage.ledger
        self._announcer = PlanAnnouncer(stage.ledger, stage.estimate.recall)
        self._clock = stage.clock
        self._setup = stage.setup
        self._carried = isinstance(stage.setup.source, Carried)
        self._options = stage.options
        self._backend = stage.backend
        self._crew = stage.crew
        self._watch = stage.watch
        self._schedule = stage.schedule
        self._admission = stage.admission
        self._batches = 0
        self._no_room = NoRoom(stage)

    # ------------------------------------------------------------------ the whole

    def run(self, *, opened: bool) -> Any:
        """Work on what is not done; in a temporary run, returns what the reducers made.

        Raises:
            Interrupt: a signal asked to stop; the running batches were finished or dropped.
            ResultsDamaged: a part that was kept is gone, or is not what it was.
            PenstockError: the run cannot go on.
        """
        with self:
            if not opened:
                self._open()
            while not self._schedule.finished:
                self._turn()
            self._ledger.commit()
            if self.stage.aside.too_many:
                raise self._failures.error()
            made, told = self._do(m.Chore("close", self._setup.state_dir / layout.JOURNAL))
            self._ledger.write(entries.closed(told))
            standing.clear(standing.Place(self._setup.folder, self._setup.state_dir), told)
            return made

    def prepare(self) -> None:
        """Only open the outputs; others work on the items. Raises as :meth:`run`."""
        with self:
            self._open()

    def _open(self) -> None:
        self._do(m.Chore("open"))
        reducers = (name for name, output in self._setup.outputs.items() if is_reducer(output))
        self._ledger.write(entries.opened(reducers))

    def _do(self, chore: m.Chore) -> Any:
        return self.stage.chores.do(chore, turn=self.poll, no_room=lambda: self._no_room.last(self._clock()))

    def serve(self, take_in: Callable[[], bool]) -> None:
        """Work on items that keep coming.

        Args:
            take_in: calls :meth:`Stage.extend` for what has come; False when no more will.
        """
        with self:
            while True:
                more = take_in()
                if not self._schedule.finished:
                    self._turn()
                elif more:
                    self._ledger.commit()
                    self.poll(_IDLE_TURN)
                else:
                    self._ledger.commit()
                    return

    def __enter__(self) -> Loop:
        if self._options.governs:
            self._watch.start()
        try:
            self._first_worker()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, RunTakenOver):
            self._crew.kill_all()  # before anything else: they work on another's items
        elif kind is not None:
            self._crew.drop("interrupted")
        self._end()

    def _end(self) -> None:
        """Leave no worker behind."""
        self._periodic.keep_learnt()
        self._crew.dismiss(self._crew, "done")
        for seconds in (1.0, 5.0):
            deadline = self._clock() + seconds
            while len(self._crew) and self._clock() < deadline:
                for each in self._backend.wait(0.05):
                    worker = self._crew.get(each.worker)
                    if worker is not None and isinstance(each, Death):
                        self._failures.reap(worker, each)
            self._crew.kill_all()
        self._watch.stop()
        self._periodic.take_sample()

    def _first_worker(self) -> None:
        """Start one worker, learn what an idle one takes, and refuse a budget that has no room for it."""
        while not any(worker.ready for worker in self._crew):
            if not len(self._crew):
                self._crew.start()
            self.poll()
        if self._options.governs:
            self._watch.turn()
            self._watch.check()
            explain.check_budget(self._admission.budget, self._admission.reserved(to_come=False))
            explain.check_stated(
                self._options.wishes.memory,
                self._admission.spare(),
                self._admission.budget,
                self._admission.reserved(to_come=False),
            )
            self._periodic.run_due()

    def _turn(self) -> None:
        self._admit(self._clock())
        patience = EXPLORE_SECONDS if self.stage.estimate.exploring else _TURN
        if self._overdue is not None:
            patience = self._overdue.turn(patience)
        self.poll(patience)
        if self._overdue is not None:
            self._overdue.attend(self._clock())
        self._ledger.commit()

    def poll(self, patience: float = _TURN) -> None:
        """Poll the backend once: dispatch what arrived, apply notices of the governor and signals."""
        if self._interrupts.number:
            self._wind_down()
            raise Interrupt(self._interrupts.number)
        self._listen(patience)
        self._apply_notices()

    def _listen(self, patience: float) -> None:
        happened = self._backend.wait(patience)
        self._awake()  # where the run is another's now, nothing counts that was heard
        self._watch.check()
        self._dispatch(happened)
        self._periodic.run_due()

    def _wind_down(self) -> None:
        """Let the running batches end at the next possible place; those that do not are dropped."""
        for worker in self._crew.running:
            self._backend.cut(worker.number)
        deadline = self._clock() + getattr(self._interrupts, "grace", _GRACE)
        while self._crew.running and self._clock() < deadline:
            self._listen(0.05)
        self._ledger.commit()

    # ------------------------------------------------------------------ down: batches

    def _admit(self, now: float) -> None:
        self._admission.waiting.look(now)
        if not self._watch.admit or self.stage.crowded or self.stage.cramped:
            self._admission.lack()
            self._no_room.last(now)
            return
        self._no_room.end()
        if self._admission.held(now):
            return
        plan = self._admission.make_plan()
        self._announcer.tell(plan)
        for worker in self._crew:
            if not worker.free:
                continue
            if self._admission.used_up(worker):
                self._crew.dismiss([worker], "recycled")
                continue
            offer = self._admission.offer(worker, plan, now)
            if isinstance(offer, Offer) and offer.task.wary and worker.warm:
                if all(other.warm or other.leaving for other in self._crew):
                    self._crew.dismiss([worker], "recycled")
            elif isinstance(offer, Offer):
                self._give(worker, offer, now)
            elif offer == "alone":
                self._crew.dismiss((other for other in self._crew if other is not worker), "evicted")
                return
            elif offer == "full":
                return
        if self._admission.another_worker(plan, now):
            self._crew.start()

    def _give(self, worker: WorkerState, offer: Offer, now: float) -> None:
        task, source = offer.task, self._setup.source
        given = self._schedule.give(worker.number, task)
        searching = task.suspicion is not None
        self._batches += 1
        worker.batch = self._batches
        worker.given += task.stop - task.start
        worker.began, worker.first, worker.came_early, worker.early = now, task.start, 0, 0
        worker.cut_at = math.inf
        worker.apart = self._options.endless and task.stop - task.start > 1 and not searching
        worker.reserved, worker.guessed, worker.shape = offer.reserve, not offer.known, offer.shape
        worker.kills_before = discover.kernel_kills(self._watch.memory.ceilings)
        self._watch.began(worker.number, offer.reserve)
        # Told first: should everything be killed now, what the worker works on is known.
        self._ledger.say(
            ev.BatchStarted, batch=worker.batch, worker=worker.number, start=task.start, stop=task.stop,
            call=offer.call, projected=offer.reserve if offer.known else 0, alone=task.alone,
        )  # fmt: skip
        self._backend.send(
            worker.number,
            m.Work(
                start=task.start,
                stop=task.stop,
                without=tuple(self.stage.aside.items[item] for item in given.without),
                call=offer.call,
                seconds=math.inf if searching else 2 * self._admission.batch_seconds(now),
                memory=self._admission.budget.bytes if searching else self._admission.retainable(),
                fence=self._admission.fence(task),
                granted=max(self._admission.spare() if task.alone else offer.reserve, 0),
                threads=self._threads(alone=task.alone),
                attempt=task.attempt,
                wary=task.wary,
                keep=not searching,
                results=results_at_once(self.stage),
                apart=worker.batch if worker.apart else 0,
                cargo=asking.carry(source, task.start, task.stop) if self._carried else None,
            ),
        )

    def _threads(self, *, alone: bool) -> int:
        """Threads that a batch may use."""
        if alone:
            cores = self._options.cores
            return min(cores, self._options.wishes.threads or cores)
        return self._admission.plan.threads if self._admission.plan else 1

    # ------------------------------------------------------------------ up: receipts

    def _dispatch(self, happened: list[Message | Death]) -> None:
        for each in happened:
            worker = self._crew.get(each.worker)
            if worker is None:
                continue
            if isinstance(each, Death):
                self._failures.died(worker, each)
            elif isinstance(each.content, m.Ready):
                self._crew.welcome(worker, each.content)
                self._ledger.say(ev.WorkerStarted, worker=worker.number)
            elif isinstance(each.content, m.Done):
                self._done(worker, each.content)
            elif isinstance(each.content, m.ChoreDone):
                self.stage.chores.done(worker, each.content)
            elif isinstance(each.content, m.Failed):
                self._failures.failed(worker, each.content)
            else:
                self._failures.failed(worker, m.not_understood(each.content))

    def _done(self, worker: WorkerState, done: m.Done) -> None:
        estimate = self.stage.estimate
        done = replace(done, calls=self._watch.refine(worker.number, done.calls))
        seen = self._watch.ended(worker.number)
        start = worker.trial[0] if worker.trial is not None else worker.first
        predicted = worker.reserved if estimate.footprint.known and done.calls else 0
        estimate.learn(done.calls, done.stop - start, done.seconds, first=done.first, seen=seen)
        worker.warm = worker.warm or bool(done.calls)
        self._crew.fence(worker, self._admission.budget.bytes)
        if done.imported and (self._schedule.left or self._options.endless):  # else no worker comes later
            self.stage.powers.preload(done.imported)
        if worker.trial is not None:
            worker.trial = None
            return
        if worker.task is not None and worker.task.suspicion is not None:
            self._failures.tried(worker, done.stop)
            return
        self._failures.written(start)
        self._schedule.finish(worker.number, done.stop, (each.item for each in done.set_aside))
        for each in done.set_aside:
            self._failures.put_aside(each)
        self._keep(start, done, worker.came_early)
        self._ledger.say_when_kept(
            ev.BatchDone,
            batch=worker.batch,
            worker=worker.number,
            start=start,
            stop=done.stop,
            seconds=done.seconds,
            peak=max(seen, *(call.peak for call in done.calls)) if done.calls else seen,
            projected=predicted,
            retained=done.retained,
            **self.stage.told_calls(done),
        )
        grown = done.grown > self._admission.retainable() and not self._schedule.holds_cursor(worker.number)
        if grown or done.worn:
            self._crew.dismiss([worker], "recycled")
        self._failures.stop_if_hopeless()

    def _keep(self, start: int, done: m.Done, told: int) -> None:
        """Keep a batch, of which so many results came before."""
        aside = self.stage.aside.among(start, done.stop)
        self._admission.kept += done.stop - start - told - len(aside)
        receipts: Mapping[str, Collection[tuple[int, int, Receipt]]] = done.receipts
        if self._results is not None:
            for first, _, receipt in done.receipts[""]:
                self._results.take(first, receipt.value, told)
            self._results.look_ahead()
            receipts = {}
        self._ledger.keep(entries.kept(start, done.stop, receipts, aside))

    def _apply_notices(self) -> None:
        """Tell and follow what the governor did."""
        for notice in self._watch.notices():
            if notice.what == "paused":
                self._ledger.say(ev.WorkerPaused, worker=notice.worker, free=notice.free)
            elif notice.what == "resumed":
                self._ledger.say(ev.WorkerResumed, worker=notice.worker)
            elif notice.what == "drop_idle":
                free = [worker for worker in self._crew if worker.free]
                keep = 0 if any(worker.busy for worker in self._crew) else 1
                self._crew.dismiss(free[keep:], "evicted")
