"""Writes pages and column chunks of Parquet files from arrays; one data page per chunk.

The format: https://parquet.apache.org/docs/file-format/, data pages of version 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.ranking import thrift as t

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.proven_writer import ProvenWriter

INT32, INT64, FLOAT, BYTE_ARRAY = 1, 2, 4, 6
"""Types of values."""
PLAIN, _RLE, DICTIONARY, SPLIT = 0, 3, 8, 9
"""Encodings of pages of data."""
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_CODECS = {None: (0, ""), "lz4": (7, "lz4_raw"), "zstd": (6, "zstd")}
WORTH = 0.8
"""A dictionary is used where it and the numbers take at most this share of the values."""


# --------------------------------------------------------------------------- numbers into a dictionary


@dataclass(frozen=True)
class Numbered:
    """The distinct values of some integers, ascending, and each one's index among them."""

    different: NDArray[Any]
    numbers: NDArray[np.integer[Any]]

    @classmethod
    def of(cls, rows: NDArray[np.int64], count: int) -> Numbered:
        """From integers between 0 and ``count - 1``."""
        starts = run_starts(rows)
        if 2 * len(starts) < len(rows):  # few runs: only their first rows are looked at
            found = cls.of(rows[starts], count)
            return cls(found.different, np.repeat(found.numbers, np.diff(np.append(starts, len(rows)))))
        if count > 4 * len(rows):
            return cls(*np.unique(rows, return_inverse=True))
        there = np.zeros(count, np.bool_)
        there[rows] = True
        return cls(np.flatnonzero(there), (np.cumsum(there, dtype=np.int32) - 1)[rows])

    @classmethod
    def of_any(cls, values: NDArray[Any]) -> Numbered:
        """From any integers."""
        if not len(values):
            return cls(values, np.zeros(0, np.int64))
        low, high = values.min(), int(values.max())
        if high - int(low) < 1 << 8:
            return cls._of_few((values - low).astype(np.uint8), low)
        if high - int(low) >= 1 << 62:  # their differences would not fit
            return cls(*np.unique(values, return_inverse=True))
        found = cls.of((values - low).astype(np.int64, copy=False), high - int(low) + 1)
        return cls(found.different.astype(values.dtype) + low, found.numbers)

    @classmethod
    def _of_few(cls, offsets: NDArray[np.uint8], low: np.integer[Any]) -> Numbered:
        """From integers as their distance from the least of them: categories."""
        different = np.flatnonzero(np.bincount(offsets))
        if different[-1] >= len(different):  # there are gaps
            number = np.zeros(1 << 8, np.uint8)
            number[different] = np.arange(len(different))
            offsets = np.take(number, offsets)
        return cls(different.astype(low.dtype) + low, offsets)

    def page(self) -> bytes:
        """The indices as a data page: the bit width, then run-length or bit-packed runs."""
        width = max(int(len(self.different) - 1).bit_length(), 1)
        packed = 5 + (len(self.numbers) + 7) // 8 * width
        runs = 1 + np.count_nonzero(self.numbers[1:] != self.numbers[:-1])
        if runs * (1 + (width + 7) // 8) <= packed:
            body = as_runs(self.numbers, width)
            if len(body) <= packed:
                return bytes([width]) + body
        return bytes([width]) + as_bits(self.numbers, width)


def run_starts(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Where runs of equal numbers begin."""
    if not len(numbers):
        return np.zeros(0, np.int64)
    return np.append(0, np.flatnonzero(numbers[1:] != numbers[:-1]) + 1)


def as_runs(numbers: NDArray[np.integer[Any]], width: int) -> bytes:
    """Run-length encoding: twice the length as a varint (at most 4 bytes), then the number in whole bytes."""
    starts = run_starts(numbers)
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


def as_bits(numbers: NDArray[np.integer[Any]], width: int) -> bytes:
    """One bit-packed run, lowest bit first, padded to groups of eight numbers."""
    if width in (1, 2, 4, 8):
        return as_few_bits(numbers.astype(np.uint8, copy=False), width)
    groups = (len(numbers) + 7) // 8
    filled = np.zeros(groups * 8, np.uint64)
    filled[: len(numbers)] = numbers
    head = t.varint(groups << 1 | 1)
    if width > 16:
        low = filled.astype("<u4").view(np.uint8).reshape(-1, 4)
        bits = np.unpackbits(low, axis=1, count=width, bitorder="little")
        return head + np.packbits(bits, bitorder="little").tobytes()
    # Four numbers fit into a word, and eight of them into the first bytes of two words.
    fours = filled.reshape(groups, 2, 4)
    words = fours[:, :, 0].copy()
    for place in (1, 2, 3):
        words |= fours[:, :, place] << np.uint64(width * place)
    out = np.empty((groups, 2), "<u8")
    out[:] = words
    if width < 16:
        out[:, 0] |= words[:, 1] << np.uint64(4 * width)
        out[:, 1] = words[:, 1] >> np.uint64(64 - 4 * width)
    return head + out.view(np.uint8)[:, : 2 * width][:, :width].tobytes()


def as_few_bits(numbers: NDArray[np.uint8], width: int) -> bytes:
    """The same for numbers of 1, 2, 4 or 8 bits, none of which crosses a byte."""
    groups = (len(numbers) + 7) // 8
    head = t.varint(groups << 1 | 1)
    if len(numbers) < groups * 8:
        numbers = np.append(numbers, np.zeros(groups * 8 - len(numbers), np.uint8))
    if width == 8:
        return head + numbers.tobytes()
    if width == 1:
        return head + np.packbits(numbers, bitorder="little").tobytes()
    # Two or four numbers are one word, and end in its lowest byte.
    words = np.ascontiguousarray(numbers).view("<u2" if width == 4 else "<u4")
    packed = words | words >> (8 - width)
    if width == 2:
        packed |= packed >> 12
    body: bytes = packed.astype(np.uint8).tobytes()
    return head + body


def levels(there: NDArray[np.bool_] | None, rows: int) -> bytes:
    """The definition levels that begin a page of a nullable column: which rows have a value."""
    if there is None:
        body = t.varint(rows << 1) + b"\1"
    else:
        body = t.varint((rows + 7) // 8 << 1 | 1) + np.packbits(there, bitorder="little").tobytes()
    return len(body).to_bytes(4, "little") + body


def texts(offsets: NDArray[np.int32], data: NDArray[np.uint8]) -> bytes:
    """Texts in a page's format: a length of four bytes before each.

    Args:
        offsets: where each begins in ``data``, and where the last ends.
        data: their bytes.
    """
    lengths = np.diff(offsets)
    heads = offsets[:-1] - offsets[0] + 4 * np.arange(len(lengths))
    out = np.empty(int(offsets[-1] - offsets[0]) + 4 * len(lengths), np.uint8)
    own = np.ones(len(out), np.bool_)
    for byte in range(4):
        out[heads + byte] = lengths >> (8 * byte) & 0xFF
        own[heads + byte] = False
    out[own] = data[offsets[0] : offsets[-1]]
    return out.tobytes()


# --------------------------------------------------------------------------- pages and chunks


@dataclass(frozen=True)
class Page:
    """A page as it is written.

    Attributes:
        header, data: its bytes.
        size: bytes of it before they were compressed, the header included.
        encoding: of its values.
        codec: how it is compressed; one for all pages of a column.
    """

    header: bytes
    data: bytes
    size: int
    encoding: int
    codec: int


class RowGroup:
    """Writes the column chunks of one row group, in any order.

    Args:
        file: to be written to.
        at: bytes that are in it.
        rows: of the group.
        compression: ``"lz4"``, ``"zstd"`` or None.
    """

    def __init__(self, file: ProvenWriter, at: int, rows: int, compression: str | None) -> None:
        self._file = file
        self.at = at
        self.rows = rows
        self._codec, self._name = _CODECS[compression]
        self._size = 0
        self._chunks: dict[str, bytes] = {}

    def data(self, body: bytes, encoding: int, *, compressed: bool = True) -> Page:
        """A page with the values of all rows."""
        header = t.number(1, t.I32, self.rows) + t.number(1, t.I32, encoding) + _LEVELS
        return self._page(_DATA_PAGE, 5, header, body, encoding, compressed)

    def dictionary(self, body: bytes, count: int, *, compressed: bool = True) -> Page:
        """A page with the distinct values."""
        header = t.number(1, t.I32, count) + t.number(1, t.I32, PLAIN)
        return self._page(_DICTIONARY_PAGE, 7, header, body, PLAIN, compressed)

    def _page(
        self, kind: int, field: int, fields: bytes, body: bytes, encoding: int, compressed: bool
    ) -> Page:
        import pyarrow as pa

        codec, name = (self._codec, self._name) if compressed else _CODECS[None]
        data = pa.compress(body, codec=name, asbytes=True) if name else body
        sizes = t.number(1, t.I32, len(body)) + t.number(1, t.I32, len(data))
        header = t.number(1, t.I32, kind) + sizes + t.begin(field - 3) + fields + t.END + t.END
        return Page(header, data, len(header) + len(body), encoding, codec)

    def add(self, name: str, kind: int, pages: Sequence[Page], statistics: bytes = b"") -> None:
        """Write a column: a dictionary page, if there is one, and a data page.

        Args:
            name: of the column.
            kind: type of its values.
            pages: one or two.
            statistics: of :func:`statistics`.
        """
        for page in pages:
            self._file.write(page.header, page.data)
        sizes = [len(page.header) + len(page.data) for page in pages]
        whole, used = sum(page.size for page in pages), sum(sizes)
        first, self.at = self.at, self.at + used
        meta = _begun(name, kind, pages[-1].codec, pages[-1].encoding)
        meta += t.number(1, t.I64, self.rows) + t.number(1, t.I64, whole) + t.number(1, t.I64, used)
        meta += t.number(2, t.I64, self.at - sizes[-1])
        if len(pages) > 1:
            meta += t.number(2, t.I64, first)
        if statistics:
            meta += t.begin(12 - (11 if len(pages) > 1 else 9)) + statistics + t.END
        self.put(name, t.number(2, t.I64, 0) + t.begin(1) + meta + t.END + t.END, whole)

    def put(self, name: str, chunk: bytes, size: int) -> None:
        """Register a column that is in the file already.

        Args:
            name: of the column.
            chunk: what the footer says of it.
            size: bytes of it before they were compressed.
        """
        self._chunks[name] = chunk
        self._size += size

    def footer(self, names: Iterable[str], begin: int) -> bytes:
        """The group's entry in the footer.

        Args:
            names: of the columns, in the order of the schema.
            begin: where the group begins.
        """
        return (
            t.structs(1, [self._chunks[name] for name in names])
            + t.number(1, t.I64, self._size) + t.number(1, t.I64, self.rows)
            + t.number(2, t.I64, begin) + t.number(1, t.I64, self.at - begin) + t.number(1, t.I16, 0) + t.END
        )  # fmt: skip


_LEVELS = t.number(1, t.I32, _RLE) * 2


@lru_cache(maxsize=4096)
def _begun(name: str, kind: int, codec: int, encoding: int) -> bytes:
    """The first fields of what the footer says of a column."""
    encodings = sorted({PLAIN, _RLE, encoding})
    return t.encode(
        {
            1: (t.I32, kind),
            2: (t.LIST, (t.I32, encodings)),
            3: (t.LIST, (t.BINARY, [name.encode()])),
            4: (t.I32, codec),
        }
    )[: -len(t.END)]


def statistics(ends: tuple[bytes, bytes] | None, nulls: int) -> bytes:
    """A column's statistics in the footer.

    Args:
        ends: the least and the largest, as they are stored; None where they are not fields.
        nulls: rows without a value.
    """
    fields: t.Struct = {3: (t.I64, nulls)}
    if ends is not None:
        fields |= {5: (t.BINARY, ends[1]), 6: (t.BINARY, ends[0])}
    return t.encode(fields)[: -len(t.END)]
