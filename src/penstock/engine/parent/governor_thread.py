"""The governor's thread: read, decide, act, every 1 to 20 ms.

The only place where the governor meets the clock and the processes. It touches no disk and never
waits for a worker. What it did and saw is fetched by the loop: notices, the highest reading of a
while, what each worker held at most. Should it fail itself, the loop is woken, and told by
:meth:`Watch.check`: nothing may go on that nobody watches.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from penstock import discover
from penstock import worker_note as note
from penstock.abc import Backend, Ceiling, Reading
from penstock.budget import BudgetInForce, MiB
from penstock.engine.decide import governor
from penstock.engine.messages import MeasuredCall
from penstock.engine.parent.clock import Clock, Repeated
from penstock.errors import PenstockBug
from penstock.meter import Meter
from penstock.patience import Patience
from penstock.peaks import Trail

_IO_EVERY = 1.0
"""Seconds between looks at the I/O of a worker that uses no CPU."""
_CALM = 0.02
"""Seconds between readings when nothing can run out soon."""
_BETWEEN = 2 * MiB
"""By so much a call's own peak may be above what a control group told until then."""
_IDLE = 0.25
"""Seconds between readings while nobody has a batch."""
_LOOK_EVERY = 0.1
"""Then, seconds between readings of the ceilings and of the backend."""
_HUNG = 60.0
"""Seconds after which a turn of the governor that does not end hangs."""
_SLEPT = 5.0
"""Seconds between two turns from which all of us were stopped, or asleep: nobody stalled meanwhile."""
_UNBORN_LEAST = 16 * MiB
"""What a worker that is not ready yet may hold without being looked at as one that has a batch."""
_DYING = 10.0
"""Seconds that may pass until a process is gone which the kernel ended, and until its count is looked at."""
_KILLS = 64
"""Rises of that count that are remembered."""
_END_SECONDS = 5.0
"""Seconds for its last turn, at the end."""


@dataclass
class _Life:
    """One worker, as the governor knows it."""

    idle: int
    own: int
    mapped: int = 0
    own_mapped: int = 0
    began: float = math.inf
    reserved: int = 0
    timed: bool = True
    memory: int = 0
    rise: int = 0
    private: int = 0
    highest: int = 0
    paused: bool = False
    cpu: float = 0.0
    active: float = 0.0
    seen: float = -math.inf
    """When it was read last, alive."""
    io: int = 0
    io_at: float = 0.0
    at: tuple[int, int, int] = (-1, -1, -1)
    at_since: float = 0.0
    trail: Trail = field(default_factory=Trail)
    bound: float = math.inf
    """What it was never above since its batch began; infinite where that is not told."""

    @property
    def busy(self) -> bool:
        return self.began != math.inf

    def read(self, reading: Reading) -> None:
        """Take what the worker's tree holds now, and the most that it held since the last time."""
        if reading.charged is None:
            self.memory = max(reading.memory + reading.pipes - self.idle, 0)
            self.rise = max(reading.peak - reading.memory, 0)
            self.bound = math.inf
        else:  # each page once, and none of the fork server's
            self.memory = max(reading.charged + reading.pipes - self.own, 0)
            self.rise = max(reading.charged_peak - reading.charged, 0)
            self.bound = max(self.bound, reading.charged_bound + reading.pipes - self.own)
        # Without what it shares with anybody: with the fork server pages, with all shared memory.
        grown = reading.memory - reading.shared - (self.idle - self.mapped)
        self.private = max(self.own - self.own_mapped + grown, 0) + reading.pipes
        if reading.mark is not None:
            self.trail.add(reading.mark, max(reading.peak, reading.memory))
        self.highest = max(self.highest, self.memory + self.rise)


@dataclass(frozen=True)
class Notice:
    """Something the governor did."""

    what: str
    """``"paused"``, ``"resumed"``, ``"killed"``, ``"drop_idle"``."""
    worker: int
    why: str = ""
    """For a kill: ``"governor"``, ``"lock"``, ``"stalled"``, ``"timeout"``."""
    free: int = 0


@dataclass(frozen=True)
class MemorySample:
    """The highest reading of a while."""

    used: int
    workers: dict[int, int] = field(default_factory=dict)
    free: int = 0


def _refined(call: MeasuredCall, life: _Life) -> MeasuredCall:
    if call.between is None:
        return call
    begin, end = call.between
    return replace(call, peak=max(life.trail.peak(begin, end, call.peak + life.idle) - life.idle, 0))


