"""Records of FASTA text one by one, each whole in memory: for what turns them into rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from penstock.hashing import mixed
from penstock.sequences import wrong
from penstock.sequences.letters import BAD, BLANKS, LETTERS
from penstock.sources.fasta import Block

_HEADER = b"\n>"


@dataclass(frozen=True, slots=True)
class Record:
    """A record.

    Attributes:
        offset: where it begins in its file's text.
        description: its whole header, without the '>' and blanks around it.
        sequence: its letters as they are, blanks and line ends left out.
    """

    offset: int
    description: str
    sequence: bytes

    @property
    def name(self) -> str:
        """The first word of the header."""
        return (self.description.split(maxsplit=1) or [""])[0]


def records(block: Block) -> Iterator[Record]:
    """The records of an item of :class:`penstock.sources.FastaRecords`, in order.

    Raises:
        BadInput: a byte that cannot be in FASTA of nucleotides or proteins, naming file and line.
    """
    for offset, text in _texts(block.offset, block):
        if text[:1] == b">":
            yield _record(block, offset, text)
        elif (lead := _without_comments(text)).translate(None, BLANKS):
            at = next(at for at, byte in enumerate(text) if byte in lead and byte not in BLANKS)
            raise wrong.in_block(block, offset + at, wrong.BAD_TEXT, text[at:])


def is_chosen(offset: int, salt: int, limit: int) -> bool:
    """Whether the record that begins there is in the sample; see ``sampling``."""
    import numpy as np

    return int(mixed(np.array([(salt + offset) % 2**64], np.uint64))[0]) <= limit


def _texts(offset: int, pieces: Iterable[memoryview]) -> Iterator[tuple[int, bytes]]:
    """(offset, text) of each record, its last line end left out; and of what comes before the first."""
    parts: list[bytes] = []
    for view in pieces:
        piece, at = bytes(view), 0
        while (found := piece.find(_HEADER, at)) >= 0:
            parts.append(piece[at:found])
            text = b"".join(parts)
            yield offset, text
            offset, at, parts = offset + len(text) + 1, found + 1, []
        parts.append(piece[at:] if at else piece)
    if any(parts):
        yield offset, b"".join(parts)


def _record(block: Block, offset: int, text: bytes) -> Record:
    end = text.find(b"\n")
    header, body = (text, b"") if end < 0 else (text[:end], text[end + 1 :])
    lone = header.find(b"\r")
    if 0 <= lone < len(header) - 1:
        raise wrong.in_block(block, offset + lone, wrong.BAD_RETURN, text[lone:])
    sequence = _without_comments(body).translate(None, BLANKS)
    if bytes([BAD]) in sequence.translate(LETTERS) or b"\0" in sequence:
        at = end + 1 + _first_bad(body)
        raise wrong.in_block(block, offset + at, wrong.BAD_BYTE, text[at : at + 40])
    return Record(offset, _decoded(header[1:].strip()), sequence)


def _decoded(header: bytes) -> str:
    """UTF-8, or Latin-1 where it is none: every byte is a letter there."""
    try:
        return header.decode("utf-8")
    except UnicodeDecodeError:
        return header.decode("latin-1")


def _without_comments(body: bytes) -> bytes:
    """Without the lines that begin with ';'."""
    if b";" not in body:
        return body
    return b"\n".join(line for line in body.split(b"\n") if not line.startswith(b";"))


def _first_bad(body: bytes) -> int:
    """Where the first byte is that no sequence has, comments passed over."""
    at = 0
    for line in body.split(b"\n"):
        if not line.startswith(b";"):
            for place, byte in enumerate(line):
                if byte not in BLANKS and (LETTERS[byte] == BAD or not byte):
                    return at + place
        at += len(line) + 1
    return 0
