"""Rows in Parquet files: one part per grain, or one file in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from penstock import files
from penstock.abc import Batch, Closed, Part, Receipt
from penstock.errors import UsageError
from penstock.outputs import check_many
from penstock.sinks.parts import check, kept, part_name, sweep
from penstock.sinks.schemas import COMMON, agreed, compare, list_parts, listed_parts

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.sinks.rows import RowGroups

ENCODINGS = ("dictionary", "plain", "split", "delta")
_WHOLE = "results.parquet"
_NAMES = "part-*.parquet"
_EMPTY = "empty.parquet"
"""What readers of a folder find where no item had a row: the columns."""


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """Keeps rows; the result is a ``pyarrow.dataset.Dataset``, opened lazily, rows in item order.

    The function returns, for an item or a call: an Arrow table, a record batch or reader, any
    object with the Arrow stream interface (polars, pandas, DuckDB); a dict, which is one row; a list
    of dicts; or None for no rows. A dict of columns is ``pyarrow.table(columns)``. An item set aside
    has no rows.

    The rows of a part are cut into row groups by their number and their bytes, however they came,
    so a part's bytes do not depend on calls, and memory holds one row group (32 MiB) at a time.
    Dictionary columns are kept as plain ones: Parquet has dictionaries of its own.

    Without ``schema`` each part takes that of its first table, or of its first 64 dicts. Parts must
    then agree, where null agrees with any type and integers with wider ones and floats.

    Args:
        grain: items per part.
        rows: the most rows of a row group.
        one_file: put all parts into ``results.parquet`` in the end, and remove them.
        compression: as Parquet names it: ``"zstd"``, ``"snappy"``, ``"gzip"``, ``"lz4"``, None.
        schema: names and types of the columns; other columns are refused, missing ones are null. A field
            that is declared not nullable takes less to write and to read.
        encoding: pattern of names of columns (``"f*"``) -> ``"dictionary"``, ``"plain"``, ``"split"``
            (BYTE_STREAM_SPLIT, of numbers) or ``"delta"`` (DELTA_BINARY_PACKED, of integers); the first
            pattern that fits counts, and a column that none fits has a dictionary. Floats that seldom
            repeat are written in half the time ``"plain"``, and small integers ``"delta"``.
        statistics: whether row groups tell the least and the largest value of each column; or the patterns
            of the columns for which they do.

    Raises:
        UsageError: a grain or rows that are no whole number of at least 1, unknown compression or encoding.
        TypeError: from ``write``: rows that do not fit the schema, nulls in a column that is not nullable
            among them, naming the column.
        CannotKeep: from ``close``: parts that do not agree, naming items and column.
    """

    unit: ClassVar[str] = "call"

    grain: int = 1000
    rows: int = 65_536
    one_file: bool = False
    compression: str | None = "zstd"
    schema: pa.Schema | None = None
    encoding: Mapping[str, str] | None = field(default=None, metadata={"later": True})
    statistics: bool | Sequence[str] = field(default=True, metadata={"later": True})

    def __post_init__(self) -> None:
        check_many(self, grain=self.grain, rows=self.rows)
        if not isinstance(self.one_file, bool):
            raise UsageError(f"Parquet(one_file={self.one_file!r}): True or False was expected")
        known = ("zstd", "snappy", "gzip", "lz4", "brotli", None)
        if self.compression not in known:
            raise UsageError(
                f"Parquet(compression={self.compression!r}): known are {', '.join(map(repr, known))}"
            )
        for encoding in (self.encoding or {}).values():
            if encoding not in ENCODINGS:
                raise UsageError(
                    f"Parquet(encoding=...): {encoding!r} is none; known are "
                    f"{', '.join(map(repr, ENCODINGS))}"
                )

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Write the rows of one grain; a grain without any has no part."""
        from penstock.sinks.rows import tables

        path = folder / part_name(batch, ".parquet")
        stream = tables(results, self.schema)
        first = next(stream, None)
        if first is None:
            files.discard(path)  # of an attempt whose items were not yet set aside
            return Receipt()
        if self.schema is None:
            compare(first.schema, path, folder, _NAMES, "Parquet")
        with files.atomic(path) as draft, self._groups(draft, first.schema) as groups:
            groups.add(first)
            del first
            for table in stream:
                groups.add(table)
        return Receipt(parts=(kept(path, folder),))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """Find the common schema of all parts; with ``one_file``, concatenate them.

        Raises:
            CannotKeep: a column has types in two parts that do not agree.
            ResultsDamaged: a part that is read is not what was kept.
        """
        import pyarrow.parquet as pq

        for name in (COMMON, _WHOLE, _EMPTY):
            sweep(folder, name)
        with tempfile.TemporaryFile("w+", dir=folder) as listed:
            names = list_parts(receipts, listed)
            schema = self._schema(listed_parts(listed), folder)
            with files.atomic(folder / COMMON) as draft:
                pq.write_metadata(schema, draft)
            if self.one_file:
                self._join(listed_parts(listed), schema, folder)
        sweep(folder, _NAMES, names)
        sweep(folder, _EMPTY, ())
        made = (COMMON, _WHOLE) if self.one_file else (COMMON,)
        if not names and len(schema) and not self.one_file:
            with files.atomic(folder / _EMPTY) as draft:
                pq.write_table(schema.empty_table(), draft)
            made = (COMMON, _EMPTY)
        return Closed(tuple(kept(folder / name, folder) for name in made), self.one_file, _NAMES)

    def result(self, folder: Path) -> Any:
        """A dataset over the parts: ``.to_table()``, ``.scanner()``, ``.count_rows()``, ``.filter()``."""
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        if self.one_file:
            return ds.dataset(folder / _WHOLE)
        schema = pq.read_schema(folder / COMMON)
        parts = sorted(folder.glob("part-*.parquet"), key=lambda path: int(path.name.split("-")[1]))
        return ds.dataset([str(part) for part in parts] or schema.empty_table(), schema=schema)

    def _schema(self, parts: Iterator[Part], folder: Path) -> pa.Schema:
        if self.schema is None:
            return agreed(parts, folder, "Parquet")
        from penstock.arrow import plain_schema

        return plain_schema(self.schema)

    def _groups(self, draft: Path, schema: pa.Schema) -> RowGroups:
        import pyarrow as pa

        from penstock.sinks.rows import RowGroups, written_as

        how = written_as(schema, self.encoding or {}, self.statistics)
        if self.schema is not None:
            schema = pa.schema([f.with_nullable(self.schema.field(f.name).nullable) for f in schema])
        return RowGroups(draft, schema, self.rows, self.compression, how)

    def _join(self, parts: Iterator[Part], schema: pa.Schema, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with files.atomic(folder / _WHOLE) as draft, self._groups(draft, schema) as groups:
            for part in parts:
                with pq.ParquetFile(check(part, folder), buffer_size=1 << 20) as rows:
                    for group in range(rows.num_row_groups):
                        for piece in rows.iter_batches(self.rows, row_groups=[group], use_threads=False):
                            groups.add(pa.Table.from_batches([piece]).select(schema.names).cast(schema))
