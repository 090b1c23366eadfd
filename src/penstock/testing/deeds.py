"""What a worker of the fake backend does with an item, and how far it is."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from penstock.abc import Receipt, SetAside
from penstock.budget import MiB
from penstock.engine import messages as m


@dataclass(frozen=True, slots=True)
class Deed:
    """The cost of working one item once."""

    seconds: float = 0.01
    memory: int = 1 * MiB
    """The most that is held above the idle worker, in bytes, reached half-way through."""
    cpu: float = 1.0
    """Seconds of CPU in each second."""
    end: str = "done"
    """How it ends: ``"done"``, ``"raises"``, ``"memory error"``, ``"cannot keep"``, ``"no space"``,
    ``"io error"`` (a write that fails, and may succeed when it is tried again), ``"unfit"`` (takes from its
    worker what that needs, which is seen at once only where items are looked at),
    ``"crashes"`` (signal 11), ``"exits"``, ``"killed"`` (signal 9 from outside), ``"kernel"`` (the kernel's
    kill, which it counts), ``"hangs"`` (no CPU, no end), ``"spins"`` (CPU, no end)."""


ENDLESS = ("hangs", "spins")
SIGNALS = {"crashes": signal.SIGSEGV, "killed": signal.SIGKILL, "kernel": signal.SIGKILL}
ANSWERS = {
    "memory error": ("memory", "MemoryError"),
    "cannot keep": ("kept", "CannotKeep"),
    "no space": ("disk", "OSError"),
    "io error": ("disk", "OSError"),
    "unfit": ("unfit", ""),
}
NUMBERS = {"no space": errno.ENOSPC, "io error": errno.EIO}


@dataclass
class FakeWorker:
    """A worker and its current deed."""

    number: int
    ready: bool = False
    gone: bool = False
    """Whether it is dead, though nobody was told yet."""
    work: m.Work | None = None
    chore: m.Chore | None = None
    deed: Deed | None = None
    began: float = 0.0
    """When the present deed began, the time it was paused taken off."""
    paused_at: float | None = None
    stopped: bool = False
    """Whether somebody outside stopped it: it answers to nothing but a kill."""
    token: int = 0
    """Changes whenever what it is doing does."""
    at: int = -1
    """The item being worked."""
    item: int = -1
    """The same, as it is noted."""
    call: tuple[int, int] = (-1, -1)
    cut: bool = False
    cpu: float = 0.0
    warm: bool = False
    said_at: float = 0.0
    batch_began: float = 0.0
    call_began: float = 0.0
    peak: int = 0
    calls: list[m.MeasuredCall] = field(default_factory=list)
    raised: list[SetAside] = field(default_factory=list)

    def elapsed(self, now: float) -> float:
        """Seconds since the current deed began, pauses excluded."""
        return (now if self.paused_at is None else self.paused_at) - self.began

    def held(self, now: float) -> int:
        """Bytes above idle."""
        if self.deed is None:
            return 0
        share = 2 * self.elapsed(now) / self.deed.seconds if self.deed.seconds else 1.0
        return int(self.deed.memory * min(share, 1.0))

    def cpu_of_deed(self, now: float) -> float:
        """CPU seconds of the current deed so far."""
        if self.deed is None or self.deed.end == "hangs":
            return 0.0
        return self.deed.cpu * self.elapsed(now)

    def finish(self, work: m.Work, stop: int, grain: int | None, now: float) -> m.Done:
        """Its batch has ended before ``stop``; returns its message."""
        self.work = None
        first, self.warm = not self.warm, self.warm or bool(self.calls)
        return m.Done(
            stop,
            {"": tuple(receipts(work, stop, self.raised, grain))},
            tuple(self.raised),
            tuple(self.calls),
            max(self.calls, key=lambda call: call.seconds, default=None),
            now - self.batch_began,
            retained=0,
            grown=0,
            first=first,
        )


def receipts(
    work: m.Work, stop: int, raised: Sequence[SetAside], grain: int | None
) -> Iterator[tuple[int, int, Receipt]]:
    """The receipts of a batch from a sink that keeps items by number."""
    aside = {each.item: each for each in (*work.without, *raised)}
    size = grain or max(stop - work.start, 1)
    for start in range(work.start, stop, size):
        end = min(start + size, stop)
        yield start, end, Receipt(value=[aside.get(item, item) for item in range(start, end)])
