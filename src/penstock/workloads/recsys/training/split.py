"""Splits queries into training and test parts, and samples them. Pure functions.

Covers no draw of rows: a query is one thing, on one side. Sampling and splitting use hashes of different
salts, or a sample of the smallest would have nothing of a test part made of the largest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Hashes = NDArray[np.uint64]
    Flags = NDArray[np.bool_]

TRAIN, VALID, LEFT_OUT = 0, 1, 2
NO_TIME = np.iinfo(np.int64).max
"""The time of a query that has none."""
_WORDS = 2.0**64


def split_by_time(times: Integers, among: Flags, share: float) -> tuple[NDArray[np.int8], int | None]:
    """The last queries are the test part, whoever asked; queries without a time are left out.

    Queries of one moment are on one side, so that the test part may be smaller than its share.

    Args:
        times: of each query, int64; NO_TIME where there is none.
        among: the queries that count.
        share: of the queries, that are to be tested.

    Returns the part of each query, int8, and the moment from which on queries are tested; None where all are
    of one moment.
    """
    parts = np.where(among & (times != NO_TIME), TRAIN, LEFT_OUT).astype(np.int8)
    there = np.sort(times[parts == TRAIN])
    if not share or not len(there):
        return parts, None
    cut = int(there[min(int(np.ceil(len(there) * (1 - share))), len(there) - 1)])
    if cut == there[0]:  # the first of the last ones is of the first moment: test what is later than it
        later = there[there > cut]
        if not len(later):
            return parts, None
        cut = int(later[0])
    parts[(parts == TRAIN) & (times >= cut)] = VALID
    return parts, cut


def split_by_hash(hashes: Hashes, among: Flags, share: float) -> NDArray[np.int8]:
    """The queries with the largest hashes, of their users or of themselves, are the test part.

    Args:
        hashes: uint64; those of one user are equal.
        among: the queries that count.
        share: of all hashes, that are tested.
    """
    parts = np.where(among, TRAIN, LEFT_OUT).astype(np.int8)
    if share:
        parts[among & (hashes / _WORDS >= 1 - share)] = VALID
    return parts


def draw(hashes: Hashes, sizes: NDArray[np.int32], among: Flags, most: int | None) -> Flags:
    """Whole queries with at most so many rows: by smallest hash, up to the first that does not fit.

    A larger number keeps all that a smaller one does. Nothing is topped up with smaller queries, which would
    prefer these.

    Args:
        hashes: of the queries, uint64, different ones.
        sizes: rows of each, int32.
        among: the queries that count.
        most: rows; None for all.
    """
    if most is None:
        return among.copy()
    numbers = np.flatnonzero(among)
    order = numbers[np.argsort(hashes[numbers], kind="stable")]
    kept = np.cumsum(sizes[order], dtype=np.int64) <= most
    found = np.zeros(len(among), np.bool_)
    found[order[kept]] = True
    return found


def rows_of(chosen: Flags, sizes: NDArray[np.int32]) -> int:
    """Rows of the chosen queries."""
    return int(np.asarray(sizes)[chosen].sum(dtype=np.int64))
