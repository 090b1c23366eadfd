"""The present state of a run, kept from its events in bounded memory; reads no clock.

What a live line, ``penstock watch`` and its page show. Times are seconds of whoever tells the events: of one
clock, whichever it is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from penstock import events as ev
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.plurals import plural

_FAILURES = 5
"""The last failures that are remembered."""
_NAMES = 1_000
"""Names of processes that are remembered."""


@dataclass(slots=True)
class LiveWorker:
    """What a worker, or a process of a supervised command, is doing."""

    since: float
    """When it began with that."""
    start: int = -1
    """First item of its batch; -1 without one."""
    stop: int = -1
    """One past the last."""
    held: int = 0
    """Bytes that it held at the last reading."""
    paused: bool = False
    """Whether the governor stopped it for a while."""

    @property
    def items(self) -> str:
        """Its items in words; empty if it waits."""
        if self.start < 0:
            return ""
        last = self.stop - 1
        return f"item {last:,}" if last == self.start else f"items {self.start:,} to {last:,}"


class LiveState:
    """The latest state that the events tell; call :meth:`take` with each."""

    def __init__(self, now: float = 0.0) -> None:
        self.stage = ""
        self.items = self.done = self.before = self.set_aside = 0
        """Of the stage; ``before`` are those done when this run of it began."""
        self.budget = self.used = self.peak = 0
        self.origin = ""
        self.workers: dict[int, LiveWorker] = {}
        self.nodes: dict[str, tuple[int, int]] = {}
        """Of a cluster, those that are there: bytes that each held when it told last, and may use."""
        self._own = 0, ""
        """The budget of this process, and who set it: where nodes work, theirs count."""
        self.failures: deque[tuple[float, str]] = deque(maxlen=_FAILURES)
        """When, and one sentence: the last ones."""
        self.failed = 0
        """How many there were."""
        self.started = now
        """When this run of the stage began."""
        self.began = False
        """Whether any stage has begun."""
        self.ended = False
        """Whether the stage has ended, and none has begun since."""
        self.doing = ""
        """What is done before a stage begins."""
        self.command = ""
        """The command that is supervised."""
        self.names: dict[int, str] = {}
        """Command lines of its processes by number."""

    def take(self, event: ev.Event, now: float) -> None:
        """Take the next event, with a time of the caller's clock."""
        match event:
            case ev.StageStarted():
                self._begin(event, now)
            case ev.BudgetChanged():
                self._own = event.budget, event.origin
                self._add_up_nodes()
            case ev.MemoryRead():
                self._read(event, now)
            case ev.WorkerStarted():
                self.workers[event.worker] = LiveWorker(now)
            case ev.WorkerEnded():
                self.workers.pop(event.worker, None)
                if event.why in ("kernel", "governor", "stalled", "timeout") or event.why.startswith(
                    "signal"
                ):
                    self._fail(event.at, f"{self._name(event.worker)} ended: {event.why}")
            case ev.WorkerPaused() | ev.WorkerResumed():
                if event.worker in self.workers:
                    self.workers[event.worker].paused = isinstance(event, ev.WorkerPaused)
            case ev.StageEnded():
                self.done, self.set_aside, self.ended = event.done, event.set_aside, True
                self.peak = max(self.peak, event.peak)
                self.workers.clear()
            case ev.Looking():
                self.doing = event.message
            case _:
                self._take_of_items(event, now)

    def _take_of_items(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.BatchStarted():
                self.workers[event.worker] = LiveWorker(
                    now, event.start, event.stop, self._held(event.worker)
                )
            case ev.BatchDone():
                self.done += event.stop - event.start
                self._idle(event.worker, now)
            case ev.BatchFailed():
                items = LiveWorker(0, event.start, event.stop).items
                self._fail(event.at, f"{items}: {event.cause} {event.message}".rstrip())
                self._idle(event.worker, now)
            case ev.ItemSetAside():
                self.set_aside += 1
                self.done -= 1  # its batch is counted whole
                self._fail(event.at, f"set aside {event.name}: {event.message}")
            case ev.TakenBack():
                self.done -= event.items
            case ev.NodeJoined():
                self.nodes[event.node] = 0, event.budget
                self._add_up_nodes()
                self.doing = ""
            case ev.NodeRead():
                if event.node in self.nodes:
                    self.nodes[event.node] = event.used, event.budget
                    self.peak = max(self.peak, event.used)
                    self._add_up_nodes()
            case ev.NodeLeft():
                self.nodes.pop(event.node, None)
                self._add_up_nodes()
                what = f"node {event.node} is gone" if event.node else "a node cannot join"
                self._fail(event.at, f"{what}: {event.why}")
            case ev.CommandStarted():
                self.command = " ".join(event.command)
            case ev.ProcessSeen():
                if len(self.names) >= _NAMES:
                    self.names.clear()
                self.names[event.pid] = event.command
            case ev.KernelKill() | ev.RunDied():
                self._fail(event.at, event.message)

    def _begin(self, event: ev.StageStarted, now: float) -> None:
        self.began, self.ended, self.doing = True, False, ""
        self.stage, self.items = event.stage, event.items
        self.done = self.before = event.done
        self._own = event.budget, event.origin
        self.set_aside = event.set_aside
        self.started, self.command = now, ""
        self.workers.clear()
        self.nodes.clear()
        self.used = 0
        self._add_up_nodes()

    def _add_up_nodes(self) -> None:
        """What all nodes hold of what all may use; without any, what this process was told."""
        if not self.nodes:
            if (self.budget, self.origin) != self._own:
                self.used = 0
            self.budget, self.origin = self._own
            return
        held = [used for used, _ in self.nodes.values()]
        self.used = sum(held) if all(held) else 0  # nothing is said while some have not told
        self.budget = sum(budget for _, budget in self.nodes.values())
        self.origin = plural(len(self.nodes), "node")

    def _read(self, event: ev.MemoryRead, now: float) -> None:
        if not self.nodes:  # of a cluster it is what this process holds, which works no item
            self.used = event.used
        self.peak = max(self.peak, event.used)
        if self.command:  # its processes come and go without a word
            known = self.workers
            self.workers = {int(pid): known.get(int(pid), LiveWorker(now)) for pid in event.workers}
        for number, worker in self.workers.items():  # whom the reading does not name holds nothing of it
            worker.held = event.workers.get(str(number), 0)

    def _fail(self, at: float, sentence: str) -> None:
        self.failures.append((at, sentence))
        self.failed += 1

    def _held(self, number: int) -> int:
        return self.workers[number].held if number in self.workers else 0

    def _idle(self, number: int, now: float) -> None:
        if number in self.workers:
            self.workers[number] = LiveWorker(now, held=self.workers[number].held)

    def _name(self, number: int) -> str:
        if not self.command:
            return f"worker {number}"
        return f"process {number} ({self.names[number]})" if number in self.names else f"process {number}"

    # ------------------------------------------------------------------ in words

    def left(self, now: float) -> float | None:
        """Predicted seconds to go, from the rate so far; None if nothing is done yet."""
        done = self.done - self.before
        spent = now - self.started
        remaining = self.items - self.done - self.set_aside
        return spent * remaining / done if done > 0 and spent > 0 and remaining >= 0 else None

    @property
    def is_tight(self) -> bool:
        """Whether little of the budget is left."""
        return bool(self.budget) and self.used > 0.9 * self.budget

    def memory(self) -> str:
        """Memory against the budget; empty before the first reading."""
        of = f" of {format_size(self.budget)}" if self.budget else ""
        return f"{format_size(self.used)}{of}" if self.used else ""

    def parts(self, now: float) -> list[str]:
        """The state in a few phrases; the first is about the items."""
        if self.command:
            spent = format_seconds(max(0.0, now - self.started))
            return [part for part in (self.memory(), plural(len(self.workers), "process", "processes"),
                                      f"for {spent}") if part]  # fmt: skip
        parts = [f"{self.done:,} of {self.items:,} items"]
        if self.set_aside:
            parts.append(f"{self.set_aside:,} set aside")
        if memory := self.memory():
            parts.append(memory)
        if self.nodes:
            parts.append(plural(len(self.nodes), "node"))
        parts.append(plural(len(self.workers), "worker"))
        left = self.left(now)
        if left is not None:
            about = f"{left:.0f} s" if left < 120 else format_seconds(left)
            parts.append(f"about {about} left" if left >= 1 else "nearly done")
        return parts
