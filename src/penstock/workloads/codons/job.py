"""The function and the reducer of the stage that counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from penstock.errors import BadInput
from penstock.sources.fasta import Block, line_of
from penstock.workloads.codons import summary as s
from penstock.workloads.codons.inputs import COLUMN, Rows
from penstock.workloads.codons.sampling import EVERY, salt_of

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_PROTEIN = 0.05
"""Share of letters that no nucleotide code has, above which a file is a protein file."""


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

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        if not self.compiled:
            from penstock.workloads.codons import vectorised  # noqa: F401

            return
        from penstock.workloads.codons import kernel

        scan = kernel.begin(0, at_start=True)
        kernel.settle(*scan)
        if self.rows:
            kernel.scan_rows(
                _locked(b"", np.uint8), _locked(bytes(8), np.int64), 0, *scan, np.uint64(0), np.uint64(0)
            )

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
                raise bad_byte(block.path, out, bytes(piece)[max(int(out[s.BAD]) - 1 - origin, 0) :])
        if block.ends:
            s.end_file(out)
        if out[s.BAD]:
            raise bad_byte(block.path, out)
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
        from penstock.workloads.codons import kernel

        scan = kernel.begin(block.file, at_start=block.begins)
        out: s.Vector = scan[-1]
        for piece in block:
            kernel.scan(np.frombuffer(piece, np.uint8), origin, *scan, np.uint64(salt), np.uint64(self.limit))
            yield out, origin, piece
            origin += len(piece)
        kernel.settle(*scan)
        yield out, origin, piece

    def _rows(self, rows: Rows) -> s.Vector:
        total, row = s.empty(), rows.first
        for text, offsets in sequences_of(rows):
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
        from penstock.workloads.codons import kernel

        scan = kernel.begin(0, at_start=True)
        out: s.Vector = scan[-1]
        kernel.scan_rows(text, offsets, row, *scan, np.uint64(salt), np.uint64(self.limit))
        if out[s.BAD]:
            return out, int(out[s.BAD]) - 1 - row
        kernel.settle(*scan)
        return s.end_file(out), None


def sequences_of(rows: Rows) -> Iterator[tuple[Any, Any]]:
    """The bytes of each chunk of the column, and where its sequences begin in them."""
    import pyarrow as pa

    column: pa.ChunkedArray = rows.table.column(COLUMN)
    if column.null_count:
        raise BadInput(
            f"{column.null_count} rows have no sequence (null): write an empty one, or leave them out",
            file=rows.name,
            place=f"column {COLUMN!r}",
        )
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if str(kind).removeprefix("large_").removesuffix("_view") not in ("string", "binary"):
        raise BadInput(f"holds {kind}, not text", file=rows.name, place=f"column {COLUMN!r}")
    for chunk in column.chunks:
        array = chunk.cast(kind).cast(pa.large_binary())
        _, offsets, text = array.buffers()
        places = _locked(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        yield _locked(text or b"", np.uint8), places


def _locked(buffer: Any, dtype: Any) -> Any:
    """An array that nobody writes into: Arrow's buffers may be either, and code is compiled for each kind."""
    array = np.frombuffer(buffer, dtype)
    array.flags.writeable = False
    return array


@dataclass(frozen=True)
class JoinSummaries:
    """Puts the summaries of neighbouring items together; exactly associative, so it needs no grain."""

    order: Literal["items"] = "items"
    grain: None = None

    def start(self) -> s.Vector:
        """Of no text."""
        return s.empty()

    def step(self, state: s.Vector, result: s.Vector) -> s.Vector:
        """The next item."""
        return s.join(state, result)

    def merge(self, left: s.Vector, right: s.Vector) -> s.Vector:
        """Two neighbours as one."""
        return s.join(left, right)

    def finish(self, states: Iterator[s.Vector]) -> s.Vector:
        """The summary of everything."""
        total = s.empty()
        for state in states:
            total = s.join(total, state)
        return total


# ------------------------------------------------------------------ what is wrong, in words


def bad_byte(path: str, summary: s.Vector, following: bytes | None = None) -> BadInput:
    """The error for the byte that a summary names.

    Args:
        path: its file.
        summary: with ``BAD`` set.
        following: the bytes from it on, where they are at hand.
    """
    return bad_at(path, int(summary[s.BAD]) - 1, int(summary[s.BAD_KIND]), following)


def bad_at(path: str, offset: int, kind: int, following: bytes | None = None) -> BadInput:
    """The error for the byte at an offset of a file's text, of a kind that ``summary`` names."""
    line = line_of(path, offset)
    place = f"byte {offset} of the text" if line is None else f"line {line}"
    if following is None or len(following) < 3:
        following = _text_at(path, offset)
    return BadInput(_reason(kind, following), file=path, place=place)


def bad_row(rows: Rows, row: int) -> BadInput:
    """The error for one of some rows, counted from 0."""
    return BadInput(
        f"row {row} of these holds a byte that no sequence has; letters, '-', '.' and '*' are expected",
        file=rows.name,
        place=f"column {COLUMN!r}",
    )


def _reason(kind: int, following: bytes) -> str:
    if kind == s.BAD_RETURN and following[:2] == b"\r\r":
        return (
            "its lines end with two carriage returns and a line feed (converted for Windows twice): convert "
            "it, tr -d '\\r' < FILE"
        )
    if kind == s.BAD_RETURN:
        return "its lines end with a lone carriage return (old Macintosh): convert it, tr '\\r' '\\n' < FILE"
    shown = following[:1].decode("latin-1")
    if kind == s.BAD_TEXT:
        if shown == "@":
            return "this is FASTQ, and FASTA was expected: convert it, for example with seqtk seq -a"
        line = following[:20].partition(b"\n")[0].decode("latin-1")
        return f"text before the first '>' ({line!r}): FASTA begins with a header line, '>' and a name"
    if shown == ">":
        return (
            "'>' inside a line: a line end is missing before it, or two files were put together without one"
        )
    if shown.isdigit():
        return (
            f"the digit {shown} in a sequence: is this GenBank, or are its lines numbered? Leave only letters"
        )
    return f"the byte {following[:1]!r} in a sequence: only letters, '-', '.', '*' and blanks are expected"


def _text_at(path: str, offset: int) -> bytes:
    """A few bytes of a file's text."""
    from penstock.sources import Fasta

    source = Fasta(path)
    for block in source.read(0, len(source)):
        at = block.offset
        for piece in block:
            if at + len(piece) > offset:
                return bytes(piece)[max(offset - at, 0) :][:40]
            at += len(piece)
    return b""


def is_protein(protein: int, letters: int) -> bool:
    """Whether so many letters that only proteins have, among all, are too many."""
    return protein > _MOST_PROTEIN * letters


def protein_error(protein: int, letters: int, file: str | Path | None) -> BadInput:
    """The error for a protein file."""
    return BadInput(
        f"{protein} of {letters} letters are amino acids that no nucleotide code has (E, F, I, L, P, Q ...): "
        "this is protein, and nucleotides were expected",
        file=file,
    )
