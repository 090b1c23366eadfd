"""Letters of nucleotide sequences as small numbers: a class for each byte of text."""

from __future__ import annotations

N, IUPAC, GAP, PROTEIN, BREAK, BAD = 4, 5, 6, 7, 8, 9
"""Letters that are no base, the border of two records, and a byte that cannot be in a sequence."""

BLANKS = b"\n\r\t\v\f "


def _letters() -> bytes:
    table = bytearray([BAD]) * 256
    kinds = (b"A", b"C", b"G", b"TU", b"N", b"RYSWKMBDHVX", b"-.*~?", b"EFILPQJOZ")
    for code, letters in enumerate(kinds):
        for letter in letters + letters.lower():
            table[letter] = code
    table[0] = BREAK  # written by us alone: who reads looks for it first
    return bytes(table)


LETTERS = _letters()
"""What each byte is, for ``bytes.translate`` with ``BLANKS`` left out."""


def is_sequence(letters: bytes) -> bool:
    """Whether these bytes, blanks aside, are letters of nucleotides or proteins, gaps or stops."""
    return b"\0" not in letters and bytes([BAD]) not in letters.translate(LETTERS)


_NOT_PROTEIN = bytes(set(range(256)) - set(b"EFILPQJOZefilpqjoz"))


def protein_letters(letters: bytes) -> int:
    """How many of these bytes are letters that are no nucleotide code."""
    return len(letters.translate(None, _NOT_PROTEIN))
