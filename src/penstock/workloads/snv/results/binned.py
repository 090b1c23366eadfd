"""Positions counted along the genome, for the picture: in batches, into a bounded number of bins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.snv.verdicts import REASONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 250
"""Bins along the genome; it may be one more."""
LEVELS = 50
"""Bins of probability. Even, so that 0.5 is a border: it belongs to the lower one, as it has label 0."""
_SHORTEST = 100
"""Bases that are shown at least."""
_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Binned:
    """Counts of a run's positions.

    Attributes:
        start: first base of the first bin, a multiple of the width.
        width: bases of a bin.
        fates: how many were kept (row 0) or went, by code of the reason; int64 (reasons, bins).
        levels: how many probabilities are in a level, the lowest first; int64 (LEVELS, bins).
        dots: int64 positions (n,) and float32 probabilities (n,) one by one; None where they are many.
    """

    start: int
    width: int
    fates: NDArray[np.int64]
    levels: NDArray[np.int64]
    dots: tuple[NDArray[np.int64], NDArray[np.float32]] | None

    @property
    def edges(self) -> NDArray[np.int64]:
        """The bins' left edges, and the last right edge; int64 (bins + 1,)."""
        return self.start + self.width * np.arange(self.fates.shape[1] + 1)

    @property
    def labels(self) -> tuple[int, int]:
        """How many have label 0, and label 1."""
        half = LEVELS // 2
        return int(self.levels[:half].sum()), int(self.levels[half:].sum())


def bin_positions(path: Path, dots: int) -> Binned:
    """Count the rows of a ``positions.parquet``.

    Args:
        path: of the file; its positions ascend.
        dots: up to so many probabilities are remembered one by one.
    """
    import pyarrow.parquet as pq

    # Mapped: else Arrow keeps the compressed bytes that it has read until the file is closed.
    with pq.ParquetFile(path, memory_map=True) as file:
        first, last = _ends(file)
        more = max(_SHORTEST - (last - first), 0) // 2
        first, last = max(first - more, 0), last + more
        width = _bin_width(last - first + 1)
        bins = last // width - first // width + 1
        fates, levels = np.zeros((len(REASONS), bins), np.int64), np.zeros((LEVELS, bins), np.int64)
        total, seen = 0, [(np.empty(0, np.int64), np.empty(0, np.float32))]
        for batch in file.iter_batches(_ROWS, columns=["pos", "removed_by", "prob"]):
            p = batch.column("pos").to_numpy()
            at = p // width - first // width
            _add(fates, _codes(batch.column("removed_by")), at)
            prob = batch.column("prob").to_numpy(zero_copy_only=False)
            known = ~np.isnan(prob)
            _add(levels, _levels(prob[known]), at[known])
            total += int(known.sum())
            seen = [*seen, (p[known], prob[known])] if total <= dots else []
    few = None
    if seen:
        few = np.concatenate([p for p, _ in seen]), np.concatenate([prob for _, prob in seen])
    return Binned(first // width * width, width, fates, levels, few)


def _ends(file: Any) -> tuple[int, int]:
    """The first and the last position, by what the file says of its parts; 0 and 0 where there is none."""
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    ends = [group.column(0).statistics for group in groups if group.num_rows]
    return (ends[0].min, ends[-1].max) if ends else (0, 0)


def _bin_width(span: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, ... bases of which ``BINS`` cover the span."""
    widths: Iterator[int] = (digit * 10**e for e in count() for digit in (1, 2, 5))
    return next(width for width in widths if span <= width * BINS)


def _codes(reasons: Any) -> NDArray[np.int64]:
    """The codes of a column of reasons; null is kept."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.fill_null(pc.index_in(reasons, pa.array(REASONS[1:])), -1)
    codes: NDArray[np.int64] = found.to_numpy().astype(np.int64) + 1
    return codes


def _levels(prob: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.ceil(prob.astype(np.float64) * LEVELS).clip(1, LEVELS).astype(np.int64) - 1


def _add(counts: NDArray[np.int64], row: NDArray[np.int64], at: NDArray[np.int64]) -> None:
    counts += np.bincount(row * counts.shape[1] + at, minlength=counts.size).reshape(counts.shape)
