"""The offline half of a recommender, in a fixed memory budget: neighbours, the ranking table, the ranker.

What is usually one program that holds all tables at once is here five workloads, each of which can share
a run folder with the others, because each names its stages after itself:

    items ----------------------> similar    neighbors.parquet    (content: text, vectors)
    interactions ---------------> behavior   behavior.parquet     (bought, read, clicked together)
    samples, items, users ------> ranking    table/, groups.npy, positions.npy, meta.json
                                     |
                                  rank-train model.txt, metrics.json
    any table ------------------> shrink     the same values in narrower columns

``hashing`` draws requests for samples and splits, ``environment`` reads the variables that set such a
pipeline's options before.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Loaded when first used: each needs other packages.
_HOMES = {
    "Behavior": "penstock.workloads.recsys.behavior",
    "RankTrain": "penstock.workloads.recsys.training",
    "Ranking": "penstock.workloads.recsys.ranking",
    "Shrink": "penstock.workloads.recsys.shrink",
    "Similar": "penstock.workloads.recsys.similar",
}

__all__ = ["Behavior", "RankTrain", "Ranking", "Shrink", "Similar"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
