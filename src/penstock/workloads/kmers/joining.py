"""Joins runs, partitioned by ranges of words, into the rows of the result, one partition at a time."""

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
    """Counts equal words in a partition of runs.

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
        for codes in _words(partition):
            least, greatest = min(least, int(codes.min())), max(greatest, int(codes.max()))
        width = max((greatest - least + 1).bit_length() - 16, 0)
        bins = np.zeros(_SLICES + 1, np.int64)
        for codes in _words(partition):
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
        """The words of a range and their counts; counted in between, whenever they are too many."""
        held: list[NDArray[np.uint64]] = []
        rows = 0
        settled = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        for codes in _words(partition):
            if partition.rows > self.most:
                codes = codes[(codes >= np.uint64(low)) & (codes < np.uint64(high))]
            held.append(codes)
            rows += len(codes)
            if rows > max(len(settled[0]), self.most):
                settled, rows = _settle(settled, held), 0
        return _settle(settled, held)


def _words(partition: Any) -> Iterator[NDArray[np.uint64]]:
    for each in partition:
        if each.num_rows:
            yield each.column("kmer").to_numpy()


def _settle(settled: Pair, held: list[NDArray[np.uint64]]) -> Pair:
    """What was counted, with more words; ``held`` is emptied."""
    codes = np.concatenate(held) if held else np.zeros(0, np.uint64)
    held.clear()
    more = words.tally(codes)
    if not len(settled[0]):
        return more
    both = (np.concatenate(each) for each in zip(settled, more, strict=True))
    return words.added(*both)
