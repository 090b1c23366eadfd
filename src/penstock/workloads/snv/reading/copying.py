"""Reads a large member in storage order, checks it, and copies it narrow into a file that can be mapped.

The copy has the order of the file, and values of 8 or 16 bits where they suffice.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.reading.chunked import STATISTICS, Chunked

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray

    Pieces = Iterator[NDArray[Any]]

MOST_READS = (1 << 27) - 1
"""Of one base, strand, sample and position: eight of them add up in 32 bits."""
_WIDTHS = {
    "counts": ("|u1", "<u2", "<u4"), "indel": ("|u1", "<u2", "<u4"), "quals": ("<i2", "<i4"), "p": ("<i8",)
}  # fmt: skip
_STEP = 1 << 18
"""Values that become wider at once."""


class NoRoom(Exception):
    """The disk has too little space for a copy."""


def check(name: str, array: Array) -> None:
    """Read a member and check its values.

    Args:
        name: "counts", "quals", "indel" or "p".
        array: where it lies.

    Raises:
        BadInput: it is damaged, or holds a value that cannot be, naming sample and position.
    """
    last = -1
    for piece, first in _numbered(_pieces(name, array)):
        _CHECKS[name](array, piece, first, *bounds(piece))
        if name == "p":
            last = _next_position(array, piece, last)


def copy(name: str, array: Array, path: Path, spare: int = 0) -> dict[str, Any]:
    """Check a member as :func:`check` does, and copy it.

    Args:
        name, array: as there.
        path: of the copy, an .npy file.
        spare: bytes of the disk that must be left beside it.

    Returns ``dtype``, ``shape``, ``order`` and ``offset`` of the copy, as of an :class:`Array`.

    Raises:
        BadInput: as there.
        NoRoom: the disk does not hold it, or too little would be left; no file is.
    """
    shape = (*array.shape[:2], STATISTICS) if name == "counts" else array.shape
    order = array.value_order
    lying = tuple(shape["spk".index(axis)] for axis in order)
    last = -1
    with open(path, "wb+") as file:
        draft = _Draft(file, path, lying, _WIDTHS[name], spare)
        for piece, first in _numbered(_pieces(name, array)):
            _CHECKS[name](array, piece, first, *draft.add(piece))
            if name == "p":
                last = _next_position(array, piece, last)
        draft.end()
    return {"dtype": draft.dtype.str, "shape": list(shape), "order": order, "offset": draft.offset}


class _Draft:
    """An .npy file that grows piece by piece, and becomes wider when a value asks for it.

    Args:
        file: new.
        path: of it.
        shape: of the array, as it lies.
        widths: dtypes to try, from the narrowest.
        spare: see :func:`copy`.

    Raises:
        NoRoom: see :func:`copy`; from ``add`` too.
    """

    def __init__(
        self, file: BinaryIO, path: Path, shape: tuple[int, ...], widths: Sequence[str], spare: int
    ) -> None:
        self._file, self._path, self._shape, self._spare = file, path, shape, spare
        self._wider = [np.dtype(width) for width in widths]
        self.dtype = self._wider.pop(0)
        self._written = self._reserved = 0
        self._narrowed = np.empty(0, self.dtype)
        self.end()  # a header as long as the last one will be
        self.offset = file.tell()
        self._reserve()

    def add(self, piece: NDArray[Any]) -> tuple[int, int]:
        """Write the next values; tells the lowest and the highest.

        Values that the widest type does not hold are not kept as they are: the checks refuse them.
        """
        while True:
            if len(self._narrowed) < len(piece):
                self._narrowed = np.empty(len(piece), self.dtype)
            low, high = _narrow(piece, self._narrowed[: len(piece)])
            fits = np.iinfo(self.dtype).min <= low and high <= np.iinfo(self.dtype).max
            if fits or not self._wider:
                break
            self._widen()
        self._file.write(self._narrowed[: len(piece)].data)
        self._written += len(piece)
        return low, high

    def end(self) -> None:
        """Write the header."""
        self._file.seek(0)
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _widen(self) -> None:
        """Make room within the file, from its end, for values of the next type."""
        old, self.dtype = self.dtype, self._wider.pop(0)
        self._reserve()
        descriptor, offset = self._file.fileno(), self.offset
        self._file.flush()
        for stop in range(self._written, 0, -_STEP):
            start = max(stop - _STEP, 0)
            data = os.pread(descriptor, (stop - start) * old.itemsize, offset + start * old.itemsize)
            self._file.seek(offset + start * self.dtype.itemsize)
            self._file.write(np.frombuffer(data, old).astype(self.dtype).data)
            self._file.flush()
        self._file.seek(offset + self._written * self.dtype.itemsize)
        self._narrowed = np.empty(0, self.dtype)

    def _reserve(self) -> None:
        """Take the file's room now: two workers must not both count on it."""
        size = self.offset + prod(self._shape) * self.dtype.itemsize
        try:
            if shutil.disk_usage(self._path.parent).free - (size - self._reserved) < self._spare:
                raise OSError(errno.ENOSPC, "")
            os.posix_fallocate(self._file.fileno(), 0, size)
            self._reserved = size
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                self._path.unlink()
                raise NoRoom from None
            # A file system that cannot reserve: it will say so when it is full.


