"""The sink of dense counts: a table of all words, up to k = 12 (64 to 128 MiB)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from penstock import files
from penstock.abc import Batch, Closed, Part, Receipt, SetAside
from penstock.workloads.kmers import scanning, words
from penstock.workloads.kmers.table import Writer

DENSE_K = 12
"""The longest k whose table of all words is held."""
KMERS = "kmers.parquet"
_INLINE_K = 6
_NARROW = 1 << 32
_SLICE = 1 << 18
"""Words that are looked at together."""


@dataclass(frozen=True)
class Dense:
    """Sums counts in a table of all ``4**k`` words, and writes the non-zero ones at the end.

    Args:
        k: bases of a word, at most 12.
        fold: add the counts of a word and its reverse complement, as far as that was not done before.
        min_count: words that are there less often are left out.
    """

    unit: ClassVar[str] = "item"
    grain: ClassVar[None] = None

    k: int
    fold: bool = False
    min_count: int = 1

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Write the sum over a batch, in the narrowest type that holds it."""
        total = _Total(4**self.k)
        for result in results:
            if not isinstance(result, SetAside | None):
                _add(total, result)
        most = int(total.counts.max())
        kind = next(kind for kind in (np.uint8, np.uint16, np.uint32, np.int64) if most <= np.iinfo(kind).max)
        counts = total.counts.astype(kind, copy=False)
        if self.k <= _INLINE_K:
            return Receipt(value=counts)
        name = f"counts-{batch.start:09d}-{batch.stop - 1:09d}.npy"
        with files.atomic(folder / name) as draft, open(draft, "wb") as file:
            np.save(file, counts)
        return Receipt(parts=(Part(name, *files.proof(folder / name)),))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """Write the sum over all batches as ``kmers.parquet``."""
        total = _Total(4**self.k)
        for _, receipt in receipts:
            if receipt.value is not None:
                total.add(receipt.value)
            for part in receipt.parts:
                total.add(np.load(folder / part.name, mmap_mode="r", allow_pickle=False))
        with files.atomic(folder / KMERS) as draft, Writer(draft, self.k) as writer:
            for low in range(0, len(total.counts), _SLICE):
                codes = np.arange(low, min(low + _SLICE, len(total.counts)), dtype=np.uint64)
                counts = total.counts[low : low + len(codes)].astype(np.int64)
                if self.fold:
                    back = words.reverse_complements(codes, self.k)
                    counts += np.where(back == codes, 0, total.counts[back].astype(np.int64))
                    counts[back < codes] = 0
                there = np.flatnonzero(counts >= self.min_count)
                writer.add(codes[there], counts[there])
        made = (Part(KMERS, *files.proof(folder / KMERS)),)
        return Closed(made, replaced=True, pattern="counts-*.npy")

    def result(self, folder: Path) -> Any:
        """A dataset of (kmer, count)."""
        import pyarrow.dataset as ds

        return ds.dataset(folder / KMERS)


class _Total:
    """Counts of all words: 32 bits each while these are enough for the sum of all."""

    def __init__(self, size: int) -> None:
        self.counts: NDArray[Any] = np.zeros(size, np.uint32)
        self._sum = 0

    def expect(self, more: int) -> None:
        """So many more are going to be added."""
        self._sum += more
        if self._sum >= _NARROW and self.counts.dtype == np.uint32:
            self.counts = self.counts.astype(np.int64)

    def add(self, counts: NDArray[Any]) -> None:
        """Add a table."""
        self.expect(int(counts.sum(dtype=np.int64)))
        for low in range(0, len(counts), _SLICE):
            self.counts[low : low + _SLICE] += counts[low : low + _SLICE].astype(self.counts.dtype)


def _add(total: _Total, result: Any) -> None:
    """Add what an item gave: a table, or words."""
    if isinstance(result, np.ndarray):
        total.add(result)
        return
    for batch in result:
        found = batch.column("kmer").to_numpy()
        total.expect(len(found))
        if scanning.add.loaded and total.counts.dtype == np.uint32:
            scanning.add(found, total.counts)
        else:
            codes, counts = words.tally(found.copy())
            total.counts[codes] += counts.astype(total.counts.dtype)
