"""Hash-partitions rows by a key, so that all rows of a key are read together later."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from penstock import files
from penstock.abc import Batch, Closed, Receipt
from penstock.budget import MiB, parse_size
from penstock.errors import UsageError
from penstock.outputs import check_many
from penstock.partitioned import GROUPS, INDEX, Partitioned, partition_of, range_of
from penstock.sinks.parts import check, kept, sweep
from penstock.sinks.schemas import COMMON, agreed, compare, list_parts, listed_parts

if TYPE_CHECKING:
    import pyarrow as pa

_NAMES = "split-*.parquet"
_FULL = 64 * MiB
_MOST = 1024


@dataclass(frozen=True, kw_only=True)
class Partitions:
    """Hash-partitions rows by a key: the shuffle of a group-by or a join that is larger than memory.

    The function returns rows as for :class:`~penstock.sinks.Parquet`. All rows with the same values of
    ``by`` come into the same partition, in item order; :class:`penstock.sources.Partitions` then has the
    partitions as items. Two stages with keys of the same kind and as many parts put equal keys into
    partitions of equal number.

    A batch is one file, in which a partition is one row group for each ``at_once`` of rows; about
    three times as much is in memory at a time. The result is a sequence of partitions, each an iterable
    of tables.

    Args:
        by: the columns of the key: integers, floats, booleans, times, texts or bytes. Null is a key.
        parts: how many partitions, at most 1,024. It follows from the bytes, never from the budget, or
            another budget would give other files: see :meth:`parts_for`.
        grain: items per file.
        compression: as for :class:`~penstock.sinks.Parquet`.
        schema: names and types of the columns, as for :class:`~penstock.sinks.Parquet`.
        bits: the key is one column of whole numbers from 0 to below ``2**bits``, and each partition takes
            an equal range of them instead of its share of hashes: partitions are then in the order of keys.
            Rows that come in that order are written as they are.
        at_once: bytes of rows that are put apart together. Less takes less memory, and makes more and
            smaller row groups.

    Raises:
        UsageError: no key, several for ``bits``, or parts or a grain that are out of range.
        TypeError: from ``write``: rows that do not fit, or a key that has no hash, naming the column.
        CannotKeep: from ``close``: parts that do not agree, naming items and column.
    """

    unit: ClassVar[str] = "call"

    by: str | Sequence[str]
    parts: int
    grain: int = 1
    compression: str | None = "zstd"
    schema: pa.Schema | None = None
    bits: int | None = field(default=None, metadata={"later": True})
    at_once: int = field(default=_FULL, metadata={"later": True})

    def __post_init__(self) -> None:
        if self.bits is not None and (len(self.keys) != 1 or not 1 <= self.bits <= 64):
            raise UsageError(
                f"Partitions(by={self.by!r}, bits={self.bits}): ranges are of one column of 1 to 64 bits"
            )
        if not self.keys:
            raise UsageError("Partitions(by=[]): at least one column is the key")
        check_many(self, parts=self.parts, grain=self.grain, at_once=self.at_once)
        if self.parts > _MOST:
            raise UsageError(f"Partitions(parts={self.parts}): there are 1 to {_MOST:,} parts")

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns."""
        return (self.by,) if isinstance(self.by, str) else tuple(self.by)

    @staticmethod
    def parts_for(size: int | str, each: int | str = "32MiB") -> int:
        """How many partitions of about ``each`` bytes so many bytes of rows need; 1 to 1,024."""
        whole = size if isinstance(size, int) else parse_size(size)
        return min(max(-(-whole // parse_size(each)), 1), _MOST)

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Partition the rows of one grain; a grain without rows has no file."""
        from penstock.sinks.rows import tables

        path = folder / f"split-{batch.start:09d}-{batch.stop - 1:09d}.parquet"
        stream = tables(results, self.schema)
        first = next(stream, None)
        if first is None:
            files.discard(path)
            return Receipt()
        missing = [name for name in self.keys if name not in first.schema.names]
        if missing:
            raise TypeError(f"the key {missing[0]!r} is no column; they are {', '.join(first.schema.names)}")
        if self.schema is None:
            compare(first.schema, path, folder, _NAMES, "Partitions")
        with files.atomic(path) as draft, self._groups(draft, first.schema) as groups:
            groups.add(first)
            del first
            for table in stream:
                groups.add(table)
        return Receipt(parts=(kept(path, folder),))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """List files, and rows and bytes of each row group, so that readers need not open every file.

        Raises:
            CannotKeep: a column has types in two files that do not agree.
            ResultsDamaged: a file that is read is not what was kept.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        made = (COMMON, INDEX, GROUPS)
        for name in made:
            sweep(folder, name)
        told = array("q")
        with tempfile.TemporaryFile("w+", dir=folder) as listed:
            names = list_parts(receipts, listed)
            schema = self.schema
            schema = agreed(listed_parts(listed), folder, "Partitions") if schema is None else schema
            with files.atomic(folder / COMMON) as draft:
                pq.write_metadata(schema, draft)
            with files.atomic(folder / INDEX) as draft, open(draft, "w", encoding="utf-8") as index:
                index.write(f"{self.parts}\n")
                for part in listed_parts(listed):
                    try:  # the engine saw that it stands as it was kept
                        footer = pq.read_metadata(folder / part.name)
                    except (OSError, pa.ArrowException):
                        check(part, folder)
                        raise
                    for number in range(footer.num_row_groups):
                        group = footer.row_group(number)
                        told.extend((group.num_rows, group.total_byte_size if group.num_rows else 0))
                    index.write(f"{footer.num_row_groups // self.parts} {part.digest} {part.name}\n")
        with files.atomic(folder / GROUPS) as draft, open(draft, "wb") as file:
            np.save(file, np.frombuffer(told, np.int64).reshape(-1, 2))
        sweep(folder, _NAMES, names)
        return Closed(tuple(kept(folder / name, folder) for name in made), pattern=_NAMES)

    def result(self, folder: Path) -> Partitioned:
        """The partitions, a sequence: each has ``rows``, ``schema`` and yields its tables one by one."""
        return Partitioned(folder)

    def _groups(self, draft: Path, schema: pa.Schema) -> Any:

        from penstock.sinks.rows import RowGroups

        by, parts, bits = self.keys, self.parts, self.bits

        class Apart(RowGroups):
            """One row group for each partition."""

            def _write(self, group: pa.Table) -> None:
                if bits is None:
                    numbers = partition_of(group, by, parts)
                else:
                    numbers = range_of(group, by[0], parts, bits)
                numbers = numbers.astype(np.uint16)
                apart = group
                if (numbers[1:] < numbers[:-1]).any():
                    # Of 16 bits: NumPy sorts these by their digits, ten times as fast as wider ones.
                    apart = group.take(np.argsort(numbers, kind="stable"))
                at = 0
                for count in np.bincount(numbers, minlength=parts).tolist():
                    self._writer.write_table(apart.slice(at, count), row_group_size=max(count, 1))
                    at += count

        how = {"use_dictionary": False, "write_statistics": False}
        return Apart(draft, schema, 1 << 40, self.compression, how, self.at_once)
