"""Which rows of the samples go into the table, and what is counted of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.recsys.ranking.columns import DATASET, LABEL, REQUEST, TIME, Columns
from penstock.workloads.recsys.shared.tables import keys_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rules:
    """What makes a row one of the table.

    Attributes:
        columns: of the samples.
        zero_labels: whether a label that is null is 0; else the row is dropped.
        as_of: microseconds since 1970 from which requests count; None for all.
        file: for messages.
    """

    columns: Columns
    zero_labels: bool
    as_of: int | None
    file: str


@dataclass(frozen=True)
class Kept:
    """The rows of a span that are kept, and why others are not.

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


def keep(table: Any, rules: Rules) -> Kept:
    """Apply the rules to the rows of a span.

    Raises:
        BadInput: an id that is none, or a time that is none where it matters.
    """
    import pyarrow as pa

    requests = keys_of(table.column(REQUEST), f"column {REQUEST}", rules.file)
    datasets = keys_of(table.column(DATASET), f"column {DATASET}", rules.file)
    keyed = _there(requests) & _there(datasets)
    labels = _labels(table, rules)
    labelled = ~np.isnan(labels) if not rules.zero_labels else np.ones(table.num_rows, np.bool_)
    times = times_of(table, rules) if rules.columns.time else None
    late = np.ones(table.num_rows, np.bool_)
    if rules.as_of is not None and times is not None:
        late = times >= rules.as_of
    mask = keyed & labelled & late
    chosen = pa.array(mask)
    return Kept(
        mask=mask,
        requests=requests.filter(chosen),
        datasets=datasets.filter(chosen),
        labels=np.nan_to_num(labels[mask], nan=0.0),
        times=None if times is None else times[mask],
        counts={
            "samples": table.num_rows,
            "without_key": int((~keyed).sum()),
            "without_label": int((keyed & ~labelled).sum()),
            "before_as_of": int((keyed & labelled & ~late).sum()),
        },
    )


def times_of(table: Any, rules: Rules) -> NDArray[np.int64] | None:
    """Microseconds since 1970, UTC; the earliest there is where it is null. None where they are no times."""
    import pyarrow as pa

    column = table.column(TIME)
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        if rules.as_of is not None:
            raise BadInput(
                f"is {column.type}; a time was expected, to compare it with --as-of",
                file=rules.file, place=f"column {TIME}",
            )  # fmt: skip
        return None
    zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    micro = column.cast(pa.timestamp("us", zone), safe=False).combine_chunks()
    found: NDArray[np.int64] = micro.view(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
    return found


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
