"""The files of a run as one source: FASTA text in blocks, Parquet rows in runs of about 4 MiB."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.sequences.given import check_files
from penstock.sources import Chain, Fasta, FastaRecords, ParquetRows
from penstock.sources.streams import find_kind

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN = "sequence"
NAMES = ("description", "seq_id", "id", "name")
"""Columns that may name a sequence, the first that there is before the others."""
_RUN = 4 << 20
_SMALL = 8 << 20
"""Bytes of text for whose counting no compiled code is loaded (see ``benchmarks/codons/start.py``)."""
_LARGE = 48 << 20
"""Bytes of text whose counting without compiled code takes seconds."""
_INFLATED = 4
"""Bytes of text that a compressed byte is taken for: packed nucleotides are two to three bits each."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a Parquet file.

    Attributes:
        name: which rows, for errors.
        first: number of the first among the rows of all Parquet files.
        table: the rows, with the column of sequences first.
        path: their file.
        row: number of the first in it.
        item: number of the run.
    """

    name: str
    first: int
    table: pa.Table
    path: str
    item: int
    row: int

    @property
    def column(self) -> str:
        """The name of the column of sequences."""
        return str(self.table.schema.names[0])


class RowRuns:
    """Rows of Parquet files; an item is a run of about 4 MiB of them, as :class:`Rows`.

    Runs are cut by the bytes that the footers tell, never by a count of rows: 10,000 genomes may
    be a gigabyte. They do not cross files.

    Args:
        paths: the files.
        named: read the columns that name a sequence too, as far as they are there.
    """

    def __init__(self, paths: Iterable[str], column: str = COLUMN, *, named: bool = False) -> None:
        paths = list(paths)
        columns = [column]
        if named:
            import pyarrow.parquet as pq

            there = [set(pq.read_schema(path).names) for path in paths]
            columns += [name for name in NAMES if name != column and all(name in names for names in there)]
        self._rows = ParquetRows(paths, columns=columns)
        self._firsts = array("q")
        self._sizes = array("q")
        total = len(self._rows)
        borders = {start for start, _ in self._rows.spans().values()}
        held = 0
        for low in range(0, total, 65536):
            for row, size in enumerate(self._rows.sizes(low, min(low + 65536, total)), low):
                if held + size > _RUN or row in borders or not row:
                    self._firsts.append(row)
                    self._sizes.append(0)
                    held = 0
                held += size
                self._sizes[-1] = held
        self._firsts.append(total)

    def __len__(self) -> int:
        return len(self._sizes)

    def read(self, start: int, stop: int) -> Iterator[Rows]:
        """The runs of one call, one by one."""
        for item in range(start, stop):
            low, high = self._firsts[item], self._firsts[item + 1]
            path, first = next((path, at) for path, (at, stop) in self._rows.spans().items() if low < stop)
            table: Any = self._rows.read(low, high)
            yield Rows(self.name(item), low, table, path, item, low - first)

    def sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of the sequences of each run."""
        return self._sizes[start:stop].tolist()

    def name(self, item: int) -> str:
        """The first row's name."""
        more = self._count(item) - 1
        return self._rows.name(self._firsts[item]) + (f" and {more:,} more" if more else "")

    def starts(self) -> Sequence[int]:
        """The first run of each file: rows are decoded sequentially."""
        starts = {start for start, stop in self.spans().values() if start < stop}
        return sorted({0, *starts})

    def fingerprint(self) -> Mapping[str, str]:
        """Each file's fingerprint, by path."""
        return self._rows.fingerprint()

    def fingerprint_kind(self) -> str:
        """``"content"`` or ``"stat"``."""
        return self._rows.fingerprint_kind()

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint of this kind."""
        return self._rows.fingerprint_by(kind)

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """The runs of each file."""
        place = {first: item for item, first in enumerate(self._firsts)}
        return {path: (place[low], place[high]) for path, (low, high) in self._rows.spans().items()}

    def _count(self, item: int) -> int:
        return self._firsts[item + 1] - self._firsts[item]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a run.

    Attributes:
        source: all of them.
        fasta: the FASTA files, in the order of their numbers.
        parquet: the Parquet files.
        text: about how many bytes of text they hold.
        runs: how many of the items are rows; they come last.
    """

    source: Any
    fasta: list[str]
    parquet: list[str]
    text: int
    runs: int

    @property
    def small(self) -> bool:
        """Whether counting takes less than loading compiled code would, judged by the files alone."""
        return self.text <= _SMALL

    @property
    def large(self) -> bool:
        """Whether counting without compiled code takes long; of the files alone."""
        return self.text > _LARGE


