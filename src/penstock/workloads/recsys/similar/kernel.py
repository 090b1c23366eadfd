"""Compiled parts of the search for neighbours: sparse scores, candidates, and their exact scores.

Candidates are found in float32, tile by tile: a tile holds the scores of some query rows with the items of
one interval. A candidate is kept where its float32 score is at least that of the K-th best less twice the
rounding error, so that no neighbour can be lost. Its own score is exact: a sum of integers for vectors, of
float64 in the order of the terms for texts, and depends on nothing but the two items.

Source of the bound: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1: a sum of
n products of numbers with a unit roundoff u, in any order, is off by at most n u / (1 - n u) of the sum of
their absolute values, which for unit vectors is at most 1.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_compiled: Any = njit(cache=True, error_model="numpy", nogil=True)

ROUNDOFF = 2.0**-24
"""Of float32."""
SPARE = 8
"""Places that a buffer needs beyond the candidates that it must hold: so many may come at once."""
_BINS = 256
_LOWEST = np.array([0, *((bits & -bits).bit_length() - 1 for bits in range(1, 256))], np.int64)
"""Of each byte the number of its lowest bit that is set."""
_TO_BITS = np.uint64(0x0102040810204080)
"""Times a word of eight bytes that are 0 or 1, the lowest byte first: its highest byte has them as bits."""
_NEAR = 2048
"""Items whose vectors a core's cache holds."""


