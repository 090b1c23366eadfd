"""Measures of a ranking, against scikit-learn and LightGBM."""

from __future__ import annotations

import itertools
import math
import warnings

import lightgbm
import numpy as np
import pytest
import sklearn.metrics as sklearn_metrics
from hypothesis import given
from hypothesis import strategies as st

from penstock.workloads.recsys.training import metrics


def requests(seed, count=60, *, levels=5, labels=2, share=0.2):
    """Labels, scores with many ties, and the sizes of requests of 1 to 12 rows."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 13, count)
    rows = int(sizes.sum())
    told = np.where(
        rng.random(rows) < share, rng.integers(1, labels, rows, endpoint=False) if labels > 2 else 1, 0
    )
    return told, rng.integers(0, levels, rows) / 4.0, sizes


def parts(values, sizes):
    return np.split(values, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_scikit_learns_over_all_and_within_requests(seed):
    labels, scores, sizes = requests(seed)
    assert metrics.auc(labels, scores) == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12
    )
    found = metrics.request_auc(labels, scores, sizes)
    for one, told, scored in zip(found, parts(labels, sizes), parts(scores, sizes), strict=True):
        if len(set(told.tolist())) < 2:
            assert math.isnan(one)
        else:
            assert one == pytest.approx(sklearn_metrics.roc_auc_score(told, scored), abs=1e-12)


@pytest.mark.parametrize(("seed", "labels"), [(0, 2), (1, 2), (2, 5), (3, 5)])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_ndcg_is_scikit_learns_and_unknown_without_a_click(seed, labels, k):
    told, scores, sizes = requests(seed, labels=labels)
    found = metrics.ndcg(told, scores, sizes, k)
    for one, mine, scored in zip(found, parts(told, sizes), parts(scores, sizes), strict=True):
        if len(mine) < 2 or not mine.any():
            assert math.isnan(one)
        else:
            expected = sklearn_metrics.ndcg_score([2.0**mine - 1], [scored], k=k)
            assert one == pytest.approx(expected, abs=1e-12)


def test_ndcg_of_ties_is_the_mean_over_all_their_orders():
    labels, scores = np.array([1, 0, 0, 1]), np.array([2.0, 1.0, 1.0, 1.0])
    found = metrics.ndcg(labels, scores, np.array([4]), 3)[0]
    orders = [
        metrics.ndcg(labels[[0, *rest]], np.array([4.0, 3.0, 2.0, 1.0]), np.array([4]), 3)[0]
        for rest in itertools.permutations([1, 2, 3])
    ]
    assert found == pytest.approx(np.mean(orders), abs=1e-15)


@given(st.integers(0, 2**32 - 1))
def test_no_measure_depends_on_the_order_of_rows_in_a_request_or_of_requests(seed):
    labels, scores, sizes = requests(seed, count=12)
    rng = np.random.default_rng(seed)
    rows = np.split(np.arange(len(labels)), np.cumsum(sizes)[:-1])
    order = rng.permutation(len(sizes))
    moved = np.concatenate([rng.permutation(rows[at]) for at in order])
    for measure in (metrics.request_auc, lambda *args: metrics.ndcg(*args, 5)):
        before = measure(labels, scores, sizes)[order]
        after = measure(labels[moved], scores[moved], sizes[order])
        np.testing.assert_allclose(after, before, atol=1e-12)
    np.testing.assert_allclose(
        metrics.auc(labels[moved], scores[moved]), metrics.auc(labels, scores), atol=1e-12
    )


@pytest.mark.parametrize("labels", [2, 5])
def test_what_lightgbm_calls_ndcg_is_what_it_says(labels):
    told, _, sizes = requests(7, count=200, labels=labels)
    features = np.random.default_rng(7).integers(0, 3, (len(told), 2)).astype(float)
    data = lightgbm.Dataset(features, told, group=sizes)
    options = {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [5, 10],
        "verbosity": -1,
        "num_threads": 1,
    }
    booster = lightgbm.train(options | {"min_data_in_leaf": 5}, data, 3, keep_training_booster=True)
    reported = {name: value for _, name, value, _ in booster.eval_train()}
    scores = booster.predict(features, raw_score=True)
    assert len(set(scores.tolist())) < 10  # there are ties
    for k in (5, 10):
        assert metrics.ndcg_lightgbm(told, scores, sizes, k) == pytest.approx(reported[f"ndcg@{k}"], abs=1e-9)


def test_requests_without_a_click_raise_lightgbms_ndcg_and_not_ours():
    """The figures of corrections R1: 2,000 requests of 10 rows, 3 % clicks, a model that knows nothing."""
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.03).astype(int)
    scores, sizes = rng.random(20_000), np.full(2_000, 10)
    known, requests_with_click = metrics.mean_known(metrics.ndcg(labels, scores, sizes, 5))
    clicked = sum(bool(part.any()) for part in parts(labels, sizes))
    assert requests_with_click == clicked < 600
    assert known == pytest.approx(0.35, abs=0.05)
    assert metrics.ndcg_lightgbm(labels, scores, sizes, 5) == pytest.approx(0.83, abs=0.02)


def test_nothing_is_known_of_nothing():
    none, sizes = np.zeros(0), np.zeros(0, np.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(metrics.auc(none, none))
        assert len(metrics.ndcg(none, none, sizes, 5)) == len(metrics.request_auc(none, none, sizes)) == 0
        assert math.isnan(metrics.ndcg_lightgbm(none, none, sizes, 5))
        assert metrics.mean_known(metrics.ndcg(none, none, sizes, 5)) == (None, 0)


def test_segments_go_by_the_share_of_exposures():
    counts = np.array([0, 50, 10, 30, 5, 5, 0])
    assert [metrics.SEGMENTS[at] for at in metrics.segments(counts)] == [
        "tail", "head", "middle", "middle", "tail", "tail", "tail",
    ]  # fmt: skip
    assert (metrics.segments(np.zeros(3, np.int64)) == metrics.TAIL).all()


def test_top_items_are_those_of_each_request():
    items, sizes = np.array([7, 8, 9, 7, 5]), np.array([3, 2])
    scores = np.array([0.1, 0.3, 0.3, 0.0, 0.0])
    assert metrics.top_items(items, scores, sizes, 1).tolist() == [7, 8]
    assert metrics.top_items(items, scores, sizes, 2).tolist() == [5, 7, 8, 9]


def test_the_advice_of_a_curve_is_the_originals_rule():
    curve = [{"rows": 5, "ndcg@10": 0.60}, {"rows": 25, "ndcg@10": 0.66}, {"rows": 50, "ndcg@10": 0.695},
             {"rows": 100, "ndcg@10": 0.70}]  # fmt: skip
    told = [metrics.advice(loss) for loss in metrics.losses(curve)]
    assert told == ["a larger sample is worth it", "a larger sample is worth it", "a smaller sample will do",
                    "unknown"]  # fmt: skip
    assert metrics.advice(0.03) == "between"
    assert metrics.losses([{"rows": 5, "ndcg@10": None}]) == [None]
    assert metrics.advice(None) == "unknown"