def _narrow(piece: NDArray[Any], out: NDArray[Any]) -> tuple[int, int]:
    """The values in a narrower type, and the lowest and highest of them."""
    if not len(piece) or out.dtype.itemsize == 8:
        out[:] = piece
        return bounds(piece)
    from penstock.workloads.snv.kernel import narrow

    # A view where values have 64 bits: those above 63 bits turn negative, and are refused as well.
    numbers = piece.view(np.int64) if piece.dtype in (np.int64, np.uint64) else piece.astype(np.int64)
    numbers.flags.writeable = False  # one type to compile for
    low, high = narrow(numbers, out.view(f"u{out.dtype.itemsize}"))
    return int(low), int(high)


# ------------------------------------------------------------------ values as they lie


def _pieces(name: str, array: Array) -> Pieces:
    """The values that are used, as they lie."""
    if array.kind == "zarr":
        yield from Chunked(array.path).pieces()
    elif name != "counts" or array.shape[2] == STATISTICS:
        yield from array.pieces()
    elif array.order.startswith("k"):
        yield from array.pieces(stop=array.shape[0] * array.shape[1] * STATISTICS)
    else:
        every = array.shape[2]
        for piece in array.pieces(whole=every):
            yield piece.reshape(-1, every)[:, :STATISTICS].ravel()


def _numbered(pieces: Pieces) -> Iterator[tuple[NDArray[Any], int]]:
    first = 0
    for piece in pieces:
        yield piece, first
        first += len(piece)


# ------------------------------------------------------------------ checks

_Check = Callable[[Array, "NDArray[Any]", int, int, int], None]


def bounds(piece: NDArray[Any]) -> tuple[int, int]:
    """The minimum and maximum; 0 and 0 of no values."""
    return (int(piece.min()), int(piece.max())) if len(piece) else (0, 0)


def _check_reads(array: Array, piece: NDArray[Any], first: int, low: int, high: int) -> None:
    if low >= 0 and high <= MOST_READS:
        return
    low, high = bounds(piece)
    if low < 0:
        _refuse(array, piece, first, low, "a number of reads cannot be negative")
    _refuse(array, piece, first, high, f"more than {MOST_READS} reads: this is no read count")


def _check_quals(array: Array, piece: NDArray[Any], first: int, low: int, high: int) -> None:
    if high <= 0 and low >= -(1 << 31):
        return
    low, high = bounds(piece)
    if high > 0:
        _refuse(
            array, piece, first, high, "FQ is stored as 0 or below; were the signs turned? Multiply by -1"
        )
    _refuse(array, piece, first, low, "this is no FQ")


def _check_positions(array: Array, piece: NDArray[Any], first: int, low: int, high: int) -> None:
    if low < 0 or high >> 62:
        raise BadInput(f"holds the position {low if low < 0 else high}", file=array.label)


_CHECKS: dict[str, _Check] = {
    "counts": _check_reads, "indel": _check_reads, "quals": _check_quals, "p": _check_positions,
}  # fmt: skip


def _refuse(array: Array, piece: NDArray[Any], first: int, value: int, why: str) -> None:
    order = array.value_order
    used = [STATISTICS if n > STATISTICS and axis == 2 else n for axis, n in enumerate(array.shape)]
    lying = tuple(used["spk".index(axis)] for axis in order)
    at = np.unravel_index(first + int(np.argmax(piece == value)), lying)
    words = {"s": "sample", "p": "position", "k": "statistic"}
    place = ", ".join(
        f"{words[axis]} {number}" for axis, number in sorted(zip(order, at, strict=True), reverse=True)
    )
    raise BadInput(f"holds {value}: {why}", file=array.label, place=f"{place}, counted from 0")


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
