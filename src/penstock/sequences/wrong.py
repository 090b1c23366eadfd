"""Error messages for bad sequence files: an invalid byte, protein instead of nucleotides."""

from __future__ import annotations

from pathlib import Path

from penstock.errors import BadInput
from penstock.plurals import plural
from penstock.sources.fasta import Block, Fasta, line_of

BAD_BYTE, BAD_TEXT, BAD_RETURN, BAD_HEADER = 1, 2, 3, 4
"""What is wrong: a byte in a sequence, text before the first header, a lone carriage return in a header, a
header that is too long for a row."""
LONGEST_HEADER = 1 << 20
"""Bytes of a header line that are read where records have rows."""

_MOST_PROTEIN = 0.05
"""Share of letters that no nucleotide code has, above which a file is a protein file."""


def in_block(block: Block, offset: int, kind: int, following: bytes | None = None) -> BadInput:
    """The error for a byte of a block's file, as :func:`bad_byte`."""
    return bad_byte(block.path, offset, kind, following, fastq=block.fastq)


def bad_byte(
    path: str, offset: int, kind: int, following: bytes | None = None, *, fastq: bool = False
) -> BadInput:
    """The error for a byte of FASTA text.

    Args:
        path: its file.
        offset: where it is in the file's text (inflated).
        kind: one of the above.
        following: the bytes from it on, where they are at hand.
        fastq: the file is FASTQ, and the text is FASTA made of it.
    """
    if kind == BAD_TEXT:  # who found it may know only that there was some
        offset, following = _first_text(path, fastq)
    line = line_of(path, offset, fastq=fastq)
    place = f"byte {offset} of the text" if line is None else f"line {line}"
    if following is None or len(following) < 3:
        following = _text_at(path, offset, fastq)
    return BadInput(_reason(kind, following), file=path, place=place)


def _reason(kind: int, following: bytes) -> str:
    if kind == BAD_RETURN and following[:2] == b"\r\r":
        return (
            "its lines end with two carriage returns and a line feed (converted for Windows twice): convert "
            "it, tr -d '\\r' < FILE"
        )
    if kind == BAD_RETURN:
        return "its lines end with a lone carriage return (old Macintosh): convert it, tr '\\r' '\\n' < FILE"
    if kind == BAD_HEADER:
        return (
            f"a header line of over {LONGEST_HEADER} bytes ({following[:30]!r} ...), which is no name of a "
            "record: is a line end missing behind it?"
        )
    shown = following[:1].decode("latin-1")
    if kind == BAD_TEXT:
        if shown == "@":
            return (
                "this is FASTQ, and FASTA was expected: give --input-format fastq, or convert it, for "
                "example with seqtk seq -a"
            )
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


def _text_at(path: str, offset: int, fastq: bool) -> bytes:
    """A few bytes of a file's text."""
    source = Fasta(path, fastq=fastq)
    for block in source.read(0, len(source)):
        at = block.offset
        for piece in block:
            if at + len(piece) > offset:
                return bytes(piece)[max(offset - at, 0) :][:40]
            at += len(piece)
    return b""


def _first_text(path: str, fastq: bool) -> tuple[int, bytes]:
    """Where the first text of a file is that is neither blank nor a comment, and a few bytes from there."""
    source = Fasta(path, fastq=fastq)
    in_comment, at = False, 0
    for block in source.read(0, len(source)):
        for piece in block:
            text = bytes(piece)
            start = 0
            while start < len(text):
                if in_comment:
                    end = text.find(b"\n", start)
                    in_comment, start = end < 0, len(text) if end < 0 else end + 1
                    continue
                start = len(text) - len(text[start:].lstrip())
                in_comment = text[start : start + 1] == b";"
                if start < len(text) and not in_comment:
                    return at + start, text[start : start + 40]
            at += len(text)
    return 0, b""


def is_protein(protein: int, letters: int) -> bool:
    """Whether so many protein-only letters among all are too many."""
    return protein > _MOST_PROTEIN * letters


def protein_error(protein: int, letters: int, file: str | Path | None) -> BadInput:
    """The error for a protein file."""
    what = "is an amino acid" if protein == 1 else "are amino acids"
    return BadInput(
        f"{protein:,} of {plural(letters, 'letter')} {what} "
        "that no nucleotide code has (E, F, I, L, P, Q ...): this is protein, and nucleotides were expected",
        file=file,
    )
