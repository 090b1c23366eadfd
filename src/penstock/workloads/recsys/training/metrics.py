"""Ranking metrics as plain functions of arrays.

Rows of a request are contiguous; ``sizes`` are the rows of each request, in order. A label above 0 is a
click. What a request says nothing about is NaN there, never 1 and never 0: the NDCG of a request without a
click, the AUC of one in which all or none was clicked, and both of a request of one row.

Sources: NDCG of Järvelin and Kekäläinen (2002) with the gains 2^label - 1 of Burges et al. (2005); rows with
equal scores get the mean over their orders (McSherry and Najork 2008), as scikit-learn's ``ndcg_score`` does;
AUC by mean ranks (Mann and Whitney 1947).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[Any]
    Sizes = NDArray[Any]

HEAD, MIDDLE, TAIL = 0, 1, 2
SEGMENTS = ("head", "middle", "tail")
_HEAD_SHARE, _MIDDLE_SHARE = 0.5, 0.9
ENOUGH, WORTH_MORE = 0.02, 0.05
"""Relative losses: below the first a smaller sample will do, above the second a larger one is worth it."""


def starts_of(sizes: Sizes) -> NDArray[np.int64]:
    """First row of each request, int64 (requests,)."""
    ends = np.cumsum(sizes, dtype=np.int64)
    return ends - np.asarray(sizes, np.int64)


def request_of_rows(sizes: Sizes) -> NDArray[np.int64]:
    """Request number of each row, int64 (rows,)."""
    return np.repeat(np.arange(len(sizes)), sizes)


def auc(labels: Labels, scores: Floats) -> float:
    """Share of pairs of a clicked and another row, over all requests, in which the clicked one scores higher.

    Equal scores count half. NaN where all rows or none are clicked.
    """
    order = np.argsort(scores, kind="stable")
    clicked = np.asarray(labels)[order] > 0
    ranks = _mean_ranks(_changes(scores[order]))
    positives = int(clicked.sum())
    negatives = len(clicked) - positives
    if not positives or not negatives:
        return float("nan")
    return float((ranks[clicked].sum() - positives * (positives + 1) / 2) / positives / negatives)


def request_auc(labels: Labels, scores: Floats, sizes: Sizes) -> Floats:
    """The AUC within each request, float64 (requests,)."""
    requests = request_of_rows(sizes)
    order = np.lexsort((scores, requests))
    clicked = np.asarray(labels)[order] > 0
    changes = _changes(scores[order]) | _changes(requests[order])
    ranks = _mean_ranks(changes) - starts_of(sizes)[requests]  # requests stay where they are when sorted
    positives = _sums(clicked, sizes)
    negatives = np.asarray(sizes) - positives
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = _sums(np.where(clicked, ranks, 0.0), sizes) - positives * (positives + 1) / 2
        return np.where((positives > 0) & (negatives > 0), areas / (positives * negatives), np.nan)


def ndcg(labels: Labels, scores: Floats, sizes: Sizes, k: int) -> Floats:
    """The NDCG of the first ``k`` rows of each request, float64 (requests,).

    Rows with equal scores get the mean of the DCG over all their orders.
    """
    requests = request_of_rows(sizes)
    order = np.lexsort((-scores, requests))
    gains = _gains(labels)[order]
    ties = np.cumsum(_changes(scores[order]) | _changes(requests[order])) - 1
    if len(ties):
        gains = (np.bincount(ties, gains) / np.bincount(ties))[ties]
    found = _sums(gains * _discounts(sizes, k), sizes)
    best = _best_dcg(labels, sizes, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((best > 0) & (np.asarray(sizes) > 1), found / best, np.nan)


def ndcg_lightgbm(labels: Labels, scores: Floats, sizes: Sizes, k: int) -> float:
    """LightGBM's ``ndcg@k``: 1 for a request without a click, ties in row order."""
    requests = request_of_rows(sizes)
    order = np.lexsort((np.arange(len(scores)), -scores, requests))
    found = _sums(_gains(labels)[order] * _discounts(sizes, k), sizes)
    best = _best_dcg(labels, sizes, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.where(best > 0, found / best, 1.0))) if len(best) else float("nan")


