"""The messages between parent and worker. Small: two integers down, a receipt up."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.abc import Receipt, SetAside
from penstock.peaks import Mark


@dataclass(frozen=True, slots=True)
class Work:
    """Down: work on the items ``start <= i < stop``."""

    start: int
    stop: int
    without: tuple[SetAside, ...]
    """Items set aside before; they are not worked, and stand so in the results."""
    call: int
    seconds: float
    """Cut the batch at the first possible place after so long."""
    memory: int
    """Cut it when, between calls, this much more is held than after the worker's first call."""
    fence: int
    """Allow this many bytes of private memory above what is mapped now; 0: no fence."""
    granted: int
    """Bytes that a call was admitted with; what its function is told."""
    threads: int
    attempt: int
    wary: bool = False
    """Whether to look after each item if it left the process fit for the next."""
    keep: bool = True
    """False: a trial; results are thrown away."""
    results: int = 0
    """Cut it when its results weigh more: they go up together; 0: no limit."""
    apart: int = 0
    """The batch's number, where each result is laid down at once and items may be had back; else 0."""
    cargo: Any = None
    """The items themselves, of a source that carries them."""


@dataclass(frozen=True, slots=True)
class Chore:
    """Down: a chore, no batch: ``"open"`` or ``"close"``; answered by ChoreDone or Failed."""

    what: str
    argument: Any = None


@dataclass(frozen=True, slots=True)
class Leave:
    """Down: exit."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Up: forked and prepared."""

    memory: int
    """Anonymous + shared bytes of the idle worker, pages shared with the fork server included."""
    own: int
    """Of these, bytes that are its own."""
    drafts: str = ""
    """The name of its folder inside the owner's folder for drafts; empty where it has none."""
    mapped: int = 0
    """The shared part of ``memory``."""
    own_mapped: int = 0
    """The shared part of ``own``."""


@dataclass(frozen=True, slots=True)
class MeasuredCall:
    """A measured call, from the first to the last item that was worked."""

    start: int
    stop: int
    peak: int
    """Bytes above idle; a little too high where files were mapped, never too low."""
    seconds: float
    between: tuple[Mark, Mark] | None = None
    """The readings at its begin and end, where others taken in between may tell the peak better."""
    without: tuple[int, ...] = ()
    """Items between them that were set aside before, and not worked."""

    @property
    def items(self) -> int:
        """How many items were worked."""
        return self.stop - self.start - len(self.without)


def worked_span(start: int, stop: int, known: Collection[int]) -> tuple[int, int, tuple[int, ...]]:
    """The first worked item of a call, one past the last, and those between that were left out.

    Args:
        start, stop: of the call.
        known: items set aside before. Where they are all there is, ``start`` and ``stop`` are the same.
    """
    if not known:
        return start, stop, ()
    while start < stop and start in known:
        start += 1
    while start < stop and stop - 1 in known:
        stop -= 1
    return start, stop, tuple(sorted(item for item in known if start < item < stop))


@dataclass(frozen=True, slots=True)
class Done:
    """Up: the batch is kept."""

    stop: int
    receipts: Mapping[str, tuple[tuple[int, int, Receipt], ...]]
    """By output: (start, stop, receipt) of every grain."""
    set_aside: tuple[SetAside, ...]
    calls: tuple[MeasuredCall, ...]
    """The first call, the one with the highest peak, and the last; none where all items were set aside."""
    slowest: MeasuredCall | None
    """The call that took longest; None where none was measured."""
    seconds: float
    retained: int
    """Bytes still held above idle."""
    grown: int
    """Bytes held more than after the worker's first call: what a replacement would give back."""
    first: bool
    """Whether the worker's first call is among them."""
    worn: bool = False
    """Whether the process has hardly a descriptor left."""
    imported: tuple[str, ...] = ()
    """Packages that the first call imported."""


@dataclass(frozen=True, slots=True)
class ChoreDone:
    """Up: the chore is done."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Up: the batch or chore failed, and the worker lives."""

    cause: str
    """``"memory"``, ``"kept"`` (the sink refused a result), ``"disk"``, ``"raised"``, ``"prepare"``,
    ``"damaged"`` (a part is not what was kept), ``"load"`` (the items that travelled cannot be taken),
    ``"unfit"`` (the process cannot go on, as ``message`` tells)."""
    item: int
    call: tuple[int, int]
    held: int
    error: str
    """Type name of the exception."""
    message: str
    traceback: str = ""
    file: str = ""
    """The file that an OSError names."""
    errno: int = errno.ENOSPC
    """The number of the OSError that ``"disk"`` tells of."""
    left: int = 0
    """As :data:`penstock.worker_note.LEFT`."""


def not_understood(content: object) -> Failed:
    """What it means that a worker sent this, which is no message: its process cannot go on.

    A class of ours that was made anew in the worker arrives as another class of that name.
    """
    kind = type(content).__name__
    why = f"answered with a {kind} that is not ours: did the function reload modules of penstock?"
    return Failed("unfit", -1, (0, 0), 0, "", why)


def not_taken(kind: str, message: str) -> str:
    """The message for items that could not be unpickled in a worker."""
    return f"cannot be unpickled in a worker: {kind}: {message}"
