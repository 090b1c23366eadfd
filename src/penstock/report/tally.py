"""Counts a run's events, in bounded memory."""

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


class HeldOverTime:
    """Memory held against the budget at the time: the peak, and the mean over time."""

    def __init__(self) -> None:
        self.budget = 0
        """In force now."""
        self.origin = ""
        self.peak = 0
        self._at_peak: tuple[int, str] | None = None
        self._byte_seconds = self._budget_seconds = 0.0
        self._read_at = math.inf

    @property
    def at_peak(self) -> tuple[int, str]:
        """The budget and its origin when the peak was read."""
        return self._at_peak or (self.budget, self.origin)

    @property
    def share(self) -> float:
        """Share of the budget over time, 0 to 1."""
        return self._byte_seconds / self._budget_seconds if self._budget_seconds else 0.0

    def begin(self, budget: int, origin: str) -> None:
        """A run begins: earlier readings are not its own."""
        self.budget, self.origin = budget, origin
        self._read_at = math.inf

    def read(self, used: int, budget: int | None = None, origin: str = "") -> None:
        """Add a reading, under the budget in force or another."""
        if budget is None:
            budget, origin = self.budget, self.origin
        # The peak is compared with the budget of its moment; a reading over its budget is never
        # hidden by a higher one from a time when more was allowed.
        over = used > budget
        was_over = self._at_peak is not None and self.peak > self._at_peak[0]
        if self._at_peak is None or (over, used) > (was_over, self.peak):
            self.peak, self._at_peak = used, (budget, origin)

    def add_up(self, event: ev.MemoryRead) -> None:
        """Integrate what was held since the last reading."""
        lasting = max(event.at - self._read_at, 0.0)
        self._byte_seconds += event.used * lasting
        self._budget_seconds += self.budget * lasting
        self._read_at = event.at


class BatchCounts:
    """Workers' activity: batches done and failed, pauses, and their durations."""

    def __init__(self) -> None:
        self.done = 0
        self.failures: Counter[str] = Counter()
        self.started = self.paused = self.recycled = 0
        """Workers that were."""
        self.paused_seconds = self.repeated_seconds = 0.0
        self.predicted = self.held = 0
        """Batches whose peak was predicted, and those of them that held it."""
        self.heaviest, self.slowest = TopCalls("peak"), TopCalls("seconds")
        self._paused_at: dict[int, float] = {}
        self._batch_at: dict[int, float] = {}

    def __call__(self, event: ev.Event) -> None:
        """Count one event."""
        match event:
            case ev.BatchStarted():
                self._batch_at[event.worker] = event.at
            case ev.BatchDone():
                self.done += 1
                if event.projected > 0:
                    self.predicted += 1
                    self.held += event.peak <= event.projected
                self._note_calls(event)
            case ev.BatchFailed():
                self.failures[event.cause] += 1
                self.repeated_seconds += max(event.at - self._batch_at.pop(event.worker, event.at), 0.0)
            case ev.WorkerStarted():
                self.started += 1
            case ev.WorkerEnded():
                self.recycled += event.why == "recycled"
                self._goes_on(event.worker, event.at)
            case ev.WorkerPaused():
                self.paused += 1
                self._paused_at.setdefault(event.worker, event.at)
            case ev.WorkerResumed():
                self._goes_on(event.worker, event.at)
            case ev.StageStarted():
                self._paused_at.clear()
                self._batch_at.clear()

    def _goes_on(self, worker: int, at: float) -> None:
        self.paused_seconds += max(at - self._paused_at.pop(worker, at), 0.0)

    def _note_calls(self, event: ev.BatchDone) -> None:
        if event.heaviest >= 0 and event.peak > self.heaviest.least():
            heavy = NamedCall(start=event.heaviest, stop=event.heaviest_stop, name=event.heaviest_name)
            self.heaviest.add(replace(heavy, stage=event.stage, peak=event.peak, seconds=event.seconds))
        if event.slowest >= 0 and event.slowest_seconds > self.slowest.least():
            slow = NamedCall(start=event.slowest, stop=event.slowest_stop, name=event.slowest_name)
            self.slowest.add(replace(slow, stage=event.stage, peak=event.peak, seconds=event.slowest_seconds))


