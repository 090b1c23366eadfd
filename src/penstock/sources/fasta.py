"""FASTA text as blocks of bytes, so that neither a huge file nor a huge record is ever whole in memory."""

from __future__ import annotations

import stat
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import BinaryIO

from penstock.budget import MiB, parse_size
from penstock.errors import BadInput, UsageError
from penstock.sources.bgzf import group_blocks, is_bgzf
from penstock.sources.fastq import FastqInflater, line_in_fastq
from penstock.sources.paths import AnyPath, find_files
from penstock.sources.streams import PIECE, Inflater, find_kind
from penstock.sources.telling import Fingerprint, Telling

_FEED = 64 << 10
"""Compressed bytes inflated at a time."""
FASTQ = "fastq"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Fasta:
    """Text of FASTA files in blocks, each a :class:`Block`; borders fall anywhere.

    A plain file is cut into ranges of bytes, a compressed one (gzip, bgzip, zstd, bzip2, xz; told by
    its content, not by its name) into ranges of its compressed bytes. Plain files and bgzip can be
    read from any block; any other stream only from its beginning, and the cursor is kept from one
    call to the next. Does not look at records: the function does (they may span blocks).

    Args:
        paths: one or more paths or glob patterns; files come in this order.
        block: bytes of a block, in the file as it is stored; or a text such as ``"1MiB"``.
        fingerprint: how a changed file is told, as for :class:`~penstock.sources.Files`.
        fastq: the files are FASTQ, four lines a record: the text is FASTA made of it, without the
            qualities. Such a file is a stream that cannot be entered in the middle.

    Raises:
        BadInput: a file that is missing, empty, unreadable, a folder, an archive or no regular
            file; a bgzip file that is cut off; a pattern without a match.
        UsageError: a block under one byte, or another ``fingerprint``.
    """

    def __init__(
        self,
        paths: AnyPath | Iterable[AnyPath],
        *,
        block: int | str = 4 * MiB,
        fingerprint: Fingerprint = "auto",
        fastq: bool = False,
    ) -> None:
        block = parse_size(block) if isinstance(block, str) else block
        if block < 1:
            raise UsageError(f"Fasta(block={block}): a block has at least one byte")
        self._paths = find_files(paths)
        self._telling = Telling(self._paths, fingerprint, "Fasta")
        self._block = block
        self._fastq = fastq
        self._sizes = array("q")
        self._kinds: list[str | None] = []
        self._groups: dict[int, tuple[array[int], array[int]]] = {}
        counts = [self._survey(file, path) for file, path in enumerate(self._paths)]
        self._ends = array("q", accumulate(counts))
        self._cursor: _TextCursor | None = None

    def _survey(self, file: int, path: str) -> int:
        """Look at a file's first bytes; return how many blocks it has."""
        try:
            status = Path(path).stat()
            if not stat.S_ISREG(status.st_mode):
                raise BadInput("no regular file: a pipe or device must be saved to a file first", file=path)
            with open(path, "rb", buffering=0) as opened:
                head = opened.read(18)
        except OSError as error:
            raise unreadable(error, path) from error
        if not head:
            raise BadInput("empty: no bytes in it. Get the file again, or leave it out", file=path)
        self._sizes.append(status.st_size)
        kind = find_kind(head, path)
        self._kinds.append(f"{FASTQ} {kind or ''}".strip() if self._fastq else kind)
        if not self._fastq and is_bgzf(head) and (groups := group_blocks(path, status.st_size, self._block)):
            self._groups[file] = groups
            return len(groups[0]) - 1
        return -(-status.st_size // self._block)

    def __len__(self) -> int:
        return self._ends[-1]

    def __repr__(self) -> str:
        return f"Fasta({len(self._paths)} files, {len(self)} blocks)"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cursor": None}

    @property
    def paths(self) -> Sequence[str]:
        """The files, in order; ``Block.file`` is an index into it."""
        return self._paths

    def read(self, start: int, stop: int) -> Iterator[Block]:
        """The blocks of one call, one by one: consume each before the next.

        Raises:
            BadInput: a file is gone, shorter than it was, cut off or damaged; also from the blocks.
        """
        return (self._open(item) for item in range(start, stop))

    def sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of each block in its file."""
        ranges = (self._range(item) for item in range(start, stop))
        return [high - low for _, low, high in ranges]

    def name(self, item: int) -> str:
        """``"genomes.fa, bytes 0 to 4194304"``; of a compressed file, its compressed bytes."""
        file, low, high = self._range(item)
        packed = "compressed " if self._kinds[file] not in (None, FASTQ) else ""
        return f"{self._paths[file]}, {packed}bytes {low} to {high}"

    def starts(self) -> Sequence[int]:
        """Every block of plain and bgzip files; the first block of each other stream."""
        starts = array("q")
        for file, end in enumerate(self._ends):
            first = self._first(file)
            starts.extend(range(first, end) if self._can_enter(file) else (first,))
        return starts

    def fingerprint(self) -> Mapping[str, str]:
        """Each file's fingerprint, by path."""
        return self.fingerprint_by("")

    def fingerprint_kind(self) -> str:
        """``"content"`` or ``"stat"``."""
        return self._telling.choose()

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint of this kind."""
        more = " as FASTQ" if self._fastq else ""
        return {path: text + more for path, text in self._telling.tell(kind).items()}

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """The blocks of each file."""
        return {path: (self._first(file), self._ends[file]) for file, path in enumerate(self._paths)}

    # ------------------------------------------------------------------ items

    def _first(self, file: int) -> int:
        return self._ends[file - 1] if file else 0

    def _can_enter(self, file: int) -> bool:
        return self._kinds[file] is None or file in self._groups

    def _range(self, item: int) -> tuple[int, int, int]:
        """The file of an item, and its bytes there."""
        file = bisect_right(self._ends, item)
        own = item - self._first(file)
        if file in self._groups:
            offsets = self._groups[file][0]
            return file, offsets[own], offsets[own + 1]
        return file, own * self._block, min((own + 1) * self._block, self._sizes[file])

    def _open(self, item: int) -> Block:
        file, low, high = self._range(item)
        path, first = self._paths[file], self._first(file)
        begins, ends = item == first, item == self._ends[file] - 1
        if self._kinds[file] is None:
            return Block(path, file, low, begins, ends, _plain(path, low, high, last=ends), self._fastq, item)
        if file in self._groups:
            place = self._groups[file][1][item - first]
            cursor = _TextCursor(path, self._kinds[file], low, place)
            pieces = cursor.pieces(high, ends=True, last=ends)
            return Block(path, file, place, begins, ends, pieces, self._fastq, item)
        cursor = self._seek(item, file)
        pieces = cursor.pieces(high, ends=ends, last=ends)
        return Block(path, file, cursor.offset, begins, ends, pieces, self._fastq, item)

    def _seek(self, item: int, file: int) -> _TextCursor:
        """The cursor of a stream, at this item: the one that is there already, or a new one."""
        low = self._range(item)[1]
        cursor = self._cursor
        if cursor is None or cursor.path != self._paths[file] or cursor.at != low or cursor.busy:
            cursor = _TextCursor(self._paths[file], self._kinds[file], 0, 0)
            for before in range(self._first(file), item):
                for _ in cursor.pieces(self._range(before)[2], ends=False):
                    pass
            self._cursor = cursor
        return cursor


class Block:
    """A stretch of a file's text; iterating yields its bytes in pieces of at most 256 KiB, once.

    A piece is a memoryview that is good until the next one is asked for.

    Attributes:
        path: the file.
        file: its number in the source.
        offset: where the stretch begins in the file's text (inflated).
        begins: it is the file's first.
        ends: it is the file's last.
        fastq: the text was made of FASTQ.
        item: its number in the source.
    """

    __slots__ = ("_pieces", "begins", "ends", "fastq", "file", "item", "offset", "path")

    def __init__(
        self, path: str, file: int, offset: int, begins: bool, ends: bool, pieces: Iterator[memoryview],
        fastq: bool = False, item: int = 0,
    ) -> None:  # fmt: skip
        self.path = path
        self.file = file
        self.offset = offset
        self.begins = begins
        self.ends = ends
        self.fastq = fastq
        self.item = item
        self._pieces = pieces
        if begins:
            self._drop_mark()

    def __iter__(self) -> Iterator[memoryview]:
        return self._pieces

    def placed(self) -> Iterator[tuple[int, bytes]]:
        """The same pieces, each with its offset in the file's text."""
        at = self.offset
        for piece in self._pieces:
            whole = piece.obj  # where these bytes are all that it views, they need not be copied
            yield at, whole if type(whole) is bytes and len(whole) == len(piece) else bytes(piece)
            at += len(piece)

    def __repr__(self) -> str:
        return f"Block({self.path}, from byte {self.offset} of the text)"

    def _drop_mark(self) -> None:
        """Leave a byte order mark out."""
        head = b""
        while len(head) < 3 and (piece := next(self._pieces, None)) is not None:
            head += piece
        if head.startswith(_BYTE_ORDER_MARK):
            head, self.offset = head[3:], self.offset + 3
        self._pieces = chain((memoryview(head),), self._pieces)


def _plain(path: str, low: int, high: int, *, last: bool) -> Iterator[memoryview]:
    """Bytes of a file, in pieces; ``last``: the file ends there."""
    buffer = memoryview(bytearray(min(PIECE, high - low)))
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(low)
            while low < high:
                count = file.readinto(buffer[: high - low])
                if not count:
                    raise shorter(path, low)
                low += count
                yield buffer[:count]
            if last:
                see_end(file, path)
    except OSError as error:
        raise unreadable(error, path) from error


class _TextCursor:
    """A place in a compressed file, with the decompressor that has come there."""

    def __init__(self, path: str, kind: str | None, at: int, offset: int) -> None:
        assert kind is not None
        self.path = path
        self.at = at
        """Compressed bytes before the next block."""
        self.offset = offset
        """Bytes of text before it."""
        self.busy = False
        """A block is being read, or was given up half way."""
        self._inflater = inflater_of(kind, path)

    def pieces(self, stop: int, *, ends: bool, last: bool = False) -> Iterator[memoryview]:
        """Text up to the compressed byte ``stop``; ``ends``: a stream must end there, ``last``: the file."""
        self.busy = True
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.at)
                while self.at < stop:
                    data = file.read(min(_FEED, stop - self.at))
                    if not data:
                        raise shorter(self.path, self.at)
                    self.at += len(data)
                    for piece in self._inflater.feed(data):
                        self.offset += len(piece)
                        yield memoryview(piece)
                if last:
                    see_end(file, self.path)
        except OSError as error:
            raise unreadable(error, self.path) from error
        if ends:
            for piece in self._inflater.end():
                self.offset += len(piece)
                yield memoryview(piece)
        self.busy = False


