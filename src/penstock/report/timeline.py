"""The history of a run for its charts, gathered from its events in bounded memory.

Covers who worked when, what was held, what went wrong; not how it looks (``charts``). Times are
seconds of running: only while a stage runs does time pass, as in :attr:`Report.seconds`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

from penstock import events as ev
from penstock.report.downsample import Bar, Bars, Marks, Moment, Pairs, Peaks, Steps
from penstock.report.tally import Tally

_BANDS, _OTHERS = 8, "other processes"
"""The most programs of a command that have a band of their own."""
_PROCESSES, _KILLS = 10_000, 20
_ENDED_WELL = ("done", "evicted", "interrupted")
_READINGS = 400
"""The most readings that are kept of a node."""
_OF_WORKERS = (
    ev.WorkerStarted, ev.WorkerEnded, ev.WorkerPaused, ev.WorkerResumed,
    ev.BatchStarted, ev.BatchDone, ev.BatchFailed,
)  # fmt: skip


class WorkerRows:
    """Gives each living worker a row; a dead worker's row goes to its successor on the same node."""

    def __init__(self) -> None:
        self.nodes: list[str] = []
        """The node of each row; empty without one."""
        self._of: dict[int, int] = {}
        self._had: dict[int, int] = {}
        self._free: dict[str, list[int]] = {}

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.nodes)

    def of(self, worker: int, node: str = "") -> int:
        """The row of a worker, a new one if it has none yet."""
        row = self._of.get(worker)
        if row is None:
            free = self._free.get(node)
            if free:
                row = heapq.heappop(free)
            else:
                row = self.count
                self.nodes.append(node)
            self._of[worker] = row
        return row

    def node_of(self, worker: int) -> str:
        """The node of a worker that has or had a row; empty if there is none."""
        row = self.get(worker)
        return "" if row is None else self.nodes[row]

    def get(self, worker: int) -> int | None:
        """The row of a worker, or the one that it had recently."""
        return self._of.get(worker, self._had.get(worker))

    def leave(self, worker: int) -> None:
        """Remove a dead worker."""
        row = self._of.pop(worker, None)
        if row is not None:
            heapq.heappush(self._free.setdefault(self.nodes[row], []), row)
            self._had[worker] = row
            if len(self._had) > 200:
                del self._had[next(iter(self._had))]

    def leave_all(self) -> None:
        """Remove all workers."""
        for worker in list(self._of):
            self.leave(worker)


@dataclass(slots=True)
class StageSpan:
    """When a stage ran."""

    name: str
    start: float
    stop: float


@dataclass(slots=True)
class NodeHistory:
    """Memory readings of a cluster's node."""

    host: str
    cores: int
    budget: int
    left: str = ""
    """Why it was gone before the end."""
    log: str = ""
    """Name of the file that has what its workers printed."""
    peak: int = 0
    readings: list[tuple[float, int]] = field(default_factory=list)
    """The most that it held since the reading before."""

    def read(self, at: float, used: int) -> None:
        """Add a reading; when there are many, neighbours are merged into the higher one."""
        self.peak = max(self.peak, used)
        self.readings.append((at, used))
        if len(self.readings) > _READINGS:
            pairs = zip(self.readings[::2], self.readings[1::2], strict=False)
            self.readings = [(second[0], max(first[1], second[1])) for first, second in pairs]


class RunningClock:
    """Seconds of running at each event, over consecutive runs and stages."""

    def __init__(self) -> None:
        self.start: float | None = None
        """When the first event was, in seconds since the epoch."""
        self.seconds = 0.0
        """Seconds of running, up to the last event."""
        self._began: tuple[float, float] | None = None
        """When the stage that runs began: of the clock, and in seconds of running."""
        self._latest: dict[str, float] = {}
        """By node: the last that it told in this stage; a clock that is set back stands still."""

    def elapsed(self, event: ev.Event, node: str) -> float:
        """Seconds of running at an event from a node."""
        if self.start is None:
            self.start = event.at
        if isinstance(event, ev.StageStarted | ev.RunDied | ev.Looking | ev.TakenBack):
            self._began = None  # a run that was killed said no goodbye
            self._latest.clear()
        if isinstance(event, ev.StageStarted):
            self._began = event.at, self.seconds
        if self._began is None:
            return self.seconds
        clock, before = self._began
        now = before + (event.seconds if isinstance(event, ev.StageEnded) else event.at - clock)
        now = self._latest[node] = max(now, self._latest.get(node, before))
        self.seconds = max(self.seconds, now)
        return now

    def stop(self) -> None:
        """The stage has ended: time stands still until the next begins."""
        self._began = None


