"""The median coverage of each sample, exact, by counting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.reading.chunked import Chunked
from penstock.workloads.snv.reading.copying import bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 2048
"""Values that a pass over the coverage tells apart, per sample."""


def medians(
    array: Array, columns: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The median coverage of each sample, exact, by counting; and the coverage at some columns.

    Args:
        array: (samples, genome length), whole numbers.
        columns: which, ascending, each at most the genome's length; None for none.

    Returns float64 (samples,), the mean of the two middle values where the length is even, and int64
    (samples, columns).

    A pass tells 2,048 values of each sample apart. The first looks at the lowest; a sample whose middle
    lies higher takes more passes, each with a bracket 2,048 times narrower, at most 6.

    Raises:
        BadInput: a negative value, or a damaged file.
    """
    length = array.shape[1]
    passes = _Passes(array, np.zeros(0, np.int64) if columns is None else columns)
    low, high = (_ranked(passes, rank) for rank in ((length - 1) // 2, length // 2))
    return (low.astype(np.float64) + high.astype(np.float64)) / 2, passes.columns


_Counts = tuple["NDArray[Any]", "NDArray[Any]", "NDArray[Any]"]


class _Passes:
    """Passes over the coverage, each made once: the two middle values mostly need the same ones."""

    def __init__(self, array: Array, columns: NDArray[np.int64]) -> None:
        self.array = array
        self.columns = np.zeros((array.shape[0], len(columns)), np.int64)
        """What the first pass picks out."""
        self._wanted = columns
        self._made: dict[bytes, _Counts] = {}

    def count(self, low: NDArray[np.int64], width: NDArray[np.int64]) -> _Counts:
        """Values below each sample's bracket, in its bins, and the highest."""
        asked = low.tobytes() + width.tobytes()
        if asked not in self._made:
            pick = _Pick(self.array, self._wanted, self.columns) if not self._made else None
            self._made[asked] = _count(self.array, low, width, pick)
        return self._made[asked]


class _Pick:
    """Takes columns out of values as they lie.

    Args:
        array: whose values.
        columns: which.
        out: int64 (samples, columns); set.
    """

    def __init__(self, array: Array, columns: NDArray[np.int64], out: NDArray[np.int64]) -> None:
        samples, length = array.shape
        across = array.value_order == "ps"
        rows = np.arange(samples)
        # The places of all wanted values in the order in which they lie, and where each goes.
        places = columns[:, None] * samples + rows if across else rows[:, None] * length + columns
        self._places = places.ravel()
        self._out = out.T if across else out
        self._flat = np.empty(self._places.shape, np.int64)

    def take(self, piece: NDArray[Any], at: int) -> None:
        """From a piece of which the first value is number ``at``."""
        low, high = np.searchsorted(self._places, (at, at + len(piece)))
        self._flat[low:high] = piece[self._places[low:high] - at]

    def end(self) -> None:
        """All values were there."""
        self._out[...] = self._flat.reshape(self._out.shape)


def _count(array: Array, low: NDArray[np.int64], width: NDArray[np.int64], pick: _Pick | None) -> _Counts:
    from penstock.workloads.snv import kernel

    samples, length = array.shape
    below, most = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
    hist = np.zeros((samples, BINS), np.uint32)
    # Samples run fastest in a Fortran array, positions in a C array.
    turn = 1 if array.value_order == "ps" else length
    at = 0
    for piece in Chunked(array.path).pieces() if array.kind == "zarr" else array.pieces():
        _check_coverage(array, piece)
        kernel.tally(piece.astype(np.int64), at, turn, samples, low, width, below, hist, most)
        if pick is not None:
            pick.take(piece, at)
        at += len(piece)
    if pick is not None:
        pick.end()
    return below, hist, most


def _ranked(passes: _Passes, rank: int) -> NDArray[np.int64]:
    """The value of this rank (from 0, ascending) of each sample; the first pass has bins of 1 from 0."""
    samples = passes.array.shape[0]
    low, width = np.zeros(samples, np.int64), np.ones(samples, np.int64)
    done = np.zeros(samples, np.bool_)
    while not done.all():
        below, hist, most = passes.count(low, width)
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
    return low


def _check_coverage(array: Array, piece: NDArray[Any]) -> None:
    low, high = bounds(piece)
    if low < 0 or high >> 62:
        raise BadInput(f"holds {low if low < 0 else high}: this is no coverage", file=array.label)
