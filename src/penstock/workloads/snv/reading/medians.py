"""The median coverage of each sample, exactly, by counting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.reading.chunked import Chunked, order_of
from penstock.workloads.snv.reading.copying import bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 2048
"""Values that a pass over the coverage tells apart, per sample."""


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
    passes = _Passes(array)
    low, high = (_ranked(passes, rank) for rank in ((length - 1) // 2, length // 2))
    return (low.astype(np.float64) + high.astype(np.float64)) / 2


_Counts = tuple["NDArray[Any]", "NDArray[Any]", "NDArray[Any]"]


class _Passes:
    """Passes over the coverage, each made once: the two middle values mostly need the same ones."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self._made: dict[bytes, _Counts] = {}

    def count(self, low: NDArray[np.int64], width: NDArray[np.int64]) -> _Counts:
        """Values below each sample's bracket, in its bins, and the highest."""
        asked = low.tobytes() + width.tobytes()
        if asked not in self._made:
            self._made[asked] = _count(self.array, low, width)
        return self._made[asked]


def _count(array: Array, low: NDArray[np.int64], width: NDArray[np.int64]) -> _Counts:
    from penstock.workloads.snv import kernel

    samples, length = array.shape
    below, most = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
    hist = np.zeros((samples, BINS), np.uint32)
    # Samples run fastest in a Fortran array, positions in a C array.
    turn = 1 if order_of(array) == "ps" else length
    at = 0
    for piece in Chunked(array.path).pieces() if array.kind == "zarr" else array.pieces():
        _check_coverage(array, piece)
        kernel.tally(piece.astype(np.int64), at, turn, samples, low, width, below, hist, most)
        at += len(piece)
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
