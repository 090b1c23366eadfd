"""Rows (positions) of a table's large members: mapped, from streams in lockstep, or from Zarr.

What can be mapped is entered anywhere. A member that stays deflated is a stream in which the values of one
position lie far apart: its planes (or, in C order, its samples) follow each other. A cursor in each of them
gives them position by position, forwards only, in flat memory and without a copy on disk.
"""

from __future__ import annotations

import os
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.reading.chunked import Chunked
from penstock.workloads.snv.reading.inflating import Inflater, cursors

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AT_ONCE = 4 << 20
"""Bytes of a stream's rows in memory, about."""


class Rows(Protocol):
    """Reads positions of a member."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Some positions, by ascending numbers: (planes, positions, samples)."""
        ...


def open_rows(array: Array, planes: int) -> Rows:
    """A reader for the first planes of a member; 1 if it has no axis of planes."""
    if array.kind == "deflated":
        return _Streamed(array, planes)
    return _Zarr(array, planes) if array.kind == "zarr" else _Mapped(array, planes)


class _Mapped:
    def __init__(self, array: Array, planes: int) -> None:
        mapped = array.map()
        if len(array.shape) == 3:
            self._planes = mapped.transpose([array.order.index(axis) for axis in "kps"])[:planes]
        else:
            self._planes = mapped.transpose([array.order.index(axis) for axis in "ps"])[None]

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        found: NDArray[Any] = self._planes[:, _as_slice(rows)]
        return found


class _Zarr:
    """Keeps the positions around the last ones, where the next are likely to lie."""

    def __init__(self, array: Array, planes: int) -> None:
        self._array, self._planes = Chunked(array.path), planes
        self._at = -1
        self._held: NDArray[Any] = np.empty(0)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        step, parts = self._array.step, []
        for number in np.unique(rows // step).tolist():
            if number != self._at:
                span = slice(number * step, (number + 1) * step)
                held = self._array.planes(slice(None), span).T
                self._held, self._at = held[: self._planes] if held.ndim == 3 else held[None], number
            parts.append(self._held[:, rows[rows // step == number] - number * step])
        return np.concatenate(parts, axis=1)


class _Streamed:
    """Cursors in lockstep: one in each plane, or in each sample where these are the slowest axis.

    Going back begins anew.
    """

    def __init__(self, array: Array, planes: int) -> None:
        self._array, self._count = array, planes
        self._by_sample = array.order[0] == "s"
        samples, positions = array.shape[:2]
        width = prod(array.shape[2:]) if self._by_sample else samples
        self._dtype, self._width = np.dtype(array.dtype), width
        self._row = width * self._dtype.itemsize
        starts = range(samples if self._by_sample else planes)
        self._starts = [array.offset + start * positions * self._row for start in starts]
        self._step = max(_AT_ONCE // (len(self._starts) * self._row), 1)
        self._descriptor = os.open(array.path, os.O_RDONLY)
        self._cursors: list[Inflater] = []
        self._at = 0

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        out = np.empty((self._count, len(rows), self._array.shape[0]), self._dtype)
        if len(rows) and (not self._cursors or rows[0] < self._at):
            self._begin()
        done = 0
        while done < len(rows):
            first = int(rows[done])
            stop = min(first + self._step, int(rows[-1]) + 1)
            until = int(np.searchsorted(rows, stop))
            self._take(first, stop, rows[done:until] - first, out[:, done:until])
            done = until
        return out

    def _begin(self) -> None:
        array = self._array
        whole = Inflater(self._descriptor, array.begin, array.packed, array.label, copies=True)
        self._cursors, self._at = list(cursors(whole, self._starts)), 0

    def _take(self, first: int, stop: int, chosen: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Rows ``first`` to ``stop`` of all cursors, and of these the chosen ones into ``out``."""
        for number, cursor in enumerate(self._cursors):
            cursor.skip((first - self._at) * self._row)
            data = np.frombuffer(cursor.read((stop - first) * self._row), self._dtype)
            found = data.reshape(stop - first, self._width)[chosen]
            if self._by_sample:
                out[:, :, number] = found[:, : self._count].T
            else:
                out[number] = found
        self._at = stop


def _as_slice(rows: NDArray[np.int64]) -> Any:
    """The same rows as a slice where they follow each other: a view instead of a copy."""
    if not len(rows):
        return slice(0, 0)
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows
