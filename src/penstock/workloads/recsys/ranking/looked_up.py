"""Parquet files whose columns that were looked up in a table share the numbers of the rows that were found.

All features of an item are looked up by one number a row. Parquet can keep such a column as a dictionary (the
values of the items that come up) and numbers into it, and the numbers are the same for all features: they
are encoded and compressed once, and written for each. So nothing is gathered, hashed or encoded value by
value, as a general writer must, and readers see plain columns of float32. All other columns are pyarrow's.

The format: https://parquet.apache.org/docs/file-format/, data pages of version 1, RLE_DICTIONARY.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.ranking import thrift as t

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_MAGIC = b"PAR1"
_FLOAT, _PLAIN, _RLE, _RLE_DICTIONARY = 4, 0, 3, 8
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_CODECS = {None: (0, ""), "lz4": (7, "lz4_raw"), "zstd": (6, "zstd")}
_WORTH = 0.8
"""A dictionary is used where it and the numbers take at most this share of the values."""


@dataclass(frozen=True)
class LookedUp:
    """Columns that were looked up by the same rows.

    Attributes:
        names: of the columns.
        values: float32 (columns, rows of the table that was looked up); more columns than names are left.
        rows: int64: the row that was found, for each row of the result.
    """

    names: Sequence[str]
    values: NDArray[np.float32]
    rows: NDArray[np.int64]

    def columns(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Each column as it is to be read."""
        for name, column in zip(self.names, self.values, strict=False):
            yield name, np.take(column, self.rows, mode="clip")


@dataclass(frozen=True)
class _Numbered:
    """The different rows, ascending, and the place of each row among them."""

    different: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray[np.int64], count: int) -> _Numbered:
        if count > 4 * len(rows):
            return cls(*np.unique(rows, return_inverse=True))
        there = np.zeros(count, np.bool_)
        there[rows] = True
        return cls(np.flatnonzero(there), (np.cumsum(there) - 1)[rows])

    def page(self) -> bytes:
        """The numbers as a page of data: the width, then runs of equal ones or packed bits."""
        width = max(int(len(self.different) - 1).bit_length(), 1)
        runs = _as_runs(self.numbers, width)
        packed = 5 + (len(self.numbers) + 7) // 8 * width
        body = runs if len(runs) <= packed else _as_bits(self.numbers, width)
        return bytes([width]) + body


def _as_runs(numbers: NDArray[np.int64], width: int) -> bytes:
    """Runs: twice the length as a varint (here of three bytes at most), then the number in whole bytes."""
    starts = (
        np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])) if len(numbers) else np.zeros(0, int)
    )
    heads = 2 * np.diff(np.append(starts, len(numbers)))
    long = 1 + (heads >= 1 << 7) + (heads >= 1 << 14) + (heads >= 1 << 21)
    size = (width + 7) // 8
    at = np.append(0, np.cumsum(long + size))
    out = np.zeros(int(at[-1]), np.uint8)
    for byte in range(int(long.max(initial=1))):
        some = long > byte
        more = np.where(long[some] > byte + 1, 0x80, 0)
        out[at[:-1][some] + byte] = (heads[some] >> (7 * byte)) & 0x7F | more
    for byte in range(size):
        out[at[:-1] + long + byte] = (numbers[starts] >> (8 * byte)) & 0xFF
    return out.tobytes()


def _as_bits(numbers: NDArray[np.int64], width: int) -> bytes:
    """One run of packed bits, the lowest first, filled up to groups of eight numbers."""
    groups = (len(numbers) + 7) // 8
    filled = np.zeros(groups * 8, "<u4")
    filled[: len(numbers)] = numbers
    bits = np.unpackbits(filled.view(np.uint8).reshape(-1, 4), axis=1, count=width, bitorder="little")
    return t.varint(groups << 1 | 1) + np.packbits(bits, bitorder="little").tobytes()


