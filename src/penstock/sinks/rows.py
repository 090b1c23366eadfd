"""Rows on their way into a Parquet file: converted to tables of one schema, and cut into row groups.

Both depend on the rows alone and not on how they arrived, so that the file's bytes do not either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.abc import SetAside
from penstock.arrow import plain_schema, promoted

GROUP_BYTES = 32 << 20
"""A row group ends with the row that reaches this many bytes."""

_LOOKAHEAD = 64
"""Dicts that a schema is inferred from."""
_LOOKAHEAD_BYTES = 8 << 20


# --------------------------------------------------------------------------- tables of one schema


def tables(results: Iterator[Any], schema: pa.Schema | None) -> Iterator[pa.Table]:
    """Convert what functions return into tables that all have one schema.

    Args:
        results: tables, record batches, readers, dicts, lists of dicts, None, SetAside.
        schema: the schema; None for that of the first table, or of the first 64 dicts.

    Raises:
        TypeError: a result of another kind, or one that does not fit the schema; names the column.
    """
    fitted = None if schema is None else plain_schema(schema)
    dicts: list[Mapping[str, Any]] = []
    weight = 0
    for result in results:
        for piece in _pieces(result):
            if isinstance(piece, Mapping):
                dicts.append(piece)
                weight += _weight(piece)
                if len(dicts) < _LOOKAHEAD and weight < _LOOKAHEAD_BYTES:
                    continue
            if dicts:
                table = _from_dicts(dicts, fitted)
                dicts, weight = [], 0
                fitted = table.schema
                yield table
            if isinstance(piece, pa.Table) and piece.num_rows:
                table = _from_table(piece, fitted, given=schema is not None)
                fitted = table.schema
                yield table
    if dicts:
        yield _from_dicts(dicts, fitted)


def _pieces(result: Any) -> Iterator[pa.Table | Mapping[str, Any]]:
    if result is None or isinstance(result, SetAside):
        return
    if isinstance(result, pa.Table | Mapping):
        yield result
    elif isinstance(result, pa.RecordBatch):
        yield pa.Table.from_batches([result])
    elif isinstance(result, pa.RecordBatchReader):
        for batch in result:
            yield pa.Table.from_batches([batch])
    elif hasattr(result, "__arrow_c_stream__"):
        yield pa.table(result)
    elif isinstance(result, list | tuple) and all(isinstance(row, Mapping) for row in result):
        yield from result
    else:
        found = type(result).__qualname__
        if isinstance(result, list | tuple):
            odd = next(row for row in result if not isinstance(row, Mapping))
            found = f"{found} with a {type(odd).__qualname__} in it"
        raise TypeError(
            f"Parquet keeps Arrow tables, dicts (one row each), lists of dicts and None, not a {found}; "
            "a dict of columns is pyarrow.table(columns)"
        )


def _weight(row: Mapping[str, Any]) -> int:
    """About the bytes of a row, by its values alone."""
    sizes = (
        getattr(value, "nbytes", None) or (len(value) if hasattr(value, "__len__") else 0)
        for value in row.values()
    )
    return 64 + sum(sizes)


def _from_dicts(rows: list[Mapping[str, Any]], schema: pa.Schema | None) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row)) if schema is None else schema.names
    if schema is not None:
        known = set(names)
        unknown = [name for row in rows for name in row if name not in known]
        if unknown:
            raise TypeError(_odd_column(unknown[0], names))
    columns = []
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"a row has the key {name!r}: names of columns are strings")
        wanted = None if schema is None else schema.field(i).type
        try:
            columns.append(pa.array([row.get(name) for row in rows], type=wanted))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise TypeError(_misfit(name, wanted, str(error))) from None
    made = pa.Table.from_arrays(columns, names=names)
    return _decoded(made) if schema is None else made


def _from_table(table: pa.Table, schema: pa.Schema | None, *, given: bool) -> pa.Table:
    if schema is not None and table.schema.equals(schema, check_metadata=True):
        return table
    table = _decoded(table)
    if schema is None:
        return table
    unknown = [name for name in table.schema.names if name not in schema.names]
    if unknown:
        raise TypeError(_odd_column(unknown[0], schema.names))
    columns = []
    for field in schema:
        if field.name not in table.schema.names:
            if not given:
                raise TypeError(
                    f"column {field.name!r} is missing, and was there before; give Parquet(schema=...)"
                )
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        if column.type != field.type:
            both = promoted(column.type, field.type)
            if both is None or (both != field.type and not given):
                raise TypeError(_misfit(field.name, field.type, f"it is {column.type} here"))
            try:
                column = column.cast(field.type)
            except pa.ArrowException as error:
                raise TypeError(_misfit(field.name, field.type, str(error))) from None
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def _decoded(table: pa.Table) -> pa.Table:
    names = table.schema.names
    if len(set(names)) < len(names):
        raise TypeError(f"two columns have the same name: {', '.join(names)}")
    schema = plain_schema(table.schema)
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _misfit(name: str, wanted: pa.DataType | None, why: str) -> str:
    if wanted is None:
        return f"column {name!r} has no type that fits all its values ({why}): give Parquet(schema=...)"
    if pa.types.is_null(wanted):
        return (
            f"column {name!r} was empty in the first rows, so its type is not known: give Parquet(schema=...)"
        )
    return f"column {name!r} does not fit {wanted} ({why}): return that type, or give Parquet(schema=...)"


def _odd_column(name: Any, names: list[str]) -> str:
    return f"column {name!r} is new; the columns are {', '.join(names)}: give Parquet(schema=...)"


# --------------------------------------------------------------------------- row groups


def written_as(
    schema: pa.Schema, encoding: Mapping[str, str], statistics: bool | Sequence[str]
) -> dict[str, Any]:
    """Options of a ParquetWriter for the encoding of columns, see :class:`Parquet`.

    Raises:
        TypeError: a column cannot be split, as it has no numbers, or has no integers and no deltas.
    """
    if not encoding and isinstance(statistics, bool):
        return {"write_statistics": statistics}
    plain: dict[str, list[str]] = {"dictionary": [], "plain": [], "split": [], "delta": []}
    told: list[str] = []
    for field in schema:
        leaves = _leaves(field)
        chosen = next(
            (each for name, each in encoding.items() if fnmatchcase(field.name, name)), "dictionary"
        )
        integers = pa.types.is_integer(field.type)
        if chosen == "split" and not (integers or pa.types.is_floating(field.type)):
            raise TypeError(f"column {field.name!r} is {field.type}: only columns of numbers can be split")
        if chosen == "delta" and not integers:
            raise TypeError(f"column {field.name!r} is {field.type}: only columns of integers have deltas")
        plain[chosen] += leaves
        if statistics is True or (statistics and any(fnmatchcase(field.name, each) for each in statistics)):
            told += leaves
    return {
        "use_dictionary": plain["dictionary"] or False,
        "use_byte_stream_split": plain["split"] or False,
        "column_encoding": dict.fromkeys(plain["delta"], "DELTA_BINARY_PACKED") or None,
        "write_statistics": told or False,
    }


def _leaves(field: pa.Field) -> list[str]:
    """The paths of a column's leaves, as Parquet names them."""
    if not pa.types.is_nested(field.type):
        return [field.name]
    sink = pa.BufferOutputStream()
    pq.write_metadata(pa.schema([field]), sink)
    found = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return [found.column(number).path for number in range(len(found))]


