"""The function that counts an item's k-mers: as a dense table of all words, or as runs of words."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import penstock
from penstock.errors import BadInput
from penstock.hashing import mixed
from penstock.sequences import wrong
from penstock.sequences.inputs import Rows, as_fasta, bad_row
from penstock.sequences.sampling import EVERY, salt_of
from penstock.sources.fasta import Block
from penstock.workloads.kmers import packing, reading, scanning, words
from penstock.workloads.kmers.packing import Blocks

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_K = 11
"""The longest k whose table of all words is an item's result: 16 MiB."""
_PLAIN_TABLE_K = 8
"""The same where NumPy counts: a table is looked through once for each piece, so a large one costs more."""
RUN = 1 << 19
"""Words that are sorted, or put apart, together: with all that goes with it about 25 MiB."""
IN_MEMORY = 24 << 20
"""Bytes of runs that are not written to a file: those of an item, but for large records. The sink is to hold
as many together anyway."""
_PIECE = 1 << 20
"""Bytes of text that are read at once: NumPy takes some thirty bytes for each."""


@dataclass(frozen=True)
class CountWords:
    """Counts the k-mers of an item: whole records of FASTA text, or rows of a Parquet file.

    Args:
        k: bases of a k-mer.
        canonical: the smaller of a word and its reverse complement in place of either.
        seed: of the sample.
        limit: records whose number is above it are left out; see ``sampling``.
        compiled: by the compiled kernel.
        blocks: how words are packed that are too many to be counted before they are partitioned.

    Returns ``counts``, uint32 of ``4**k`` (not folded, where canonical) up to k = 11 or 8, else the words
    of runs, or their blocks; and ``ledger``, int64 as in ``reading``.
    """

    k: int
    canonical: bool = False
    seed: int = 0
    limit: int = EVERY
    compiled: bool = False
    blocks: Blocks | None = None

    def __penstock_key__(self) -> dict[str, Any]:
        """What tells it from another: not by what code it counts, so that a run goes on with either."""
        return {name: value for name, value in vars(self).items() if name != "compiled"}

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return scanning.scan.note() if self.compiled else ""

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        if self.compiled:
            scanning.scan.load()
            scanning.finish.load()
            scanning.add.load()
            if self.blocks is not None:
                packing.load()

    def __call__(self, item: Block | Rows) -> dict[str, Any]:
        """Count.

        Raises:
            BadInput: a byte that cannot be in nucleotide FASTA, naming file and line.
        """
        salt = salt_of(self.seed, None if isinstance(item, Rows) else item.file)
        reader = self._reader(salt, EVERY if isinstance(item, Rows) else self.limit)
        counts: Any
        try:
            if self._is_table:
                counts = np.zeros(4**self.k, np.uint32)
                for text, origin in self._pieces(item, salt):
                    reader.count(text, origin, counts)
            else:
                counts = self._runs(reader, self._pieces(item, salt))
        except reading.BadByte as bad:
            raise self._told(item, bad, salt) from None
        ledger = reader.finish()
        protein, bases = int(ledger[reading.LETTERS + 3]), int(ledger[reading.BASES])
        if wrong.is_protein(protein, bases):
            raise wrong.protein_error(protein, bases, item.name if isinstance(item, Rows) else item.path)
        return {"counts": counts, "ledger": ledger.copy()}

    @property
    def _is_table(self) -> bool:
        return self.k <= (TABLE_K if self.compiled else _PLAIN_TABLE_K)

    def _reader(self, salt: int, limit: int) -> reading.Plain | reading.Compiled:
        kind = reading.Compiled if self.compiled else reading.Plain
        return kind(self.k, self.canonical and not self._is_table, salt, limit)

    def _texts(self, item: Block | Rows, salt: int) -> Iterator[tuple[bytes | memoryview, int]]:
        """(piece of text, its offset in the file)."""
        if isinstance(item, Rows):
            limit = np.uint64(self.limit)
            every = self.limit == EVERY
            yield from as_fasta(item, None if every else lambda row: mixed(row + np.uint64(salt)) <= limit)
            return
        at = item.offset
        for piece in item:
            yield piece, at
            at += len(piece)

    def _pieces(self, item: Block | Rows, salt: int) -> Iterator[tuple[memoryview, int]]:
        """The same in pieces of bounded size; a line end and the byte behind it are not parted."""
        for given, origin in self._texts(item, salt):
            text, low = memoryview(given), 0
            while low < len(text):
                high = min(low + _PIECE, len(text))
                while high < len(text) and text[high - 1] in b"\r\n":
                    high += 1
                yield text[low:high], origin + low
                low = high

    def _told(self, item: Block | Rows, bad: reading.BadByte, salt: int) -> BadInput:
        if not isinstance(item, Rows):
            return wrong.in_block(item, bad.offset, bad.kind)
        row = -1
        for text, _ in as_fasta(item):  # of all rows, where it is found again by what it is
            for record in text.split(b">\n")[1:]:
                row += 1
                if (
                    record.translate(words.LETTERS, words.BLANKS).find(bytes([words.BAD])) >= 0
                    or b"\0" in record
                ):
                    return bad_row(item, row)
        return bad_row(item, 0)

    def _runs(self, reader: Any, texts: Iterator[tuple[memoryview, int]]) -> Any:
        runs = _Runs(_listed, np.uint32) if self.blocks is None else _Runs(self.blocks.packed, np.uint64)
        for text, origin in texts:
            for found in reader.words(text, origin):
                runs.add(found)
        return runs.close()


