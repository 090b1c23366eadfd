"""The steps that train with XGBoost, whose bins stay on disk: for tables whose bins do not fit in memory.

Each block reads the table again to make its bins, since XGBoost keeps none from one process to the next, and
goes on from the model of the block before.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import penstock
from penstock.errors import MissingExtra
from penstock.workloads.recsys.readers.rows import TrainingRows
from penstock.workloads.recsys.training.growing import Growing, Rows

MODEL = "model.ubj"
_MAX_BIN = 256


def check_xgboost() -> None:
    """Check that XGBoost is installed, without importing it.

    Raises:
        MissingExtra: it is not.
    """
    if find_spec("xgboost") is None:
        raise MissingExtra("--engine xgboost", "xgboost", "recsys-xgboost")


def grow_with_xgboost(
    folder: Path, *, table: str, survey: Path, sample: Path, before: Path | None, block: int, trees: int,
    growing: dict[str, Any], label: str, most: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Grow a block of trees: writes model.ubj, with the trees of all blocks so far.

    Args: as ``grow_trees`` of LightGBM takes them.
    """
    import xgboost

    from penstock.workloads.recsys.readers.xgboost import xgboost_matrix

    how = Growing(**growing)
    rows = Rows(table, survey, json.loads((sample / "most.json").read_text()), label)
    chosen = rows.chosen(most)
    opened = TrainingRows(rows.open().table, chosen, label=label)
    threads = penstock.share().threads
    with xgboost.config_context(verbosity=0):
        cache = folder / ".cache"
        data = xgboost_matrix(opened, cache, max_bin=_MAX_BIN, nthread=threads)
        params = {
            "objective": "rank:ndcg", "tree_method": "hist", "max_leaves": how.leaves, "max_depth": 0,
            "grow_policy": "lossguide", "max_bin": _MAX_BIN, "learning_rate": how.learning_rate,
            "subsample": how.bagging, "seed": how.seed + block, "nthread": threads,
        }  # fmt: skip
        first = None if before is None else xgboost.Booster(model_file=str(before / MODEL))
        booster = xgboost.train(params, data, trees, xgb_model=first)
        booster.set_param({"nthread": 0})
        booster.save_model(folder / MODEL)
        del data
    for path in folder.glob(".cache*"):
        path.unlink()
    return {
        "trees": trees,
        "finished": False,
        "rows": len(opened),
        "unused": opened.unused(),
    }
