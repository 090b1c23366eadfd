"""The test part: its scores by row group, and its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.workloads.recsys.readers.rows import TrainingRows
from penstock.workloads.recsys.readers.table import open_table
from penstock.workloads.recsys.training import metrics
from penstock.workloads.recsys.training import split as parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

CUTS = (5, 10)


@dataclass(frozen=True)
class ScoreGroup:
    """Scores the test rows of one row group.

    Args:
        table: the folder of the table.
        engine: ``"lightgbm"`` or ``"xgboost"``.
    """

    table: str
    engine: str

    def __call__(self, item: int, *, survey: Path, model: Path) -> Any:
        """Returns an Arrow table with the column ``score``, float64; None where no row is tested."""
        import pyarrow as pa

        rows = _tested(self.table, str(survey))
        group = rows.table.groups[item]
        kept = rows.kept(group)
        if not kept.any():
            return None
        values = rows.table.values(group, kept)
        predict = _lightgbm_scores if self.engine == "lightgbm" else _xgboost_scores
        return pa.table({"score": predict(str(model), values)})


@lru_cache(1)
def _tested(table: str, survey: str) -> TrainingRows:
    part = np.load(Path(survey) / "parts.npy")
    return TrainingRows(open_table(table), part == parts.VALID)


def _lightgbm_scores(model: str, values: NDArray[np.float32]) -> NDArray[np.float64]:
    found = _lightgbm_model(model).predict(values, raw_score=True, num_threads=penstock.share().threads)
    return np.asarray(found, np.float64)


def _xgboost_scores(model: str, values: NDArray[np.float32]) -> NDArray[np.float64]:
    booster = _xgboost_model(model)
    booster.set_param({"nthread": penstock.share().threads})
    return np.asarray(booster.inplace_predict(values, predict_type="margin"), np.float64)


@lru_cache(1)
def _lightgbm_model(model: str) -> Any:
    from penstock.workloads.recsys.readers.lightgbm_library import lightgbm

    return lightgbm().Booster(model_file=str(Path(model) / "model.txt"))


@lru_cache(1)
def _xgboost_model(model: str) -> Any:
    import xgboost

    return xgboost.Booster(model_file=str(Path(model) / "model.ubj"))


# ------------------------------------------------------------------ measuring


def measure(folder: Path, *, table: str, survey: Path, scores: Any) -> dict[str, Any]:
    """The metrics of the test part, as facts."""
    part = np.load(survey / "parts.npy")
    sizes = np.load(Path(table) / "groups.npy")
    rows = np.repeat(part == parts.VALID, sizes)
    labels, items = (np.load(survey / f"{name}.npy", mmap_mode="r") for name in ("labels", "items"))
    found = scores.to_table(columns=["score"]).column("score").to_numpy()
    exposed = np.asarray(items)[np.repeat(part == parts.TRAIN, sizes)]
    new = np.load(survey / "new_user.npy")[part == parts.VALID]
    return measures(
        np.asarray(labels)[rows], found, sizes[part == parts.VALID], np.asarray(items)[rows], exposed,
        int(items.max(initial=-1)) + 1, new,
    )  # fmt: skip


def measures(
    labels: NDArray[np.float32], scores: NDArray[np.float64], sizes: NDArray[np.int32],
    items: NDArray[np.int32], exposed: NDArray[np.int32], catalogue: int, new_user: NDArray[np.bool_],
) -> dict[str, Any]:  # fmt: skip
    """All metrics of a test part.

    Args:
        labels, scores, items: of each row; an item is a number, -1 where it is not known.
        sizes: rows of each query.
        exposed: the items of the rows that were learnt from.
        catalogue: how many items there are.
        new_user: whether a query is of a user that no query to learn from is of, bool (queries,).
    """
    ndcgs = {k: metrics.ndcg(labels, scores, sizes, k) for k in CUTS}
    within = metrics.request_auc(labels, scores, sizes)
    found: dict[str, Any] = {
        "rows": len(labels), "queries": len(sizes), "clicks": int((labels > 0).sum()),
        "auc": _known(metrics.auc(labels, scores)),
    }  # fmt: skip
    found["request_auc"], found["queries_request_auc"] = metrics.mean_known(within)
    for k in CUTS:
        found[f"ndcg@{k}"], found["queries_ndcg"] = metrics.mean_known(ndcgs[k])
        found[f"ndcg_lightgbm@{k}"] = _known(metrics.ndcg_lightgbm(labels, scores, sizes, k))
    if catalogue:
        found["catalogue"] = catalogue
        found["coverage@10"] = len(metrics.top_items(items, scores, sizes, 10)) / catalogue
        kinds = metrics.segments(np.bincount(exposed, minlength=catalogue))[items]
        found["segments"] = {
            name: _of_rows(kinds == number, labels, scores, sizes, ndcgs[10])
            for number, name in enumerate(metrics.SEGMENTS)
        }
    if new_user.any():
        found["new_users"] = _of_rows(np.repeat(new_user, sizes), labels, scores, sizes, ndcgs[10])
    return found


def _of_rows(
    rows: NDArray[np.bool_], labels: NDArray[np.float32], scores: NDArray[np.float64],
    sizes: NDArray[np.int32], ndcgs: NDArray[np.float64],
) -> dict[str, Any]:  # fmt: skip
    """Of some rows: their AUC, and the NDCG of the queries in which one of them was clicked."""
    clicked = np.zeros(len(sizes), np.bool_)
    clicked[metrics.request_of_rows(sizes)[rows & (labels > 0)]] = True
    mean, count = metrics.mean_known(ndcgs[clicked])
    return {
        "rows": int(rows.sum()), "clicks": int((labels[rows] > 0).sum()),
        "auc": _known(metrics.auc(labels[rows], scores[rows])), "ndcg@10": mean, "queries_ndcg": count,
    }  # fmt: skip


def with_losses(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points of a curve, each with its loss against the largest and what that suggests."""
    found = metrics.losses(curve)
    return [
        {**point, "loss": loss, "advice": metrics.advice(loss)}
        for point, loss in zip(curve, found, strict=True)
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def best_first(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Settings by NDCG@10, the best first; unknown ones come last."""
    return sorted(rows, key=lambda row: -math.inf if row["ndcg@10"] is None else row["ndcg@10"], reverse=True)