class GovernorThread:
    """Watches the workers of one backend under one budget.

    Args:
        backend: whose workers.
        gauge: the ceilings, read anew each time.
        budget: in force; for all our processes together.
        stall: seconds without CPU and I/O after which a worker is ended.
        timeout: seconds after which a call is ended; None for never.
        governs: False only watches (the backend runs in this process).
        clock: that time goes by, and the turns are taken by.
        held: bytes of this process now; as its meter tells by default.
    """

    def __init__(
        self,
        backend: Backend,
        gauge: discover.Gauge,
        budget: BudgetInForce,
        *,
        stall: float,
        timeout: float | None,
        governs: bool = True,
        clock: Clock,
        held: Callable[[], int] | None = None,
    ) -> None:
        self._backend = backend
        self._gauge = gauge
        self._stall = stall
        self._timeout = timeout
        self._governs = governs
        self._clock = clock
        self._held = held or Meter().held
        self._turns: Repeated | None = None
        self._turned = clock()
        self._wait = 0.0
        self._looked_for = clock()
        self._patience = Patience(_HUNG)
        self._lock = threading.Lock()
        self._lives: dict[int, _Life] = {}
        self._unborn: dict[int, _Life] = {}
        self._notices: list[Notice] = []
        self._sample: MemorySample | None = None
        self._last_kill = self._looked = -math.inf
        self._killed: dict[int, tuple[str, int]] = {}
        self._budget = budget
        self.error: BaseException | None = None
        """What ended the governor's turns."""
        self.admit = True
        """Whether new batches may start."""
        self.free = budget.bytes
        """Bytes free at the last reading."""
        self.used = 0
        """Bytes that our whole tree held at the last reading."""
        self.peak = 0
        """The most that our whole tree held."""
        self.parent = self._held()
        """Bytes of this process at the last reading."""
        self.backend_held = 0
        """Bytes of the backend beside the workers at the last reading."""
        self.shared = 0
        """Bytes of shared memory that is ours and no worker's."""
        self.ceilings: tuple[Ceiling, ...] = ()
        self.used_then = 0
        """What ours held when the ceilings were read: only the two together tell what others hold."""
        self._just_looked = False
        self._kernel_kills: deque[tuple[float, int]] = deque(maxlen=_KILLS)
        # What a backend may tell, and need not.
        self._shared: Callable[[], int | None] = getattr(backend, "shared", lambda: None)
        self._total: Callable[[], int | None] = getattr(backend, "total", lambda: None)
        self._top: Callable[[], int] = getattr(backend, "top", lambda: 0)

    # ------------------------------------------------------------------ told by the loop

    def expect(self, worker: int) -> None:
        """A worker was asked for: it loads what it needs until it is ready."""
        with self._lock:
            now = self._clock()
            self._unborn[worker] = _Life(0, 0, began=now, active=now, timed=False)

    def ready(self, worker: int, idle: int, own: int, *, mapped: int = 0, own_mapped: int = 0) -> None:
        """A worker is there, holding ``idle`` bytes of which ``own`` are its own.

        ``mapped`` and ``own_mapped`` are the parts of these that are shared memory.
        """
        with self._lock:
            before = self._unborn.pop(worker, None)
            if before is not None and before.paused:
                self._resume(worker, before)
            self._lives[worker] = _Life(idle, own, mapped, own_mapped, active=self._clock())

    def began(self, worker: int, reserved: int, *, timed: bool = True) -> None:
        """A worker has been given a batch, or a chore, for which there is no timeout."""
        with self._lock:
            life = self._lives[worker]
            now = self._clock()
            life.began = life.active = life.at_since = now
            life.reserved = reserved
            life.timed = timed
            life.highest = life.memory
            life.bound = life.memory
            life.trail.clear()
        if self._turns is not None:
            self._turns.nudge()

    def reserve(self, worker: int, reserved: int) -> None:
        """The batch that a worker has needs more than it was admitted with."""
        with self._lock:
            if worker in self._lives:
                self._lives[worker].reserved = reserved

    def ended(self, worker: int) -> int:
        """A worker's batch has ended; the most it was seen to hold, in bytes above idle."""
        with self._lock:
            life = self._lives.get(worker)
            if life is None:
                return 0
            life.began = math.inf
            if life.paused:
                self._resume(worker, life)
            return life.highest

    def refine(self, worker: int, calls: Iterable[MeasuredCall]) -> tuple[MeasuredCall, ...]:
        """The calls of a worker's batch, their peaks told by the readings in between where there were some.

        A worker knows two readings, and must take for memory what page faults explain of the files
        that it mapped. Neither it nor the readings are ever too low by themselves: the lesser counts.
        """
        with self._lock:
            life = self._lives.get(worker)
            if life is None:
                return tuple(calls)
            refined = tuple(_refined(call, life) for call in calls)
        if max((call.peak for call in refined), default=0) <= life.bound + _BETWEEN:
            return refined
        # Processes were added up that have pages in common, or something happened since the last reading.
        self._absorb(self._backend.read())
        with self._lock:
            bound = life.bound
        return tuple(call if call.peak <= bound else replace(call, peak=int(bound)) for call in refined)

    def gone(self, worker: int) -> tuple[str, int]:
        """A worker is gone; (why the governor killed it or "", the most it was seen to hold)."""
        with self._lock:
            life = self._lives.pop(worker, None) or self._unborn.pop(worker, None)
            why, held = self._killed.pop(worker, ("", 0))
            if why:
                self._last_kill = -math.inf  # its memory is back
            return why, max(held, life.highest if life else 0)

    def kills_before(self, worker: int) -> int:
        """The kernel's count of kills a little before a worker was last seen; 0 where that is not known.

        What rose earlier took somebody else: others' processes count too where the group is not our own.
        """
        with self._lock:
            life = self._lives.get(worker) or self._unborn.get(worker)
            until = (life.seen if life is not None else -math.inf) - _DYING
            return max((kills for at, kills in self._kernel_kills if at <= until), default=0)

    def held(self, worker: int) -> int:
        """Bytes above idle that a worker held at the last reading."""
        with self._lock:
            life = self._lives.get(worker)
            return life.memory if life else 0

    def notices(self) -> list[Notice]:
        """What was done since the last call."""
        with self._lock:
            notices, self._notices = self._notices, []
            return notices

    def sample(self) -> MemorySample | None:
        """The highest reading since the last call."""
        with self._lock:
            sample, self._sample = self._sample, None
            return sample

    def start(self) -> None:
        """Begin to take turns."""
        self._turned = self._clock()
        self._total()  # what was before is no peak of ours
        self._turns = self._clock.repeat(self.turn, "penstock-governor")

    def stop(self) -> None:
        """Take no more turns."""
        if self._turns is not None:
            self._turns.end(_END_SECONDS)

    def check(self) -> None:
        """Nothing may go on that nobody watches.

        Raises:
            PenstockBug: a turn failed, or does not end.
        """
        if self.error is not None:
            raise PenstockBug(
                f"the governor, which keeps the run inside its budget, failed: {type(self.error).__name__}: "
                f"{self.error}. Every worker was stopped; everything done is kept, and the same command goes "
                "on. Please report this with the run's events.jsonl."
            ) from self.error
        if self._turns is None or self._turned != self._looked_for:
            self._looked_for = self._turned
            self._patience.renew()
        elif self._patience.over(self._clock()):
            raise PenstockBug(
                f"the governor, which keeps the run inside its budget, has not ended a turn for {_HUNG:.0f} "
                "s: a memory limit that cannot be read, or a process that cannot be looked at, holds it up. "
                "Every worker was stopped; everything done is kept, and the same command goes on."
            )

    # ------------------------------------------------------------------ its turns

    def turn(self) -> float | None:
        """One turn; None where it failed, and there will be no other."""
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
        """Read, decide, act once; the seconds until the next time."""
        now = self._clock()
        self._look_around(now)
        readings = self._backend.read()
        self._absorb(readings)
        with self._lock:
            slept = now - self._turned - self._wait
            if slept > _SLEPT:
                for life in self._everybody().values():
                    life.active, life.at_since = life.active + slept, life.at_since + slept
            self._read_unborn(readings, now)
            for worker, life in self._lives.items():
                if worker in readings and (readings[worker].cpu != life.cpu or life.paused):
                    life.cpu, life.active = readings[worker].cpu, now
            self._add_up(readings)
            if self._governs:
                self._act(now)
                self._end_stuck(now)
            busy = any(life.busy for life in self._lives.values())
        pause = governor.interval(self.free, self._budget.bytes)
        return pause if busy else _IDLE

    def _everybody(self) -> dict[int, _Life]:
        return {**self._lives, **self._unborn}

    def _read_unborn(self, readings: Mapping[int, Reading], now: float) -> None:
        """What workers hold that are not ready yet, beyond the pages that they have from the fork server."""
        for worker, life in self._unborn.items():
            if (reading := readings.get(worker)) is not None:
                life.idle = self.backend_held
                life.read(reading)
                if reading.cpu != life.cpu or life.paused:
                    life.cpu, life.active = reading.cpu, now

    def _absorb(self, readings: Mapping[int, Reading]) -> None:
        with self._lock:
            now = self._clock()
            for worker, life in self._lives.items():
                if worker in readings:
                    life.read(readings[worker])
                    life.seen = now

    def _look_around(self, now: float) -> None:
        """Read what others hold: each time when memory is short, now and then when there is plenty."""
        plenty = governor.interval(self.free, self._budget.bytes) >= _CALM
        if self.ceilings and plenty and now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        self.ceilings, self._just_looked = self._gauge.read(), True
        kills = discover.kernel_kills(self.ceilings)
        if not self._kernel_kills or kills != self._kernel_kills[-1][1]:
            self._kernel_kills.append((now, kills))
        self.backend_held = self._backend.overhead()

    def _add_up(self, readings: Mapping[int, Reading]) -> None:
        self.parent = self._held()
        workers = {worker: life.own + life.memory for worker, life in self._everybody().items()}
        shared = self._shared()
        if shared is None:
            self.shared, private = 0, sum(workers.values())
        else:  # each page once, where two readings may both have it
            of_workers = sum(reading.shared for reading in readings.values())
            self.shared = max(shared - of_workers, 0)
            private = sum(life.private for life in self._everybody().values()) + shared
        total = self._total()
        if total is None:
            total = self.backend_held + private
            # Of a rise between two readings it is not known what the others held: one alone, then.
            rise = max((life.rise for life in self._lives.values()), default=0)
        else:
            rise = self._rise(total, readings)
        self.used = self.parent + total
        if self._just_looked:
            self.used_then, self._just_looked = self.used, False
        top = self.used + rise
        self.peak = max(self.peak, top)
        self.free = discover.free(self.ceilings, self._budget.bytes, self.used)
        if hasattr(self._backend, "short"):
            self._backend.short = self.free < 2 * governor.headroom(self._budget.bytes)
        least = self.free if self._sample is None else min(self.free, self._sample.free)
        if self._sample is None or top >= self._sample.used:
            self._sample = MemorySample(top, workers, least)
        elif least < self._sample.free:
            self._sample = MemorySample(self._sample.used, self._sample.workers, least)

    def _rise(self, total: int, readings: Mapping[int, Reading]) -> int:
        """By how much the sum was higher between two readings, as far as what the workers did explains it."""
        known = [reading for reading in readings.values() if reading.charged is not None]
        others = max(total - sum(reading.charged or 0 for reading in known), self.backend_held)
        explained = sum(reading.charged_peak + reading.pipes for reading in known) + others
        return max(min(self._top(), explained) - total, 0)

    def _act(self, now: float) -> None:
        everybody = self._everybody()
        watched = [
            governor.Watched(
                worker,
                life.began,
                life.memory,
                life.reserved,
                life.paused,
                0.0 if life.paused else now - life.active,
            )
            for worker, life in everybody.items()
            if life.busy
            and worker not in self._killed
            and (worker in self._lives or life.memory > _UNBORN_LEAST)
        ]
        budget = self._budget.bytes
        orders = governor.decide(self.free, budget, watched, now, self._last_kill)
        self.admit = orders.admit
        for worker in orders.pause:
            self._backend.pause(worker)
            everybody[worker].paused = True
            self._note(Notice("paused", worker, free=self.free))
        for worker in orders.resume:
            self._resume(worker, everybody[worker])
        for worker in orders.kill:
            critical = self.free < 0.5 * governor.headroom(budget)
            self._kill(worker, "governor" if critical else "lock", now)
        if orders.drop_idle and any(not life.busy for life in self._lives.values()):
            self._note(Notice("drop_idle", -1, free=self.free))

    def _resume(self, worker: int, life: _Life) -> None:
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
        self._note(Notice("killed", worker, why, self.free))

    def _end_stuck(self, now: float) -> None:
        for worker, life in self._everybody().items():
            if not life.busy or life.paused or worker in self._killed:
                continue
            if self._timeout is not None and life.timed:
                at = self._backend.noted(worker)
                if at != life.at or at[0] == note.KEEPING:
                    life.at, life.at_since = at, now
                elif now - life.at_since > self._timeout:
                    self._kill(worker, "timeout", now)
                    continue
            idle = now - life.active
            if idle > _IO_EVERY / 2 and now - life.io_at > _IO_EVERY:
                life.io_at, io = now, self._backend.io(worker)
                if io != life.io:
                    life.io, life.active = io, now
                elif idle > self._stall:
                    self._kill(worker, "stalled", now)

    def _note(self, notice: Notice) -> None:
        if notice.what == "drop_idle" and any(each.what == "drop_idle" for each in self._notices):
            return
        self._notices.append(notice)
        self._backend.wake()
