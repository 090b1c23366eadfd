"""The workers of a stage: starts, dismisses and reaps them, and gives each death one cause."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from penstock import asking
from penstock import worker_note as note
from penstock.abc import Backend, Death
from penstock.budget import GiB
from penstock.engine import messages as m
from penstock.engine.decide.estimate import Shape
from penstock.engine.decide.tasks import Failure, Given, Task
from penstock.engine.parent.clock import Clock
from penstock.engine.parent.governor_thread import GovernorThread
from penstock.errors import WorkerDied

_LEAST_FENCE = 1 * GiB
_MOVED = 0.02
"""A fence that moved by less than this share of itself is left where it is."""
_MAX_STARTUP_DEATHS = 5
"""So many workers in a row that die before they begin are no accident."""
_BACK_OFF = 0.1
"""Seconds until the next is started when one could not be; twice as many each time."""
_LEAVE_SECONDS = 5.0
"""In which a worker that was told to leave leaves."""


_UNSURE = (
    "signal 9, just when the kernel's count of out-of-memory kills rose; others' processes count in it too, "
    "so that it may have been somebody else's signal"
)


@dataclass
class WorkerState:
    """One worker, as the loop knows it.

    What it has to do is the schedule's to say, what it holds the governor's, and its process the backend's.
    """

    number: int
    running: Mapping[int, Given] = field(default_factory=dict)
    """What each worker has, of the schedule: the one table of it."""
    ready: bool = False
    idle_own: int = 0
    """Bytes of its own when idle."""
    warm: bool = False
    """Whether it has kept a batch."""
    batch: int = 0
    reserved: int = 0
    shape: Shape | None = None
    """Of the calls of its batch."""
    guessed: bool = False
    """Whether nothing was known when that was reserved."""
    kills_before: int = 0
    """The kernel's count of kills when its batch began."""
    leaving: str = ""
    """Why it was told to end."""
    left_at: float = math.inf
    """When."""
    chore: m.Chore | None = None
    trial: tuple[int, int] | None = None
    fence: int = 0
    """What the kernel lets it hold at most; 0: not told yet."""
    drafts: str = ""
    """Its folder inside the owner's folder for drafts."""
    began: float = 0.0
    """When it was given its batch."""
    first: int = 0
    """The first item of its batch."""
    apart: bool = False
    """Whether results of the batch may come before it ends, and items be taken back."""
    came_early: int = 0
    """How many results came so."""
    early: int = 0
    """Bytes of results that lay there at the last look."""
    cut_at: float = math.inf
    """When its batch was cut, to take items back."""
    given: int = 0
    """Items that it was given so far."""

    @property
    def task(self) -> Task | None:
        """Its batch."""
        given = self.running.get(self.number)
        return None if given is None else given.task

    @property
    def busy(self) -> bool:
        """Whether it is working."""
        return self.task is not None or self.chore is not None or self.trial is not None

    @property
    def free(self) -> bool:
        """Whether it can be given work."""
        return self.ready and not self.busy and not self.leaving


