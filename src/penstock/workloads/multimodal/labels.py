"""The 14 CheXpert labels of a study: 1 present, 0 absent, -1 uncertain, blank unknown.

They are targets. No text, no image and no clinical value of a record depends on them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from penstock.errors import BadInput, UsageError
from penstock.plurals import plural
from penstock.workloads.multimodal import csvs

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
    "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia",
    "Pneumothorax", "Support Devices",
)  # fmt: skip
BLANK = -9
"""How a blank is kept in an int8."""
NO_ROW = -8
"""How the labels of a study that the table does not have are kept."""
_NOTHING = r"^(?i:nan|na|null|none)?$"
"""What programs write for a blank."""


def read_labels(path: Path, study: NDArray[np.int64]) -> NDArray[np.int8]:
    """The labels of each film's study.

    Args:
        path: of the table.
        study: int64 (films,).

    Returns:
        int8 (films, 14): -1, 0, 1, ``BLANK``, or all ``NO_ROW``. Of several rows of a study the first counts.

    Raises:
        BadInput: something else stands in the table, which as a blank would be taken for an absent finding.
    """
    odd: Counter[str] = Counter()
    known = np.unique(study)
    values = np.full((len(known), len(LABELS)), NO_ROW, np.int8)
    for batch in csvs.batches(path, ("study_id", *LABELS)):
        number = pc.fill_null(csvs.integers(batch.column("study_id")), -1).to_numpy(zero_copy_only=False)
        at = np.searchsorted(known, number)
        there = at < len(known)
        there[there] = known[at[there]] == number[there]
        rows = np.flatnonzero(there)[::-1]  # the first of several is written last
        rows = rows[values[at[rows], 0] == NO_ROW]
        for column, name in enumerate(LABELS):
            numbers = pc.fill_null(csvs.numbers(batch.column(name)), BLANK).to_numpy(zero_copy_only=False)
            plain = np.isin(numbers, (-1.0, 0.0, 1.0))
            odd[name] += _filled(batch.column(name), ~plain)
            values[at[rows], column] = np.where(plain, numbers, BLANK).astype(np.int8)[rows]
    if named := [f"{name} in {plural(count, 'row')}" for name, count in odd.items() if count]:
        raise BadInput(
            f"holds labels that are neither 1, 0 or -1 nor blank: {', '.join(named)}; other codes are to be "
            "written as these first",
            file=str(path),
            quotes_nothing=True,
        )
    return values[np.searchsorted(known, study)]


def _filled(column: Any, where: NDArray[np.bool_]) -> int:
    """In how many of these rows something is written."""
    if not where.any():
        return 0
    texts = pc.fill_null(pc.utf8_trim_whitespace(column), "").filter(where)
    return int(pc.sum(pc.invert(pc.match_substring_regex(texts, _NOTHING))).as_py() or 0)


def check_words(uncertain: str, blank: str) -> None:
    """Check the words that say what labels become.

    Raises:
        UsageError: another word.
    """
    if uncertain not in ("ignore", "zeros", "ones") or blank not in ("zeros", "ignore"):
        raise UsageError(
            f"uncertain={uncertain!r}, blank={blank!r}: ignore, zeros or ones was expected for uncertain "
            "labels, zeros or ignore for blank ones"
        )


def targets(
    labels: NDArray[np.int8], uncertain: str = "ignore", blank: str = "zeros"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Labels in the form that a loss takes.

    Args:
        labels: int8 (..., 14), see ``read_labels``.
        uncertain: what -1 becomes: ``"ignore"`` (masked), ``"zeros"`` or ``"ones"``.
        blank: what a blank becomes: ``"zeros"`` or ``"ignore"`` (masked).

    Returns:
        float32, NaN where masked; and bool, True where there is a target. A study without a row has none.

    Raises:
        UsageError: another word.
    """
    check_words(uncertain, blank)
    value = labels.astype(np.float32)
    value[labels == NO_ROW] = np.nan
    value[labels == BLANK] = 0 if blank == "zeros" else np.nan
    value[labels == -1] = {"ignore": np.nan, "zeros": 0, "ones": 1}[uncertain]
    return value, ~np.isnan(value)