def inflater_of(kind: str, path: str) -> Inflater | FastqInflater:
    """The inflater for a stream of this kind."""
    if kind.startswith(FASTQ):
        return FastqInflater(kind.removeprefix(FASTQ).strip() or None, path)
    return Inflater(kind, path)


def shorter(path: str, size: int) -> BadInput:
    """The error for a file that ends before it should."""
    return BadInput(
        "shorter than it was when the run began: something else is writing it",
        file=path,
        place=f"byte {size}",
    )


def see_end(file: BinaryIO, path: str) -> None:
    """Check that a file still ends where it ended when its size was read: the last record may go on.

    Raises:
        BadInput: it does not.
    """
    if file.read(1):
        raise BadInput(
            "longer than it was when the run began: something else is writing it. Run again when it is whole",
            file=path,
            place=f"byte {file.tell() - 1}",
        )


def unreadable(error: OSError, path: str) -> BadInput:
    """The error for a file that cannot be read."""
    return BadInput(f"cannot be read: {error.strerror}", file=path)


def line_of(path: str, offset: int, *, fastq: bool = False) -> int | None:
    """The line number, from 1, of a byte in a file's text; None past the first GiB.

    Of a FASTQ file it is the file's own line.
    """
    if offset > 1 << 30:
        return None
    lines, at = 1, 0
    source = Fasta(path, fastq=fastq)
    for block in source.read(0, len(source)):
        at = max(at, block.offset)
        for piece in block:
            if at + len(piece) >= offset:
                lines += bytes(piece[: max(offset - at, 0)]).count(b"\n")
                return line_in_fastq(lines) if fastq else lines
            lines += bytes(piece).count(b"\n")
            at += len(piece)
    return lines
