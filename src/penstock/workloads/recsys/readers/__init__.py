"""Readers of a ranking table for LightGBM, XGBoost, PyTorch, or a loop of your own.

Nothing here loads the whole table; each reader holds one row group. Its package is imported when it is first
asked for.

    from penstock.workloads.recsys import readers

    data = readers.lightgbm_dataset("runs/ranking", params)    # lightgbm.Dataset, of Sequences
    data = readers.xgboost_matrix("runs/ranking", "cache")     # xgboost.ExtMemQuantileDMatrix
    data = readers.QueryDataset("runs/ranking")                # torch IterableDataset
    for query in readers.queries("runs/ranking"): ...          # NumPy
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from penstock.workloads.recsys.readers.rows import Query, TrainingRows, queries

if TYPE_CHECKING:
    from penstock.workloads.recsys.readers.lightgbm import RowGroupSequence, lightgbm_dataset
    from penstock.workloads.recsys.readers.torch import QueryDataset
    from penstock.workloads.recsys.readers.xgboost import RowGroupIter, xgboost_matrix

__all__ = [
    "Query",
    "QueryDataset",
    "RowGroupIter",
    "RowGroupSequence",
    "TrainingRows",
    "lightgbm_dataset",
    "queries",
    "xgboost_matrix",
]

_HOMES = {
    "QueryDataset": "torch",
    "RowGroupIter": "xgboost",
    "RowGroupSequence": "lightgbm",
    "lightgbm_dataset": "lightgbm",
    "xgboost_matrix": "xgboost",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
