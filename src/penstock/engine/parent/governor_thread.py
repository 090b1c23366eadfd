"""The governor's thread: read, decide, act, every 1 to 20 ms.

The only place where the governor meets the clock and the processes. What each worker holds is in
``worker_memory``, the sum in ``tree_total``. It touches no disk and never
waits for a worker. What it did and saw is fetched by the loop: notices, the highest reading of a
while, what each worker held at most. Should it fail itself, the loop is woken, and told by
:meth:`GovernorThread.check`: nothing may go on that nobody watches.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from penstock import worker_note as note
from penstock.abc import Backend, Reading
from penstock.budget import BudgetInForce, MiB
from penstock.engine.decide import governor
from penstock.engine.messages import MeasuredCall
from penstock.engine.parent.clock import Repeated
from penstock.engine.parent.options import Host, Options
from penstock.engine.parent.tree_total import MemorySample, TreeTotal
from penstock.engine.parent.worker_memory import WorkerMemory
from penstock.errors import PenstockBug
from penstock.patience import Patience

_IO_EVERY = 1.0
"""Seconds between looks at the I/O of a worker that uses no CPU."""
_BETWEEN = 2 * MiB
"""By so much a call's own peak may be above what a control group told until then."""
_IDLE = 0.25
"""Seconds between readings while nobody has a batch."""
_HUNG = 60.0
"""Seconds after which a turn of the governor that does not end hangs."""
_LATE = 0.005
"""Seconds by which a reading may come late and still tell who grows."""
_SLEPT = 5.0
"""Seconds between two turns from which all of us were stopped, or asleep: nobody stalled meanwhile."""
_UNBORN_LEAST = 16 * MiB
"""What a worker that is not ready yet may hold without being looked at as one that has a batch."""
_DYING = 10.0
"""Seconds that may pass until a process is gone which the kernel ended, and until its count is looked at."""
_END_SECONDS = 5.0
"""Seconds for its last turn, at the end."""


@dataclass(frozen=True)
class Notice:
    """Something that the governor did."""

    what: str
    """``"paused"``, ``"resumed"``, ``"killed"``, ``"drop_idle"``."""
    worker: int
    why: str = ""
    """For a kill: ``"governor"``, ``"lock"``, ``"stalled"``, ``"timeout"``."""
    free: int = 0