class RowGroups:
    """Writes tables of one schema, with row groups cut by the rows themselves, not by the tables.

    Args:
        path: the file.
        schema: the schema of every table.
        rows: the most rows of a row group.
        compression: as Parquet names it; None for none.
        how: options of the writer, see ``written_as``.
        full: a row group ends with the row that reaches so many bytes.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, rows: int, compression: str | None,
        how: Mapping[str, Any] | None = None, full: int | None = None,
    ) -> None:  # fmt: skip
        self._writer = pq.ParquetWriter(path, schema, compression=compression or "none", **(how or {}))
        self._schema = schema
        self._most = rows
        self._full = GROUP_BYTES if full is None else full
        self._small: list[pa.Table] = []
        self._held: list[pa.Table] = []
        self._rows = 0
        self._bytes = 0

    def __enter__(self) -> RowGroups:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self._rows:
                self._flush()
        finally:
            self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Take a table's rows; write the row groups that are full."""
        size = table_bytes(table)
        if size is not None and self._bytes + size < self._full and self._rows + table.num_rows <= self._most:
            self._rows += table.num_rows
            self._bytes += size
            self._hold(table)
            if self._rows == self._most:
                self._flush()
            return
        ends = np.cumsum(row_bytes(table))
        at = 0
        while at < table.num_rows:
            before = int(ends[at - 1]) if at else 0
            full = int(np.searchsorted(ends, before + self._full - self._bytes)) + 1
            stop = min(full, at + self._most - self._rows, table.num_rows)
            piece = table.slice(at, stop - at)
            self._rows += stop - at
            self._bytes += int(ends[stop - 1]) - before
            is_full = self._rows == self._most or self._bytes >= self._full
            if at and not is_full:
                piece = piece.take(np.arange(stop - at))  # a slice would keep the whole table in memory
            self._hold(piece)
            if is_full:
                self._flush()
            at = stop

    def _hold(self, piece: pa.Table) -> None:
        self._small.append(piece)
        if len(self._small) == 256:  # a table of a few rows is larger than its rows
            self._held.append(pa.concat_tables(self._small).combine_chunks())
            self._small.clear()

    def _flush(self) -> None:
        # One chunk: pages would otherwise end where chunks do.
        group = pa.concat_tables(self._held + self._small).combine_chunks()
        self._held.clear()
        self._small.clear()
        self._rows = self._bytes = 0
        for field in self._schema:
            if not field.nullable and group.column(field.name).null_count:
                raise TypeError(f"column {field.name!r} is not nullable, and has nulls")
        self._write(pa.Table.from_arrays(group.columns, schema=self._schema))

    def _write(self, group: pa.Table) -> None:
        self._writer.write_table(group, row_group_size=self._most)


