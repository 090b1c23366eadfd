"""Builds the table's rows: for each row of the samples the features of its item, its user and its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.hashing import hashes
from penstock.workloads.recsys.ranking.columns import (
    DATASET,
    IDENTITY,
    POSITION,
    REQUEST,
    TIME,
    USER,
    Dimension,
)
from penstock.workloads.recsys.ranking.dimension import open_dimension
from penstock.workloads.recsys.ranking.drawing import kept_negatives
from penstock.workloads.recsys.ranking.looked_up import LookedUp
from penstock.workloads.recsys.ranking.repeats import Shown
from penstock.workloads.recsys.ranking.rules import Kept, Rules, keep
from penstock.workloads.recsys.ranking.sorting import ROW
from penstock.workloads.recsys.ranking.survey import as_texts
from penstock.workloads.recsys.ranking.table import Rows
from penstock.workloads.recsys.shared.tables import floats_of, is_rounded, keys_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from penstock.workloads.recsys.shared.spans import Span

BUCKETS = 65_536
"""Numbers that texts of a hashed category have."""
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Gather:
    """Builds the rows of one span.

    Args:
        rules: which rows count.
        dimensions: the tables that are looked up, in the order of their features.
        texts: category -> its texts in order; None where they are hashed.
        schema: of the table.
        upstream: what is missing is 0, or "unknown".
        negatives: share of the rows without a click that is kept; None for all.
        seed: of that draw.
        repeats: whether rows that repeat an item of their request are kept.

    Returns (the table, arrays about it: query, rows of each query, positions, hashes and rows of the items,
    times and labels at the ends, and how many rows repeated others).
    """

    rules: Rules
    dimensions: tuple[Dimension, ...]
    texts: Mapping[str, list[str] | None]
    schema: pa.Schema
    upstream: bool
    negatives: float | None
    seed: int
    repeats: bool

    def __call__(self, span: Span, queries: Path, **inputs: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Build the rows."""
        import pyarrow as pa

        table, first, query = self._drawn(span, queries)
        kept = keep(table, self.rules, inputs.get("clicks"))
        mask, repeated = self._first_shown(table, kept, first, query, inputs.get("repeats"))
        if "rows" in inputs:  # drawn one by one
            mask = mask & np.load(inputs["rows"] / "rows.npy", mmap_mode="r", allow_pickle=False)[first]
        weights = None
        if self.negatives is not None:
            positive = kept.labels > 0
            chosen = positive | kept_negatives(kept.requests, kept.datasets, self.negatives, self.seed)
            chosen &= mask[kept.mask]
            mask = mask.copy()
            mask[np.flatnonzero(kept.mask)[~chosen]] = False
            weights = np.where(positive, 1, 1 / self.negatives).astype(np.float32)[chosen]
        if not mask.all():
            table, query, first = table.filter(pa.array(mask)), query[mask], first[mask]
        labels = kept.labels[mask[kept.mask]]
        columns = self._keys(table, first, labels, weights)
        rounded = np.zeros(len(self.rules.columns.numeric), np.bool_)
        for number, name in enumerate(self.rules.columns.numeric):
            columns[name] = floats_of(table.column(name), zero=self.upstream)
            rounded[number] = is_rounded(table.column(name), columns[name])
        for name in self.rules.columns.absent:
            columns[name] = np.zeros(table.num_rows, np.float32)
        for name in self.rules.columns.categorical:
            columns[name] = self._numbers(table, name)
        looked_up = tuple(
            self._looked_up(table, dimension, inputs[dimension.name]) for dimension in self.dimensions
        )
        own = pa.schema([field for field in self.schema if field.name in columns])
        made = pa.table({name: columns[name] for name in own.names}, schema=own)
        size = made.nbytes + 4 * table.num_rows * sum(len(each.names) for each in looked_up)
        about = self._about(table, columns, query, labels, size)
        return Rows(made, looked_up), about | {"repeated": np.int64(repeated), "rounded": rounded}

    def _first_shown(
        self, table: Any, kept: Kept, first: NDArray[np.int64], query: NDArray[np.int64], repeats: Path | None
    ) -> tuple[NDArray[np.bool_], int]:
        """The rows that are kept but those that repeat others of their request, and how many those are."""
        import pyarrow as pa

        mask = kept.mask
        if repeats is not None:  # of queries that no span holds whole
            of_others = np.load(repeats / "repeats.npy", mmap_mode="r", allow_pickle=False)
            mask = mask & ~np.isin(first, of_others)
        of = mask[kept.mask]
        rows = table if mask.all() else table.filter(pa.array(mask))
        times = None if kept.times is None else kept.times[of]
        items = hashes(kept.datasets, IDENTITY)[of]
        shown = Shown.of(rows, times, items, query[mask], first[mask])
        if self.repeats:  # which of them are the first does not matter
            return kept.mask, shown.count()
        again = shown.repeated()
        repeated = int(kept.mask.sum() - mask.sum() + again.sum())
        if not repeated:
            return kept.mask, repeated
        mask = mask.copy()
        mask[np.flatnonzero(mask)[again]] = False
        return mask, repeated

    @staticmethod
    def _drawn(span: Span, queries: Path) -> tuple[Any, NDArray[np.int64], NDArray[np.int64]]:
        """The rows of queries that are drawn, their numbers and those of their queries."""
        import pyarrow as pa

        firsts, drawn, spans = _opened(queries)
        begin = int(spans[span.number, 1])
        stop = int(np.searchsorted(firsts, span.first + span.table.num_rows))
        inside = firsts[begin:stop] - span.first
        numbers = np.arange(span.table.num_rows)
        query = begin + np.searchsorted(inside, numbers, "right") - 1
        mask = drawn[np.maximum(query, 0)] if len(drawn) else np.zeros(len(numbers), np.bool_)
        first = span.table.column(ROW).to_numpy() if ROW in span.table.schema.names else span.first + numbers
        if mask.all():
            return span.table, first, query
        return span.table.filter(pa.array(mask)), first[mask], query[mask]

    def _keys(
        self, table: Any, first: NDArray[np.int64], labels: NDArray[np.float64], weights: Any
    ) -> dict[str, Any]:
        names = [REQUEST, DATASET, *([USER] if self.rules.columns.user else [])]
        columns: dict[str, Any] = {
            name: keys_of(table.column(name), f"column {name}", self.rules.file).cast(
                self.schema.field(name).type
            )
            for name in names
        }
        if self.rules.columns.time:
            columns[TIME] = table.column(TIME)
        columns[ROW] = first
        columns["label"] = labels.astype(np.float32)
        if weights is not None:
            columns["weight"] = weights
        return columns

    def _looked_up(self, table: Any, dimension: Dimension, folder: Path) -> LookedUp:
        looked = open_dimension(folder)
        ids = keys_of(table.column(dimension.by), f"column {dimension.by}", self.rules.file)
        return LookedUp(dimension.names, looked.values, looked.rows(ids), looked.few)

    def _numbers(self, table: Any, name: str) -> NDArray[np.int32]:
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = self.texts.get(name, [])
        if name not in table.schema.names:
            return np.full(table.num_rows, 0 if self.upstream else -1, np.int32)
        column = table.column(name).combine_chunks()
        if pa.types.is_dictionary(column.type) and texts is not None:
            return self._of_dictionary(column, texts)
        values = as_texts(column)
        if self.upstream:
            values = values.fill_null(_UNKNOWN)
        if texts is None:
            missing = values.is_null().to_numpy(zero_copy_only=False)
            numbers = (hashes(values.fill_null(""), IDENTITY) % np.uint64(BUCKETS)).astype(np.int32)
            return np.where(missing, -1, numbers).astype(np.int32)
        found = pc.index_in(values, pa.array(texts, pa.string())).fill_null(-1)
        return np.asarray(found.to_numpy(zero_copy_only=False), np.int32)

    def _of_dictionary(self, column: Any, texts: list[str]) -> NDArray[np.int32]:
        """Only the texts of the dictionary are looked up."""
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pc.index_in(column.dictionary.cast(pa.string()), pa.array(texts, pa.string())).fill_null(-1)
        numbers = np.append(known.to_numpy(zero_copy_only=False), -1).astype(np.int32)
        if self.upstream:
            numbers[-1] = texts.index(_UNKNOWN)
        at: NDArray[np.int64] = column.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        return numbers[at]

    def _about(
        self, table: Any, columns: Mapping[str, Any], query: NDArray[np.int64], labels: NDArray[np.float64],
        size: int,
    ) -> dict[str, Any]:  # fmt: skip
        starts = np.flatnonzero(np.append(True, query[1:] != query[:-1])) if len(query) else np.zeros(0, int)
        items, counts = np.unique(hashes(columns[DATASET], IDENTITY), return_counts=True)
        odd = (labels != np.floor(labels)).sum()
        ends = [labels.min(), labels.max(), (labels > 0).sum(), odd] if len(labels) else []
        return {
            "query": query[starts],
            "groups": np.diff(np.append(starts, len(query))).astype(np.int32),
            "positions": self._positions(table),
            "items": items,
            "items_rows": counts,
            "labels": np.array(ends, np.float64),
            "times": _ends(columns.get(TIME)),
            "bytes": np.int64(size),
        }

    def _positions(self, table: Any) -> NDArray[np.int32]:
        if not self.rules.columns.position:
            return np.full(table.num_rows, -1, np.int32)
        positions = floats_of(table.column(POSITION), zero=False)
        return np.where(np.isnan(positions), -1, positions).astype(np.int32)


def _ends(times: Any) -> NDArray[Any]:
    """The first and the last time, as texts."""
    import pyarrow.compute as pc

    if times is None or not len(times):
        return np.zeros(0, "U1")
    ends = pc.min_max(times).as_py()
    found = [ends["min"], ends["max"]]
    return np.array(["" if each is None else _iso(each) for each in found])


def _iso(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@lru_cache(maxsize=4)
def _opened(folder: Path) -> tuple[Any, Any, Any]:
    firsts, drawn, spans = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        for name in ("firsts", "drawn", "spans")
    )
    return firsts, drawn, spans
