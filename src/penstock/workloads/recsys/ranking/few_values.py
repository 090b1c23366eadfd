"""Columns of few values, coded in a byte a row.

Flags, weekdays, shares of two digits: with a dictionary of their own they take 1 to 8 bits a row, where the
number of the row that they were found in, which other columns share, takes 12 or more. They are coded once
for the whole table that is looked up, so that a part only gathers bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.ranking import pages as p

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 256
"""Values of a column that count as few."""
_FIRST, _BATCH = 1024, 1 << 16
"""Rows that are looked at first, where most columns of many values are told; and then at once."""
_NAMES = ("few-columns", "few-values", "few-codes")


@dataclass(frozen=True)
class FewValues:
    """The columns of a table that have few values.

    Attributes:
        counts: column -> how many values it has.
        values: float32 (columns, MOST): the values of each, in the order of their bits.
        codes: uint8 (columns, rows of the table): which of them each row has.
    """

    counts: dict[int, int]
    values: NDArray[np.float32]
    codes: NDArray[np.uint8]

    def size(self, column: int, rows: int) -> int | None:
        """Bytes of a chunk of so many rows; None for a column of many values."""
        count = self.counts.get(column)
        return None if count is None else 4 * count + -(-rows * _width(count) // 8)

    def pages(self, group: p.RowGroup, column: int, rows: NDArray[np.int64]) -> list[p.Page]:
        """The dictionary and the codes of a column at these rows."""
        place, count = list(self.counts).index(column), self.counts[column]
        values = self.values[place, :count].astype("<f4", copy=False).tobytes()
        width = _width(count)
        codes = np.take(self.codes[place], rows, mode="clip")
        # Neither gets smaller by lz4: codes of rows that lie in no order.
        return [
            group.dictionary(values, count, compressed=False),
            group.data(bytes([width]) + p.as_few_bits(codes, width), p.DICTIONARY, compressed=False),
        ]


def _width(count: int) -> int:
    """Bits of a code: numbers of 1, 2, 4 or 8 bits are packed without crossing a byte."""
    return next(width for width in (1, 2, 4, 8) if count <= 1 << width)


def write_few_values(folder: Path, values: NDArray[np.float32]) -> None:
    """Write the codes of the columns that have few values.

    Args:
        folder: gets few-columns.npy int64 (columns, 2): each with its number of values; few-values.npy and
            few-codes.npy, see :class:`FewValues`.
        values: float32 (columns, rows).
    """
    bits = values.view(np.uint32)
    found = [(column, each) for column in range(len(bits)) if (each := _different(bits[column])) is not None]
    table = np.zeros((len(found), MOST), np.uint32)
    shape = (len(found), values.shape[1])
    codes = np.lib.format.open_memmap(folder / "few-codes.npy", "w+", np.uint8, shape) if found else None
    for place, (column, different) in enumerate(found):
        table[place, : len(different)] = different
        assert codes is not None
        for part in _parts(shape[1]):
            codes[place, part] = _index_in(bits[column, part], different)
    if codes is None:
        np.save(folder / "few-codes.npy", np.zeros(shape, np.uint8))
    else:
        codes.flush()
    np.save(folder / "few-values.npy", table.view(np.float32))
    columns = np.array([(column, len(each)) for column, each in found], np.int64).reshape(-1, 2)
    np.save(folder / "few-columns.npy", columns)


def open_few_values(folder: Path) -> FewValues | None:
    """Map what :func:`write_few_values` wrote; None where nothing was."""
    if not (folder / f"{_NAMES[-1]}.npy").is_file():
        return None
    columns, values, codes = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _NAMES
    )
    return FewValues(dict(columns.tolist()), values, codes)


def _parts(rows: int) -> Iterator[slice]:
    yield slice(0, min(_FIRST, rows))
    for start in range(_FIRST, rows, _BATCH):
        yield slice(start, min(start + _BATCH, rows))


def _different(bits: NDArray[np.uint32]) -> NDArray[np.uint32] | None:
    """The different values of a column, ascending by their bits; None for more than a few."""
    import pyarrow as pa

    found: NDArray[np.uint32] = np.zeros(0, np.uint32)
    for part in _parts(len(bits)):
        found = np.union1d(found, pa.array(bits[part]).unique().to_numpy())
        if len(found) > MOST:
            return None
    return found


def _index_in(bits: NDArray[np.uint32], different: NDArray[np.uint32]) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(pa.array(bits), value_set=pa.array(different))
    return np.asarray(found.to_numpy(zero_copy_only=False))
