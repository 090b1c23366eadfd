"""The rows of chosen queries in a ranking table, one row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import foreign
from penstock.errors import BadInput
from penstock.plurals import plural
from penstock.workloads.recsys.readers.table import RankingTable, RowGroup, open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ROWS_OF_A_QUERY = 10_000
"""What LightGBM takes of one query."""
MOST_LABELS = 31
"""Labels from 0 that its gains, 2^label - 1, are defined for; XGBoost's too."""


@dataclass(frozen=True)
class Query:
    """The rows of one query.

    Attributes:
        number: of the query in the table.
        features: float32 (rows, features); NaN where unknown.
        labels: float32 (rows,).
    """

    number: int
    features: NDArray[np.float32]
    labels: NDArray[np.float32]


class TrainingRows:
    """The rows of chosen queries of a table, as numbers for the trainers.

    Args:
        table: a ranking table.
        chosen: which of its queries, bool (queries,); None for all.
        label: column of the labels.
        weight: column of the weights; None for none.

    Raises:
        BadInput: a query has more rows than LightGBM takes, named.
    """

    def __init__(
        self, table: RankingTable, chosen: NDArray[np.bool_] | None = None, *, label: str = "label",
        weight: str | None = None,
    ) -> None:  # fmt: skip
        self.table, self.label, self.weight = table, label, weight
        self.chosen = np.ones(len(table.sizes), np.bool_) if chosen is None else chosen
        self.sizes: NDArray[np.int32] = np.asarray(table.sizes)[self.chosen]
        self._starts = np.cumsum(table.sizes, dtype=np.int64) - table.sizes
        self._check_sizes()
        self._low = np.full(len(table.features), np.inf, np.float32)
        self._high = -self._low
        self.groups = tuple(group for group in table.groups if self.kept(group).any())

    def __len__(self) -> int:
        return int(self.sizes.sum(dtype=np.int64))

    def kept(self, group: RowGroup) -> NDArray[np.bool_]:
        """Which rows of a row group belong to chosen queries, bool (rows,)."""
        return self.chosen[self.queries(group)]

    def queries(self, group: RowGroup) -> NDArray[np.int64]:
        """The number of the query of each row of a row group, int64 (rows,)."""
        first, last = (
            int(np.searchsorted(self._starts, at, "right")) - 1
            for at in (group.first, group.first + group.rows - 1)
        )
        numbers = np.arange(first, last + 1)
        begin = np.maximum(self._starts[first : last + 1], group.first)
        end = np.append(begin[1:], group.first + group.rows)
        return np.repeat(numbers, end - begin)

    def features(self, group: RowGroup) -> NDArray[np.float32]:
        """The features of the chosen rows of a row group, float32 (rows, features)."""
        found = self.table.values(group, self.kept(group))
        np.fmin(self._low, np.fmin.reduce(found, initial=np.inf), self._low)
        np.fmax(self._high, np.fmax.reduce(found, initial=-np.inf), self._high)
        return found

    def unused(self) -> list[str]:
        """Features with one value, or none, in all rows read.

        Raises:
            BadInput: all of them.
        """
        found = [name for at, name in enumerate(self.table.features) if not self._low[at] < self._high[at]]
        if len(found) == len(self.table.features):
            raise BadInput(
                f"each of the {len(found)} features has one value, or none, in all rows to learn from: there "
                "is nothing to split by",
                file=self.table.folder / "table",
            )
        return found

    def column(self, group: RowGroup, name: str) -> NDArray[np.float32]:
        """A column of numbers of the chosen rows of a row group, float32 (rows,)."""
        values = self.table.columns(group, [name]).column(0).to_numpy()
        found: NDArray[np.float32] = np.asarray(values, np.float32)[self.kept(group)]
        return found

    def labels(self) -> NDArray[np.float32]:
        """The labels of all chosen rows, float32 (rows,).

        Raises:
            BadInput: one is no whole number from 0 to 30, naming the row.
        """
        parts = []
        for group in self.groups:
            found = self.column(group, self.label)
            check_labels(found, group, self.label, np.flatnonzero(self.kept(group)))
            parts.append(found)
        return np.concatenate(parts)

    def weights(self) -> NDArray[np.float32] | None:
        """The weights of all chosen rows, float32 (rows,); None where there are none."""
        if self.weight is None:
            return None
        return np.concatenate([self.column(group, self.weight) for group in self.groups])

    def positions(self) -> NDArray[np.int32]:
        """The position at which each chosen row was shown, int32 (rows,)."""
        rows = np.repeat(self.chosen, self.table.sizes)
        found: NDArray[np.int32] = np.asarray(self.table.positions)[rows]
        return found

    def _check_sizes(self) -> None:
        long = np.flatnonzero(np.asarray(self.table.sizes) > MOST_ROWS_OF_A_QUERY)
        long = long[self.chosen[long]]
        if len(long):
            number = int(long[0])
            raise BadInput(
                f"query {foreign.line(self.request_of(number))} has "
                f"{plural(int(self.table.sizes[number]), 'row')}, and LightGBM takes "
                f"{MOST_ROWS_OF_A_QUERY:,} of one query"
                + (f"; {len(long) - 1:,} more are as long" if len(long) > 1 else "")
                + ". Leave such requests out of the samples, or split them by page, and make the table anew",
                file=self.table.folder / "groups.npy",
                place=f"query {number}",
            )

    def check_whole(self) -> None:
        """Refuse a table in which a query continues into another row group.

        Raises:
            BadInput: naming the query.
        """
        firsts = np.array([group.first for group in self.table.groups])
        numbers = np.searchsorted(self._starts, firsts, "right") - 1
        cut = np.flatnonzero(self._starts[numbers] != firsts)
        if len(cut):
            group = self.table.groups[int(cut[0])]
            name = foreign.line(self.request_of(int(numbers[cut[0]])))
            raise BadInput(
                f"query {name} goes on in another row group, and whole queries are read from one",
                file=group.path, place=f"row group {group.group}",
            )  # fmt: skip

    def request_of(self, number: int) -> str:
        """The request_id of a query, as text; its number where the table has no such column."""
        row = int(self._starts[number])
        for group in self.table.groups:
            if group.first <= row < group.first + group.rows:
                if "request_id" not in self.table.types:
                    break
                return str(self.table.columns(group, ["request_id"]).column(0)[row - group.first].as_py())
        return str(number)


