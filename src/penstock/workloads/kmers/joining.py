"""From runs that lie apart by ranges of words to the rows of the result: one partition after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.workloads.kmers import table, words

MOST = 3 << 19
"""Rows of runs that are held at a time. A partition that has more is read once for each share of it."""
_OUT = 1 << 18
_SLICES = 1 << 16

Pair = tuple[NDArray[np.uint64], NDArray[Any]]


@dataclass(frozen=True)
class JoinRuns:
    """Add the counts of equal words in a partition of runs.

    Args:
        k: bases of a word.
        min_count: words that are there less often are left out.
        most: rows held at a time.

    Returns the rows (kmer, count) in the order of words, as a reader of tables.
    """

    k: int
    min_count: int = 1
    most: int = MOST

    def __call__(self, partition: Any) -> Any:
        """Join."""
        import pyarrow as pa

        tables = self._tables(partition)
        return pa.RecordBatchReader.from_batches(
            table.schema(), (batch for each in tables for batch in each.to_batches())
        )

    def _tables(self, partition: Any) -> Iterator[Any]:
        for low, high in self._shares(partition):
            codes, counts = self._joined(partition, low, high)
            kept = np.flatnonzero(counts >= self.min_count) if self.min_count > 1 else None
            if kept is not None:
                codes, counts = codes[kept], counts[kept]
            for at in range(0, len(codes), _OUT):
                yield table.rows(codes[at : at + _OUT], counts[at : at + _OUT], self.k)

    def _shares(self, partition: Any) -> Iterator[tuple[int, int]]:
        """Ranges of words, ``low <= word < high``, with at most so many rows each where that can be."""
        if partition.rows <= self.most:
            yield 0, 4**self.k
            return
        least, greatest = 4**self.k, 0
        for codes, _ in _pairs(partition):
            least, greatest = min(least, int(codes.min())), max(greatest, int(codes.max()))
        width = max((greatest - least + 1).bit_length() - 16, 0)
        bins = np.zeros(_SLICES + 1, np.int64)
        for codes, _ in _pairs(partition):
            bins += np.bincount(
                (codes - np.uint64(least) >> np.uint64(width)).astype(np.int64), minlength=_SLICES + 1
            )
        low, held = 0, 0
        for at in np.flatnonzero(bins).tolist():
            if held and held + bins[at] > self.most:
                yield least + (low << width), least + (at << width)
                low, held = at, 0
            held += int(bins[at])
        yield least + (low << width), greatest + 1

    def _joined(self, partition: Any, low: int, high: int) -> Pair:
        """The words of a range, their counts added; added up in between, whenever it is too much."""
        held: list[Pair] = []
        rows = 0
        settled = 0
        for codes, counts in _pairs(partition):
            if partition.rows > self.most:
                inside = (codes >= np.uint64(low)) & (codes < np.uint64(high))
                codes, counts = codes[inside], counts[inside]
            held.append((codes, counts))
            rows += len(codes)
            if rows > max(2 * settled, self.most):
                held = [_sum(held)]
                rows = settled = len(held[0][0])
        return _sum(held)


def _pairs(partition: Any) -> Iterator[Pair]:
    for each in partition:
        if each.num_rows:
            yield each.column("kmer").to_numpy(), each.column("count").to_numpy()


def _sum(held: list[Pair]) -> Pair:
    if not held:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    codes, counts = (np.concatenate(each) for each in zip(*held, strict=True))
    if not len(codes):
        return codes, counts
    held.clear()
    return words.added(codes, counts)