class GovernorThread:
    """Watches the workers of one backend under one budget.

    Args:
        backend: whose workers.
        host: where they run; the turns are taken by its clock.
        budget: in force; for all our processes together.
        options: after which time a call is ended, and whether anybody is (else it only watches: the backend
            runs in this process).
    """

    def __init__(self, backend: Backend, host: Host, budget: BudgetInForce, options: Options) -> None:
        self._backend = backend
        self._options = options
        self._clock = clock = host.clock
        self.memory = TreeTotal(backend, host, budget)
        self._turns: Repeated | None = None
        self._turned = clock()
        self._wait = 0.0
        self.lateness = governor.Lateness(host.core_wait())
        """Of its turns while somebody has a batch."""
        self._looked_for = clock()
        self._patience = Patience(_HUNG)
        self._lock = threading.Lock()
        self._lives: dict[int, WorkerMemory] = {}
        self._unborn: dict[int, WorkerMemory] = {}
        self._notices: list[Notice] = []
        self._last_kill = -math.inf
        self._killed: dict[int, tuple[str, int]] = {}
        self._budget = budget
        self.error: BaseException | None = None
        """What ended the governor's turns."""
        self.admit = True
        """Whether new batches may start."""

    # ------------------------------------------------------------------ called by the loop

    def expect(self, worker: int) -> None:
        """A worker was requested: it is starting until it is ready."""
        with self._lock:
            now = self._clock()
            self._unborn[worker] = WorkerMemory(0, 0, began=now, active=now, timed=False)

    def ready(self, worker: int, idle: int, own: int, *, mapped: int = 0, own_mapped: int = 0) -> None:
        """A worker is ready, holding ``idle`` bytes, ``own`` of them its own.

        ``mapped`` and ``own_mapped`` are the parts of these that are shared memory.
        """
        with self._lock:
            before = self._unborn.pop(worker, None)
            if before is not None and before.paused:
                self._resume(worker, before)
            self._lives[worker] = WorkerMemory(idle, own, mapped, own_mapped, active=self._clock())

    def began(self, worker: int, reserved: int, *, timed: bool = True) -> None:
        """A worker was given a batch, or a chore, which has no timeout."""
        with self._lock:
            self._lives[worker].begin(self._clock(), reserved, timed=timed)
        if self._turns is not None:
            self._turns.nudge()

    def reserve(self, worker: int, reserved: int) -> None:
        """A worker's batch needs more than it was admitted with."""
        with self._lock:
            if worker in self._lives:
                self._lives[worker].reserved = reserved

    def ended(self, worker: int) -> int:
        """A worker's batch has ended; returns the most it was seen to hold, in bytes above idle."""
        with self._lock:
            life = self._lives.get(worker)
            if life is None:
                return 0
            life.began = math.inf
            if life.paused:
                self._resume(worker, life)
            return life.highest

    def refine(self, worker: int, calls: Iterable[MeasuredCall]) -> tuple[MeasuredCall, ...]:
        """A batch's calls, with peaks refined by the readings in between, where there were some.

        A worker knows two readings, and must take for memory what page faults explain of the files
        that it mapped. Neither it nor the readings are ever too low by themselves: the lesser counts.
        """
        with self._lock:
            life = self._lives.get(worker)
            if life is None:
                return tuple(calls)
            refined = tuple(life.refined(call) for call in calls)
        if max((call.peak for call in refined), default=0) <= life.bound + _BETWEEN:
            return refined
        # Processes were added up that have pages in common, or something happened since the last reading.
        self._absorb(self._backend.read())
        with self._lock:
            bound = life.bound
        return tuple(call if call.peak <= bound else replace(call, peak=int(bound)) for call in refined)

    def gone(self, worker: int) -> tuple[str, int]:
        """A worker is gone; returns (why the governor killed it or "", the most it was seen to hold)."""
        with self._lock:
            life = self._lives.pop(worker, None) or self._unborn.pop(worker, None)
            why, held = self._killed.pop(worker, ("", 0))
            if why:
                self._last_kill = -math.inf  # its memory is back
            return why, max(held, life.highest if life else 0)

    def kills_before(self, worker: int) -> int:
        """The count of kernel kills shortly before a worker was last seen; 0 if unknown.

        What rose earlier took somebody else: others' processes count too where the group is not our own.
        """
        with self._lock:
            life = self._lives.get(worker) or self._unborn.get(worker)
            until = (life.seen if life is not None else -math.inf) - _DYING
            return self.memory.kills_until(until)

    def held(self, worker: int) -> int:
        """Bytes above idle that a worker held at the last reading."""
        with self._lock:
            life = self._lives.get(worker)
            return life.memory if life else 0

    def notices(self) -> list[Notice]:
        """What the governor did since the last call."""
        with self._lock:
            notices, self._notices = self._notices, []
            return notices

    def sample(self) -> MemorySample | None:
        """The highest reading since the last call."""
        with self._lock:
            return self.memory.sample()

    def start(self) -> None:
        """Start taking turns."""
        self._turned = self._clock()
        self.memory.begin()
        self._turns = self._clock.repeat(self.turn, "penstock-governor")

    def stop(self) -> None:
        """Stop taking turns."""
        if self._turns is not None:
            self._turns.end(_END_SECONDS)

    def check(self) -> None:
        """Raise if the governor has failed: nothing may run ungoverned.

        Raises:
            PenstockBug: a turn failed, or does not end.
        """
        if self.error is not None:
            raise PenstockBug(
                f"the governor, which keeps the run inside its budget, failed: {type(self.error).__name__}: "
                f"{self.error}. Every worker was stopped. Please report this with the run's events.jsonl."
            ) from self.error
        if self._turns is None or self._turned != self._looked_for:
            self._looked_for = self._turned
            self._patience.renew()
        elif self._patience.over(self._clock()):
            raise PenstockBug(
                f"the governor, which keeps the run inside its budget, has not ended a turn for {_HUNG:.0f} "
                "s: a memory limit that cannot be read, or a process that cannot be looked at, holds it up. "
                "Every worker was stopped."
            )

    # ------------------------------------------------------------------ its turns

    def turn(self) -> float | None:
        """One turn; None if it failed, and then there is no other."""
        try:
            wait = self.tick()
        except BaseException as error:  # told by check(), on the thread that can end the run
            self.error = error
            self.admit = False
            self._backend.wake()
            return None
        self._turned, self._wait = self._clock(), wait
        return wait

    def tick(self) -> float:
        """Read, decide and act once; returns the seconds until the next time."""
        now = self._clock()
        self.memory.look_around(now)
        readings = self._backend.read()
        self._absorb(readings)
        with self._lock:
            slept = now - self._turned - self._wait
            if slept > _SLEPT:
                for life in self._everybody().values():
                    life.active, life.at_since = life.active + slept, life.at_since + slept
            self._read_unborn(readings, now)
            for worker, life in self._lives.items():
                if worker in readings:
                    life.saw_cpu(readings[worker], now)
            self.memory.add_up(readings, self._everybody(), self._lives.values())
            if self._options.governs:
                self._act(now, late=slept > _LATE)
                self._end_stuck(now)
            busy = any(life.busy for life in self._lives.values())
        if busy and self._wait != _IDLE:
            self.lateness.note(slept + self._clock() - now)
        pause = governor.interval(self.memory.free, self._budget.bytes)
        return pause if busy else _IDLE

    def _everybody(self) -> dict[int, WorkerMemory]:
        return {**self._lives, **self._unborn}

    def _read_unborn(self, readings: Mapping[int, Reading], now: float) -> None:
        """What workers hold that are not ready yet, beyond the pages that they have from the fork server."""
        for worker, life in self._unborn.items():
            if (reading := readings.get(worker)) is not None:
                life.idle = self.memory.backend_held
                life.read(reading)
                life.saw_cpu(reading, now)

    def _absorb(self, readings: Mapping[int, Reading]) -> None:
        with self._lock:
            now = self._clock()
            for worker, life in self._lives.items():
                if worker in readings:
                    life.read(readings[worker])
                    life.seen = now

    def _act(self, now: float, *, late: bool) -> None:
        everybody = self._everybody()
        watched = [
            governor.Watched(
                worker,
                life.began,
                life.memory,
                life.reserved,
                life.paused,
                0.0 if life.paused else now - life.active,
                late or life.memory > life.before,  # on a crowded machine it may not have had its turn
            )
            for worker, life in everybody.items()
            if life.busy
            and worker not in self._killed
            and (worker in self._lives or life.memory > _UNBORN_LEAST)
        ]
        for life in everybody.values():
            life.before = life.memory
        budget = self._budget.bytes
        last_kill = max(self._last_kill, self.memory.kernel_killed)
        orders = governor.decide(self.memory.free, budget, watched, now, last_kill)
        self.admit = orders.admit
        for worker in orders.pause:
            self._backend.pause(worker)
            everybody[worker].paused = True
            self._note(Notice("paused", worker, free=self.memory.free))
        for worker in orders.resume:
            self._resume(worker, everybody[worker])
        for worker in orders.kill:
            critical = self.memory.free < 0.5 * governor.headroom(budget)
            self._kill(worker, "governor" if critical else "lock", now)
        if orders.drop_idle and any(not life.busy for life in self._lives.values()):
            self._note(Notice("drop_idle", -1, free=self.memory.free))

    def _resume(self, worker: int, life: WorkerMemory) -> None:
        self._backend.resume(worker)
        life.paused = False
        life.active = life.at_since = self._clock()
        self._note(Notice("resumed", worker))

    def _kill(self, worker: int, why: str, now: float) -> None:
        life = self._everybody()[worker]
        self._backend.kill(worker)
        self._killed[worker] = (why, life.highest)
        if why == "governor":
            self._last_kill = now
        self._note(Notice("killed", worker, why, self.memory.free))

    def _end_stuck(self, now: float) -> None:
        for worker, life in self._everybody().items():
            if not life.busy or life.paused or worker in self._killed:
                continue
            if self._options.timeout is not None and life.timed:
                at = self._backend.noted(worker)
                if at != life.at or at[0] == note.KEEPING:
                    life.at, life.at_since = at, now
                elif now - life.at_since > self._options.timeout:
                    self._kill(worker, "timeout", now)
                    continue
            idle = now - life.active
            if idle > _IO_EVERY / 2 and now - life.io_at > _IO_EVERY:
                life.io_at, io = now, self._backend.io(worker)
                if io != life.io:
                    life.io, life.active = io, now
                elif idle > self._options.stall:
                    self._kill(worker, "stalled", now)

    def _note(self, notice: Notice) -> None:
        if notice.what == "drop_idle" and any(each.what == "drop_idle" for each in self._notices):
            return
        self._notices.append(notice)
        self._backend.wake()
