"""The small values that travel between the engine and a sink: a batch down, a receipt up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Batch:
    """The items ``start <= i < stop`` of a source, except those that were already set aside."""

    start: int
    stop: int
    without: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A file that a sink wrote, by its name in the sink's folder."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a batch is kept: the parts written, and up to 64 KiB of value inline.

    A receipt with much more is refused when it is written: the parent journals it and holds it in memory.
    """

    parts: tuple[Part, ...] = ()
    value: Any = None
    """JSON values and NumPy arrays (``penstock.values``)."""
    touched: int = field(default=0, compare=False)
    """When the last of the parts was touched, in microseconds by their file system; the engine sets it."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What a sink may return from ``close``, so that ``penstock verify`` knows which files must exist.

    Without an answer the parts of all receipts must be there, and nothing else is known.
    """

    parts: tuple[Part, ...] = ()
    """What ``close`` itself wrote: a few files, however many items there are."""
    replaced: bool = False
    """True: these stand in the place of the parts of all receipts, which the engine removes once that is
    journaled."""
    pattern: str = ""
    """A glob of the names of parts: what matches it and was never told of does not belong there."""
