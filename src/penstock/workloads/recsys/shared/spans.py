"""Spans of a table's rows as items, cut where a query ends, regardless of row groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STRETCHES, _SPANS = 8, 8
"""Stretches of a table, at least, where it has so many spans; and spans of a stretch, at most."""


@dataclass(frozen=True)
class Span:
    """Rows ``first`` to ``first + table.num_rows`` of a table.

    Attributes:
        number: of the item.
        first: the number of its first row.
        table: Arrow, with the columns that were asked for.
    """

    number: int
    first: int
    table: Any


class Spans:
    """A table in spans of rows.

    Args:
        rows: the table.
        borders: int64 (items + 1,), ascending: item i is rows ``borders[i] <= row < borders[i + 1]``.
        stage: the stage that wrote the table, where one of this run has.
    """

    def __init__(
        self,
        rows: penstock.sources.ParquetRows,
        borders: NDArray[np.int64],
        stage: penstock.Stored | None = None,
    ) -> None:
        self.rows, self.borders, self.stage = rows, borders, stage

    @classmethod
    def of(cls, rows: penstock.sources.ParquetRows, each: int) -> Spans:
        """Spans of so many rows."""
        return cls(rows, np.append(np.arange(0, len(rows), each), len(rows)).astype(np.int64))

    def __len__(self) -> int:
        return len(self.borders) - 1

    def __repr__(self) -> str:
        return f"Spans({self.rows!r}, {len(self)} spans)"

    def read(self, start: int, stop: int) -> Iterator[Span]:
        """One span after the other."""
        for number in range(start, stop):
            first, last = int(self.borders[number]), int(self.borders[number + 1])
            yield Span(number, first, self.rows.read(first, last))

    def starts(self) -> list[int]:
        """Every few spans: one worker reads on where another would decode a row group from its beginning."""
        return list(range(0, len(self), min(max(len(self) // _STRETCHES, 1), _SPANS)))

    def sizes(self, start: int, stop: int) -> list[int]:
        """Uncompressed bytes of the chosen columns, assuming equal rows."""
        each = sum(self.rows.sizes(0, 1)) if len(self.rows) else 0
        return [int(rows) * each for rows in np.diff(self.borders[start : stop + 1])]

    def name(self, item: int) -> str:
        """``"samples.parquet, row 0 to row 65535"``."""
        first, last = int(self.borders[item]), max(int(self.borders[item + 1]) - 1, 0)
        return f"{self.rows.name(first)} to row {last}"

    def fingerprint(self) -> Mapping[str, str]:
        """A fingerprint of the files and of the borders."""
        return self.fingerprint_by(self.fingerprint_kind())

    def fingerprint_kind(self) -> str:
        """As for the table."""
        return self.rows.fingerprint_kind() if self.stage is None else "content"

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """As for the table; for one that a stage wrote, that stage's key."""
        borders = hashlib.blake2b(self.borders.tobytes(), digest_size=16).hexdigest()
        fingerprints = (
            self.rows.fingerprint_by(kind) if self.stage is None else {"stage": self.stage.key or "-"}
        )
        return {**fingerprints, "spans": borders}
