"""FASTA text as blocks of whole records: a record belongs to the block in which it begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penstock.budget import MiB
from penstock.sources.fasta import Block, Fasta, inflater_of, see_end, shorter, unreadable
from penstock.sources.paths import AnyPath
from penstock.sources.streams import PIECE
from penstock.sources.telling import Fingerprint

_FEED = 64 << 10
_NEVER = 1 << 62


class FastaRecords(Fasta):
    """As :class:`Fasta`, with whole records: an item is a :class:`Block` that begins with a header.

    A block is read on past its end until its last record ends, and begins with the first header whose
    line end before it lies in the block; so each record is in exactly one item, however large it is, and an
    item may have none. What comes before the first header of a file is in its first item. A record is
    never held: the item gives its text piece by piece, as any block does.

    A stream that cannot be entered in the middle stays where the record ended, and the next item goes on
    there.

    Args:
        paths, block, fingerprint, fastq: as for :class:`Fasta`.
        mark: what the line begins with that begins a record; ``LOCUS `` of GenBank.
    """

    def __init__(
        self, paths: AnyPath | Iterable[AnyPath], *, block: int | str = 4 * MiB,
        fingerprint: Fingerprint = "auto", fastq: bool = False, mark: str = ">",
    ) -> None:  # fmt: skip
        super().__init__(paths, block=block, fingerprint=fingerprint, fastq=fastq)
        self._header = b"\n" + mark.encode()
        self._text: _Text | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_text": None}

    def _open(self, item: int) -> Block:
        file, low, high = self._range(item)
        first, last = self._first(file), self._ends[file]
        own = item - first
        if self._can_enter(file):
            bounds = [low, high, self._sizes[file]]
            offset = self._groups[file][1][own] if file in self._groups else low
            text, own = _Text(self._paths[file], self._kinds[file], bounds, offset, self._header), 0
        else:
            text = self._stream(item, file)
        begins, ends = item == first, item == last - 1
        pieces = _owned(text, own, begins)
        start = next(pieces, None)
        offset = text.at if start is None else start[0]
        rest = _views(start, pieces)
        return Block(self._paths[file], file, offset, begins, ends, rest, self._fastq, item)

    def _stream(self, item: int, file: int) -> _Text:
        """The text of a stream at this item: where the item before left it, or from the beginning."""
        own = item - self._first(file)
        cursor = self._text
        if cursor is None or cursor.path != self._paths[file] or cursor.item != own:
            ends = [self._range(i)[2] for i in range(self._first(file), self._ends[file])]
            cursor = _Text(self._paths[file], self._kinds[file], [0, *ends], 0, self._header)
            for before in range(own):
                for _ in _owned(cursor, before, before == 0):
                    pass
        self._text = cursor
        cursor.item = -1  # until the item has been read whole
        return cursor


def _views(first: tuple[int, bytes] | None, pieces: Iterator[tuple[int, bytes]]) -> Iterator[memoryview]:
    if first is not None:
        yield memoryview(first[1])
    for _, piece in pieces:
        yield memoryview(piece)


def _owned(text: _Text, own: int, begins: bool) -> Iterator[tuple[int, bytes]]:
    """(offset, piece) of the records whose header's line end before it lies in an item's own text."""
    emitting = begins
    while (piece := text.next()) is not None:
        end = text.border(own + 1)
        at = text.at - len(piece)
        if not emitting:
            found = piece.find(text.header)
            if found < 0:
                if at >= end:  # a record that began before this item, and ends behind it
                    text.put_back(piece)
                    break
                continue
            if at + found >= end:
                text.put_back(piece[found:])
                break
            piece, at, emitting = piece[found + 1 :], at + found + 1, True
        if at + len(piece) > end:
            found = piece.find(text.header, max(end - at, 0))
            if found >= 0:
                text.put_back(piece[found:])
                yield at, piece[: found + 1]
                break
        yield at, piece
    text.item = own + 1


class _Text:
    """A file's text from an item on, as far as one likes; knows where in the text each item's bytes end.

    Args:
        path: the file.
        kind: of its compression; None for plain text.
        bounds: offsets in the file of the beginning of the item, its end, and the ends of the items after it.
        offset: where the first of them is in the text.
        header: a line end, and what begins a record behind it.
    """

    def __init__(self, path: str, kind: str | None, bounds: list[int], offset: int, header: bytes) -> None:
        self.path = path
        self.header = header
        self.at = offset
        """Bytes of text given out."""
        self.item = 0
        """The item that reading may go on with."""
        self._passed = [offset]
        self._held = b""
        # It knows nothing of this object: with whoever gives it up half way, its file is closed at once.
        self._made = _pieces(path, kind, bounds, self._passed)

    def border(self, bound: int) -> int:
        """Where in the text an item's bytes end; far away while they have not all been read."""
        return self._passed[bound] if bound < len(self._passed) else _NEVER

    def next(self) -> bytes | None:
        """The next piece; the line end before a header and what begins the header are never parted. None at
        the end."""
        piece = self._held or next(self._made, None)
        self._held = b""
        while piece and (tail := self._tail(piece)) and (more := next(self._made, None)) is not None:
            if len(piece) > tail:
                piece, self._held = piece[:-tail], piece[-tail:] + more
                break
            piece += more
        if piece is None:
            return None
        self.at += len(piece)
        return piece

    def _tail(self, piece: bytes) -> int:
        """How many of its last bytes may begin a header."""
        lengths = range(len(self.header) - 1, 0, -1)
        return next((length for length in lengths if piece.endswith(self.header[:length])), 0)

    def put_back(self, piece: bytes) -> None:
        """Give the end of the last piece again."""
        self._held = piece + self._held
        self.at -= len(piece)


def _pieces(path: str, kind: str | None, bounds: list[int], passed: list[int]) -> Iterator[bytes]:
    """The text from the first of the bounds on.

    Args:
        path: the file.
        kind: of its compression; None for plain text.
        bounds: offsets in the file.
        passed: where in the text each bound is, so far; grows by one whenever a bound is reached.
    """
    inflater = None if kind is None else inflater_of(kind, path)
    at, offset = bounds[0], passed[0]
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(at)
            for bound in bounds[1:]:
                while at < bound:
                    data = file.read(min(PIECE if inflater is None else _FEED, bound - at))
                    if not data:
                        raise shorter(path, at)
                    at += len(data)
                    for piece in (data,) if inflater is None else inflater.feed(data):
                        offset += len(piece)
                        yield piece
                passed.append(offset)
            see_end(file, path)  # the last bound is the file's end
    except OSError as error:
        raise unreadable(error, path) from error
    if inflater is not None:
        yield from inflater.end()