def check_labels(labels: NDArray[Any], group: RowGroup, name: str, rows: NDArray[np.int64]) -> None:
    """Refuse labels that have no gain.

    Args:
        labels: of some rows of a row group.
        group: the row group.
        name: of the column.
        rows: their numbers within the row group.

    Raises:
        BadInput: naming the first such row.
    """
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~((labels >= 0) & (labels < MOST_LABELS) & (labels == np.floor(labels))))
    if len(bad):
        raise BadInput(
            f"the label is {labels[bad[0]]:g}, and a whole number from 0 to {MOST_LABELS - 1} was expected "
            "(0 for no click; the gain of a label is 2^label - 1)",
            file=group.path,
            place=f"column {name}, row {group.first + int(rows[bad[0]])} of the table",
        )


def queries(folder: str | Path, *, label: str = "label") -> Iterator[Query]:
    """All queries of a ranking table, one after the other.

    Raises:
        BadInput: the folder is no ranking table, or a file of it cannot be read.
    """
    rows = TrainingRows(open_table(folder), label=label)
    kept: tuple[int, list[Any], list[Any]] | None = None  # a query may go on in the next row group
    for group in rows.groups:
        features, labels, numbers = rows.features(group), rows.column(group, label), rows.queries(group)
        first = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
        for begin, end in zip(first, [*first[1:], len(numbers)], strict=True):
            number = int(numbers[begin])
            if kept is not None and kept[0] != number:
                yield _query(*kept)
                kept = None
            kept = kept or (number, [], [])
            kept[1].append(features[begin:end])
            kept[2].append(labels[begin:end])
    if kept is not None:
        yield _query(*kept)


def _query(number: int, features: list[Any], labels: list[Any]) -> Query:
    return Query(number, np.concatenate(features), np.concatenate(labels))