def table_bytes(table: pa.Table) -> int | None:
    """The sum of ``row_bytes``, where it is told without a look at the rows."""
    total = 0
    for column in table.columns:
        if pa.types.is_primitive(column.type):
            total += table.num_rows * max(column.type.bit_width // 8, 1)
        elif _is_text(column.type) and not column.null_count:
            borders = [_offsets(chunk) for chunk in column.chunks if len(chunk)]
            total += sum(int(each[-1]) - int(each[0]) for each in borders) + 4 * table.num_rows
        else:
            return None
    return total


def row_bytes(table: pa.Table) -> np.ndarray:
    """The bytes of each row in memory, as int64: a function of its values alone, not of its buffers."""
    total = np.zeros(table.num_rows, np.int64)
    fixed = 0
    for column in table.columns:
        if pa.types.is_primitive(column.type):
            fixed += max(column.type.bit_width // 8, 1)
            continue
        at = 0
        for chunk in column.chunks:
            total[at : at + len(chunk)] += _widths(chunk)
            at += len(chunk)
    total += fixed
    return total


def _widths(values: pa.Array) -> np.ndarray:
    kind, count = values.type, len(values)
    if isinstance(values, pa.ExtensionArray):
        return _widths(values.storage)
    if pa.types.is_struct(kind):
        widths: np.ndarray = np.ones(count, np.int64)
        for child in values.flatten():
            widths += _widths(child)
        return widths
    if _is_text(kind):
        if not values.null_count:
            return np.diff(_offsets(values)).astype(np.int64) + 4
        return _lengths("binary_length", values) + 4
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner: np.ndarray = np.cumsum(np.append(0, _widths(values.flatten())))
        borders = np.cumsum(np.append(0, _lengths("list_value_length", values)))
        lengths: np.ndarray = inner[borders[1:]] - inner[borders[:-1]] + 4
        return lengths
    try:
        width = max(kind.bit_width // 8, 1)
    except ValueError:  # maps, unions, views: rare, and counted as small
        width = 64
    return np.full(count, width, np.int64)


def _offsets(values: pa.Array) -> np.ndarray:
    """Where each text begins and the last one ends."""
    wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    offsets = np.frombuffer(values.buffers()[1] or b"", np.int64 if wide else np.int32)
    return offsets[values.offset : values.offset + len(values) + 1]


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(
        is_(kind) for is_ in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    )


def _lengths(function: str, values: pa.Array) -> np.ndarray:
    import pyarrow.compute as pc  # takes as long as all of pyarrow, and is seldom needed

    filled: np.ndarray = (
        getattr(pc, function)(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return filled