def mean_known(values: Floats) -> tuple[float | None, int]:
    """Mean of the values that are not NaN, and their number; None if there are none."""
    known = values[~np.isnan(values)]
    return (float(known.mean()) if len(known) else None), len(known)


def segments(exposures: NDArray[np.int64]) -> NDArray[np.int8]:
    """HEAD, MIDDLE or TAIL for each item, by its number of impressions in the training part.

    The most frequent items that make up half of the rows are the head, those up to nine tenths the middle,
    all others, also those never shown, the tail. Equal counts go by the item's number.

    Args:
        exposures: rows of each item, int64 (items,).
    """
    order = np.argsort(-exposures, kind="stable")
    before = np.cumsum(exposures[order]) - exposures[order]
    share = before / max(int(exposures.sum()), 1)
    classes = np.select([share < _HEAD_SHARE, share < _MIDDLE_SHARE], [HEAD, MIDDLE], TAIL)
    classes[exposures[order] == 0] = TAIL
    found = np.empty(len(exposures), np.int8)
    found[order] = classes
    return found


def top_items(items: NDArray[Any], scores: Floats, sizes: Sizes, k: int) -> NDArray[Any]:
    """The distinct items among the first ``k`` of any request; ties in row order."""
    order = np.lexsort((np.arange(len(scores)), -scores, request_of_rows(sizes)))
    return np.unique(items[order][_ranks(sizes) < k])


def advice(loss: float | None) -> str:
    """What a smaller sample's loss of NDCG against the largest suggests."""
    if loss is None:
        return "unknown"
    if loss < ENOUGH:
        return "a smaller sample will do"
    return "a larger sample is worth it" if loss > WORTH_MORE else "between"


def losses(curve: Sequence[Mapping[str, Any]], name: str = "ndcg@10") -> list[float | None]:
    """Each point's relative loss against the one with most rows; None for that one, and where unknown."""
    largest = max(curve, key=lambda point: point["rows"]) if curve else {name: None}
    full = largest[name]
    return [
        None if point is largest or not full or point[name] is None else (full - point[name]) / full
        for point in curve
    ]


# ------------------------------------------------------------------ arithmetic


def _gains(labels: Labels) -> Floats:
    return np.exp2(np.asarray(labels, np.float64)) - 1


def _ranks(sizes: Sizes) -> NDArray[np.int64]:
    """Place of each row within its request, from 0."""
    return np.arange(int(np.sum(sizes))) - np.repeat(starts_of(sizes), sizes)


def _discounts(sizes: Sizes, k: int) -> Floats:
    ranks = _ranks(sizes)
    return np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)


def _best_dcg(labels: Labels, sizes: Sizes, k: int) -> Floats:
    gains = _gains(labels)
    order = np.lexsort((-gains, request_of_rows(sizes)))
    return _sums(gains[order] * _discounts(sizes, k), sizes)


def _sums(values: NDArray[Any], sizes: Sizes) -> Floats:
    """The sum over each request; requests have at least one row."""
    if not len(sizes):
        return np.zeros(0)
    return np.add.reduceat(np.asarray(values, np.float64), starts_of(sizes))


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a value differs from the one before; the first one does."""
    changed = np.ones(len(values), np.bool_)
    changed[1:] = values[1:] != values[:-1]
    return changed


def _mean_ranks(changes: NDArray[np.bool_]) -> Floats:
    """Ranks from 1 of sorted values, the mean rank where they are equal."""
    first = np.flatnonzero(changes)
    number = np.cumsum(changes) - 1
    count = np.diff(np.append(first, len(changes)))
    return (first + (count + 1) / 2)[number] if len(number) else np.zeros(0)
