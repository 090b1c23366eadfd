"""The unit of the coverage: reads, or the sum over all statistics of a cell.

AccuSNV 1.0 wrote the sum over 40 statistics, 1.1 writes the reads. Medians of the coverage enter the rules
and the network, so labels flip with the other unit, and nothing in the file tells which it is. But the table
itself has the reads, so the median of coverage / reads over some of its cells does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.reading.chunked import Chunked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.snv.table import Block

_CELLS = 1 << 16
"""Cells that are compared, about, spread evenly over the table."""
_STEPS, _LOWEST, _HIGHEST = 128, -8, 16
"""Bins for each doubling of the ratio, and the powers of 2 between which it is counted."""
_READS, _ALL = 1.5, 3.0
"""Up to the first, coverage counts reads; above the second, it does not."""
_LESS = 0.7
"""Below, coverage is not that of the table: a cell has no more reads than cover it."""


def some_positions(p: Array, samples: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions at which coverage is compared with reads.

    Args:
        p: the positions of the table, 1 for the first of the genome.
        samples: of the table.
        length: of the genome, as the coverage has it.

    Returns rows of the table and columns of the coverage, both int64 and ascending. Positions behind the
    end of the coverage are left out.
    """
    positions, at = p.shape[0], 0
    wanted = min(max(_CELLS // samples, 1), positions)
    rows = np.unique(np.linspace(0, max(positions - 1, 0), wanted).astype(np.int64))
    columns = np.zeros(len(rows), np.int64)
    pieces = [Chunked(p.path).read(...)] if p.kind == "zarr" else p.pieces()
    for piece in pieces:
        low, high = np.searchsorted(rows, (at, at + len(piece)))
        columns[low:high] = np.asarray(piece)[rows[low:high] - at]
        at += len(piece)
    columns -= 1
    if (np.diff(columns) <= 0).any():  # refused when the positions are read
        rows, columns = rows[:0], columns[:0]
    inside = (columns >= 0) & (columns < length)
    return rows[inside], columns[inside]


@dataclass(frozen=True)
class Cover:
    """Coverage at some of the positions.

    Attributes:
        rows: their numbers in the table, int64 (n,), ascending.
        seen: coverage, int64 (samples, n).
    """

    rows: NDArray[np.int64]
    seen: NDArray[np.int64]

    def count(self, block: Block) -> NDArray[np.int64]:
        """How many cells of a block have which ratio of coverage to reads.

        Args:
            block: of neighbouring positions and the same samples.

        Returns int64 (bins,), bins by the logarithm of the ratio; cells without reads are not counted.
        """
        first, last = block.numbers[0], block.numbers[-1]
        low, high = np.searchsorted(self.rows, (first, last + 1))
        reads = block.counts[self.rows[low:high] - first].sum(axis=1, dtype=np.int64)
        seen = self.seen[:, low:high].T
        some = reads > 0
        ratio = np.log2(np.maximum(seen[some], 2.0 ** (_LOWEST - 1)) / reads[some])
        bins = np.rint((np.clip(ratio, _LOWEST, _HIGHEST) - _LOWEST) * _STEPS).astype(np.int64)
        return np.bincount(bins, minlength=(_HIGHEST - _LOWEST) * _STEPS + 1)


def measured(counted: Any, stated: str) -> dict[str, Any]:
    """The unit, as far as it can be inferred.

    Args:
        counted: cells by their ratio, as :class:`Cover` counts them; 0 for none.
        stated: ``"reads"``, ``"all40"``, or ``"auto"``.

    Returns ``unit`` (``"reads"``, ``"all40"``, or None where it is unclear), ``stated``, ``ratio`` (the
    median, to 0.3 %; None where nothing could be compared) and ``cells``.
    """
    cells = int(np.sum(counted))
    ratio = None
    if cells:
        middle = int(np.searchsorted(np.cumsum(counted), (cells + 1) // 2))
        ratio = round(float(2.0 ** (middle / _STEPS + _LOWEST)), 3)
    unit: str | None = stated
    if stated == "auto":
        unit = None if ratio is None else "reads" if ratio <= _READS else "all40" if ratio > _ALL else None
    return {"unit": unit, "stated": stated, "ratio": ratio, "cells": cells}


def warning(unit: Mapping[str, Any]) -> str | None:
    """A warning about the unit; None if there is nothing to say."""
    ratio, stated = unit["ratio"], unit["stated"]
    if ratio is not None and ratio > _ALL and stated != "all40":
        return (
            f"the coverage is {ratio:.2g} times the reads of the table: it sums all statistics of a cell "
            "(AccuSNV 1.0) and not its reads (AccuSNV 1.1). Medians of it enter rules and probabilities; say "
            "--coverage-unit all40 where the network was trained on such coverage, else compute the "
            "coverage again."
        )
    if ratio is not None and ratio < _LESS:
        return (
            f"the coverage is {ratio:.2g} times the reads of the table, and it counts at least these: it is "
            "of another table, or in another unit. Medians of it enter rules and probabilities; compute it "
            "again from the same alignments."
        )
    if ratio is not None and ratio <= _READS and stated == "all40":
        return (
            f"--coverage-unit all40 was given, and the coverage is {ratio:.2g} times the reads of the table: "
            "it counts reads"
        )
    return None
