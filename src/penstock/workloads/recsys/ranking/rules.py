"""Which rows of the samples go into the table, and counts of the others by reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.recsys.ranking.columns import DATASET, LABEL, REQUEST, TIME, Columns
from penstock.workloads.recsys.shared.tables import is_time, keys_of, microseconds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.recsys.ranking.clicks import Attribution


@dataclass(frozen=True)
class Rules:
    """What qualifies a row for the table.

    Attributes:
        columns: of the samples.
        zero_labels: whether a label that is null is 0; else the row is dropped.
        as_of: microseconds since 1970 from which requests count; None for all.
        file: for messages.
        clicks: how clicks make labels; None where the samples have labels.
    """

    columns: Columns
    zero_labels: bool
    as_of: int | None
    file: str
    clicks: Attribution | None = None


@dataclass(frozen=True)
class Kept:
    """The kept rows of a span, and why others are not kept.

    Attributes:
        mask: bool (rows of the span,).
        requests, datasets: Arrow arrays of the kept rows' ids.
        labels: float64 of the kept rows.
        times: int64 of the kept rows, microseconds, or None.
        counts: rows by why they were dropped.
    """

    mask: NDArray[np.bool_]
    requests: Any
    datasets: Any
    labels: NDArray[np.float64]
    times: NDArray[np.int64] | None
    counts: dict[str, int]


def keep(table: Any, rules: Rules, clicks: Path | None = None) -> Kept:
    """Apply the rules to the rows of a span.

    Args:
        table: the rows.
        rules: which of them count.
        clicks: of ``write_clicks``, where the rules make labels of them.

    Raises:
        BadInput: an id that is none, or a time that is none where it matters.
    """
    import pyarrow as pa

    requests = keys_of(table.column(REQUEST), f"column {REQUEST}", rules.file)
    datasets = keys_of(table.column(DATASET), f"column {DATASET}", rules.file)
    keyed = _there(requests) & _there(datasets)
    times = times_of(table, rules) if rules.columns.time else None
    masks: dict[str, NDArray[np.bool_]] = {}
    if clicks is not None and rules.clicks is not None:
        labels, masks = _labels_by_clicks(clicks, rules.clicks, requests, datasets, keyed, times)
    else:
        labels = _labels(table, rules)
    labelled = ~np.isnan(labels) if not rules.zero_labels else np.ones(table.num_rows, np.bool_)
    late = np.ones(table.num_rows, np.bool_)
    if rules.as_of is not None and times is not None:
        late = times >= rules.as_of
    over = ~masks.pop("window_open", np.zeros(table.num_rows, np.bool_))
    mask = keyed & labelled & late & over
    if not mask.all():
        chosen = pa.array(mask)
        requests, datasets = requests.filter(chosen), datasets.filter(chosen)
    return Kept(
        mask=mask,
        requests=requests,
        datasets=datasets,
        labels=np.nan_to_num(labels[mask], nan=0.0),
        times=None if times is None else times[mask],
        counts={
            "samples": table.num_rows,
            "without_key": int((~keyed).sum()),
            "without_label": int((keyed & ~labelled).sum()),
            "before_as_of": int((keyed & labelled & ~late).sum()),
            "window_open": int((keyed & labelled & late & ~over).sum()),
            **{name: int((each & mask).sum()) for name, each in masks.items()},
        },
    )


def _labels_by_clicks(
    clicks: Path, how: Attribution, requests: Any, datasets: Any, keyed: NDArray[np.bool_],
    times: NDArray[np.int64] | None,
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.bool_]]]:  # fmt: skip
    """Labels (0 where an id is missing), and which rows have an open window, early or late clicks alone."""
    import pyarrow as pa

    from penstock.workloads.recsys.ranking.clicks import label

    chosen = pa.array(keyed)
    shown = np.zeros(len(keyed), np.int64) if times is None else times
    made = label(clicks, requests.filter(chosen), datasets.filter(chosen), shown[keyed], how)
    labels = np.zeros(len(keyed))
    labels[keyed] = made.labels
    masks = {}
    for name, each in (
        ("window_open", made.open),
        ("clicked_early", made.early),
        ("clicked_late", made.late),
    ):
        masks[name] = np.zeros(len(keyed), np.bool_)
        masks[name][keyed] = each
    return labels, masks


def times_of(table: Any, rules: Rules) -> NDArray[np.int64] | None:
    """Microseconds since 1970, UTC; the minimum for nulls. None if the column holds no times."""
    column = table.column(TIME)
    if is_time(column.type):
        return microseconds_of(column)
    if rules.as_of is not None:
        raise BadInput(
            f"is {column.type}; a time was expected, to compare it with --as-of",
            file=rules.file, place=f"column {TIME}",
        )  # fmt: skip
    return None


def _there(keys: Any) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = keys.is_valid().to_numpy(zero_copy_only=False)
    return there


def _labels(table: Any, rules: Rules) -> NDArray[np.float64]:
    """float64; NaN where null. An infinite one is an error."""
    import pyarrow as pa

    if not rules.columns.label:
        return np.zeros(table.num_rows)
    column = table.column(LABEL).combine_chunks()
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    labels: NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if np.isinf(labels).any():
        raise BadInput("holds an infinite label", file=rules.file, place=f"column {LABEL}")
    return labels
