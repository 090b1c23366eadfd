"""What a run says as it goes: frozen values, each one line of ``events.jsonl``
(:mod:`penstock.event_lines`).

Progress, the report and the logs are readers of these; none of them asks the engine anything.
An observer is one call: ``observer(event)``. ``at`` is in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str] = "event"
    at: float
    """When, in seconds since the epoch."""
    stage: str = ""
    """The stage's name; empty for a run of one job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted(Event):
    """A stage begins, or continues after a resume."""

    kind: ClassVar[str] = "stage_started"
    items: int
    """How many items there are in all."""
    done: int
    """How many were done before."""
    budget: int
    """Bytes that all our processes together may use."""
    origin: str
    """Who set the budget."""
    workers: int | None
    """The number asked for; None when the plan chooses."""
    again: int = 0
    """Items that were kept before and are done again: in one batch with items that are tried again, say."""
    set_aside: int = 0
    """Items that were set aside before and stay so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned(Event):
    """The plan is made, or remade."""

    kind: ClassVar[str] = "planned"
    workers: int
    """Workers at once."""
    call: int
    """Items a call."""
    batch: int
    """Items a batch."""
    reserved: int
    """Bytes taken before any item: this process, the fork server, idle workers, results."""
    footprint: int
    """Predicted bound of one call, in bytes."""
    projected: int
    """Predicted peak of the process tree, in bytes."""
    enough: int = 0
    """Bytes of the smallest budget in which this plan fits; 0 when not told."""
    most_workers: int = 0
    """The most workers that there are cores and items for; 0 when not told."""
    enough_for_most: int = 0
    """Bytes of a budget in which so many would fit."""
    why: str = ""
    """Why not one worker more, where memory is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChanged(Event):
    """A ceiling moved during the run."""

    kind: ClassVar[str] = "budget_changed"
    budget: int
    """The new budget in bytes."""
    origin: str
    """Who set it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsWait(Event):
    """Calls of an executor have waited for memory as long as a worker may stall."""

    kind: ClassVar[str] = "calls_wait"
    waiting: int
    """How many."""
    running: int
    """How many are being worked."""
    free: int
    """Bytes that are free."""
    seconds: float
    """How long none was begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """A worker is ready."""

    kind: ClassVar[str] = "worker_started"
    worker: int
    """Its number, never used twice in a run."""
    node: str = ""
    """The node that it is on; empty where the run has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnded(Event):
    """A worker is gone."""

    kind: ClassVar[str] = "worker_ended"
    worker: int
    """Its number."""
    why: str
    """``"done"``, ``"recycled"``, ``"evicted"`` (its memory was needed), ``"governor"``, ``"kernel"``,
    ``"stalled"``, ``"timeout"``, ``"interrupted"``, ``"signal 11"``, ``"exit 3"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPaused(Event):
    """The governor paused a worker."""

    kind: ClassVar[str] = "worker_paused"
    worker: int
    """Its number."""
    free: int
    """Bytes that were left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResumed(Event):
    """A paused worker continues."""

    kind: ClassVar[str] = "worker_resumed"
    worker: int
    """Its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStarted(Event):
    """A batch was given to a worker."""

    kind: ClassVar[str] = "batch_started"
    batch: int
    """Its number within the stage."""
    worker: int
    """Who works it."""
    start: int
    """First item."""
    stop: int
    """One past the last item."""
    call: int
    """Items a call."""
    projected: int
    """Bytes reserved for it."""
    alone: bool = False
    """True when everything else was drained for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDone(Event):
    """A batch is kept."""

    kind: ClassVar[str] = "batch_done"
    batch: int
    """Its number."""
    worker: int
    """Who worked it."""
    start: int
    """First item."""
    stop: int
    """One past the last item kept; smaller than asked for when the batch was cut."""
    seconds: float
    """Wall seconds in the worker."""
    peak: int
    """Measured peak above the idle worker, in bytes."""
    projected: int
    """What was reserved, in bytes."""
    retained: int
    """What the worker still held afterwards, above idle, in bytes."""
    heaviest: int = -1
    """First item of its call with the highest peak; -1 where no call was measured."""
    heaviest_stop: int = -1
    """One past the last item of that call."""
    heaviest_name: str = ""
    """Name of that first item; empty where it has none but its number."""
    slowest: int = -1
    """First item of the call that took longest."""
    slowest_stop: int = -1
    """One past the last item of that call."""
    slowest_name: str = ""
    """Name of that first item."""
    slowest_seconds: float = 0.0
    """Wall seconds of that call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFailed(Event):
    """A batch failed; its items will be retried, smaller or alone, or set aside."""

    kind: ClassVar[str] = "batch_failed"
    batch: int
    """Its number."""
    worker: int
    """Who worked it."""
    start: int
    """First item."""
    stop: int
    """One past the last item."""
    cause: str
    """``"memory"``, ``"governor"``, ``"kernel"``, ``"killed"``, ``"crashed"``, ``"stalled"``,
    ``"timeout"``, ``"raised"``, ``"kept"``, ``"load"``, ``"unfit"``, ``"interrupted"``."""
    item: int
    """The item being worked, or -1."""
    held: int
    """The most that the worker was seen to hold above idle, in bytes."""
    message: str = ""
    """One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSetAside(Event):
    """An item was set aside, with its reason."""

    kind: ClassVar[str] = "item_set_aside"
    item: int
    """Its index."""
    name: str
    """Its name."""
    reason: str
    """As in SetAside."""
    message: str
    """One sentence with the numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRead(Event):
    """The highest reading within a short interval."""

    kind: ClassVar[str] = "memory_read"
    used: int
    """Bytes held by the whole process tree at its highest in this while."""
    workers: Mapping[str, int]
    """Bytes by worker number at that moment: none holds more than the whole tree."""
    free: int
    """Least bytes left under the budget and every ceiling in this while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJoined(Event):
    """A node of a cluster is ready."""

    kind: ClassVar[str] = "node_joined"
    node: str
    """Its name in this stage: ``"n1"``."""
    host: str
    """Where it is."""
    budget: int
    """Bytes that all its processes together may use."""
    origin: str
    """Who set that."""
    cores: int
    """Cores that it may use."""
    log: str = ""
    """Name of the file in the state folder that has what its workers print; empty where that is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLeft(Event):
    """A node is lost or was excluded; its items are worked elsewhere."""

    kind: ClassVar[str] = "node_left"
    node: str
    """Its name; empty where it was never ready."""
    why: str
    """What is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRead(Event):
    """The most that a node held since its last report."""

    kind: ClassVar[str] = "node_read"
    node: str
    """Its name."""
    used: int
    """Bytes held by all its processes."""
    budget: int
    """Bytes that they may use."""
    origin: str
    """Who set that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded(Event):
    """A stage has ended."""

    kind: ClassVar[str] = "stage_ended"
    outcome: str
    """``"done"``, ``"failed"`` or ``"interrupted"``."""
    done: int
    """Items kept, over all runs of this folder."""
    set_aside: int
    """Items set aside."""
    seconds: float
    """Wall seconds of this run of it."""
    cpu: float
    """CPU seconds of all our processes in this run of it."""
    peak: int
    """Measured peak of the process tree, in bytes."""
    projected: int
    """The last plan's projected peak, in bytes."""
    message: str = ""
    """Why it failed."""
    waited: float = 0.0
    """Seconds that cores had no call because there was no room for one, added up."""
    code: int | None = None
    """With what a command that ends so exits; None where that was not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDied(Event):
    """The previous run in the same folder had died; emitted by the run that continues it."""

    kind: ClassVar[str] = "run_died"
    died: float
    """Its last sign of life, in seconds since the epoch."""
    message: str
    """One sentence: when, at what memory, at which items, and what is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking(Event):
    """Slow work before a stage can begin."""

    kind: ClassVar[str] = "looking"
    message: str
    """What."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled(Event):
    """A stage relies on measurements of earlier runs, or no longer does."""

    kind: ClassVar[str] = "recalled"
    message: str
    """What they took; or why they count no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack(Event):
    """Kept files are missing or have changed: their items no longer count as done."""

    kind: ClassVar[str] = "taken_back"
    items: int
    """How many; 0 when the results are only put together again."""
    message: str
    """One sentence: which files, what was expected and found, and where they are put."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStarted(Event):
    """A supervised command has started (`penstock exec`); it is a stage of one item."""

    kind: ClassVar[str] = "command_started"
    pid: int
    """Its process number; ``MemoryRead.workers`` of such a stage goes by process numbers."""
    command: tuple[str, ...]
    """The command and its arguments."""
    folder: str
    """Where it was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSeen(Event):
    """A process of a supervised command is among the largest, or runs another program now."""

    kind: ClassVar[str] = "process_seen"
    pid: int
    """Its number, as in ``MemoryRead.workers``."""
    command: str
    """Its command line, shortened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelKill(Event):
    """The kernel killed processes of a supervised command for memory; emitted when it was seen."""

    kind: ClassVar[str] = "kernel_kill"
    count: int
    """How many."""
    message: str
    """How that is known, what the tree held, and which ones it were, as far as that is told."""
