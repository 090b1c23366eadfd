"""The memory of the whole process tree, summed from readings of its parts.

Read and written by the governor's thread alone, but for plain numbers that others only read.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from penstock import asking, discover
from penstock.abc import Backend, Ceiling, Reading
from penstock.budget import BudgetInForce
from penstock.engine.decide import governor
from penstock.engine.parent.options import Host
from penstock.engine.parent.worker_memory import WorkerMemory

_SHORT = 2
"""Memory is short below so many headrooms."""
_LOOK_EVERY = 5
"""While it is not, the ceilings and the backend are read once in so many readings of the workers."""
_LASTS = 1.0
"""Seconds after which what no process of ours holds is there to stay."""
_KILLS = 64
"""Rises of the kernel's count of kills that are remembered."""


class Lasting:
    """The least of a value in the last one to two seconds: what has just ended may take a moment to go."""

    def __init__(self) -> None:
        self._since = -math.inf
        self._before = self._least = 0

    def note(self, now: float, value: int) -> int:
        """Take a value; returns what has lasted."""
        if now - self._since >= _LASTS:
            self._since, self._before, self._least = now, self._least, value
        self._least = min(self._least, value)
        return min(self._before, self._least)


def within(parts: Mapping[int, int], whole: int) -> dict[int, int]:
    """Cap sizes so that their sum is at most ``whole``: the largest are cut to one common size."""
    left, kept = whole, {}
    for place, (number, part) in enumerate(sorted(parts.items(), key=lambda pair: pair[1])):
        kept[number] = min(part, left // (len(parts) - place))
        left -= kept[number]
    return {number: kept[number] for number in parts}


@dataclass(frozen=True)
class MemorySample:
    """The highest reading within an interval."""

    used: int
    workers: dict[int, int] = field(default_factory=dict)
    free: int = 0


class TreeTotal:
    """Memory of the whole process tree, under the ceilings and the budget.

    Args:
        backend: whose workers.
        host: where they run.
        budget: in force; for all our processes together.
    """

    def __init__(self, backend: Backend, host: Host, budget: BudgetInForce) -> None:
        self._backend = backend
        self._gauge = host.gauge
        self._budget = budget
        self._held = host.held
        self.free = budget.bytes
        """Bytes free at the last reading."""
        self.used = 0
        """Bytes that our whole tree held at the last reading."""
        self.peak = 0
        """The most that our whole tree held."""
        self.parent = host.held()
        """Bytes of this process at the last reading."""
        self.backend_held = 0
        """Bytes of the backend beside the workers at the last reading."""
        self.shared = 0
        """Bytes of shared memory that is ours and no worker's, such as files in memory that calls left."""
        self._left = Lasting()
        self.ceilings: tuple[Ceiling, ...] = ()
        self.used_then = 0
        """What ours held when the ceilings were read: only the two together tell what others hold."""
        self._now = self._looked = -math.inf
        self._just_looked = False
        self._sample: MemorySample | None = None
        self._kernel_kills: deque[tuple[float, int]] = deque(maxlen=_KILLS)
        self.kernel_killed = -math.inf
        """When the kernel's count of kills was last seen to rise: that memory is still to come back."""
        self._powers = asking.BackendPowers(backend)

    def begin(self) -> None:
        """Drop earlier readings: they are no peak of ours."""
        self._powers.total()

    def look_around(self, now: float) -> None:
        """Read what others hold: every time when memory is short, now and then when it is plentiful."""
        self._now = now
        turn = governor.interval(self.free, self._budget.bytes)
        if self.ceilings and not self._short() and now - self._looked < _LOOK_EVERY * turn:
            return
        self._looked = now
        self.ceilings, self._just_looked = self._gauge.read(), True
        kills = discover.kernel_kills(self.ceilings)
        if not self._kernel_kills or kills != self._kernel_kills[-1][1]:
            if self._kernel_kills and kills > self._kernel_kills[-1][1]:
                self.kernel_killed = now
            self._kernel_kills.append((now, kills))
        self.backend_held = self._backend.overhead()

    def kills_until(self, moment: float) -> int:
        """The count of kernel kills at a moment; 0 if unknown."""
        return max((kills for at, kills in self._kernel_kills if at <= moment), default=0)

    def add_up(
        self,
        readings: Mapping[int, Reading],
        everybody: Mapping[int, WorkerMemory],
        ready: Collection[WorkerMemory],
    ) -> None:
        """Sum this process, the backend and the workers.

        Args:
            readings: of this turn.
            everybody: all workers.
            ready: those that have become ready.
        """
        self.parent = self._held()
        held = {number: worker.own + worker.memory for number, worker in everybody.items()}
        shared = self._powers.shared()
        if shared is None:
            self.shared, private = 0, sum(held.values())
        else:  # each page once, where two readings may both have it
            of_workers = sum(reading.shared for reading in readings.values())
            self.shared = max(shared - of_workers, 0)
            private = sum(worker.private for worker in everybody.values()) + shared
        # One that was not read is gone: what it held before is of another moment.
        workers = {number: much for number, much in held.items() if number in readings}
        total = self._powers.total()
        grouped = total is not None
        if total is None:
            total = self.backend_held + private
            # Of a rise between two readings it is not known what the others held: one alone, then.
            rise = max((worker.rise for worker in ready), default=0)
        else:
            rise = self._rise(total, readings)
            left = self._left.note(self._now, total - self.backend_held - sum(workers.values()))
            self.shared = left if left > governor.headroom(self._budget.bytes) else 0
        if rise and workers:  # of the highest moment, as the sum is
            riser = max(workers, key=lambda number: everybody[number].rise)
            workers[riser] += min(everybody[riser].rise, rise)
        if grouped:  # it was read after its workers, one of which may have ended or let go meanwhile
            workers = within(workers, total + rise)
        self.used = self.parent + total
        if self._just_looked:
            self.used_then, self._just_looked = self.used, False
        self.free = discover.free(self.ceilings, self._budget.bytes, self.used, self.used_then)
        self._powers.tell_short(self._short())
        self._remember(self.used + rise, workers)

    def _short(self) -> bool:
        return self.free < _SHORT * governor.headroom(self._budget.bytes)

    def _rise(self, total: int, readings: Mapping[int, Reading]) -> int:
        """By how much the sum was higher between two readings, as far as what the workers did explains it."""
        known = [reading for reading in readings.values() if reading.charged is not None]
        others = max(total - sum(reading.charged or 0 for reading in known), self.backend_held)
        explained = sum(reading.charged_peak + reading.pipes for reading in known) + others
        return max(min(self._powers.top(), explained) - total, 0)

    def _remember(self, top: int, workers: dict[int, int]) -> None:
        self.peak = max(self.peak, top)
        least = self.free if self._sample is None else min(self.free, self._sample.free)
        if self._sample is None or top >= self._sample.used:
            self._sample = MemorySample(top, workers, least)
        elif least < self._sample.free:
            self._sample = MemorySample(self._sample.used, self._sample.workers, least)

    def sample(self) -> MemorySample | None:
        """The highest reading since the last call."""
        sample, self._sample = self._sample, None
        return sample
