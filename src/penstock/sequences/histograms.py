"""Histograms of records' length and GC, by streaming: neither a record nor a list of them is held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.sequences.inputs import Rows, as_fasta
from penstock.sequences.letters import BLANKS, LETTERS
from penstock.sequences.records import is_chosen
from penstock.sequences.sampling import EVERY, salt_of
from penstock.sources.fasta import Block

GC_BINS = 100
"""A bin is one percent; 100 % is in the last."""
DECADE = 20
"""Bins of lengths up to ten times as long."""
LENGTH_BINS = 11 * DECADE
RECORDS, EMPTY, BASES, GC, KNOWN = 0, 1, 2, 3, 4
"""Records; those without letters; letters, of which G or C, of which A, C, G or T."""
_HEAD = 5
SIZE = _HEAD + GC_BINS + LENGTH_BINS


@dataclass(frozen=True)
class CountRecords:
    """Count the records of an item by length and by GC.

    Args:
        seed: of the sample.
        limit: records whose number is above it are left out; see ``sampling``.

    Returns int64 of ``SIZE``: five sums, then ``GC_BINS`` and ``LENGTH_BINS``.
    """

    seed: int = 0
    limit: int = EVERY

    def __call__(self, item: Block | Rows) -> NDArray[np.int64]:
        """Count; invalid text is not detected."""
        out = np.zeros(SIZE, np.int64)
        rows = isinstance(item, Rows)
        salt = salt_of(self.seed, None if rows else item.file)  # type: ignore[union-attr]
        for number, (offset, counts) in enumerate(_measured(_texts(item))):
            at = item.first + number if isinstance(item, Rows) else offset
            if self.limit == EVERY or is_chosen(at, salt, self.limit):
                _add(out, *counts)
        return out


def _texts(item: Block | Rows) -> Iterator[tuple[bytes, int]]:
    if isinstance(item, Rows):
        yield from as_fasta(item)
        return
    at = item.offset
    for piece in item:
        yield bytes(piece), at
        at += len(piece)


def _measured(texts: Iterator[tuple[bytes, int]]) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """(offset, (letters, of which G or C, of which known)) of each record."""
    is_open = in_header = False
    begin, length, gc, known = 0, 0, 0, 0
    for text, origin in texts:
        at = 0
        if not is_open and text[:1] == b">":
            is_open = in_header = True
            begin = origin
        while at < len(text):
            if in_header:
                at = text.find(b"\n", at)
                if at < 0:
                    break
                in_header = False
            found = text.find(b"\n>", at)
            if is_open:
                letters = text[at : found if found >= 0 else len(text)].translate(LETTERS, BLANKS)
                either = letters.count(b"\x01") + letters.count(b"\x02")
                length, gc = length + len(letters), gc + either
                known += either + letters.count(b"\x00") + letters.count(b"\x03")
            if found < 0:
                break
            if is_open:
                yield begin, (length, gc, known)
            is_open = in_header = True
            begin, length, gc, known, at = origin + found + 1, 0, 0, 0, found + 1
    if is_open:
        yield begin, (length, gc, known)


def _add(out: NDArray[np.int64], length: int, gc: int, known: int) -> None:
    out[:_HEAD] += (1, not length, length, gc, known)
    if known:
        out[_HEAD + min(gc * GC_BINS // known, GC_BINS - 1)] += 1
    if length:
        out[_HEAD + GC_BINS + min(int(np.log10(length) * DECADE + 1e-9), LENGTH_BINS - 1)] += 1


def gc_counts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Records by percent of GC."""
    return counts[_HEAD : _HEAD + GC_BINS]


def length_counts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Records by length; bin i begins at ``10 ** (i / DECADE)``."""
    return counts[_HEAD + GC_BINS :]


def middle(counts: NDArray[Any]) -> int:
    """The bin of the median."""
    return int(np.searchsorted(np.cumsum(counts), (counts.sum() + 1) // 2))
