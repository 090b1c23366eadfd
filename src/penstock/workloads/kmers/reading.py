"""From the text of an item to its k-mers and its ledger, by the compiled kernel or by NumPy alone.

Both give the same; NumPy serves small inputs, for which loading the compiled code would take longer than the
counting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.errors import PenstockError
from penstock.hashing import mixed
from penstock.sequences import wrong
from penstock.workloads.kmers import scanning, words

RECORDS, BASES, WINDOWS, SHORT, LETTERS = 0, 1, 2, 3, 4
"""The ledger: int64; then four counts of letters that are no base: N, other IUPAC and X, gaps, protein."""
LEDGER = 8

_LISTED = 1 << 18


class BadByte(Exception):
    """An invalid byte; ``offset`` in the text, and ``kind`` as in ``sequences.wrong``."""

    def __init__(self, offset: int, kind: int) -> None:
        super().__init__(offset, kind)
        self.offset, self.kind = offset, kind


class Plain:
    """Reads pieces of FASTA text with NumPy.

    Args:
        k: bases of a word.
        canonical: see ``words``.
        salt, limit: a record whose header is at ``offset`` counts if ``mixed(salt + offset) <= limit``.
    """

    def __init__(self, k: int, canonical: bool, salt: int, limit: int) -> None:
        self._k, self._canonical, self._salt, self._limit = k, canonical, salt, limit
        self.ledger = np.zeros(LEDGER, np.int64)
        self._in_header = False
        self._at_line_start = True
        self._open = self._kept = False
        self._length = 0
        self._tail = np.zeros(0, np.uint8)

    def words(self, text: bytes | memoryview, origin: int) -> Iterator[NDArray[Any]]:
        """The words of the next piece.

        Raises:
            BadByte: a byte that cannot be there.
        """
        if text:
            letters = np.concatenate(
                [self._tail, np.frombuffer(self._letters(bytes(text), origin), np.uint8)]
            )
            yield words.codes_of(letters, self._k, self._canonical)
            self._tail = letters[max(len(letters) - self._k + 1, 0) :]

    def count(self, text: bytes | memoryview, origin: int, table: NDArray[np.uint32]) -> None:
        """Add the words of the next piece to a table."""
        for found in self.words(text, origin):
            table += np.bincount(found, minlength=len(table)).astype(np.uint32)

    def finish(self) -> NDArray[np.int64]:
        """End the text; returns the ledger."""
        self._close()
        self._open = False
        return self.ledger

    def _letters(self, text: bytes, origin: int) -> bytes:
        """The letters of sequence lines, with a border before each record."""
        parts: list[bytes] = []
        comments = b";" in text
        at = self._pass_header(text, 0, origin) if self._in_header else 0
        while at < len(text):
            header = at if self._at_line_start and text[at] in b">;" else _next_header(text, at, comments)
            if header > at:
                self._sequence(text[at:header], origin + at, parts)
            self._at_line_start = text[header - 1 : header] == b"\n" if header == len(text) else False
            if header == len(text):
                break
            if text[header] == ord(">"):
                self._close()
                self._open = True
                number = np.array([(self._salt + origin + header) % 2**64], np.uint64)
                self._kept = self._limit == 2**64 - 1 or int(mixed(number)[0]) <= self._limit
                parts.append(bytes([words.BREAK]))
            at = self._pass_header(text, header, origin)
        return b"".join(parts)

    def _sequence(self, text: bytes, origin: int, parts: list[bytes]) -> None:
        letters = text.translate(words.LETTERS, words.BLANKS)
        bad = bytes([words.BAD]) in letters or b"\0" in text
        if bad or (letters and not self._open):
            kind = wrong.BAD_BYTE if self._open else wrong.BAD_TEXT
            raise BadByte(origin + _first_odd(text, any_letter=not self._open), kind)
        if self._kept:
            self._length += len(letters)
            if len(letters) > 64:
                self.ledger[LETTERS:] += np.bincount(np.frombuffer(letters, np.uint8), minlength=10)[4:8]
            else:
                for kind in range(4):
                    self.ledger[LETTERS + kind] += letters.count(words.N + kind)
            parts.append(letters)

    def _pass_header(self, text: bytes, start: int, origin: int) -> int:
        """Where the line behind a header or comment begins; the end where it is cut."""
        end = text.find(b"\n", start)
        stop = len(text) if end < 0 else end
        lone = text.find(b"\r", start, stop)
        if 0 <= lone < len(text) - 1 and text[lone + 1] != ord("\n"):
            raise BadByte(origin + lone, wrong.BAD_RETURN)
        self._in_header = end < 0
        self._at_line_start = end >= 0
        return stop if end < 0 else end + 1

    def _close(self) -> None:
        if self._open and self._kept:
            self.ledger[RECORDS] += 1
            self.ledger[BASES] += self._length
            self.ledger[WINDOWS] += max(self._length - self._k + 1, 0)
            self.ledger[SHORT] += self._length < self._k
        self._length = 0


def _next_header(text: bytes, start: int, comments: bool) -> int:
    """Where the next header or comment begins; the length where there is none."""
    found = text.find(b"\n>", start) + 1 or len(text)
    return min(found, text.find(b"\n;", start) + 1 or len(text)) if comments else found


def _first_odd(text: bytes, *, any_letter: bool) -> int:
    for at, byte in enumerate(text):
        if byte not in words.BLANKS and (any_letter or words.LETTERS[byte] > words.PROTEIN):
            return at
    raise PenstockError("a byte that is no letter was seen, and is not there")


class Compiled:
    """Reads pieces of FASTA text with the compiled kernel; as :class:`Plain`."""

    def __init__(self, k: int, canonical: bool, salt: int, limit: int) -> None:
        self._k, self._canonical = k, canonical
        self._salt, self._limit = salt % 2**64, limit
        self._state = np.zeros(scanning.STATE, np.int64)
        self._state[scanning.MODE] = scanning.AT_LINE_START
        self._code = np.zeros(2, np.uint64)
        self._bases = np.zeros(scanning.BUFFER + 128, np.uint8)
        self._none = np.zeros(0, np.uint32)
        self._listed = np.zeros(0, np.uint64)

    def words(self, text: bytes | memoryview, origin: int) -> Iterator[NDArray[Any]]:
        """The words of the next piece, in arrays that are valid until the next call."""
        at = 0
        if not len(self._listed):
            self._listed = np.empty(_LISTED, np.uint64)
        out = self._listed
        while at < len(text):
            at = self._scan(text, at, origin, self._none, out)
            filled = int(self._state[scanning.FILLED])
            self._state[scanning.FILLED] = 0
            yield out[:filled]

    def count(self, text: bytes | memoryview, origin: int, table: NDArray[np.uint32]) -> None:
        """Add the words of the next piece to a table."""
        self._scan(text, 0, origin, table, np.zeros(0, np.uint64))

    def finish(self) -> NDArray[np.int64]:
        """End the text; returns the ledger."""
        scanning.finish(self._state, self._k)
        ledger: NDArray[np.int64] = self._state[scanning.LEDGER :]
        return ledger

    def _scan(self, text: bytes | memoryview, at: int, origin: int, table: Any, out: Any) -> int:
        array = np.frombuffer(text, np.uint8)
        array.flags.writeable = False
        stopped = scanning.scan(
            array,
            at,
            origin,
            self._k,
            self._canonical,
            self._state,
            self._code,
            table,
            self._bases,
            out,
            self._salt,
            self._limit,
        )
        if self._state[scanning.BAD]:
            raise BadByte(int(self._state[scanning.BAD]) - 1, int(self._state[scanning.KIND]))
        return int(stopped)
