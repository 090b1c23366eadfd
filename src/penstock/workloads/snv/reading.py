"""The first stage: every large member read once, checked, and copied narrow where it cannot be mapped.

A deflated member cannot be entered in the middle, so each member is one item, read from its beginning
to the last value that is used. Its copy has the order of the file, 16-bit values where they suffice,
and can be mapped: any position costs no more than any other. Coverage is not copied; its medians are
found by counting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

import penstock
from penstock.abc import Batch, Receipt
from penstock.errors import BadInput
from penstock.workloads.snv.arrays import Array, open_zarr
from penstock.workloads.snv.table import STATISTICS, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pieces = Iterator[NDArray[Any]]

MOST_READS = (1 << 27) - 1
"""Of one base, strand, sample and position: eight of them add up in 32 bits."""
BINS = 2048
"""Values that a pass over the coverage tells apart, per sample."""


class Members:
    """The large members of a table as items, as (name, Array)."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._items = [
            ("counts", table.counts), ("quals", table.quals), ("indel", table.indel), ("p", table.p),
            ("coverage", table.coverage),
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self._items)

    def read(self, start: int, stop: int) -> list[tuple[str, Array]]:
        """Descriptions: the function reads them as streams."""
        return self._items[start:stop]

    def name(self, item: int) -> str:
        """The member's."""
        return self._items[item][1].label

    def fingerprint(self) -> Mapping[str, str]:
        """Of the table's files."""
        return self._table.prints


@dataclass(frozen=True)
class ReadMember:
    """Check a member; copy it, or find the medians of the coverage.

    Returns ``{"copies": path or None, "facts": {name: {...}}}``.
    """

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.snv import kernel

        low, width, below, most = (np.zeros(1, np.int64) for _ in range(4))
        kernel.tally(np.empty(0, np.int64), 0, 1, 1, low, width, below, np.zeros((1, BINS), np.uint32), most)

    def __call__(self, item: tuple[str, Array]) -> dict[str, Any]:
        """Read it.

        Raises:
            BadInput: it is damaged, or holds a value that cannot be, naming sample and position.
        """
        name, array = item
        if name == "coverage":
            return {"copies": None, "facts": {name: {"medians": medians(array)}}}
        if array.kind == "mapped":
            for piece, first in _numbered(_pieces(name, array), 0):
                _CHECKS[name](array, piece, first)
            if name == "p":
                _ascending(array, _pieces(name, array))
            return {"copies": None, "facts": {name: {}}}
        path = penstock.share().folder / f"{name}.npy"
        return {"copies": path, "facts": {name: _copy(name, array, path)}}


