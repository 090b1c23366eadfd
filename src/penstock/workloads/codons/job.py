"""The function and the reducer of the stage that counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from penstock.errors import BadInput
from penstock.sequences import wrong
from penstock.sequences.inputs import Rows, bad_row, sequences
from penstock.sequences.sampling import EVERY, salt_of
from penstock.sequences.wrong import is_protein, protein_error
from penstock.sources.fasta import Block
from penstock.workloads.codons import scanning
from penstock.workloads.codons import summary as s


@dataclass(frozen=True)
class CountCodons:
    """Count the codons of an item: a block of FASTA text, or rows of a Parquet file.

    Args:
        seed: of the sample.
        limit: records whose number is above it are left out; see ``sampling``.
        rows: rows are among the items, and the compiled code for them is loaded beforehand too.
        compiled: whether to use compiled code, whose load takes longer than all of a small input does;
            the result is the same.

    Returns the item's summary, int64 (see ``summary``).
    """

    seed: int = 0
    limit: int = EVERY
    rows: bool = False
    compiled: bool = True

    def __penstock_key__(self) -> dict[str, Any]:
        """What tells it from another: not by what code it counts, so that a run goes on with either."""
        return {name: value for name, value in vars(self).items() if name != "compiled"}

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return scanning.scan.note() if self.compiled else ""

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        if not self.compiled:
            from penstock.workloads.codons import vectorised  # noqa: F401

            return
        scanning.scan.load()
        scanning.settle.load()
        if self.rows:
            scanning.scan_rows.load()

    def __call__(self, item: Block | Rows) -> s.Vector:
        """Count.

        Raises:
            BadInput: a byte that cannot be in nucleotide FASTA, naming file and line.
        """
        out = self._rows(item) if isinstance(item, Rows) else self._block(item)
        if is_protein(*s.protein(out)):
            raise protein_error(*s.protein(out), file=item.name if isinstance(item, Rows) else item.path)
        return out

    def _block(self, block: Block) -> s.Vector:
        out = s.empty()
        for out, origin, piece in self._scans(block):
            if out[s.BAD]:
                following = bytes(piece)[max(int(out[s.BAD]) - 1 - origin, 0) :]
                raise bad_byte(block.path, out, following, fastq=block.fastq)
        if block.ends:
            s.end_file(out)
        if out[s.BAD]:
            raise bad_byte(block.path, out, fastq=block.fastq)
        return out

    def _scans(self, block: Block) -> Iterator[tuple[s.Vector, int, memoryview]]:
        """After each piece of a block: the summary so far, the piece's offset, and the piece."""
        salt, origin = salt_of(self.seed, block.file), block.offset
        piece = memoryview(b"")
        if not self.compiled:
            from penstock.workloads.codons import vectorised

            total = s.empty()
            for piece in block:
                at_start = block.begins and origin == block.offset
                part = vectorised.scan(
                    piece, origin, block.file, at_start=at_start, salt=salt, limit=self.limit
                )
                total = s.join(total, part)
                yield total, origin, piece
                origin += len(piece)
            return
        scan = scanning.begin(block.file, at_start=block.begins)
        out: s.Vector = scan[-1]
        for piece in block:
            scanning.scan(np.frombuffer(piece, np.uint8), origin, *scan, salt, self.limit)
            yield out, origin, piece
            origin += len(piece)
        scanning.settle(*scan)
        yield out, origin, piece

    def _rows(self, rows: Rows) -> s.Vector:
        total, row = s.empty(), rows.first
        for text, offsets in sequences(rows):
            part, bad = self._scan_rows(text, offsets, row)
            if bad is not None:
                raise bad_row(rows, row + bad - rows.first)
            total = s.join(total, part)
            row += len(offsets) - 1
        return total

    def _scan_rows(self, text: Any, offsets: Any, row: int) -> tuple[s.Vector, int | None]:
        """The summary of some rows, and which of them is wrong, from 0."""
        salt = salt_of(self.seed, None)
        if not self.compiled:
            from penstock.workloads.codons import vectorised

            return vectorised.scan_rows(text, offsets, row, salt=salt, limit=self.limit)
        scan = scanning.begin(0, at_start=True)
        out: s.Vector = scan[-1]
        scanning.scan_rows(text, offsets, row, *scan, salt, self.limit)
        if out[s.BAD]:
            return out, int(out[s.BAD]) - 1 - row
        scanning.settle(*scan)
        return s.end_file(out), None


@dataclass(frozen=True)
class JoinSummaries:
    """Combines the summaries of neighbouring items; exactly associative, so it needs no grain."""

    order: Literal["items"] = "items"
    grain: None = None

    def start(self) -> s.Vector:
        """The summary of no text."""
        return s.empty()

    def step(self, state: s.Vector, result: s.Vector) -> s.Vector:
        """Add the next item."""
        return s.join(state, result)

    def merge(self, left: s.Vector, right: s.Vector) -> s.Vector:
        """Merge two neighbours."""
        return s.join(left, right)

    def finish(self, states: Iterator[s.Vector]) -> s.Vector:
        """The final summary."""
        total = s.empty()
        for state in states:
            total = s.join(total, state)
        return total


def bad_byte(
    path: str, summary: s.Vector, following: bytes | None = None, *, fastq: bool = False
) -> BadInput:
    """The error for the byte that a summary names.

    Args:
        path: its file.
        summary: with ``BAD`` set.
        following: the bytes from it on, where they are at hand.
        fastq: the file is FASTQ.
    """
    return wrong.bad_byte(path, int(summary[s.BAD]) - 1, int(summary[s.BAD_KIND]), following, fastq=fastq)
