"""The sink of the ranking table: rows as Parquet, and beside each part what is told of its rows."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import penstock
from penstock.abc import Batch, Closed, Part, Receipt
from penstock.files import discard, proof

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_ROWS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class RankingTable:
    """Keeps tables with arrays about their rows.

    The function returns (table, arrays by name). The arrays go into ``_about-NUMBER.npz`` beside the part.

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
        about: dict[str, NDArray[Any]] = {}

        def tables() -> Iterator[Any]:
            for result in results:
                if isinstance(result, tuple):
                    table, found = result
                    about.update(found)
                    yield table

        receipt = self._parquet().write(batch, tables(), folder)
        path = folder / about_name(batch.start)
        if not about:
            discard(path)
            return receipt
        with penstock.atomic(path) as draft, open(draft, "wb") as file:
            np.savez(file, **about)  # type: ignore[arg-type]
        return Receipt(parts=(*receipt.parts, Part(path.name, *proof(path))))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed | None:
        """See that all parts agree."""
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
        """The parts, and what is told of them."""
        return Written(folder)

    def _parquet(self) -> penstock.sinks.Parquet:
        import pyarrow as pa

        how = {
            glob.escape(field.name): "plain" if pa.types.is_temporal(field.type) else "dictionary"
            for field in self.schema
            if not pa.types.is_float32(field.type)
        }
        return penstock.sinks.Parquet(
            grain=1, rows=_ROWS, schema=self.schema,
            compression=None if self.fast else "lz4",
            encoding={"row": "plain", **how, "*": "plain" if self.fast else "split"},
            statistics=["request_id", "timestamp", "row", "label"],
        )  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A ranking table that is kept.

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
    """Of the arrays of a span."""
    return f"_about-{item:09d}.npz"