class CommandHistory:
    """Memory of a supervised command's programs; empty for a run."""

    def __init__(self) -> None:
        self.argv: tuple[str, ...] = ()
        """The command; empty for a run."""
        self.programs: dict[str, int] = {}
        """The most bytes that each program of it held, by name, in the order of their bands."""
        self.kills: list[str] = []
        """What was told of the kernel's kills; the first ones."""
        self._program_of: dict[int, str] = {}

    def see(self, event: ev.ProcessSeen) -> None:
        """A process runs a program from now on."""
        if len(self._program_of) >= _PROCESSES:
            self._program_of.clear()
        self._program_of[event.pid] = event.command

    def held(self, event: ev.MemoryRead) -> dict[int, int]:
        """Bytes that each program holds, by the number of its band."""
        held: dict[str, int] = {}
        for process, much in event.workers.items():
            name = self._program_of.get(int(process), _OTHERS)
            if name not in self.programs and len(self.programs) >= _BANDS:
                name = _OTHERS
            # Processes of one name may have pages in common, and each counts them.
            held[name] = min(held.get(name, 0) + much, event.used)
        for name, much in held.items():
            self.programs[name] = max(much, self.programs.get(name, 0))
        places = {name: place for place, name in enumerate(self.programs)}
        return {places[name]: much for name, much in held.items()}


class Timeline:
    """An observer that gathers everything the page draws."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self.plans: dict[str, ev.Planned] = {}
        self.spans: list[StageSpan] = []
        self.peaks = Peaks()
        self.budget, self.projected = Steps(), Steps()
        self.done, self.failed, self.paused = Bars(800), Bars(300), Bars(200)
        self.marks = {kind: Marks(kind) for kind in ("died", "split", "recycled", "set aside", "resumed")}
        self.pairs = Pairs()
        self.rows = WorkerRows()
        self.command = CommandHistory()
        self._clock = RunningClock()
        self.nodes: dict[str, NodeHistory] = {}
        """Of a cluster, by name."""
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
        # Each node tells late, and by its own clock.
        node = self.rows.node_of(event.worker) if isinstance(event, _OF_WORKERS) else ""
        self._take(self._clock.elapsed(event, node), event)
        if self.spans:
            self.spans[-1].stop = self.seconds

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
                self.rows.of(event.worker, event.node)
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
                self._clock.stop()
            case _:
                self._take_from_elsewhere(now, event)

    def _take_from_elsewhere(self, now: float, event: ev.Event) -> None:
        """What nodes of a cluster, or a command, told."""
        match event:
            case ev.NodeJoined():
                self.nodes[event.node] = NodeHistory(event.host, event.cores, event.budget, log=event.log)
            case ev.NodeLeft() if event.node in self.nodes:
                self.nodes[event.node].left = event.why
            case ev.NodeRead() if event.node in self.nodes:
                self.nodes[event.node].read(now, event.used)
            case ev.CommandStarted():
                self.command.argv = event.command
            case ev.ProcessSeen():
                self.command.see(event)
            case ev.KernelKill():
                self.marks["died"].add(now, event.message, event.count)
                if len(self.command.kills) < _KILLS:
                    self.command.kills.append(event.message)

    @property
    def start(self) -> float | None:
        """Time of the first event, in seconds since the epoch."""
        return self._clock.start

    @property
    def seconds(self) -> float:
        """Seconds of running, up to the last event."""
        return self._clock.seconds

    @property
    def bands(self) -> int:
        """Number of bands in the memory chart: workers or programs."""
        return len(self.command.programs) if self.command.argv else self.rows.count

    def _held_by_row(self, event: ev.MemoryRead) -> dict[int, int]:
        if self.command.argv:
            return self.command.held(event)
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
        self.projected.add(now, 0)  # until this stage has a plan of its own

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
            known = self.rows.get(event.worker)
            given, row = now - seconds, self.rows.of(event.worker) if known is None else known
        # A batch may wait in its worker's queue: it began when the one before it had ended.
        start = min(now, max(given, self._row_ends.get(row, 0.0)))
        self._row_ends[row] = now
        causes = Counter({cause: 1}) if cause else Counter()
        bars.add(Bar(row, start, now, 1, event.start, event.stop - 1, now - start, peak, causes, text))

    def _worker_ended(self, now: float, event: ev.WorkerEnded) -> None:
        if self.command.argv:  # told as a kill of the kernel's
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
