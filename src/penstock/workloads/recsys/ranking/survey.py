"""Surveys the samples: places of requests, texts of categories, dropped rows by reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from penstock.workloads.recsys.hashing import hashes
from penstock.workloads.recsys.ranking.columns import IDENTITY
from penstock.workloads.recsys.ranking.rules import Kept, Rules, keep
from penstock.workloads.recsys.shared.tables import texts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.recsys.shared.spans import Span

SPAN = 65_536
"""Rows of an item."""
TEXTS = 50_000
"""A category with more texts than this is hashed."""


@dataclass(frozen=True)
class SurveySpan:
    """Surveys one span.

    Args:
        rules: which rows count.
        runs, datasets: whether these are wanted.

    Returns ``{"runs": a row for each run of rows of one request, "datasets": one for each item, "counts"}``.
    """

    rules: Rules
    runs: bool = True
    datasets: bool = True

    def warm(self) -> None:
        """Load once what the workers of all stages need; NumPy loads ``ma`` when it is first asked for."""
        import numpy.ma  # noqa: F401
        import pyarrow.compute
        import pyarrow.dataset
        import pyarrow.parquet  # noqa: F401

        import penstock.sinks.rows  # noqa: F401

    def __call__(self, span: Span, clicks: Path | None = None) -> dict[str, Any]:
        """Survey."""
        kept = keep(span.table, self.rules, clicks)
        return {
            "runs": _runs(span, kept) if self.runs else None,
            "datasets": _datasets(kept) if self.datasets else None,
            "counts": {"rows": kept.counts, "texts": self._texts(span.table, kept)},
        }

    def _texts(self, table: Any, kept: Kept) -> dict[str, list[str] | None]:
        import pyarrow as pa

        found: dict[str, list[str] | None] = {}
        whole = kept.mask.all()
        for name in self.rules.columns.texts:
            column = table.column(name) if whole else table.column(name).filter(pa.array(kept.mask))
            values = as_texts(column.unique()).drop_null()
            if len(values) > TEXTS:
                found[name] = None
                continue
            texts = texts_of(values, f"column {name}", self.rules.file)
            found[name] = sorted(text for text in texts if text is not None)
        return found


def as_texts(column: Any) -> Any:
    """A category as texts, whatever its type."""
    import pyarrow as pa

    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return values if pa.types.is_string(values.type) else values.cast(pa.string())


def starts_of(requests: Any) -> NDArray[np.int64]:
    """Where runs of rows of one request begin."""
    import pyarrow.compute as pc

    if not len(requests):
        return np.zeros(0, np.int64)
    new = pc.not_equal(requests[1:], requests[:-1]).to_numpy(zero_copy_only=False)
    return np.append(0, np.flatnonzero(new) + 1)


def _runs(span: Span, kept: Kept) -> Any:
    import pyarrow as pa

    starts = starts_of(kept.requests)
    rows = np.flatnonzero(kept.mask)
    positive = np.append(0, np.cumsum(kept.labels > 0))
    ends = np.append(starts, len(rows))[1:]
    times = np.zeros(len(rows), np.int64) if kept.times is None else kept.times
    return pa.table(
        {
            "hash": hashes(kept.requests.take(pa.array(starts)), IDENTITY),
            "first": span.first + rows[starts],
            "rows": ends - starts,
            "positives": positive[ends] - positive[starts],
            "time": times[starts],
        }
    )


def _datasets(kept: Kept) -> Any:
    import pyarrow as pa

    found, counts = np.unique(hashes(kept.datasets, IDENTITY), return_counts=True)
    return pa.table({"hash": found, "rows": counts})


@dataclass(frozen=True)
class Counts:
    """Sums row counts and merges sets of texts; a category with too many texts becomes None."""

    order: Literal["any", "items"] = "any"
    grain: None = None

    def start(self) -> dict[str, Any]:
        """The empty state."""
        return {"rows": {}, "texts": {}}

    def step(self, state: dict[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
        """Add one span."""
        rows = {
            name: state["rows"].get(name, 0) + result["rows"].get(name, 0)
            for name in sorted({*state["rows"], *result["rows"]})
        }
        texts = {
            name: _together(state["texts"].get(name, []), result["texts"].get(name, []))
            for name in sorted({*state["texts"], *result["texts"]})
        }
        return {"rows": rows, "texts": texts}

    def merge(self, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        """Merge two neighbours."""
        return self.step(left, right)

    def finish(self, states: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """The final value."""
        total = self.start()
        for state in states:
            total = self.merge(total, state)
        return total


def _together(left: list[str] | None, right: list[str] | None) -> list[str] | None:
    if left is None or right is None:
        return None
    both = left if left == right else sorted({*left, *right})
    return None if len(both) > TEXTS else both
