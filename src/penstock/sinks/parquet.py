"""Rows in Parquet files: one part for each grain, or one file in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from penstock import files
from penstock.abc import Batch, Closed, Part, Receipt
from penstock.errors import CannotKeep, UsageError
from penstock.sinks.parts import another, check, kept, part_name, sweep

if TYPE_CHECKING:
    import pyarrow as pa

_SCHEMA = "_common_metadata"
"""The usual name, in a folder of Parquet files, of a file with their schema and no rows."""
_WHOLE = "results.parquet"
_NAMES = "part-*.parquet"


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
        schema: names and types of the columns; other columns are refused, missing ones are null.

    Raises:
        UsageError: a grain or rows under 1, or an unknown compression.
        TypeError: from ``write``: rows that do not fit the schema, naming the column.
        CannotKeep: from ``close``: parts that do not agree, naming items and column.
    """

    unit: ClassVar[str] = "call"

    grain: int = 1000
    rows: int = 65_536
    one_file: bool = False
    compression: str | None = "zstd"
    schema: pa.Schema | None = None

    def __post_init__(self) -> None:
        if self.grain < 1 or self.rows < 1:
            raise UsageError(f"Parquet(grain={self.grain}, rows={self.rows}): both must be at least 1")
        known = ("zstd", "snappy", "gzip", "lz4", "brotli", None)
        if self.compression not in known:
            raise UsageError(
                f"Parquet(compression={self.compression!r}): known are {', '.join(map(repr, known))}"
            )

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Write the rows of one grain; a grain without any has no part."""
        from penstock.sinks.rows import RowGroups, tables

        path = folder / part_name(batch, ".parquet")
        stream = tables(results, self.schema)
        first = next(stream, None)
        if first is None:
            files.discard(path)  # of an attempt whose items were not yet set aside
            return Receipt()
        self._compare(first.schema, path, folder)
        with (
            files.atomic(path) as draft,
            RowGroups(draft, first.schema, self.rows, self.compression) as groups,
        ):
            groups.add(first)
            del first
            for table in stream:
                groups.add(table)
        return Receipt(parts=(kept(path, folder),))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """Find the schema of all parts; with ``one_file`` put them together.

        Raises:
            CannotKeep: a column has types in two parts that do not agree.
            ResultsDamaged: a part that is read is not what was kept.
        """
        import pyarrow.parquet as pq

        for name in (_SCHEMA, _WHOLE):
            sweep(folder, name)
        with tempfile.TemporaryFile("w+", dir=folder) as listed:
            names = set()
            for _, receipt in receipts:
                for part in receipt.parts:
                    listed.write(f"{part.bytes} {part.digest} {part.name}\n")
                    names.add(part.name)
            schema = self._agreed(_parts(listed), folder)
            with files.atomic(folder / _SCHEMA) as draft:
                pq.write_metadata(schema, draft)
            if self.one_file:
                self._join(_parts(listed), schema, folder)
        sweep(folder, _NAMES, names)
        made = (_SCHEMA, _WHOLE) if self.one_file else (_SCHEMA,)
        return Closed(tuple(kept(folder / name, folder) for name in made), self.one_file, _NAMES)

    def result(self, folder: Path) -> Any:
        """A dataset over the parts: ``.to_table()``, ``.scanner()``, ``.count_rows()``, ``.filter()``."""
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        if self.one_file:
            return ds.dataset(folder / _WHOLE)
        schema = pq.read_schema(folder / _SCHEMA)
        parts = sorted(folder.glob("part-*.parquet"), key=lambda path: int(path.name.split("-")[1]))
        return ds.dataset([str(part) for part in parts] or schema.empty_table(), schema=schema)

    def _compare(self, schema: pa.Schema, path: Path, folder: Path) -> None:
        """Fail early, not in the end, when this part does not agree with one that is there."""
        import pyarrow.parquet as pq

        if self.schema is not None or (other := another(folder, _NAMES, path.name)) is None:
            return
        try:
            there = pq.read_schema(other)
        except (OSError, pa.ArrowException):  # removed meanwhile, or damaged: whoever reads it will say so
            return
        _unified(there, schema, other, path, TypeError)

    def _agreed(self, parts: Iterator[Part], folder: Path) -> pa.Schema:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.schema is not None:
            from penstock.arrow import plain_schema

            return plain_schema(self.schema)
        schema, first = pa.schema([]), None
        for part in parts:
            path = folder / part.name
            try:
                found = pq.read_schema(path)
                schema = (
                    found if first is None else _unified(schema, found, folder / first.name, path, CannotKeep)
                )
            except (OSError, pa.ArrowException, CannotKeep):
                for each in (first or part, part):  # are they what was kept?
                    check(each, folder)
                raise
            first = first or part
        return schema

    def _join(self, parts: Iterator[Part], schema: pa.Schema, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from penstock.sinks.rows import RowGroups

        with (
            files.atomic(folder / _WHOLE) as draft,
            RowGroups(draft, schema, self.rows, self.compression) as groups,
        ):
            for part in parts:
                with pq.ParquetFile(check(part, folder), buffer_size=1 << 20) as rows:
                    for group in range(rows.num_row_groups):
                        for piece in rows.iter_batches(self.rows, row_groups=[group], use_threads=False):
                            groups.add(pa.Table.from_batches([piece]).select(schema.names).cast(schema))


def _parts(listed: Any) -> Iterator[Part]:
    listed.seek(0)
    for line in listed:
        size, digest, name = line.rstrip("\n").split(" ", 2)
        yield Part(name, int(size), digest)


def _unified(
    left: pa.Schema, right: pa.Schema, left_path: Path, right_path: Path, error: type[Exception]
) -> Any:
    from penstock.arrow import promoted

    places = [
        " to ".join(str(int(number)) for number in path.stem.split("-")[1:])
        for path in (left_path, right_path)
    ]
    advice = "return the same columns for every item, or give Parquet(schema=...)"
    odd = sorted(set(left.names) ^ set(right.names))
    if odd:
        raise error(f"items {places[0]} and items {places[1]} differ in columns ({', '.join(odd)}): {advice}")
    fields = []
    for field in left:
        other = right.field(field.name)
        both = promoted(field.type, other.type)
        if both is None:
            raise error(
                f"column {field.name!r} is {field.type} for items {places[0]} and {other.type} for items "
                f"{places[1]}: {advice}"
            )
        fields.append(field.with_type(both))
    import pyarrow as pa

    return pa.schema(fields)
