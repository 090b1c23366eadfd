"""Memory of a ranking's later stages, computed from its tables' footers alone."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.plurals import plural
from penstock.workloads.recsys.ranking.given import Asked
from penstock.workloads.recsys.ranking.given_tables import Tables
from penstock.workloads.recsys.ranking.queries import PASS
from penstock.workloads.recsys.ranking.sorting import LEAST
from penstock.workloads.recsys.shared.later import SHORT, LaterPlan, Stage

_KEY = 80
"""Bytes of a key while where it lies is sorted: the key four times, its row, the order, and a dense index."""
_CELL = 48
"""Bytes of a value of the samples in a span: decoded, filtered, cast, encoded."""


def later_stages(budget: int, asked: Asked, tables: Tables) -> LaterPlan:
    """The stages after the survey.

    Args:
        budget: bytes.
        asked: the options.
        tables: the tables.
    """
    return LaterPlan(budget, tuple(_stages(asked, tables)))


def _stages(asked: Asked, tables: Tables) -> Iterator[Stage]:
    rows = len(tables.whole)
    if tables.clicks is not None:
        yield Stage("ranking-clicks", SHORT + 4_000_000 * 48, "4,000,000 clicks are sorted at once")
    for each in tables.dimensions:
        count = len(tables.looked_up[each.name])
        yield Stage(
            f"ranking-{each.name.replace('_', '-')}", SHORT + _KEY * count,
            f"{plural(count, 'key')}; {plural(len(each.names), 'feature')} in a file that is mapped",
        )  # fmt: skip
    if asked.max_samples and asked.sample_by != "request":
        most = rows if isinstance(asked.max_samples, str) else min(asked.max_samples, rows)
        takes = 16 * rows if asked.sample_by == "pandas" else 32 * most
        yield Stage("ranking-draw", SHORT + takes, f"rows are drawn by {asked.sample_by}")
    if asked.sort or asked.upstream:
        yield Stage("ranking-sort", SHORT + LEAST, "DuckDB sorts on disk, with what memory there is")
    requests = min(rows, PASS)
    yield Stage(
        "ranking-queries", SHORT + 24 * requests, f"at most {plural(requests, 'request')} compared at once"
    )
    span = min(tables.rows_of_span(), rows)
    cells = len(tables.columns.needed()) + len(tables.columns.categorical)
    yield Stage(
        "table", SHORT + span * _CELL * cells,
        f"{plural(span, 'row')} at a time; features are looked up in mapped files",
    )  # fmt: skip
    yield Stage("ranking-meta", SHORT + 64 * min(rows, 1 << 20), "rows of each item, added up")
