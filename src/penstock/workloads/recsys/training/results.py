"""Further results of a training: feature importance, and the picture of the curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SIZE = (7.0, 4.2)


def write_importance(
    folder: Path, *, model: Path, engine: str, features: Sequence[str], unused: Sequence[str]
) -> dict[str, Any]:
    """Write importance.parquet: feature, splits, gain, unused; by gain, descending."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    splits, gains = (_of_lightgbm if engine == "lightgbm" else _of_xgboost)(model, len(features))
    rows = sorted(zip(features, splits, gains, strict=True), key=lambda row: (-row[2], row[0]))
    table = pa.table({
        "feature": [row[0] for row in rows],
        "splits": pa.array([int(row[1]) for row in rows], pa.int64()),
        "gain": pa.array([float(row[2]) for row in rows], pa.float64()),
        "unused": [row[0] in set(unused) for row in rows],
    })  # fmt: skip
    pq.write_table(table, folder / "importance.parquet")
    return {}


def _of_lightgbm(model: Path, features: int) -> tuple[Any, Any]:
    from penstock.workloads.recsys.readers.lightgbm_library import lightgbm

    booster = lightgbm().Booster(model_file=str(model / "model.txt"))
    return booster.feature_importance("split"), booster.feature_importance("gain")


def _of_xgboost(model: Path, features: int) -> tuple[Any, Any]:
    import xgboost

    booster = xgboost.Booster(model_file=str(model / "model.ubj"))
    names = [f"f{at}" for at in range(features)]
    booster.feature_names = names
    splits, gains = (booster.get_score(importance_type=kind) for kind in ("weight", "total_gain"))
    return [splits.get(name, 0) for name in names], [gains.get(name, 0.0) for name in names]


def draw_curve(folder: Path, *, curve: list[dict[str, Any]]) -> dict[str, Any]:
    """Draw curve.png: test metrics against the sample size."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("agg")
    points = sorted(curve, key=lambda point: point["rows"])
    figure = Figure(figsize=_SIZE, dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, marker in (("ndcg@10", "o"), ("ndcg@5", "s"), ("request_auc", "^"), ("auc", "v")):
        known = [(point["rows"], point[name]) for point in points if point[name] is not None]
        if known:
            axes.plot(*zip(*known, strict=True), marker=marker, label=name.replace("_", " "))
    axes.set_xscale("log")
    axes.set_xlabel("rows to learn from")
    axes.set_ylabel("of the test part")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "curve.png", metadata={"Software": None})
    return {}
