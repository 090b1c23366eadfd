"""One worker's memory and activity, as the governor's thread sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from penstock.abc import Reading
from penstock.engine.messages import MeasuredCall
from penstock.peaks import Trail


@dataclass
class WorkerMemory:
    """A worker's readings, and since when it is busy or idle.

    Args:
        idle: bytes that it held when it was ready, with what it shares.
        own: the part of these that is its own.
        mapped: the part of ``idle`` that is shared memory.
        own_mapped: the part of ``own`` that is shared memory.
    """

    idle: int
    own: int
    mapped: int = 0
    own_mapped: int = 0
    began: float = math.inf
    reserved: int = 0
    timed: bool = True
    memory: int = 0
    before: int = 0
    """What it held a turn of the governor ago."""
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
        """Whether it has a batch or a chore."""
        return self.began != math.inf

    def begin(self, now: float, reserved: int, *, timed: bool) -> None:
        """It was given a batch, admitted with ``reserved`` bytes."""
        self.began = self.active = self.at_since = now
        self.reserved = reserved
        self.timed = timed
        self.highest = self.memory
        self.bound = self.memory
        self.trail.clear()

    def read(self, reading: Reading) -> None:
        """Take a reading of the worker's tree, and the peak since the last one."""
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

    def saw_cpu(self, reading: Reading, now: float) -> None:
        """Note CPU use: a worker that uses CPU is active, and a paused one is not stalled."""
        if reading.cpu != self.cpu or self.paused:
            self.cpu, self.active = reading.cpu, now

    def refined(self, call: MeasuredCall) -> MeasuredCall:
        """A call's peak, refined by the kernel's high-water marks in between, where there were some."""
        if call.between is None:
            return call
        begin, end = call.between
        return replace(call, peak=max(self.trail.peak(begin, end, call.peak + self.idle) - self.idle, 0))
