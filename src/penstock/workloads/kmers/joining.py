"""Counts the words of a partition, which are those of a range, into the rows of the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.workloads.kmers import packing, table, words

MOST = 3 << 20
"""Words that are held at a time. A partition that has more is read once for each share of it."""
_SLICES = 1 << 16

Words = NDArray[np.uint64]
Pair = tuple[Words, NDArray[Any]]


@dataclass(frozen=True)
class JoinBlocks:
    """Counts equal words in a partition of blocks.

    Args:
        blocks: how its words are packed.
        min_count: words that are there less often are left out.
        most: words held at a time.

    Returns the rows (kmer, count) in the order of words, as a reader of tables.
    """

    blocks: packing.Blocks
    min_count: int = 1
    most: int = MOST

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        if self.blocks.compiled:
            packing.load()

    def __call__(self, partition: Any) -> Any:
        """Join."""
        import pyarrow as pa

        tables = self._tables(partition)
        return pa.RecordBatchReader.from_batches(
            table.schema(), (batch for each in tables for batch in each.to_batches())
        )

    def _tables(self, partition: Any) -> Iterator[Any]:
        held = _room(self.most)
        if (count := _fill(held, self._words(partition))) is not None:
            yield from self._counted(held[:count])
            return
        for low, high in self._shares(partition):
            if (count := _fill(held, self._words(partition, low, high))) is not None:
                yield from self._counted(held[:count])
            else:  # many of few words
                yield from self._settled(self._words(partition, low, high))

    def _words(self, partition: Any, low: int = 0, high: int = 2**64) -> Iterator[Words]:
        """The words of a range, ``low <= word < high``."""
        for each in partition:
            for found in self.blocks.unpacked(each):
                if high < 2**64:
                    found = found[(found >= np.uint64(low)) & (found < np.uint64(high))]
                yield found

    def _counted(self, found: Words) -> Iterator[Any]:
        return packing.rows_of(found, self.blocks.k, self.min_count, compiled=self.blocks.compiled)

    def _shares(self, partition: Any) -> Iterator[tuple[int, int]]:
        """Ranges of words, ``low <= word < high``, with at most so many words each where that can be."""
        least, greatest = 4**self.blocks.k, 0
        for found in self._words(partition):
            least, greatest = min(least, int(found.min())), max(greatest, int(found.max()))
        width = max((greatest - least + 1).bit_length() - 16, 0)
        bins = np.zeros(_SLICES + 1, np.int64)
        for found in self._words(partition):
            bins += np.bincount(
                (found - np.uint64(least) >> np.uint64(width)).astype(np.int64), minlength=_SLICES + 1
            )
        low, held = 0, 0
        for at in np.flatnonzero(bins).tolist():
            if held and held + bins[at] > self.most:
                yield least + (low << width), least + (at << width)
                low, held = at, 0
            held += int(bins[at])
        yield least + (low << width), greatest + 1

    def _settled(self, found: Iterable[Words]) -> Iterator[Any]:
        """The rows of a range, whose words are counted in between, whenever they are too many."""
        held: list[Words] = []
        rows = 0
        pair: Pair = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        for each in found:
            held.append(each)
            rows += len(each)
            if rows > max(len(pair[0]), self.most):
                pair, rows = _settle(pair, held), 0
        codes, counts = _settle(pair, held)
        kept = np.flatnonzero(counts >= self.min_count)
        for at in range(0, len(kept), packing.ROWS):
            part = kept[at : at + packing.ROWS]
            yield table.rows(codes[part], counts[part], self.blocks.k)


@lru_cache(1)
def _room(count: int) -> Words:
    """Memory for so many words, which a worker keeps: the system clears all that it gives anew."""
    return np.empty(count, np.uint64)


def _fill(held: Words, found: Iterable[Words]) -> int | None:
    """How many words there are, once all are in ``held``; None if they are more."""
    count = 0
    for each in found:
        if count + len(each) > len(held):
            return None
        held[count : count + len(each)] = each
        count += len(each)
    return count


def _settle(pair: Pair, held: list[Words]) -> Pair:
    """What was counted, with more words; ``held`` is emptied."""
    codes = np.concatenate(held) if held else np.zeros(0, np.uint64)
    held.clear()
    more = words.tally(codes)
    if not len(pair[0]):
        return more
    both = (np.concatenate(each) for each in zip(pair, more, strict=True))
    return words.added(*both)