def _listed(held: NDArray[np.uint32]) -> pa.Table:
    """A run's words as they are."""
    import pyarrow as pa

    return pa.table({"kmer": held.copy()})


class _Runs:
    """Runs of words as tables; the first are in memory, those behind them are in a file without a name.

    Args:
        table_of: makes the table of a run; may change what it is given.
        kind: the type that holds a word.
    """

    def __init__(self, table_of: Callable[[NDArray[Any]], pa.Table], kind: type[np.generic]) -> None:
        self._table_of = table_of
        self._buffer = np.empty(RUN, kind)
        self._held = 0
        self._first: list[pa.Table] = []
        self._bytes = 0
        self._spilled: Any = None
        self._writer: Any = None

    def add(self, found: NDArray[Any]) -> None:
        """More words."""
        at = 0
        while at < len(found):
            taken = found[at : at + len(self._buffer) - self._held]
            self._buffer[self._held : self._held + len(taken)] = taken
            self._held += len(taken)
            at += len(taken)
            if self._held == len(self._buffer):
                self._flush()

    def close(self) -> Any:
        """A reader of tables, or None where there are no words."""
        import pyarrow as pa

        if self._held:
            self._flush()
        self._buffer = np.empty(0, self._buffer.dtype)  # the sink is to have its room
        if not self._first:
            return None
        if self._writer is not None:
            self._writer.close()
        return pa.RecordBatchReader.from_batches(self._first[0].schema, _batches(self._first, self._spilled))

    def _flush(self) -> None:
        import pyarrow as pa

        run = self._table_of(self._buffer[: self._held])
        self._held = 0
        if not self._first or (self._writer is None and self._bytes + run.nbytes <= IN_MEMORY):
            self._first.append(run)
            self._bytes += run.nbytes
            return
        if self._writer is None:
            self._spilled = tempfile.TemporaryFile(dir=penstock.share().folder)  # noqa: SIM115 - read later
            self._writer = pa.ipc.new_stream(self._spilled, run.schema)
        self._writer.write_table(run)


def _batches(first: list[pa.Table], spilled: Any) -> Iterator[Any]:
    """The runs in memory, which are let go of, and in the file, which is there as long as this is."""
    import pyarrow as pa

    while first:
        yield from first.pop(0).to_batches()
    if spilled is not None:
        with spilled:
            spilled.seek(0)
            yield from pa.ipc.open_stream(spilled)
