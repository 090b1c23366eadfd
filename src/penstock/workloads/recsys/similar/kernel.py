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
"""Places that a buffer needs beyond the candidates that it must hold: so many are written at once."""
_BINS = 256


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
def sampled_thresholds(scores, rank, floor, thresholds):
    """The ``rank``-th largest of each row of ``scores`` (float32), at least ``floor``."""
    best = np.empty(rank, np.float32)
    for r in range(len(scores)):
        best[:] = floor  # a heap with the least on top
        for score in scores[r]:
            if score > best[0]:
                at = 0
                while True:
                    child = 2 * at + 1
                    if child >= rank:
                        break
                    if child + 1 < rank and best[child + 1] < best[child]:
                        child += 1
                    if best[child] >= score:
                        break
                    best[at] = best[child]
                    at = child
                best[at] = score
        thresholds[r] = best[0]


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
    for r in range(len(tile)):
        count = counts[r]
        if count < 0:
            continue
        threshold = thresholds[r]
        row, own_ids, own_scores = tile[r], ids[r], scores[r]
        for j in range(width):
            reaches[j] = row[j] >= threshold
        for eight in range(len(eights)):
            if eights[eight] == 0:
                continue
            if count + SPARE > size:
                count, threshold = _tighten(own_ids, own_scores, count, most, slack, room)
                if count + SPARE > size:
                    count = -1
                    break
            low = SPARE * eight
            if low + SPARE <= width:
                for j in range(low, low + SPARE):  # written always, counted where it reaches
                    own_ids[count] = start + j
                    own_scores[count] = row[j]
                    count += reaches[j]
            else:
                for j in range(low, width):
                    own_ids[count] = start + j
                    own_scores[count] = row[j]
                    count += reaches[j]
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
def dense_scores(fixed, scales, query, ids, count, out):
    """Cosines of a query with its candidates: integer sums, independent of order and machine.

    Args:
        fixed: int32 (items, dimensions): unit vectors times 2 ** 31, so that sums stay within 2 ** 62.
        scales: float64 (items): 1 / the length of each, 0 where it has none.
        query: its number.
        ids: int32: the candidates.
        out: float64, filled.
    """
    own = fixed[query]
    for p in range(count):
        other = fixed[ids[p]]
        total = np.int64(0)
        for d in range(len(own)):
            total += np.int64(own[d]) * np.int64(other[d])
        cosine = np.float64(total) * (scales[query] * scales[ids[p]])
        out[p] = min(max(cosine, -1.0), 1.0)  # rounding can lead past them


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
        lost: float64 (rows, room for candidates), filled: the scores times -1, infinity where none is left.
    """
    dense = np.zeros(ids.shape[1])
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
        row = lost[r]
        if len(indptr):
            sparse_scores(indptr, terms, weights, query, ids[r], left, spread, row)
        else:
            row[:left] = 0.0
        if len(scales):
            dense_scores(fixed, scales, query, ids[r], left, dense)
        kept = 0
        for p in range(left):
            share = shares[modalities[query] & modalities[ids[r, p]]]
            score = share[0] * row[p] + share[1] * dense[p]
            if score > threshold or (score == threshold and not strict):
                ids[r, kept] = ids[r, p]
                row[kept] = -score
                kept += 1
        counts[r] = kept
        row[kept:] = np.inf
