"""The sink of the ranking table: rows as Parquet, and per-part arrays about the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import penstock
from penstock.abc import Batch, Closed, Part, Receipt
from penstock.files import discard, proof
from penstock.workloads.recsys.ranking.looked_up import LookedUp, write_part
from penstock.workloads.recsys.ranking.sorting import ROW

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_TOLD = ("request_id", "timestamp", "row", "label")
"""Columns of which row groups tell the least and the largest value."""


@dataclass(frozen=True)
class Rows:
    """Rows of the table.

    Attributes:
        own: the columns that nothing was looked up for.
        looked_up: the others.
    """

    own: pa.Table
    looked_up: tuple[LookedUp, ...]


@dataclass(frozen=True, kw_only=True)
class RankingTable:
    """Keeps rows with arrays about them; the rows of an item form one row group.

    The function returns (:class:`Rows`, arrays by name). The arrays go into ``_about-NUMBER.npz`` beside
    the part.

    Args:
        schema: of every table.
        fast: larger files in less time.
    """

    unit: ClassVar[str] = "call"
    grain: ClassVar[int] = 1

    schema: pa.Schema
    fast: bool = False

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Keep one span."""
        parts: list[Part] = []
        table = folder / f"part-{batch.start:09d}-{batch.stop - 1:09d}.parquet"
        path = folder / about_name(batch.start)
        for result in results:
            if not isinstance(result, tuple):  # set aside
                continue
            rows, about = result
            if rows.own.num_rows:
                with penstock.atomic(table) as draft:
                    proven = write_part(draft, rows.own, rows.looked_up, self.schema, self._how(rows.own))
                parts.append(Part(table.name, *proven))
            with penstock.atomic(path) as draft, open(draft, "wb") as file:
                np.savez(file, **about)
            parts.append(Part(path.name, *proof(path)))
        for each in (table, path):  # of an attempt that had them
            if each.name not in {part.name for part in parts}:
                discard(each)
        return Receipt(parts=tuple(parts))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed | None:
        """Check that all parts agree."""
        return self._parquet().close(
            (
                (
                    batch,
                    Receipt(parts=tuple(part for part in receipt.parts if part.name.endswith(".parquet"))),
                )
                for batch, receipt in receipts
            ),
            folder,
        )

    def result(self, folder: Path) -> Written:
        """The parts and their arrays."""
        return Written(folder)

    def _parquet(self) -> penstock.sinks.Parquet:
        return penstock.sinks.Parquet(grain=1, schema=self.schema)

    def _how(self, own: pa.Table) -> dict[str, Any]:
        """How pyarrow writes the columns that nothing was looked up for."""
        import pyarrow as pa

        numbers = [field.name for field in own.schema if pa.types.is_float32(field.type)]
        plain = {ROW, *(field.name for field in own.schema if pa.types.is_temporal(field.type))}
        return {
            "compression": None if self.fast else "lz4",
            "use_dictionary": [name for name in own.schema.names if name not in {*numbers, *plain}] or False,
            "use_byte_stream_split": (not self.fast and numbers) or False,
            "write_statistics": [name for name in _TOLD if name in own.schema.names],
        }


@dataclass(frozen=True)
class Written:
    """A finished ranking table.

    Attributes:
        folder: of its parts.
    """

    folder: Path

    def each_about(self) -> Iterator[Mapping[str, NDArray[Any]]]:
        """The arrays of all spans, in order."""
        for path in sorted(self.folder.glob("_about-*.npz"), key=lambda path: int(path.stem.split("-")[1])):
            with np.load(path, allow_pickle=False) as about:
                yield about

    def dataset(self) -> Any:
        """A ``pyarrow.dataset.Dataset`` over the parts, in order."""
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        parts = sorted(self.folder.glob("part-*.parquet"), key=lambda path: int(path.name.split("-")[1]))
        schema = pq.read_schema(self.folder / "_common_metadata")
        return ds.dataset([str(part) for part in parts] or schema.empty_table(), schema=schema)


def about_name(item: int) -> str:
    """File name of a span's arrays."""
    return f"_about-{item:09d}.npz"