def open_inputs(
    paths: Sequence[str], *, column: str = COLUMN, records: bool = False, fastq: bool = False,
    block: int | None = None, named: bool = False,
) -> Inputs:  # fmt: skip
    """A source over all files.

    What begins as Parquet is read as Parquet, everything else as FASTA.

    Args:
        paths: files or patterns.
        column: of the sequences in Parquet files.
        records: items are of whole records, as :class:`penstock.sources.FastaRecords` gives them.
        fastq: what is no Parquet is FASTQ.
        block: bytes of an item; None for what suits the files.
        named: as ``records``; and rows have their names.

    Raises:
        BadInput: a file that cannot be used, before anything is run.
    """
    from penstock.sources.paths import find_files

    fasta: list[str] = []
    parquet: list[str] = []
    found = find_files(paths)
    check_files(found)
    for path in found:
        (parquet if _is_parquet(path) else fasta).append(path)
    sources: list[Any] = []
    runs = 0
    if fasta:
        kind = FastaRecords if records or named else Fasta
        sources.append(kind(fasta, block=block or block_of(fasta), fastq=fastq))
    text = sum(map(text_of, fasta))
    if parquet:
        rows = RowRuns(parquet, column, named=named)
        text += sum(rows.sizes(0, len(rows)))
        runs = len(rows)
        if not len(rows):
            raise BadInput("the Parquet files hold no rows", file=parquet[0])
        sources.append(rows)
    return Inputs(sources[0] if len(sources) == 1 else Chain(*sources), fasta, parquet, text, runs)


def sequences(rows: Rows) -> Iterator[tuple[Any, Any]]:
    """Each chunk of the column as bytes, uint8, with the offsets of its sequences, int64.

    Raises:
        BadInput: a row without a sequence, or a column that is not text.
    """
    import pyarrow as pa

    column: pa.ChunkedArray = rows.table.column(0)
    if column.null_count:
        raise BadInput(
            f"{column.null_count} rows have no sequence (null): write an empty one, or leave them out",
            file=rows.name,
            place=f"column {rows.column!r}",
        )
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if str(kind).removeprefix("large_").removesuffix("_view") not in ("string", "binary"):
        raise BadInput(f"holds {kind}, not text", file=rows.name, place=f"column {rows.column!r}")
    for chunk in column.chunks:
        array = chunk.cast(kind).cast(pa.large_binary())
        _, offsets, text = array.buffers()
        places = locked(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        yield locked(text or b"", np.uint8), places


def locked(buffer: Any, dtype: Any) -> Any:
    """A read-only view: Arrow's buffers may be writable or not, and code is compiled for each kind."""
    array = np.frombuffer(buffer, dtype)
    array.flags.writeable = False
    return array


def as_fasta(rows: Rows, chosen: Callable[[Any], Any] | None = None) -> Iterator[tuple[bytes, int]]:
    """The rows as FASTA text without names, and the offset of each piece.

    Args:
        rows: the rows.
        chosen: which of them, by their numbers (uint64); None for all.

    Raises:
        BadInput: as :func:`sequences`; a row that would be several records.
    """
    number, at = rows.first, 0
    for text, places in sequences(rows):
        count = len(places) - 1
        numbers = np.arange(number, number + count, dtype=np.uint64)
        wanted = np.arange(count) if chosen is None else np.flatnonzero(chosen(numbers))
        whole = text.tobytes()
        parts = [whole[places[row] : places[row + 1]] for row in wanted.tolist()]
        if b">" in whole or b";" in whole:
            odd = next((row for row, part in zip(wanted.tolist(), parts, strict=True) if _is_odd(part)), None)
            if odd is not None:
                raise bad_row(rows, number - rows.first + odd)
        if parts:
            piece = b">\n" + b"\n>\n".join(parts) + b"\n"
            yield piece, at
            at += len(piece)
        number += count


def _is_odd(part: bytes) -> bool:
    return b">" in part or b";" in part


def bad_row(rows: Rows, row: int) -> BadInput:
    """The error for an invalid byte in a row, counted from 0 among these."""
    return BadInput(
        f"row {row} of these holds a byte that no sequence has; letters, '-', '.' and '*' are expected",
        file=rows.name,
        place=f"column {rows.column!r}",
    )


def _is_parquet(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from error


def text_of(path: str) -> int:
    """Estimated bytes of text in a FASTA file."""
    with open(path, "rb") as file:
        head = file.read(18)
    return Path(path).stat().st_size * (_INFLATED if find_kind(head, path) else 1)


def block_of(paths: Sequence[str]) -> int:
    """Bytes of a block: 4 MiB, less for small inputs, so that these too have items to plan with."""
    return min(max(sum(Path(path).stat().st_size for path in paths) // 16, 4 << 10), 4 << 20)
