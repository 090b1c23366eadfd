"""The step that decides the number of training rows: all, a number, or as many as the budget allows.

The number is kept with the run: what a resume with another budget goes on with is the same sample.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import penstock
from penstock.errors import BadInput
from penstock.workloads.recsys.shared.peak import Training, limit
from penstock.workloads.recsys.training import split as parts


def choose_rows(
    folder: Path, *, table: str, survey: Path, max_samples: int | str, like: dict[str, int]
) -> dict[str, Any]:
    """Write most.json: the most training rows, or null for all.

    Args:
        folder: to write into.
        table, survey: the folders.
        max_samples: rows, 0 for all, or ``"auto"``.
        like: a ``Training``; its rows do not matter.

    Raises:
        BadInput: no query has so few rows.
    """
    part, draws = (np.load(survey / f"{name}.npy") for name in ("parts", "hashes"))
    sizes = np.load(Path(table) / "groups.npy")
    train = part == parts.TRAIN
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
