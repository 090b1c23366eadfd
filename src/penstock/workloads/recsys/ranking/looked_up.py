"""Writes Parquet files whose looked-up columns share one array of row numbers.

All features of an item are looked up by one number a row. Parquet can keep such a column as a dictionary (the
values of the items that come up) and numbers into it, and the numbers are the same for all features: they
are encoded and compressed once, and written for each. So nothing is gathered, hashed or encoded value by
value, as a general writer must, and readers see plain columns of float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from penstock.workloads.recsys.ranking import pages as p
from penstock.workloads.recsys.ranking import thrift as t
from penstock.workloads.recsys.ranking.own_columns import add_column
from penstock.workloads.recsys.ranking.pages import Numbered, RowGroup

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_MAGIC = b"PAR1"
_AT_ONCE = 1 << 20
"""Bytes that are written at once: pages and their headers are small, and each call costs."""


@dataclass(frozen=True)
class LookedUp:
    """Columns that were looked up with the same row numbers.

    Attributes:
        names: of the columns.
        values: float32 (columns, rows of the table that was looked up); more columns than names are left.
        rows: int64: the row that was found, for each row of the result.
    """

    names: Sequence[str]
    values: NDArray[np.float32]
    rows: NDArray[np.int64]

    def write(self, group: RowGroup) -> None:
        """Write all columns, as dictionaries that share their indices where that pays off."""
        values: NDArray[np.float32] = np.asarray(self.values)  # a map is slower by the slice
        found = Numbered.of(self.rows, values.shape[1])
        page, count = found.page(), len(found.different)
        if 4 * count + len(page) > p.WORTH * 4 * max(len(self.rows), 1):
            for name, column in zip(self.names, values, strict=False):
                group.add(name, p.FLOAT, [group.data(_stored(column, self.rows), p.PLAIN)])
            return
        shared = group.data(page, p.DICTIONARY)
        for name, column in zip(self.names, values, strict=False):
            own = group.dictionary(_stored(column, found.different), count)
            group.add(name, p.FLOAT, [own, shared])


def _stored(column: NDArray[np.float32], rows: NDArray[np.int64]) -> bytes:
    return np.take(column, rows, mode="clip").astype("<f4", copy=False).tobytes()


def write_part(
    path: Path, own: pa.Table, looked_up: Sequence[LookedUp], schema: pa.Schema, how: Mapping[str, Any]
) -> None:
    """Write one row group.

    Args:
        path: of the file.
        own: the columns that nothing was looked up for.
        looked_up: the others.
        schema: of the file; columns that were looked up are float32 and never null.
        how: options as those of pyarrow's writer for ``own``, with ``compression``.
    """
    with open(path, "wb", buffering=_AT_ONCE) as file:
        file.write(_MAGIC)
        group = RowGroup(file, len(_MAGIC), own.num_rows, how["compression"])
        others = [
            field for field in own.schema
            if not add_column(group, schema.field(field.name), own.column(field.name), how)
        ]  # fmt: skip
        if others:
            _add_by_pyarrow(group, file, own.select([field.name for field in others]), how)
        for each in looked_up:
            each.write(group)
        footer = _footer(schema, group)
        file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)


def _add_by_pyarrow(group: RowGroup, file: BinaryIO, own: pa.Table, how: Mapping[str, Any]) -> None:
    """Write columns of any type, as pyarrow does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(own, sink, row_group_size=max(own.num_rows, 1), **how)
    body = sink.getvalue()
    footer, end = _footer_of(body)
    file.write(memoryview(body)[len(_MAGIC) : end])
    moved = group.at - len(_MAGIC)
    group.at += end - len(_MAGIC)
    for chunk in _chunks_of(footer):
        meta = chunk[3][1]
        for place in (9, 11):  # where its pages begin
            if place in meta:
                meta[place] = (t.I64, meta[place][1] + moved)
        group.put(str(meta[3][1][1][0], "utf-8"), t.encode(chunk), meta[6][1])


def _footer_of(file: Any) -> tuple[t.Struct, int]:
    """The footer of a whole file, and where it begins."""
    data = memoryview(file)
    size = int.from_bytes(data[-8:-4], "little")
    begin = len(data) - 8 - size
    return t.decode(bytes(data[begin:-8])), begin


def _chunks_of(footer: t.Struct) -> list[t.Struct]:
    groups: list[t.Struct] = footer[4][1][1]
    chunks: list[t.Struct] = groups[0][1][1][1]
    return chunks


@lru_cache(maxsize=2)
def _footer_around(schema: pa.Schema) -> tuple[bytes, bytes]:
    """What comes before the number of rows (version, schema), and after the groups, as pyarrow writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_metadata(schema, sink)
    empty = _footer_of(sink.getvalue())[0]
    before = t.encode({field: value for field, value in empty.items() if field < 3})
    return before[: -len(t.END)], t.encode({field: v for field, v in empty.items() if field > 4}, 4)


def _footer(schema: pa.Schema, group: RowGroup) -> bytes:
    before, after = _footer_around(schema)
    told = group.footer(schema.names, len(_MAGIC))
    return before + t.number(1, t.I64, group.rows) + t.structs(1, [told]) + after