@_compiled
def kth_largest(values, count, k):
    """The k-th largest of ``values[:count]``, which are reordered; k is from 1 to ``count``.

    Hoare's selection, with the middle of three as pivot.
    """
    low, high = 0, count - 1
    wanted = k - 1
    while low < high:
        middle = (low + high) >> 1
        a, b, c = values[low], values[middle], values[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            return values[wanted]
    return values[wanted]


@_compiled
def post(indptr, terms, weights, items, pointers, posted, values):
    """Transpose rows of a CSR: for each term the items that have it.

    Args:
        indptr, terms, weights: int64, int32, float64.
        items: int64: the numbers of the rows, in the order in which they are to be columns.
        pointers: int32 (terms + 1), filled: where the postings of each term begin.
        posted, values: int32 and float32, filled.
    """
    pointers[:] = 0
    for item in items:
        for at in range(indptr[item], indptr[item + 1]):
            pointers[terms[at] + 1] += 1
    for term in range(len(pointers) - 1):
        pointers[term + 1] += pointers[term]
    free = pointers.copy()
    for column in range(len(items)):
        for at in range(indptr[items[column]], indptr[items[column] + 1]):
            place = free[terms[at]]
            posted[place] = column
            values[place] = weights[at]
            free[terms[at]] = place + 1


@_compiled
def scatter(indptr, terms, weights, share, first, pointers, items, values, tile):
    """Add the sparse part of the scores to a tile.

    Args:
        indptr, terms, weights: the rows of all items in CSR (int64, int32, float64).
        share: float32, of the sparse part in the scores.
        first: number of the item that is the tile's first row.
        pointers: int32 (terms + 1): where the postings of each term begin.
        items, values: int32 and float32: the columns of the tile that have the term, and its
            weight there.
        tile: float32 (rows, columns), changed.
    """
    for r in range(len(tile)):
        row = tile[r]
        for at in range(indptr[first + r], indptr[first + r + 1]):
            term = terms[at]
            weight = share * np.float32(weights[at])
            for p in range(pointers[term], pointers[term + 1]):
                row[items[p]] += weight * values[p]


@_compiled
def _best(scores, count, most, room):
    """The ``most``-th largest of ``scores[:count]``: bins of equal width, then a selection in one of them."""
    least = largest = scores[0]
    for p in range(count):
        least = min(least, scores[p])
        largest = max(largest, scores[p])
    if not largest > least:
        return least
    bins = np.zeros(_BINS + 1, np.int64)
    scale = np.float32(_BINS) / (largest - least)
    for p in range(count):
        bins[int((scores[p] - least) * scale)] += 1
    above = 0
    at = _BINS
    while above + bins[at] < most:
        above += bins[at]
        at -= 1
    inside = 0
    for p in range(count):
        room[inside] = scores[p]
        inside += int((scores[p] - least) * scale) == at
    return kth_largest(room, inside, most - above)


@_compiled
def _tighten(ids, scores, count, most, slack, room):
    """Drop what cannot be among the ``most`` best; returns how many are left, and the new threshold.

    ``room`` is float32, one longer than ``scores``.
    """
    threshold = _best(scores, count, most, room) - slack
    left = 0
    for p in range(count):
        reaches = scores[p] >= threshold
        ids[left] = ids[p]
        scores[left] = scores[p]
        left += reaches
    return left, threshold


@_compiled
def take_candidates(tile, start, most, slack, thresholds, counts, ids, scores, room):
    """Append a tile's columns that reach their row's threshold to the row's candidates.

    Where a row's candidates are too many, its threshold is raised to what the best ``most`` of them need.
    A row in which more tie than there is room for is marked by a count of -1.

    Args:
        tile: float32 (rows, columns).
        start: number of the item that is the first column.
        most: how many the best must hold.
        slack: twice the bound of the rounding error.
        thresholds: float32 (rows), changed.
        counts: int64 (rows), changed.
        ids, scores: int32 and float32 (rows, room for ``most`` + ``SPARE`` or more), changed.
        room: float32 of the same length.
    """
    width = tile.shape[1]
    size = ids.shape[1]
    reaches = np.zeros((width + 7) // 8 * 8, np.uint8)
    eights = reaches.view(np.uint64)
    some = np.empty(len(eights) + 1, np.int64)
    for r in range(len(tile)):
        count = counts[r]
        if count < 0:
            continue
        threshold = thresholds[r]
        row, own_ids, own_scores = tile[r], ids[r], scores[r]
        for j in range(width):
            reaches[j] = row[j] >= threshold
        found = 0
        for eight in range(len(eights)):
            some[found] = eight
            found += eights[eight] != 0
        for at in range(found):
            if count + SPARE > size:
                count, threshold = _tighten(own_ids, own_scores, count, most, slack, room)
                if count + SPARE > size:
                    count = -1
                    break
            bits = np.int64((eights[some[at]] * _TO_BITS) >> np.uint64(56))
            while bits:  # mostly once
                j = SPARE * some[at] + _LOWEST[bits]
                own_ids[count] = start + j
                own_scores[count] = row[j]
                count += 1
                bits &= bits - 1
        counts[r] = count
        thresholds[r] = threshold


@_compiled
def measure(fixed, scales):
    """1 / the length of each row of int32, exact up to two roundings; 0 for rows of zeros."""
    for i in range(len(fixed)):
        total = np.int64(0)
        for value in fixed[i]:
            total += np.int64(value) * np.int64(value)
        scales[i] = 1 / np.sqrt(np.float64(total)) if total else 0.0


@_compiled
def _cosine(fixed, scales, query, other):
    """Of two items, at most 1: rounding can lead past that."""
    total = np.int64(0)
    for d in range(fixed.shape[1]):
        total += np.int64(fixed[query, d]) * np.int64(fixed[other, d])
    return min(max(np.float64(total) * (scales[query] * scales[other]), -1.0), 1.0)


@_compiled
def dense_scores(fixed, scales, first, ids, counts, out):
    """Cosines of queries with their candidates: integer sums, independent of order and machine.

    All queries take their candidates among the same few items in turn, as the vectors of all are more than a
    cache holds.

    Args:
        fixed: int32 (items, dimensions): unit vectors times 2 ** 31, so that sums stay within 2 ** 62.
        scales: float64 (items): 1 / the length of each, 0 where it has none.
        first: number of the item that the first row is the query of.
        ids: int32 (rows, candidates): quickest where they ascend.
        counts: int64 (rows): candidates that there are.
        out: float64 (rows, candidates), filled.
    """
    done = np.zeros(len(counts), np.int64)
    for stop in range(_NEAR, len(fixed) + _NEAR, _NEAR):
        for r in range(len(counts)):
            p = done[r]
            while p < counts[r] and ids[r, p] < stop:
                out[r, p] = _cosine(fixed, scales, first + r, ids[r, p])
                p += 1
            done[r] = p


@_compiled
def sparse_scores(indptr, terms, weights, query, ids, count, spread, out):
    """Inner products of a query's row with those of its candidates, terms ascending.

    ``spread`` is float64 (terms), all 0, and is left so.
    """
    for at in range(indptr[query], indptr[query + 1]):
        spread[terms[at]] = weights[at]
    for p in range(count):
        total = 0.0
        for at in range(indptr[ids[p]], indptr[ids[p] + 1]):
            total += spread[terms[at]] * weights[at]
        out[p] = min(max(total, -1.0), 1.0)
    for at in range(indptr[query], indptr[query + 1]):
        spread[terms[at]] = 0.0


@_compiled
def place(order, lost, ids, counts, most, placed_ids, placed_scores):
    """Sort the candidates: by score, descending, then by number, ascending.

    Args:
        order: int64 (rows, candidates): where the least values of each row of ``lost`` are, ascending, equal
            ones anyhow.
        lost: as :func:`score_candidates` filled it.
        ids: int32 (rows, candidates).
        counts: int64 (rows): candidates that there are; at the end, how many are placed.
        most: int: at most so many are placed.
        placed_ids, placed_scores: int32 and float64 (rows, ``most``): filled; -1 and 0 where none is left.
    """
    room = np.empty(ids.shape[1], np.int32)
    for r in range(len(order)):
        count = counts[r]
        at = 0
        while at < min(count, most):
            value = lost[r, order[r, at]]
            end = at
            while end < count and lost[r, order[r, end]] == value:
                room[end] = ids[r, order[r, end]]
                end += 1
            if end - at > 1:
                room[at:end].sort()
            for p in range(at, min(end, most)):
                placed_ids[r, p] = room[p]
                placed_scores[r, p] = -value
            at = end
        counts[r] = min(count, most)
        for p in range(counts[r], most):
            placed_ids[r, p] = -1
            placed_scores[r, p] = 0.0


@_compiled
def renormalise(tile, own, others, factors):
    """Weight a tile by the modalities that both items have.

    Args:
        tile: float32 (rows, columns), changed.
        own, others: uint8: the modalities of rows and columns, bit 0 the text, bit 1 the vector.
        factors: float32 (4): by the bits that both have.
    """
    for r in range(len(tile)):
        row, has = tile[r], own[r]
        for j in range(len(row)):
            row[j] *= factors[has & others[j]]


@_compiled
def score_candidates(
    first, most, slack, threshold, strict, counts, ids, scores, room, fixed, scales, indptr, terms, weights,
    spread, modalities, shares, lost,
):  # fmt: skip
    """Keep each row's candidates that may be among the best, and compute their exact scores.

    Args:
        first: number of the item that the first row is the query of.
        most: how many neighbours are wanted; the query itself is none.
        slack: twice the bound of the rounding error.
        threshold, strict: the least score, and whether it must be more than that.
        counts: int64 (rows), changed: how many candidates are left.
        ids, scores: as :func:`take_candidates` filled them; their order is kept.
        room: float32 of the same length.
        fixed, scales: as for :func:`dense_scores`; (0, 0) and (0) where there are none.
        indptr, terms, weights: as for :func:`scatter`; empty where there are none.
        spread: float64 (terms), all 0.
        modalities: uint8 (items): bit 0 a text, bit 1 a vector.
        shares: float64 (4, 2): the weights of text and vector by the bits that both items have.
        lost: float64 (rows, room for candidates), filled as far as any row has some: the scores times -1,
            infinity where none is left.
    """
    for r in range(len(counts)):
        query = first + r
        left = 0
        for p in range(counts[r]):
            if ids[r, p] != query and modalities[query] & modalities[ids[r, p]]:
                ids[r, left] = ids[r, p]
                scores[r, left] = scores[r, p]
                left += 1
        if left > most:
            left, _ = _tighten(ids[r], scores[r], left, most, slack, room)
        counts[r] = left
    largest = counts.max() if len(counts) else 0
    dense = np.zeros((len(counts), largest))
    if len(scales):
        dense_scores(fixed, scales, first, ids, counts, dense)
    for r in range(len(counts)):
        query = first + r
        row = lost[r]
        if len(indptr):
            sparse_scores(indptr, terms, weights, query, ids[r], counts[r], spread, row)
        else:
            row[: counts[r]] = 0.0
        kept = 0
        for p in range(counts[r]):
            share = shares[modalities[query] & modalities[ids[r, p]]]
            score = share[0] * row[p] + share[1] * dense[r, p]
            if score > threshold or (score == threshold and not strict):
                ids[r, kept] = ids[r, p]
                row[kept] = -score
                kept += 1
        counts[r] = kept
        row[kept:largest] = np.inf