def write_part(
    path: Path, own: pa.Table, looked_up: Sequence[LookedUp], schema: pa.Schema, how: Mapping[str, Any]
) -> None:
    """Write one row group.

    Args:
        path: of the file.
        own: the columns that nothing was looked up for.
        looked_up: the others.
        schema: of the file; columns that were looked up are float32 and never null.
        how: options of pyarrow's writer for ``own``, with ``compression``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shared: list[tuple[LookedUp, _Numbered, bytes]] = []
    for each in looked_up:
        numbered = _Numbered.of(each.rows, each.values.shape[1])
        page = numbered.page()
        if 4 * len(numbered.different) + len(page) <= _WORTH * 4 * max(own.num_rows, 1):
            shared.append((each, numbered, page))
        else:
            for name, column in each.columns():
                own = own.append_column(schema.field(name), pa.array(column))
    plain = own.select([name for name in schema.names if name in own.schema.names])
    sink = pa.BufferOutputStream()
    pq.write_table(plain, sink, row_group_size=max(own.num_rows, 1), **how)
    body = sink.getvalue()
    with open(path, "wb") as file:
        at = _footer_of(body)[1]
        file.write(memoryview(body)[:at])
        chunks = {_name_of(chunk): chunk for chunk in _chunks_of(_footer_of(body)[0])}
        for each, numbered, page in shared:
            columns = _Columns(numbered, page, own.num_rows, how["compression"])
            for name, column in zip(each.names, each.values, strict=False):
                pages, chunks[name] = columns.chunk(name, column, at)
                file.writelines(pages)
                at += sum(map(len, pages))
        footer = _whole_footer(schema, chunks, own.num_rows, at)
        file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)


class _Columns:
    """Makes column chunks of one set of numbers."""

    def __init__(self, numbered: _Numbered, page: bytes, rows: int, compression: str | None) -> None:
        self._different = numbered.different
        self._rows = rows
        self._codec, self._name = _CODECS[compression]
        data = self._compressed(page)
        self._data = [
            _header(_DATA_PAGE, len(page), len(data), 5, {1: rows, 2: _RLE_DICTIONARY, 3: _RLE, 4: _RLE}),
            data,
        ]
        self._data_size = (len(self._data[0]) + len(page), len(self._data[0]) + len(data))

    def _compressed(self, data: bytes) -> bytes:
        import pyarrow as pa

        return pa.compress(data, codec=self._name, asbytes=True) if self._name else data

    def chunk(self, name: str, column: NDArray[np.float32], at: int) -> tuple[list[bytes], t.Struct]:
        """The pages of a column that begin at a place of the file, and what the footer says of them."""
        values = column[self._different].astype("<f4", copy=False).tobytes()
        data = self._compressed(values)
        header = _header(_DICTIONARY_PAGE, len(values), len(data), 7, {1: len(self._different), 2: _PLAIN})
        first = len(header) + len(data)
        meta: t.Struct = {
            1: (t.I32, _FLOAT),
            2: (t.LIST, (t.I32, [_PLAIN, _RLE, _RLE_DICTIONARY])),
            3: (t.LIST, (t.BINARY, [name.encode()])),
            4: (t.I32, self._codec),
            5: (t.I64, self._rows),
            6: (t.I64, len(header) + len(values) + self._data_size[0]),
            7: (t.I64, first + self._data_size[1]),
            9: (t.I64, at + first),
            11: (t.I64, at),
        }
        return [header, data, *self._data], {2: (t.I64, 0), 3: (t.STRUCT, meta)}


def _header(kind: int, size: int, compressed: int, field: int, told: Mapping[int, int]) -> bytes:
    """Of a page."""
    inner: t.Struct = {number: (t.I32, value) for number, value in told.items()}
    return t.encode({1: (t.I32, kind), 2: (t.I32, size), 3: (t.I32, compressed), field: (t.STRUCT, inner)})


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


def _name_of(chunk: t.Struct) -> str:
    (name,) = chunk[3][1][3][1][1]
    return str(name, "utf-8")


@lru_cache(maxsize=2)
def _empty_footer(schema: pa.Schema) -> t.Struct:
    """Of a file without rows, as pyarrow writes it: schema, what Arrow keeps beside it, orders of columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_metadata(schema, sink)
    return _footer_of(sink.getvalue())[0]


def _whole_footer(schema: pa.Schema, chunks: Mapping[str, t.Struct], rows: int, size: int) -> bytes:
    footer = _empty_footer(schema)
    ordered = [chunks[name] for name in schema.names]
    group: t.Struct = {
        1: (t.LIST, (t.STRUCT, ordered)),
        2: (t.I64, sum(chunk[3][1][6][1] for chunk in ordered)),
        3: (t.I64, rows),
        5: (t.I64, len(_MAGIC)),
        6: (t.I64, size - len(_MAGIC)),
        7: (t.I16, 0),
    }
    return t.encode({**footer, 3: (t.I64, rows), 4: (t.LIST, (t.STRUCT, [group]))})
