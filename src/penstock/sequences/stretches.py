"""Whole records of files, some in a row as an item, so that what is said of a record is said once.

Covers which records belong to an item and how their text is read; a record may be of any length and is never
whole in memory. Does not look at letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from penstock.sources import Fasta


@dataclass(frozen=True, slots=True)
class Stretch:
    """Text of whole records; iterating gives it in pieces, once.

    Attributes:
        path: the file.
        file: its number.
        item: number of the item.
        begins: the file begins here; else the text begins with a record.
    """

    path: str
    file: int
    item: int
    begins: bool
    pieces: Iterator[tuple[int, bytes]]
    """Offset in the file's text, and bytes."""
    fastq: bool = False
    """The text was made of FASTQ."""

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self.pieces


@dataclass(slots=True)
class _Place:
    """Where the reading of an item ended, in the middle of a block: the next one goes on from there."""

    last: int
    """The item that was read."""
    item: int
    """The item that has records next."""
    at: int
    """The block that is being read."""
    pieces: Iterator[memoryview]
    """Its rest."""
    offset: int
    text: bytes
    """Read already, from that offset on."""
    inside: bool
    """A record of ``item`` begins there."""
    low: int
    """Where the blocks of ``item`` begin."""
    stops: list[int]
    """Where blocks from ``item`` on end, as far as they were read."""


class Records:
    """The blocks of :class:`~penstock.sources.Fasta`, where each ends with its last record.

    A record belongs to the block that has the line feed before its header; the first one of a file to the
    file's first block. Its text is read on in the blocks that follow. A block in the middle of a record
    has none.

    Args:
        paths: FASTA files, or others whose records begin with a line of their own.
        block: bytes of a block, in the file as it is stored.
        mark: what such a line begins with.
        fastq: the files are FASTQ, see :class:`~penstock.sources.Fasta`.
    """

    def __init__(self, paths: Iterable[str], *, block: int, mark: bytes = b">", fastq: bool = False) -> None:
        self._blocks = Fasta(paths, block=block, fastq=fastq)
        self._fastq = fastq
        self._start = b"\n" + mark
        self._keep = len(mark)
        self._files = [(start, stop) for start, stop in self._blocks.spans().values()]
        self._place: _Place | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_place": None}

    @property
    def paths(self) -> Sequence[str]:
        """The files, in the order of their numbers."""
        return self._blocks.paths

    def read(self, start: int, stop: int) -> Iterator[Stretch]:
        """The stretches of one call, one by one: use up each before the next."""
        for item in range(start, stop):
            file = next(at for at, (_, end) in enumerate(self._files) if item < end)
            begins = item == self._files[file][0]
            text = self._text(item, self._files[file][1], begins)
            yield Stretch(self.paths[file], file, item, begins, text, self._fastq)

    def sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of each block in its file."""
        return self._blocks.sizes(start, stop)

    def name(self, item: int) -> str:
        """The records that begin in these bytes."""
        return f"records of {self._blocks.name(item)}"

    def starts(self) -> Sequence[int]:
        """As the blocks."""
        return self._blocks.starts()

    def fingerprint(self) -> Mapping[str, str]:
        """Of each file, by path."""
        return self._blocks.fingerprint()

    def fingerprint_kind(self) -> str:
        """``"content"`` or ``"stat"``."""
        return self._blocks.fingerprint_kind()

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint, told in this way."""
        return self._blocks.fingerprint_by(kind)

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """The blocks of each file."""
        return self._blocks.spans()

    # ------------------------------------------------------------------ text

    def _text(self, item: int, end: int, begins: bool) -> Iterator[tuple[int, bytes]]:
        """The pieces of an item's records."""
        if self._place is not None and self._place.last < item < self._place.item:
            return  # a record of an item before goes on past this one
        place, self._place = self._place, None
        if place is None or place.item != item:
            block = next(self._blocks.read(item, item + 1))
            place = _Place(item, item, item, iter(block), block.offset, b"", begins, block.offset, [])
        place.last = item
        while True:
            if place.text:
                yield from self._step(place)
                if place.item != item:
                    self._place = place
                    return
            piece = next(place.pieces, None)
            if piece is not None:
                place.text += bytes(piece)
                continue
            place.at += 1
            if place.at == end:
                if place.inside and place.text:
                    yield place.offset, place.text
                return
            place.stops.append(place.offset + len(place.text))
            place.pieces = iter(next(self._blocks.read(place.at, place.at + 1)))

    def _step(self, place: _Place) -> Iterator[tuple[int, bytes]]:
        """Give what is known to be the item's; move to the next item where its first record was met."""
        start, stops = self._start, place.stops
        if not place.inside:
            at = place.text.find(start, max(place.low - place.offset, 0))
            if at < 0:
                known = max(len(place.text) - self._keep, 0)
                if stops and place.offset + known >= stops[0]:  # no record begins in it
                    place.item, place.low, place.stops = place.item + 1, stops[0], stops[1:]
                else:
                    place.offset, place.text = place.offset + known, place.text[known:]
                return
            own = not stops or place.offset + at < stops[0]
            place.offset, place.text, place.inside = place.offset + at + 1, place.text[at + 1 :], True
            if not own:
                self._move(place)
                return
        at = place.text.find(start, max(stops[0] - place.offset, 0)) if stops else -1
        cut = at + 1 if at >= 0 else len(place.text) - self._keep
        if cut > 0:
            yield place.offset, place.text[:cut]
            place.offset, place.text = place.offset + cut, place.text[cut:]
        if at >= 0:
            self._move(place)

    @staticmethod
    def _move(place: _Place) -> None:
        """To the item that has the line feed before the record that begins here."""
        passed = sum(stop < place.offset for stop in place.stops)
        place.item += passed
        place.stops = place.stops[passed:]
