"""Writes Parquet files whose looked-up columns share one array of row numbers.

All features of an item are looked up by one number a row. Parquet can keep such a column as a dictionary (the
values of the items that come up) and numbers into it, and the numbers are the same for all features: they
are encoded and compressed once, and written for each. So nothing is gathered, hashed or encoded value by
value, as a general writer must, and readers see plain columns of float32. Columns of few values have shorter
numbers of their own, see ``few_values``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.proven_writer import ProvenWriter
from penstock.workloads.recsys.ranking import pages as p
from penstock.workloads.recsys.ranking import thrift as t
from penstock.workloads.recsys.ranking.few_values import FewValues
from penstock.workloads.recsys.ranking.own_columns import add_column
from penstock.workloads.recsys.ranking.pages import Numbered, RowGroup

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_MAGIC = b"PAR1"


@dataclass(frozen=True)
class LookedUp:
    """Columns that were looked up with the same row numbers.

    Attributes:
        names: of the columns.
        values: float32 (columns, rows of the table that was looked up); more columns than names are left.
        rows: int64: the row that was found, for each row of the result.
        few: those of ``values`` that have few values; None where it is not known.
    """

    names: Sequence[str]
    values: NDArray[np.float32]
    rows: NDArray[np.int64]
    few: FewValues | None = None

    def write(self, group: RowGroup) -> None:
        """Write all columns: with codes of their own, with indices that they share, or plain."""
        values: NDArray[np.float32] = np.asarray(self.values)  # a map is slower by the slice
        found = Numbered.of(self.rows, values.shape[1])
        page, count, rows = found.page(), len(found.different), len(self.rows)
        shared, size = None, 4 * rows
        if 4 * count + len(page) <= p.WORTH * 4 * max(rows, 1):
            shared, size = group.data(page, p.DICTIONARY), 4 * count + len(page)
        for number, (name, column) in enumerate(zip(self.names, values, strict=False)):
            coded = None if self.few is None else self.few.size(number, rows)
            if self.few is not None and coded is not None and coded < size:
                pages = self.few.pages(group, number, self.rows)
            elif shared is not None:
                pages = [group.dictionary(_stored(column, found.different), count), shared]
            else:
                pages = [group.data(_stored(column, self.rows), p.PLAIN)]
            group.add(name, p.FLOAT, pages)


def _stored(column: NDArray[np.float32], rows: NDArray[np.int64]) -> bytes:
    return np.take(column, rows, mode="clip").astype("<f4", copy=False).tobytes()


def write_part(
    path: Path, own: pa.Table, looked_up: Sequence[LookedUp], schema: pa.Schema, how: Mapping[str, Any]
) -> tuple[int, str]:
    """Write one row group; returns the file's size and digest.

    Args:
        path: of the file.
        own: the columns that nothing was looked up for.
        looked_up: the others.
        schema: of the file; columns that were looked up are float32 and never null.
        how: options as those of pyarrow's writer for ``own``, with ``compression``.
    """
    with ProvenWriter(path) as file:
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
        file.write(footer, len(footer).to_bytes(4, "little"), _MAGIC)
        return file.proof()


def _add_by_pyarrow(group: RowGroup, file: ProvenWriter, own: pa.Table, how: Mapping[str, Any]) -> None:
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
