"""The step that says how many rows are learnt from: all, so many, or as many as the budget has room for.

The number is kept with the run: what a resume with another budget goes on with is the same sample.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import penstock
from penstock.budget import format_size
from penstock.errors import BadInput
from penstock.workloads.recsys.training import split as parts
from penstock.workloads.recsys.training.peak import RESERVED, Training, most_rows_within


def choose_rows(
    folder: Path, *, table: str, survey: Path, max_samples: int | str, like: dict[str, int]
) -> dict[str, Any]:
    """Write most.json: the most rows to learn from, or null for all.

    Args:
        folder: to write into.
        table, survey: the folders.
        max_samples: rows, 0 for all, or ``"auto"``.
        like: a ``Training``; its rows do not matter.

    Raises:
        BadInput: no query has so few rows.
    """
    told, draws = (np.load(survey / f"{name}.npy") for name in ("parts", "hashes"))
    sizes = np.load(Path(table) / "groups.npy")
    train = told == parts.TRAIN
    most = limit(max_samples, penstock.share().memory, Training(**like))
    chosen = parts.draw(draws, sizes, train, most)
    if not chosen.any():
        raise BadInput(
            f"the first query that is drawn has {int(sizes[train][np.argmin(draws[train])]):,} rows, and "
            f"{most:,} were asked for (--max-samples {max_samples}): raise it",
            file=Path(table) / "groups.npy",
        )
    if chosen.sum() == train.sum():
        most = None
    (folder / "most.json").write_text(json.dumps(most))
    return {
        "max_samples": max_samples,
        "most": most,
        "rows": parts.rows_of(chosen, sizes),
        "queries": int(chosen.sum()),
        "of_rows": parts.rows_of(train, sizes),
        "memory": penstock.share().memory if max_samples == "auto" else None,
    }


def limit(max_samples: int | str, memory: int, like: Training) -> int | None:
    """The most rows; None for all.

    Args:
        max_samples: rows, 0 for all, or ``"auto"``.
        memory: bytes that one worker may use; 0 where nobody says so.
        like: what else the peak depends on.

    Raises:
        BadInput: for ``"auto"``, that not even one row fits.
    """
    if max_samples != "auto":
        return int(max_samples) or None
    if not memory:  # nobody governs: the backend inline
        return None
    found = most_rows_within(memory + RESERVED, like)
    if not found:
        needed = format_size(replace(like, rows=1).peak)
        raise BadInput(
            f"--max-samples auto: no row fits into {format_size(memory)} for one worker, since one takes "
            f"{needed} with row groups of {like.row_group:,} rows of {like.features:,} features: raise the "
            "budget, or lower --bin-sample"
        )
    return found