class Workers:
    """The workers of one stage.

    Args:
        backend: that starts and ends them.
        watch: that knows what they hold.
        clock: that time goes by.
        running: what each has, of the schedule.
    """

    def __init__(
        self, backend: Backend, watch: GovernorThread, clock: Clock, running: Mapping[int, Given]
    ) -> None:
        self._running = running
        self.clock = clock
        self.memory = watch.memory
        """What all our processes hold."""
        self._not_before = -math.inf
        self._backend = backend
        self._fence = asking.BackendPowers(backend).fence
        self._watch = watch
        self._workers: dict[int, WorkerState] = {}
        self._startup_deaths = 0

    def __iter__(self) -> Iterator[WorkerState]:
        return iter(list(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, number: int) -> WorkerState | None:
        """A living worker by its number."""
        return self._workers.get(number)

    @property
    def running(self) -> list[WorkerState]:
        """The workers that have a batch."""
        return [worker for worker in self if worker.task is not None]

    @property
    def idle_own(self) -> int:
        """Bytes of one idle worker."""
        return max((worker.idle_own for worker in self), default=0)

    @property
    def late(self) -> float:
        """Seconds by which the governor's next turn may come late."""
        return self._watch.lateness.expected

    def held(self, worker: WorkerState) -> int:
        """Bytes above idle that a worker holds now."""
        return self._watch.held(worker.number)

    def committed(self, worker: WorkerState) -> int:
        """Bytes to account for a worker: what its batch was admitted with, or what it holds.

        One that was let in on a guess counts with twice what it holds, for it may still grow.
        """
        held = self.held(worker)
        if worker.task is None:
            return held
        return 2 * held if worker.guessed else max(worker.reserved, held)

    def fence(self, worker: WorkerState, budget: int) -> None:
        """Have the kernel kill it, and only it, should it outrun the governor: the last fence.

        It may hold what the budget leaves beside this process and the fork server. Pages of mapped files
        count for the kernel, and are read again and again where they have no room: so never under 1 GiB.
        """
        most = max(budget - self.memory.parent - self.memory.backend_held, _LEAST_FENCE)
        if abs(most - worker.fence) > _MOVED * worker.fence:
            worker.fence = most
            self._fence(worker.number, most)

    # ------------------------------------------------------------------ coming and going

    def start(self) -> None:
        """Start one more; not while the last one could not be started."""
        if self.clock() < self._not_before:
            return
        number = self._backend.start()
        self._workers[number] = WorkerState(number, self._running)
        self._watch.expect(number)

    def welcome(self, worker: WorkerState, ready: m.Ready) -> None:
        """Mark a worker ready."""
        worker.ready, worker.idle_own, worker.drafts = True, ready.own, ready.drafts
        self._startup_deaths = 0
        self._watch.ready(
            worker.number, ready.memory, ready.own, mapped=ready.mapped, own_mapped=ready.own_mapped
        )

    def dismiss(self, workers: Iterable[WorkerState], why: str) -> None:
        """Tell idle workers to exit."""
        for worker in workers:
            if worker.leaving:
                continue
            worker.leaving, worker.left_at = why, self.clock()
            if worker.ready:
                self._backend.send(worker.number, m.Leave())
            else:
                self._backend.kill(worker.number)

    def hurry(self) -> None:
        """Kill workers that were told to exit and have not."""
        now = self.clock()
        for worker in self:
            if now - worker.left_at > _LEAVE_SECONDS:
                worker.left_at = now
                self._backend.kill(worker.number)

    def drop(self, why: str) -> None:
        """Kill the busy workers at once."""
        for worker in self:
            if worker.busy:
                worker.leaving = worker.leaving or why
                self._backend.kill(worker.number)

    def kill_all(self) -> None:
        """Kill all workers at once."""
        for worker in self:
            worker.leaving = worker.leaving or "done"
            self._backend.kill(worker.number)

    def reap(self, worker: WorkerState, death: Death, kernel_kills: Callable[[], int]) -> Failure:
        """Remove a dead worker and return the cause.

        Raises:
            WorkerDied: several in a row died before they began, and there is none that did.
        """
        del self._workers[worker.number]
        worker.kills_before = max(worker.kills_before, self._watch.kills_before(worker.number))
        why, held = self._watch.gone(worker.number)
        failure = diagnose(worker, death, why, held, kernel_kills)
        if not worker.ready and not worker.leaving:
            tries = min(self._startup_deaths, _MAX_STARTUP_DEATHS)
            self._not_before = self.clock() + _BACK_OFF * 2**tries
            self._startup_deaths += 1
            # Where there is room for some and not for more (descriptors, processes), those go on.
            if self._startup_deaths >= _MAX_STARTUP_DEATHS and not any(other.ready for other in self):
                raise WorkerDied(_never_began(death, failure))
        return failure


def diagnose(
    worker: WorkerState, death: Death, why: str, held: int, kernel_kills: Callable[[], int]
) -> Failure:
    """Map a worker's death to exactly one cause.

    Args:
        worker: who died.
        death: what the backend tells.
        why: why the governor killed it; "" if it did not.
        held: the most that it was seen to hold.
        kernel_kills: the kernel's count now; it rises before the death is told.
    """
    item, a, b = death.noted
    item, keeping = max(item, -1), item == note.KEEPING
    reserved = worker.reserved

    def failure(cause: str, detail: str = "") -> Failure:
        return Failure(cause, item, (a, b), held, reserved, detail, keeping, death.left)  # type: ignore[arg-type]

    if worker.leaving:
        return failure("dropped", worker.leaving)
    if death.why:
        return failure("crashed", death.why)
    if death.kernel_killed and death.signal == signal.SIGKILL and why in ("", "governor"):
        # Its own group tells, so also where the governor's signal came a moment later.
        return failure("kernel", "signal 9, out-of-memory kill")
    if why == "lock":
        return failure("dropped", "paused while the others waited for something")
    if why:
        return failure(why)
    if death.signal in (signal.SIGKILL, signal.SIGTERM):
        unknown = death.kernel_killed is None and death.signal == signal.SIGKILL
        if unknown and kernel_kills() > worker.kills_before:
            return failure("kernel", _UNSURE)
        return failure("killed", f"signal {death.signal} from outside")
    if death.signal is not None:
        return failure("crashed", f"signal {death.signal} ({_signal_name(death.signal)})")
    if death.code == note.MUTE:
        return failure("unfit", note.MUTED)
    if death.code == note.NARROW:
        return failure("unfit", note.NARROWED)
    return failure("crashed", f"exit code {death.code}")


def _never_began(death: Death, failure: Failure) -> str:
    """What is said of several workers in a row."""
    if death.why:
        return f"{_MAX_STARTUP_DEATHS} workers in a row could not be started: {death.why}"
    return (
        f"{_MAX_STARTUP_DEATHS} workers in a row died before they began "
        f"({failure.detail or failure.cause}): "
        "prepare(), the inputs or an initializer take too much memory, or crash. See what they wrote: it is "
        "in workers.log, or on stderr where there is no run folder."
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of the real-time signals only the first and the last have a name
        return "real-time signal"
