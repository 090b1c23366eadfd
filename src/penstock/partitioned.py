"""Rows partitioned by the hash of a key: what the sink ``Partitions`` keeps, as its readers see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.hashing import hashes_of_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

INDEX, GROUPS, COMMON = "partitions.txt", "partitions.npy", "_common_metadata"
_READ_ROWS = 65_536
_READ_BYTES = 8 << 20
_FOOTERS = 2 << 20
"""Serialised bytes of the footers that are kept; read, they are some ten times as large."""
_SALT = np.uint64(0x5041525453)


def partition_of(table: pa.Table, by: Sequence[str], parts: int) -> NDArray[np.int64]:
    """The partition of each row: int64, from the high bits of the hash of its key.

    Raises:
        KeyError: a column that the table does not have.
        TypeError: a column of a type that has no hash.
    """
    high = hashes_of_rows(table, by, _SALT) >> np.uint64(32)
    return ((high * np.uint64(parts)) >> np.uint64(32)).astype(np.int64)


def range_of(table: pa.Table, by: str, parts: int, bits: int) -> NDArray[np.int64]:
    """The partition of each row: int64, by which of ``parts`` equal ranges below ``2**bits`` its key is in.

    Raises:
        KeyError: a column that the table does not have.
        TypeError: keys that are no whole numbers, null, or out of range.
    """
    import pyarrow as pa

    column = table.column(by)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise TypeError(f"column {by!r}: ranges are of whole numbers that are not null, not {column.type}")
    values = column.to_numpy()
    if len(values) and (int(values.min()) < 0 or int(values.max()) >> bits):
        raise TypeError(f"column {by!r}: holds {values.min()} to {values.max()}, not 0 to below 2**{bits}")
    shift = max(bits - 32, 0)  # the highest 32 bits decide: 1,024 times these fit into 64
    numbers = values.astype(np.uint64)
    numbers >>= np.uint64(shift)
    numbers *= np.uint64(parts)
    numbers >>= np.uint64(bits - shift)
    found: NDArray[np.int64] = numbers.view(np.int64)
    return found


@dataclass(frozen=True)
class Partitioned:
    """All partitions of a stage; a sequence.

    Args:
        folder: where the sink keeps them.
    """

    folder: Path

    def __len__(self) -> int:
        return self._parts

    def __getitem__(self, number: int) -> Partition:
        if not -len(self) <= number < len(self):
            raise IndexError(f"partition {number} of {len(self)}")
        return Partition(self, number % len(self))

    def __iter__(self) -> Iterator[Partition]:
        return (self[number] for number in range(len(self)))

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of every table."""
        import pyarrow.parquet as pq

        return pq.read_schema(self.folder / COMMON)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows of each partition."""
        return self._sums(0)

    @cached_property
    def bytes(self) -> NDArray[np.int64]:
        """Bytes of each partition, uncompressed."""
        return self._sums(1)

    def groups(self, number: int) -> Iterator[tuple[Path, list[int]]]:
        """(file, row groups) of a partition's data, in the order of batches."""
        first = 0
        for line in self._lines:
            rounds, _, name = line.split(" ", 2)
            own = [turn * self._parts + number for turn in range(int(rounds))]
            if filled := [group for group in own if self._told[first + group, 0]]:
                yield self.folder / name, filled
            first += int(rounds) * self._parts

    def footer(self, path: Path) -> Any:
        """The footer of a file, which is kept while there is room for it: every partition asks for it."""
        import pyarrow.parquet as pq

        if (found := self._footers.get(path)) is None:
            found = pq.read_metadata(path)
            if sum(each.serialized_size for each in self._footers.values()) < _FOOTERS:
                self._footers[path] = found
        return found

    @cached_property
    def _footers(self) -> dict[Path, Any]:
        return {}

    @cached_property
    def _index(self) -> list[str]:
        return (self.folder / INDEX).read_text(encoding="utf-8").splitlines()

    @property
    def _parts(self) -> int:
        return int(self._index[0])

    @property
    def _lines(self) -> list[str]:
        return self._index[1:]

    @cached_property
    def _told(self) -> NDArray[np.int64]:
        return np.asarray(np.load(self.folder / GROUPS, mmap_mode="r", allow_pickle=False))

    def _sums(self, column: int) -> NDArray[np.int64]:
        sums: NDArray[np.int64] = self._told[:, column].reshape(-1, self._parts).sum(axis=0)
        return sums


@dataclass(frozen=True)
class Partition:
    """All rows whose keys share one hash: an iterable of tables, in the order of the items.

    A table has at most 65,536 rows, and about 8 MiB where rows are wide, so that memory holds no partition
    unless the function does.
    """

    whole: Partitioned
    number: int

    @property
    def schema(self) -> pa.Schema:
        """The schema of its tables, even if there are none."""
        return self.whole.schema

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.whole.rows[self.number])

    def __iter__(self) -> Iterator[pa.Table]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = self.schema
        wide = int(self.whole.bytes[self.number]) // max(self.rows, 1)
        at_once = min(max(_READ_BYTES // max(wide, 1), 1), _READ_ROWS)
        for path, groups in self.whole.groups(self.number):
            footer = self.whole.footer(path)
            with pq.ParquetFile(path, metadata=footer, buffer_size=1 << 18, pre_buffer=False) as file:
                for piece in file.iter_batches(at_once, row_groups=groups, use_threads=False):
                    yield pa.Table.from_batches([piece]).select(schema.names).cast(schema)

    def table(self) -> pa.Table:
        """All its rows in memory."""
        import pyarrow as pa

        return pa.concat_tables([self.schema.empty_table(), *self]).combine_chunks()
