"""The files of a run as one source: FASTA text in blocks, Parquet rows in runs of about 4 MiB."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import BadInput
from penstock.sources import Chain, Fasta, ParquetRows
from penstock.sources.streams import find_kind
from penstock.workloads.codons.records import Records

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN = "sequence"
NAMES = ("description", "seq_id", "id", "name")
"""Columns that may name a sequence, the first that there is before the others."""
_RUN = 4 << 20
_SMALL = 48 << 20
"""Bytes of text for whose counting no compiled code is loaded (see ``benchmarks/codons/start.py``)."""
_INFLATED = 4
"""Bytes of text that a compressed byte is taken for: packed nucleotides are two to three bits each."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a Parquet file.

    Attributes:
        name: which rows, for errors.
        first: number of the first among the rows of all Parquet files.
        table: the rows, with the column ``sequence``.
        path: the file.
        item: number of the run.
    """

    name: str
    first: int
    table: pa.Table
    path: str
    item: int


class RowRuns:
    """Rows of Parquet files, some in a row as an item of about 4 MiB, as :class:`Rows`.

    Runs are cut by the bytes that the footers tell, never by a count of rows: 10,000 genomes may
    be a gigabyte. They do not cross files.

    Args:
        paths: the files.
        named: read the columns that name a sequence too, as far as they are there.
    """

    def __init__(self, paths: Iterable[str], *, named: bool = False) -> None:
        paths = list(paths)
        columns = [COLUMN]
        if named:
            import pyarrow.parquet as pq

            there = [set(pq.read_schema(path).names) for path in paths]
            columns += [name for name in NAMES if all(name in names for names in there)]
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
            path = next(path for path, (_, stop) in self._rows.spans().items() if low < stop)
            table: Any = self._rows.read(low, high)
            yield Rows(self.name(item), low, table, path, item)

    def sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of the sequences of each run."""
        return self._sizes[start:stop].tolist()

    def name(self, item: int) -> str:
        """The first row's name."""
        return f"{self._rows.name(self._firsts[item])} and {self._count(item) - 1} more"

    def starts(self) -> Sequence[int]:
        """The first run of each file: rows are decoded in order."""
        starts = {start for start, stop in self.spans().values() if start < stop}
        return sorted({0, *starts})

    def fingerprint(self) -> Mapping[str, str]:
        """Of each file, by path."""
        return self._rows.fingerprint()

    def fingerprint_kind(self) -> str:
        """``"content"`` or ``"stat"``."""
        return self._rows.fingerprint_kind()

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint, told in this way."""
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
        """Whether counting takes less than the load of compiled code would; of the files alone."""
        return self.text <= _SMALL


def open_inputs(paths: Sequence[str], *, whole: bool = False) -> Inputs:
    """A source over all files.

    What begins as Parquet is read as Parquet, everything else as FASTA.

    Args:
        paths: files or patterns.
        whole: items are of whole records, and rows have their names.

    Raises:
        BadInput: a file that cannot be used, before anything is run.
    """
    from penstock.sources.paths import find_files

    fasta: list[str] = []
    parquet: list[str] = []
    for path in find_files(paths):
        (parquet if _is_parquet(path) else fasta).append(path)
    sources: list[Any] = []
    runs = 0
    if fasta:
        sources.append((Records if whole else Fasta)(fasta, block=_block_of(fasta)))
    text = sum(map(_text_of, fasta))
    if parquet:
        rows = RowRuns(parquet, named=whole)
        text += sum(rows.sizes(0, len(rows)))
        runs = len(rows)
        if not len(rows):
            raise BadInput("the Parquet files hold no rows", file=parquet[0])
        sources.append(rows)
    return Inputs(sources[0] if len(sources) == 1 else Chain(*sources), fasta, parquet, text, runs)


def _is_parquet(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PAR1"
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from error


def _text_of(path: str) -> int:
    """About how many bytes of text a FASTA file holds."""
    with open(path, "rb") as file:
        head = file.read(18)
    return Path(path).stat().st_size * (_INFLATED if find_kind(head, path) else 1)


def _block_of(paths: Sequence[str]) -> int:
    """Bytes of a block: 4 MiB, less for small inputs, so that these too have items to plan with."""
    return min(max(sum(Path(path).stat().st_size for path in paths) // 16, 4 << 10), 4 << 20)
