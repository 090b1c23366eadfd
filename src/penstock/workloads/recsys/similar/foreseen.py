"""Memory of a neighbour search's later stages, computed from the size of its input alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import penstock
from penstock.budget import MiB, format_size
from penstock.plurals import plural
from penstock.workloads.recsys.shared.later import SHORT, LaterPlan, Stage
from penstock.workloads.recsys.similar.asked import Asked
from penstock.workloads.recsys.similar.matrices import open_dense, sparse_shape

_COMPILED = 90 * MiB
"""Numba, with what it has compiled."""
_QUERIES, _SAMPLE = 256, 16_384
"""Items of a block, and those that a threshold is learnt from, at most."""


def later_stages(budget: int, asked: Asked) -> LaterPlan:
    """The stages after counting terms.

    Args:
        budget: bytes.
        asked: the options.
    """
    items, width = _shape(asked)
    terms = asked.max_features if asked.text else 0
    if asked.sparse:
        terms = sparse_shape(asked.sparse)[1]
    return LaterPlan(budget, tuple(_stages(asked, items, width, terms)), tuple(_notes(asked, items, width)))


def _shape(asked: Asked) -> tuple[int, int]:
    """Items, and numbers of a vector."""
    if asked.items is None:
        width = open_dense(asked.dense).shape[1] if asked.dense else 0
        return asked.rows, width
    rows: Any = penstock.sources.ParquetRows(asked.items, [asked.key])
    return len(rows), len(asked.vectors)


def _stages(asked: Asked, items: int, width: int, terms: int) -> Iterator[Stage]:
    if asked.items is not None:
        yield Stage("similar-order", SHORT + 48 * items, f"{plural(items, 'id')}, sorted")
    if terms:
        yield Stage(
            "similar-weights", SHORT + 400 * terms, f"{plural(terms, 'term')}, and the texts of a batch"
        )
    if width:
        yield Stage("similar-vectors", SHORT + 8192 * 24 * width, "8,192 vectors at a time")
    most = max(min(asked.top_k, items - 1), 1)
    sample = min(_SAMPLE, items)
    candidates = _QUERIES * 16 * (4 * most + 256)
    takes = _COMPILED + 4 * _QUERIES * sample + candidates + 4 * sample * width + items + 24 * terms
    yield Stage(
        "similar-blocks", takes, f"{_QUERIES} items at a time, with {plural(most, 'neighbour')} of each"
    )
    yield Stage("similar-neighbors", SHORT + 40 * _QUERIES * most + 32 * items, "the table, block by block")


def _notes(asked: Asked, items: int, width: int) -> Iterator[str]:
    most = max(min(asked.top_k, items - 1), 1)
    if width:
        mapped, compared = format_size(items * width * 8), 2 * items * items * width / 1e12
        yield f"vectors: {mapped} in mapped files; {compared:,.2f} TFLOP to compare all with all"
    yield f"written and never held: at most {plural(items * most, 'neighbour')}"