@dataclass(frozen=True)
class Scratch:
    """Takes the copies under their own names. They go when the run has ended, so no receipt tells of them."""

    unit: ClassVar[str] = "item"
    grain: int = 1

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Move each copy to its place."""
        for result in results:
            if isinstance(result, Path):
                with penstock.atomic(folder / result.name) as draft:
                    os.replace(result, draft)
        return Receipt()

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> None:
        """Nothing to finish."""

    def result(self, folder: Path) -> Path:
        """Their folder."""
        return folder


@dataclass(frozen=True)
class GatherFacts:
    """Puts the facts of all members into one dict."""

    unit: ClassVar[str] = "item"
    order: Literal["any", "items"] = "any"
    grain: None = None

    def start(self) -> dict[str, Any]:
        """Of no member."""
        return {}

    def step(self, state: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """One more."""
        return state | result

    def merge(self, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        """Both."""
        return left | right

    def finish(self, states: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """All, by name."""
        total: dict[str, Any] = {}
        for state in states:
            total |= state
        return dict(sorted(total.items()))


def mapped(table: Table, facts: Mapping[str, Mapping[str, Any]], folder: Path) -> Table:
    """The table with the copies in place of members that cannot be mapped."""
    made: dict[str, Array] = {}
    for name in ("counts", "quals", "indel", "p"):
        array, fact = getattr(table, name), facts[name]
        if fact:
            path = str(folder / f"{name}.npy")
            made[name] = Array(
                path, "", fact["dtype"], tuple(fact["shape"]), fact["order"], fact["offset"]
            )  # fmt: skip
        else:
            made[name] = array
    return replace(table, counts=made["counts"], quals=made["quals"], indel=made["indel"], p=made["p"])


# ------------------------------------------------------------------ copying


class _TooWide(Exception):
    """A value that the narrow type does not hold."""


def _copy(name: str, array: Array, path: Path) -> dict[str, Any]:
    widths = {"counts": ("<u2", "<i4"), "indel": ("<u2", "<i4"), "quals": ("<i2", "<i4"), "p": ("<i8",)}[name]
    shape = (*array.shape[:2], STATISTICS) if name == "counts" else array.shape
    order = "psk"[: len(shape)] if array.kind == "zarr" and len(shape) > 1 else array.order
    for dtype in widths:
        try:
            offset = _write(name, array, path, np.dtype(dtype), shape, order)
        except _TooWide:
            continue
        return {"dtype": dtype, "shape": list(shape), "order": order, "offset": offset}
    raise AssertionError  # the checks refuse what the widest type does not hold


def _write(name: str, array: Array, path: Path, dtype: Any, shape: tuple[int, ...], order: str) -> int:
    lying = tuple(shape["spk".index(axis)] for axis in order)
    check, bounds = _CHECKS[name], np.iinfo(dtype)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": dtype.str, "fortran_order": False, "shape": lying}
        )
        offset = file.tell()
        last = -1
        for piece, first in _numbered(_pieces(name, array), 0):
            low, high = check(array, piece, first)
            if low < bounds.min or high > bounds.max:
                raise _TooWide
            if name == "p":
                last = _next_position(array, piece, last)
            file.write(np.ascontiguousarray(piece, dtype).data)
    return offset


def _pieces(name: str, array: Array) -> Pieces:
    """The values that are used, as they lie, or position by position from Zarr."""
    if array.kind == "zarr":
        yield from _zarr_pieces(array)
    elif name != "counts" or array.shape[2] == STATISTICS:
        yield from array.pieces()
    elif array.order.startswith("k"):
        yield from array.pieces(stop=array.shape[0] * array.shape[1] * STATISTICS)
    else:
        every = array.shape[2]
        for piece in array.pieces(whole=every):
            yield piece.reshape(-1, every)[:, :STATISTICS].ravel()


def _zarr_pieces(array: Array) -> Pieces:
    opened = open_zarr(array.path)
    if len(array.shape) == 1:
        yield np.asarray(opened[...])
        return
    step = opened.chunks[1]
    for at in range(0, array.shape[1], step):
        block = np.asarray(opened[:, at : at + step])
        if block.ndim == 3:
            block = block[..., :STATISTICS]
        yield np.ascontiguousarray(block.swapaxes(0, 1)).ravel()


def _numbered(pieces: Pieces, first: int) -> Iterator[tuple[NDArray[Any], int]]:
    for piece in pieces:
        yield piece, first
        first += len(piece)


# ------------------------------------------------------------------ checks

_Check = Callable[[Array, "NDArray[Any]", int], tuple[int, int]]


def _bounds(piece: NDArray[Any]) -> tuple[int, int]:
    return (int(piece.min()), int(piece.max())) if len(piece) else (0, 0)


def _check_reads(array: Array, piece: NDArray[Any], first: int) -> tuple[int, int]:
    low, high = _bounds(piece)
    if low < 0:
        _refuse(array, piece, first, low, "a number of reads cannot be negative")
    if high > MOST_READS:
        _refuse(array, piece, first, high, f"more than {MOST_READS} reads: this is no read count")
    return low, high


def _check_quals(array: Array, piece: NDArray[Any], first: int) -> tuple[int, int]:
    low, high = _bounds(piece)
    if high > 0:
        _refuse(
            array, piece, first, high, "FQ is stored as 0 or below; were the signs turned? Multiply by -1"
        )
    if low < -(1 << 31):
        _refuse(array, piece, first, low, "this is no FQ")
    return low, high


def _check_positions(array: Array, piece: NDArray[Any], first: int) -> tuple[int, int]:
    low, high = _bounds(piece)
    if low < 0 or high >> 62:
        raise BadInput(f"holds the position {low if low < 0 else high}", file=array.label)
    return low, high


_CHECKS: dict[str, _Check] = {
    "counts": _check_reads, "indel": _check_reads, "quals": _check_quals, "p": _check_positions,
}  # fmt: skip


def _refuse(array: Array, piece: NDArray[Any], first: int, value: int, why: str) -> None:
    order = "psk"[: len(array.shape)] if array.kind == "zarr" else array.order
    used = [STATISTICS if n > STATISTICS and axis == 2 else n for axis, n in enumerate(array.shape)]
    lying = tuple(used["spk".index(axis)] for axis in order)
    at = np.unravel_index(first + int(np.argmax(piece == value)), lying)
    words = {"s": "sample", "p": "position", "k": "statistic"}
    place = ", ".join(
        f"{words[axis]} {number}" for axis, number in sorted(zip(order, at, strict=True), reverse=True)
    )
    raise BadInput(f"holds {value}: {why}", file=array.label, place=f"{place}, counted from 0")


def _ascending(array: Array, pieces: Pieces) -> None:
    last = -1
    for piece in pieces:
        last = _next_position(array, piece, last)


def _next_position(array: Array, piece: NDArray[Any], last: int) -> int:
    """The last position of a piece.

    Raises:
        BadInput: positions do not ascend, or come twice.
    """
    numbers = np.concatenate([[last], piece.astype(np.int64)])
    steps = np.diff(numbers)
    if len(steps) and steps.min() <= 0:
        at = int(np.argmax(steps <= 0))
        before, found = int(numbers[at]), int(numbers[at + 1])
        why = "twice" if before == found else f"after {before}"
        raise BadInput(f"the position {found} comes {why}: sort positions, each once", file=array.label)
    return int(numbers[-1])


# ------------------------------------------------------------------ medians


def medians(array: Array) -> NDArray[np.float64]:
    """The median coverage of each sample, exactly, by counting.

    Args:
        array: (samples, genome length), whole numbers.

    Returns float64 (samples,): the mean of the two middle values where the length is even.

    A pass tells 2,048 values of each sample apart. The first looks at the lowest; a sample whose middle
    lies higher takes more passes, each with a bracket 2,048 times narrower, at most 6.

    Raises:
        BadInput: a negative value, or a damaged file.
    """
    length = array.shape[1]
    zeros, ones = np.zeros(array.shape[0], np.int64), np.ones(array.shape[0], np.int64)
    first = _count(array, zeros, ones)
    low, high = (_ranked(array, rank, first) for rank in ((length - 1) // 2, length // 2))
    return (low.astype(np.float64) + high.astype(np.float64)) / 2


_Counts = tuple["NDArray[Any]", "NDArray[Any]", "NDArray[Any]"]


def _count(array: Array, low: NDArray[np.int64], width: NDArray[np.int64]) -> _Counts:
    """One pass: values below each sample's bracket, in its bins, and the highest."""
    from penstock.workloads.snv import kernel

    samples, length = array.shape
    below, most = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
    hist = np.zeros((samples, BINS), np.uint32)
    # Samples run fastest in a Fortran array, positions in a C array.
    turn = 1 if array.kind == "zarr" or array.order == "ps" else length
    at = 0
    for piece in _zarr_pieces(array) if array.kind == "zarr" else array.pieces():
        _check_coverage(array, piece)
        kernel.tally(piece.astype(np.int64), at, turn, samples, low, width, below, hist, most)
        at += len(piece)
    return below, hist, most


def _ranked(array: Array, rank: int, first: _Counts) -> NDArray[np.int64]:
    """The value of this rank (from 0, ascending) of each sample, given a pass from 0 with bins of 1."""
    samples = array.shape[0]
    low, width = np.zeros(samples, np.int64), np.ones(samples, np.int64)
    done = np.zeros(samples, np.bool_)
    below, hist, most = first
    while True:
        for s in np.flatnonzero(~done):
            reached = below[s] + np.cumsum(hist[s], dtype=np.int64)
            found = int(np.searchsorted(reached, rank, side="right"))
            if found == BINS:  # above the bracket
                low[s] += BINS * width[s]
                width[s] = -(-(most[s] - low[s] + 1) // BINS)
            else:
                low[s] += found * width[s]
                done[s] = width[s] == 1
                width[s] = -(-width[s] // BINS)
        if done.all():
            return low
        below, hist, most = _count(array, low, width)


def _check_coverage(array: Array, piece: NDArray[Any]) -> None:
    low, high = _bounds(piece)
    if low < 0 or high >> 62:
        raise BadInput(f"holds {low if low < 0 else high}: this is no coverage", file=array.label)