class Tally:
    """An observer that counts the events of one stage, in bounded memory.

    Several runs of the same stage (a resume) add up; the peak is the highest of them.
    """

    def __init__(self, stage: str = "") -> None:
        self.stage = stage
        self.outcome = "interrupted"  # until the stage says otherwise
        self.message = ""
        self.items = self.done = self.resumed_from = 0
        self.reserved = self.projected = 0
        self.plan: ev.Planned | None = None
        self.memory = HeldOverTime()
        self.batches = BatchCounts()
        self.seconds = self.cpu = self.waited_seconds = 0.0
        self.set_aside: dict[int, SetAside] = {}
        self.set_aside_total = 0
        self._started = self._on_nodes = False
        self._open: tuple[float, float] | None = None
        """When the run of this stage that has not ended began, and when it was last heard of."""

    def __call__(self, event: ev.Event) -> None:
        """Count one event."""
        if self._open is not None and not isinstance(
            event, ev.RunDied | ev.Looking | ev.TakenBack | ev.StageStarted
        ):
            self._open = self._open[0], max(self._open[1], event.at)  # a node's may come later
        self.batches(event)
        match event:
            case ev.MemoryRead():
                self.memory.read(event.used)
                self.memory.add_up(event)
            case ev.NodeRead():
                self.memory.read(event.used, event.budget, event.origin)
                self._on_nodes = True
            case ev.BatchDone():
                self.done += event.stop - event.start
            case ev.ItemSetAside():
                self._item_set_aside(event)
            case ev.Planned():
                self.reserved, self.projected = event.reserved, event.projected
                self.plan = event
            case ev.BudgetChanged():
                self.memory.budget, self.memory.origin = event.budget, event.origin
            case ev.StageStarted():
                self._stage_started(event)
            case ev.StageEnded():
                self._stage_ended(event)

    def _unended(self) -> float:
        return max(0.0, self._open[1] - self._open[0]) if self._open is not None else 0.0

    def _stage_started(self, event: ev.StageStarted) -> None:
        if not self._started:
            self.resumed_from = event.done
        self._started = True
        self.seconds += self._unended()  # of a run that was killed
        self._open = event.at, event.at
        self.outcome, self.message = "interrupted", ""
        self.stage, self.items, self.done = event.stage, event.items, event.done
        self.memory.begin(event.budget, event.origin)

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
        if event.peak > self.memory.peak:
            self.memory.read(event.peak)
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
        plan, memory, batches = self.plan or _NO_PLAN, self.memory, self.batches
        budget, origin = memory.at_peak
        if set_aside is None:
            named, total = list(self.set_aside.values()), self.set_aside_total
        else:
            named, total = _some_of(set_aside)
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
            enough=0 if self._on_nodes else plan.enough,  # a node's is not what to ask for next time
            most_workers=plan.most_workers,
            enough_for_most=plan.enough_for_most,
            why=plan.why,
            waited_seconds=self.waited_seconds,
            paused_seconds=batches.paused_seconds,
            repeated_seconds=batches.repeated_seconds,
            held_over_time=memory.share,
            peak=memory.peak,
            seconds=self.seconds + self._unended(),
            cpu=self.cpu,
            batches=batches.done,
            workers_started=batches.started,
            failures=dict(batches.failures),
            paused=batches.paused,
            recycled=batches.recycled,
            predictions=(batches.predicted, batches.held),
            resumed_from=self.resumed_from,
            heaviest=tuple(batches.heaviest),
            slowest=tuple(batches.slowest),
            open_result=open_result,
        )


def _some_of(set_aside: Iterable[SetAside]) -> tuple[list[SetAside], int]:
    """The first items that a report names, and how many there are in all."""
    named, total = [], 0
    for item in set_aside:
        total += 1
        if total <= NAMED:
            named.append(item)
    return named, total
