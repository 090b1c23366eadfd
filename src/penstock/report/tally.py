"""The observer that counts from events what a run did."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock import events as ev
from penstock.errors import SetAside
from penstock.report.heavy import NamedCall, TopCalls
from penstock.report.report import NAMED, Report

_NO_PLAN = ev.Planned(at=0.0, workers=0, call=0, batch=0, reserved=0, footprint=0, projected=0)


class Tally:
    """An observer that counts what the events of one stage say, in memory that does not grow.

    Several runs of the same stage (a resume) add up; the peak is the highest of them.
    """

    def __init__(self, stage: str = "") -> None:
        self.stage = stage
        self.outcome = "interrupted"  # until the stage says otherwise
        self.message = ""
        self.items = self.done = self.resumed_from = 0
        self.budget = self.reserved = self.projected = 0
        self.plan: ev.Planned | None = None
        self.origin = ""
        self.peak = 0
        self.at_peak: tuple[int, str] | None = None
        """The budget and its origin as they were when the peak was read."""
        self.seconds = self.cpu = 0.0
        self.waited_seconds = self.paused_seconds = self.repeated_seconds = 0.0
        self._byte_seconds = self._budget_seconds = 0.0
        self._read_at = math.inf
        self._paused_at: dict[int, float] = {}
        self._batch_at: dict[int, float] = {}
        self.batches = self.workers_started = self.paused = self.recycled = 0
        self.predicted = self.held = 0
        self.heaviest, self.slowest = TopCalls("peak"), TopCalls("seconds")
        self.failures: Counter[str] = Counter()
        self.set_aside: dict[int, SetAside] = {}
        self.set_aside_total = 0
        self._started = False
        self._open: tuple[float, float] | None = None
        """When the run of this stage that has not ended began, and when it was last heard of."""

    def __call__(self, event: ev.Event) -> None:
        """Count one event."""
        if self._open is not None and not isinstance(
            event, ev.RunDied | ev.Looking | ev.TakenBack | ev.StageStarted
        ):
            self._open = self._open[0], max(self._open[1], event.at)  # a node's may come later
        match event:
            case ev.MemoryRead():
                self._held(event.used)
                self._add_up(event)
            case ev.NodeRead():
                self._held(event.used, event.budget, event.origin)
            case ev.BatchStarted():
                self._batch_at[event.worker] = event.at
            case ev.BatchDone():
                self._batch_done(event)
            case ev.BatchFailed():
                self.failures[event.cause] += 1
                self.repeated_seconds += max(event.at - self._batch_at.pop(event.worker, event.at), 0.0)
            case ev.ItemSetAside():
                self._item_set_aside(event)
            case ev.WorkerStarted():
                self.workers_started += 1
            case ev.WorkerEnded():
                self.recycled += event.why == "recycled"
                self._goes_on(event.worker, event.at)
            case ev.WorkerPaused():
                self.paused += 1
                self._paused_at.setdefault(event.worker, event.at)
            case ev.WorkerResumed():
                self._goes_on(event.worker, event.at)
            case ev.Planned():
                self.reserved, self.projected = event.reserved, event.projected
                self.plan = event
            case ev.BudgetChanged():
                self.budget, self.origin = event.budget, event.origin
            case ev.StageStarted():
                self._stage_started(event)
            case ev.StageEnded():
                self._stage_ended(event)

    def _held(self, used: int, budget: int | None = None, origin: str = "") -> None:
        """A reading, under the budget in force or another's."""
        if budget is None:
            budget, origin = self.budget, self.origin
        # The peak is compared with the budget of its moment; a reading over its budget is never
        # hidden by a higher one from a time when more was allowed.
        over = used > budget
        was_over = self.at_peak is not None and self.peak > self.at_peak[0]
        if self.at_peak is None or (over, used) > (was_over, self.peak):
            self.peak, self.at_peak = used, (budget, origin)

    def _add_up(self, event: ev.MemoryRead) -> None:
        """What was held over time, against the budget of each moment."""
        lasting = max(event.at - self._read_at, 0.0)
        self._byte_seconds += event.used * lasting
        self._budget_seconds += self.budget * lasting
        self._read_at = event.at

    def _goes_on(self, worker: int, at: float) -> None:
        self.paused_seconds += max(at - self._paused_at.pop(worker, at), 0.0)

    def _unended(self) -> float:
        return max(0.0, self._open[1] - self._open[0]) if self._open is not None else 0.0

    def _stage_started(self, event: ev.StageStarted) -> None:
        if not self._started:
            self.resumed_from = event.done
        self._started = True
        self.seconds += self._unended()  # of a run that was killed
        self._open = event.at, event.at
        self._read_at = math.inf
        self._paused_at.clear()
        self._batch_at.clear()
        self.outcome, self.message = "interrupted", ""
        self.stage, self.items, self.done = event.stage, event.items, event.done
        self.budget, self.origin = event.budget, event.origin

    def _batch_done(self, event: ev.BatchDone) -> None:
        self.batches += 1
        self.done += event.stop - event.start
        if event.projected > 0:
            self.predicted += 1
            self.held += event.peak <= event.projected
        self._note_calls(event)

    def _note_calls(self, event: ev.BatchDone) -> None:
        if event.heaviest >= 0 and event.peak > self.heaviest.least():
            heavy = NamedCall(start=event.heaviest, stop=event.heaviest_stop, name=event.heaviest_name)
            self.heaviest.add(replace(heavy, stage=event.stage, peak=event.peak, seconds=event.seconds))
        if event.slowest >= 0 and event.slowest_seconds > self.slowest.least():
            slow = NamedCall(start=event.slowest, stop=event.slowest_stop, name=event.slowest_name)
            self.slowest.add(replace(slow, stage=event.stage, peak=event.peak, seconds=event.slowest_seconds))

    def _item_set_aside(self, event: ev.ItemSetAside) -> None:
        self.done -= 1  # its batch is counted whole
        if event.item in self.set_aside:
            return
        self.set_aside_total += 1
        if len(self.set_aside) < NAMED:
            self.set_aside[event.item] = SetAside(event.item, event.name, event.reason, event.message)

    def _stage_ended(self, event: ev.StageEnded) -> None:
        self.outcome, self.message = event.outcome, event.message
        self.done = event.done
        self.set_aside_total = event.set_aside
        if not event.set_aside:  # those of an earlier run were tried again, and are done
            self.set_aside.clear()
        self.seconds += event.seconds
        self._open = None
        self.cpu += event.cpu
        self.waited_seconds += event.waited
        if event.peak > self.peak:
            self._held(event.peak)
        self.projected = event.projected or self.projected

    def report(
        self,
        *,
        folder: Path | None = None,
        set_aside: Iterable[SetAside] | None = None,
        open_result: Callable[[], Any] | None = None,
    ) -> Report:
        """Make the report, after the last event.

        Args:
            folder: the run folder.
            set_aside: the items given up, as the journal names them (those of earlier runs and
                their tracebacks too); None for the ones that the events named.
            open_result: opens what is kept.
        """
        plan = self.plan or _NO_PLAN
        budget, origin = self.at_peak or (self.budget, self.origin)
        named, total = list(self.set_aside.values()), self.set_aside_total
        if set_aside is not None:
            named, total = [], 0
            for item in set_aside:
                total += 1
                if total <= NAMED:
                    named.append(item)
        return Report(
            folder=folder,
            stage=self.stage,
            outcome=self.outcome,
            message=self.message,
            items=self.items,
            done=self.done,
            set_aside=tuple(sorted(named, key=lambda item: item.item)),
            set_aside_total=total,
            budget=budget,
            origin=origin,
            reserved=self.reserved,
            projected=self.projected,
            workers=plan.workers,
            enough=plan.enough,
            most_workers=plan.most_workers,
            enough_for_most=plan.enough_for_most,
            why=plan.why,
            waited_seconds=self.waited_seconds,
            paused_seconds=self.paused_seconds,
            repeated_seconds=self.repeated_seconds,
            held_over_time=self._byte_seconds / self._budget_seconds if self._budget_seconds else 0.0,
            peak=self.peak,
            seconds=self.seconds + self._unended(),
            cpu=self.cpu,
            batches=self.batches,
            workers_started=self.workers_started,
            failures=dict(self.failures),
            paused=self.paused,
            recycled=self.recycled,
            predictions=(self.predicted, self.held),
            resumed_from=self.resumed_from,
            heaviest=tuple(self.heaviest),
            slowest=tuple(self.slowest),
            open_result=open_result,
        )
