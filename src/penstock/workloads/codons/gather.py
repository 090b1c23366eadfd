"""Gathers coding sequences from a record's letters, which come in stretches and are never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock.workloads.codons.features import Cds

_COMPLEMENT = bytes.maketrans(b"ACGTUNRYKMBVDHacgtunrykmbvdh", b"TGCAANYRMKVBHDtgcaanyrmkvbhd")


class Gatherer:
    """Collects the parts of coding sequences as the letters of their record stream by.

    Holds the letters of those that have begun and not ended, and nothing else of the record.

    Args:
        sequences: those of one record, in any order.
    """

    def __init__(self, sequences: Sequence[Cds]) -> None:
        self._sequences = sequences
        self._parts = sorted(
            (part.start, part.stop, at, number)
            for at, cds in enumerate(sequences)
            if not cds.reason
            for number, part in enumerate(cds.parts)
        )
        self._next = 0
        self._open: list[tuple[int, int, bytearray]] = []
        """Stop of a part, its sequence, its letters."""
        self._held: dict[int, dict[int, bytearray]] = {}
        self._left = {at: len(cds.parts) for at, cds in enumerate(sequences) if not cds.reason}
        self._at = 0

    def feed(self, letters: bytes) -> Iterator[tuple[Cds, bytes]]:
        """Take the next letters of the record; yields the coding sequences that end in them."""
        low, high = self._at, self._at + len(letters)
        self._at = high
        ended = []
        still = []
        for stop, at, held in self._open:
            held += letters[: stop - low]
            (ended.append(at) if stop <= high else still.append((stop, at, held)))
        while self._next < len(self._parts) and self._parts[self._next][0] < high:
            start, stop, at, number = self._parts[self._next]
            self._next += 1
            held = bytearray(letters[start - low : stop - low])
            self._held.setdefault(at, {})[number] = held
            (ended.append(at) if stop <= high else still.append((stop, at, held)))
        self._open = still
        for at in ended:
            self._left[at] -= 1
            if not self._left[at]:
                del self._left[at]
                yield self._sequences[at], self._joined(self._sequences[at], self._held.pop(at))

    def beyond(self) -> list[Cds]:
        """Those that end beyond the record, once it has ended."""
        return [self._sequences[at] for at in self._left]

    @staticmethod
    def _joined(cds: Cds, held: dict[int, bytearray]) -> bytes:
        """The letters in the order of reading, from the first whole codon; codons read otherwise are NNN."""
        read = bytearray()
        for number, part in enumerate(cds.parts):
            letters = bytes(held[number])
            read += letters.translate(_COMPLEMENT)[::-1] if part.reverse else letters
        for codon in cds.excepted:
            place = _place(cds, codon.stop - 1 if codon.reverse else codon.start)
            if place is not None:
                length = codon.stop - codon.start
                read[place : place + length] = b"N" * len(read[place : place + length])
        return bytes(read[cds.offset :])


def _place(cds: Cds, position: int) -> int | None:
    """Where a position of the record is in what is read."""
    before = 0
    for part in cds.parts:
        if part.start <= position < part.stop:
            return before + (part.stop - 1 - position if part.reverse else position - part.start)
        before += part.stop - part.start
    return None
