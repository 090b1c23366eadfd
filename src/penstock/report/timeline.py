"""The history of a run as it is drawn, gathered from its events in memory that does not grow.

Covers who worked when, what was held, what went wrong; not how it looks (``charts``). Times are
seconds of running: the time between an interrupted run and its resume is taken out.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

from penstock import events as ev
from penstock.report.downsample import Bar, Bars, Marks, Moment, Pairs, Peaks, Steps
from penstock.report.tally import Tally

_IDLE = 5.0
"""A silence longer than this before a stage begins is time in which nothing ran, in seconds."""
_BANDS, _OTHERS = 8, "other processes"
"""The most programs of a command that have a band of their own."""
_PROCESSES, _KILLS = 10_000, 20
_ENDED_WELL = ("done", "room", "interrupted")


class WorkerRows:
    """Gives each living worker a row, and a dead worker's row to its successor."""

    def __init__(self) -> None:
        self.count = 0
        self._of: dict[int, int] = {}
        self._had: dict[int, int] = {}
        self._free: list[int] = []

    def of(self, worker: int) -> int:
        """The row of a worker; a new one if it has none yet."""
        row = self._of.get(worker)
        if row is None:
            if self._free:
                row = heapq.heappop(self._free)
            else:
                row, self.count = self.count, self.count + 1
            self._of[worker] = row
        return row

    def get(self, worker: int) -> int | None:
        """The row of a worker, or the one it had until a short while ago."""
        return self._of.get(worker, self._had.get(worker))

    def leave(self, worker: int) -> None:
        """A worker is gone."""
        row = self._of.pop(worker, None)
        if row is not None:
            heapq.heappush(self._free, row)
            self._had[worker] = row
            if len(self._had) > 200:
                del self._had[next(iter(self._had))]

    def leave_all(self) -> None:
        """Every worker is gone."""
        for worker in list(self._of):
            self.leave(worker)


@dataclass(slots=True)
class StageSpan:
    """When a stage ran."""

    name: str
    start: float
    stop: float


