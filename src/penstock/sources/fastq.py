"""FASTQ as FASTA text: names and sequences without the qualities, piece by piece.

A record is four lines, as every sequencer of today writes it. Such text cannot be entered in the middle: a
quality may begin with '@' as a name does.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.errors import BadInput
from penstock.sources.streams import Inflater


class FastqInflater:
    """An :class:`~penstock.sources.streams.Inflater` that yields FASTA text.

    Args:
        kind: of the file's compression; None for plain text.
        file: its name, for errors.

    Raises:
        BadInput: from ``feed`` and ``end``: text that is no FASTQ of four lines a record, naming the line.
    """

    def __init__(self, kind: str | None, file: str) -> None:
        self._inflater = None if kind is None else Inflater(kind, file)
        self._file = file
        self._parts: list[bytes] = []
        """Text after the last line end."""
        self._lines: list[bytes] = []
        """Whole lines of a record that is not whole."""
        self._line = 1
        """The number of the first of them."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The FASTA text of the records that end in these bytes."""
        for piece in (data,) if self._inflater is None else self._inflater.feed(data):
            yield from self._take(piece)

    def end(self) -> Iterator[bytes]:
        """The FASTA text of the last record, whose line end may be missing."""
        if self._inflater is not None:
            self._inflater.end()
        if any(self._parts):
            yield from self._take(b"\n")
        if any(line.strip() for line in self._lines):
            raise self._wrong(0, "the file ends in the middle of a record: was it cut off?")

    def _take(self, piece: bytes) -> Iterator[bytes]:
        end = piece.rfind(b"\n")
        if end < 0:
            self._parts.append(piece)
            return
        whole = b"".join([*self._parts, piece[:end]])
        self._parts = [piece[end + 1 :]]
        lines = self._lines + whole.split(b"\n")
        count = len(lines) // 4 * 4
        self._lines = lines[count:]
        made = self._records(lines, count)
        self._line += count
        if made:
            yield made

    def _records(self, lines: list[bytes], count: int) -> bytes:
        out: list[bytes] = []
        for at in range(0, count, 4):
            name, sequence, plus, quality = lines[at : at + 4]
            if name[:1] != b"@" or plus[:1] != b"+" or len(sequence.rstrip()) != len(quality.rstrip(b"\r\n")):
                if not any(line.strip() for line in lines[at:]):
                    break  # empty lines at the end
                raise self._odd(at, name, sequence, plus, quality)
            out += (b">" + name[1:], sequence)
        return b"\n".join(out) + b"\n" if out else b""

    def _odd(self, at: int, name: bytes, sequence: bytes, plus: bytes, quality: bytes) -> BadInput:
        if name[:1] == b">":
            return self._wrong(at, "this is FASTA, and FASTQ was expected: leave --input-format out")
        if name[:1] != b"@":
            return self._wrong(at, "a record of FASTQ begins with '@' and a name")
        if plus[:1] != b"+":
            return self._wrong(
                at + 2,
                "'+' is expected in the third line of a record; FASTQ with sequences of several lines is "
                "not read: make it anew, for example with seqtk seq -l0",
            )
        return self._wrong(
            at + 3, f"a record has {len(sequence.rstrip())} letters, and {len(quality.rstrip())} qualities"
        )

    def _wrong(self, at: int, why: str) -> BadInput:
        return BadInput(why, file=self._file, place=f"line {self._line + at}")


def line_in_fastq(line: int) -> int:
    """The line of a FASTQ file, from 1, that a line of its FASTA text comes from."""
    return 4 * ((line - 1) // 2) + (line - 1) % 2 + 1