class Timeline:
    """An observer that gathers all that the page draws."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self.plans: dict[str, ev.Planned] = {}
        self.spans: list[StageSpan] = []
        self.peaks = Peaks()
        self.budget, self.projected = Steps(), Steps()
        self.done, self.failed, self.paused = Bars(1100), Bars(400), Bars(250)
        self.marks = {kind: Marks(kind) for kind in ("died", "split", "recycled", "set aside", "resumed")}
        self.pairs = Pairs()
        self.rows = WorkerRows()
        self.command: tuple[str, ...] = ()
        """The command that was supervised; empty for a run."""
        self.programs: dict[str, int] = {}
        """The most bytes that each program of it held, by name, in the order of their bands."""
        self.kills: list[str] = []
        """What was told of the kernel's kills; the first ones."""
        self._program_of: dict[int, str] = {}
        self.start: float | None = None
        """When the first event was, in seconds since the epoch."""
        self.seconds = 0.0
        """Seconds of running, up to the last event."""
        self._idle = 0.0
        self._session = 0
        self._given: dict[int, tuple[float, int]] = {}
        self._pauses: dict[int, tuple[float, int]] = {}
        self._row_ends: dict[int, float] = {}
        self._failed_at: dict[int, int] = {}

    def __call__(self, event: ev.Event) -> None:
        """Take the next event."""
        tally = self.tallies.get(event.stage)
        if tally is None:
            tally = self.tallies[event.stage] = Tally(event.stage)
        tally(event)
        now = self._elapsed(event)
        self._take(now, event)
        if self.spans:
            self.spans[-1].stop = now

    def _take(self, now: float, event: ev.Event) -> None:
        match event:
            case ev.MemoryRead():
                self.peaks.add(Moment(now, event.used, self._held_by_row(event), event.free, self._session))
            case ev.BatchStarted():
                self._batch_started(now, event)
            case ev.BatchDone():
                self._bar(self.done, now, event, event.seconds, event.peak)
                if event.projected > 0:
                    text = f"items {event.start:,} to {event.stop - 1:,}"
                    self.pairs.add(event.projected, event.peak, text)
            case ev.BatchFailed():
                self._failed_at[event.start] = event.stop
                if len(self._failed_at) > 1000:
                    del self._failed_at[next(iter(self._failed_at))]
                self._bar(self.failed, now, event, 0.0, event.held, event.cause, event.message)
            case ev.ItemSetAside():
                self.marks["set aside"].add(now, f"{event.name}: {event.message}")
            case ev.WorkerPaused():
                self._pauses.setdefault(event.worker, (now, self.rows.of(event.worker)))
            case ev.WorkerResumed():
                self._end_pause(now, event.worker)
            case ev.WorkerStarted():
                self.rows.of(event.worker)
            case ev.WorkerEnded():
                self._worker_ended(now, event)
            case ev.Planned():
                self.plans[event.stage] = event
                self.projected.add(now, event.projected)
            case ev.RunDied():
                self.marks["died"].add(now, event.message)
            case ev.BudgetChanged():
                self.budget.add(now, event.budget, event.origin)
            case ev.StageStarted():
                self._stage_started(now, event)
            case ev.StageEnded():
                self._leave_all(now)
            case ev.CommandStarted():
                self.command = event.command
            case ev.ProcessSeen():
                if len(self._program_of) >= _PROCESSES:
                    self._program_of.clear()
                self._program_of[event.pid] = event.command
            case ev.KernelKill():
                self.marks["died"].add(now, event.message, event.count)
                if len(self.kills) < _KILLS:
                    self.kills.append(event.message)

    @property
    def bands(self) -> int:
        """How many bands the chart of memory has: of workers, or of programs."""
        return len(self.programs) if self.command else self.rows.count

    def _elapsed(self, event: ev.Event) -> float:
        if self.start is None:
            self.start = event.at
        now = event.at - self.start - self._idle
        if (
            isinstance(event, ev.StageStarted | ev.RunDied | ev.Looking | ev.TakenBack)
            and now - self.seconds > _IDLE
        ):
            self._idle += now - self.seconds
            now = self.seconds
        self.seconds = max(self.seconds, now)  # a clock that is set back stands still
        return self.seconds

    def _held_by_program(self, event: ev.MemoryRead) -> dict[int, int]:
        held: dict[str, int] = {}
        for process, much in event.workers.items():
            name = self._program_of.get(int(process), _OTHERS)
            if name not in self.programs and len(self.programs) >= _BANDS:
                name = _OTHERS
            held[name] = held.get(name, 0) + much
        for name, much in held.items():
            self.programs[name] = max(much, self.programs.get(name, 0))
        places = {name: place for place, name in enumerate(self.programs)}
        return {places[name]: much for name, much in held.items()}

    def _held_by_row(self, event: ev.MemoryRead) -> dict[int, int]:
        if self.command:
            return self._held_by_program(event)
        # The reading may still name a worker that has just ended, and whose row has a new one.
        rows: dict[int, int] = {}
        for worker, held in event.workers.items():
            row = self.rows.get(int(worker))
            if row is not None:
                rows[row] = rows.get(row, 0) + held
        return rows

    def _stage_started(self, now: float, event: ev.StageStarted) -> None:
        self._leave_all(now)  # a run that was killed said no goodbye
        if any(span.name == event.stage for span in self.spans):
            self._session += 1
            self.marks["resumed"].add(now, f"resumed with {event.done:,} of {event.items:,} items done")
        if not self.spans or self.spans[-1].name != event.stage:
            self.spans.append(StageSpan(event.stage, now, now))
        self.budget.add(now, event.budget, event.origin)

    def _batch_started(self, now: float, event: ev.BatchStarted) -> None:
        self._given[event.batch] = (now, self.rows.of(event.worker))
        failed_stop = self._failed_at.pop(event.start, None)
        if failed_stop is not None and event.stop < failed_stop:
            text = f"items {event.start:,} to {failed_stop - 1:,} tried again as {event.stop - event.start:,}"
            self.marks["split"].add(now, text)

    def _bar(
        self,
        bars: Bars,
        now: float,
        event: ev.BatchDone | ev.BatchFailed,
        seconds: float,
        peak: int,
        cause: str = "",
        text: str = "",
    ) -> None:
        # The row is remembered: a worker that died may have left before its batch is known to have failed.
        if event.batch in self._given:
            given, row = self._given.pop(event.batch)
        else:
            given, row = now - seconds, self.rows.of(event.worker)
        # A batch may wait in its worker's queue: it began when the one before it had ended.
        start = min(now, max(given, self._row_ends.get(row, 0.0)))
        self._row_ends[row] = now
        causes = Counter({cause: 1}) if cause else Counter()
        bars.add(Bar(row, start, now, 1, event.start, event.stop - 1, now - start, peak, causes, text))

    def _worker_ended(self, now: float, event: ev.WorkerEnded) -> None:
        if self.command:  # told as a kill of the kernel's
            return
        self._end_pause(now, event.worker)
        if event.why == "recycled":
            self.marks["recycled"].add(now, f"worker {event.worker} replaced: it retained too much")
        elif event.why not in _ENDED_WELL:
            self.marks["died"].add(now, f"worker {event.worker}: {event.why}")
        self.rows.leave(event.worker)

    def _end_pause(self, now: float, worker: int) -> None:
        pause = self._pauses.pop(worker, None)
        if pause is not None:
            start, row = pause
            self.paused.add(Bar(row, start, now, 1, 0, 0, now - start, 0))

    def _leave_all(self, now: float) -> None:
        for worker in list(self._pauses):
            self._end_pause(now, worker)
        self.rows.leave_all()
        self._given.clear()
        self._failed_at.clear()
