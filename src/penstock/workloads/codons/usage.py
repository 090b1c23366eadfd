"""The codons of each record in one frame, from the text of whole records in pieces.

Covers a pass over the text with NumPy, in which a record of any length is never whole in memory: of the one
that is open at a piece's end only its counts and the last letters are kept. What rows say is in ``rows``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.errors import BadInput, PenstockError
from penstock.sequences.wrong import BAD_HEADER, LONGEST_HEADER
from penstock.workloads.codons import record_scanning as layout
from penstock.workloads.codons import summary as s
from penstock.workloads.codons import vectorised as v

Ints = NDArray[np.int64]

_PAD = bytes(layout.PAD)
_LEFT_OUT = 64
"""Instead of a codon's code: it is not counted."""
_SHORT = 4096
"""Letters of a segment, on average, up to which all are looked at together."""
_ROWS = 4096
"""Records that are counted together at most by compiled code: two MiB of rows."""
_LONG_LINE = 256 << 10
"""So much of a line that has no end is looked at at once."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of consecutive records; arrays of int64, one value per record.

    Attributes:
        headers: their header lines, without ``>``.
        offsets: where these begin in the text.
        counts: codons of bases alone, by code, shape (n, 64).
        codons: all codons, ambiguous ones included.
        ambiguous: codons with a letter that is no base.
        partial: the 0 to 2 letters after the last codon.
        skipped: letters before the frame, and those of first codons that are left out.
        dropped: first codons that are left out.
        length: letters.
        strong: G, C and S among them.
        known: A, C, G, T, U, S and W among them.
        odd: letters that are no base, by kind, shape (n, 4), as in ``summary``.
    """

    headers: list[bytes]
    offsets: Ints
    counts: Ints
    codons: Ints
    ambiguous: Ints
    partial: Ints
    skipped: Ints
    dropped: Ints
    length: Ints
    strong: Ints
    known: Ints
    odd: Ints

    def __len__(self) -> int:
        return len(self.headers)

    def chosen(self, which: NDArray[np.bool_]) -> Counted:
        """Only these records."""
        headers = [header for header, keep in zip(self.headers, which.tolist(), strict=True) if keep]
        return Counted(headers, *(getattr(self, name)[which] for name in _COLUMNS))


_COLUMNS = (
    "offsets", "counts", "codons", "ambiguous", "partial", "skipped", "dropped", "length", "strong", "known",
    "odd",
)  # fmt: skip
_ADDED = _COLUMNS[1:]


def gathered(parts: Iterable[Counted], size: int) -> Iterator[Counted]:
    """The same records in fewer pieces: combined up to a number, or a total length of headers."""
    held: list[Counted] = []
    records = headers = 0
    for part in parts:
        held.append(part)
        records += len(part)
        headers += sum(map(len, part.headers))
        if records >= size or headers >= LONGEST_HEADER:
            yield _together(held)
            held.clear()
            records = headers = 0
    if held:
        yield _together(held)


def _together(parts: list[Counted]) -> Counted:
    if len(parts) == 1:
        return parts[0]
    headers = [header for part in parts for header in part.headers]
    return Counted(headers, *(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))


@dataclass(slots=True)
class _Open:
    """The record that is not yet at its end."""

    header: bytes
    offset: int
    skip: int
    """Letters to leave out before its next codon."""
    drop: bool
    """Its first codon is still to come, and left out."""
    carry: v.Codes = field(default_factory=lambda: np.zeros(0, np.uint8))
    """Letters of a codon that has begun."""
    sums: dict[str, Ints] = field(default_factory=dict)


class Reader:
    """Reads the records of a stretch.

    Args:
        bad: makes the error for the byte at an offset of the text: given it, the kind of fault (see
            ``summary``) and the bytes from there on.
        frame: letters to skip at the start of each record.
        drop_start: leave each record's first codon out; of frame 0.
        table: the code of each byte.
        odd: is given the codes of codons that hold a letter that is no base, shape (n, 3).
    """

    def __init__(
        self, bad: Callable[[int, int, bytes], BadInput], *, frame: int = 0, drop_start: bool = False,
        table: bytes | None = None, odd: Callable[[v.Codes], None] | None = None,
    ) -> None:  # fmt: skip
        self._bad = bad
        self._frame = frame
        self._drop = drop_start
        self._table = table
        self._odd = odd
        self._open: _Open | None = None

    def read(self, pieces: Iterable[tuple[int, bytes]]) -> Iterator[Counted]:
        """The records, several at a time.

        Args:
            pieces: offset in the file's text, and bytes.

        Raises:
            BadInput: a byte that cannot be in nucleotide FASTA.
        """
        held, offset, inside_line = b"", 0, False
        for at, piece in pieces:
            text, size = b"".join((held, piece, _PAD)), len(held) + len(piece)
            offset = at - len(held)
            cut = text.rfind(b"\n") + 1
            if not cut and (inside_line or text[:1] not in (b">", b";")) and size >= _LONG_LINE:
                cut = size
            elif not cut and size > LONGEST_HEADER:
                raise self._bad(offset, BAD_HEADER, text[:40])
            if cut:
                yield from self._step(text, cut, offset, line_start=not inside_line)
                inside_line = not text.endswith(b"\n", 0, cut)
            held, offset = text[cut:size], offset + cut
        if held:
            yield from self._step(held + _PAD, len(held), offset, line_start=not inside_line)
        yield from self._step(b">" + _PAD, 1, offset + len(held), line_start=True)  # the last one ends

    def _step(self, text: bytes, size: int, offset: int, *, line_start: bool) -> Iterator[Counted]:
        """Read ``size`` bytes of a text that goes on behind them, by PAD bytes at least."""
        text = text[:size]
        found, codes = self._letters(text, offset, line_start=line_start, opened=self._open is not None)
        if len(codes):
            yield from self._count(text, offset, found, codes)

    def _letters(
        self, text: bytes, offset: int, *, line_start: bool, opened: bool
    ) -> tuple[v.Letters, v.Codes]:
        """The letters of whole lines; raises for what cannot be there. ``opened``: a record has begun."""
        found = (
            v.letters_of(text, line_start=line_start)
            if self._table is None
            else v.letters_of(text, line_start=line_start, table=self._table)
        )
        wrong = (found.offence, s.BAD_BYTE) if found.offence >= 0 else found.bad
        codes = found.codes
        if found.feed is not None:  # the mark where a line that went on ends
            at = int(np.argmax(codes == v.MARK))
            codes = np.concatenate((codes[:at], codes[at + 1 :]))
        if not opened and len(codes) and codes[0] != v.MARK:
            wrong = v.text_before(text, found)
        if wrong is not None:
            at = max(wrong[0], 0)
            raise self._bad(offset + at, wrong[1], text[at : at + 40])
        return found, codes

    def _count(self, text: bytes, offset: int, found: v.Letters, codes: v.Codes) -> Iterator[Counted]:
        last = self._open
        carried = last.carry if last else codes[:0]
        codes = np.concatenate((carried, codes))
        marks = np.flatnonzero(codes == v.MARK)
        begins, stops = np.append(0, marks + 1), np.append(marks, len(codes))
        skips = np.full(len(begins), self._frame)
        drops = np.full(len(begins), self._drop)
        skips[0], drops[0] = (last.skip, last.drop) if last else (0, False)
        counted = self._segments(codes, begins, stops, skips, drops)
        counted["length"][0] -= len(carried)
        kinds = codes[: len(carried)]
        counted["strong"][0] -= int((kinds & 1).sum())
        _take_carried(counted, kinds)
        headers = [text[a + 1 : b].rstrip(b"\r") for a, b in zip(found.headers, found.ends, strict=True)]
        offsets = found.headers + offset
        if last is not None:
            for name, total in last.sums.items():
                counted[name][0] += total
            headers, offsets = [last.header, *headers], np.append(last.offset, offsets)
        else:
            counted = {name: column[1:] for name, column in counted.items()}
        if len(headers) > 1:
            yield self._closed(headers[:-1], offsets[:-1], {n: c[:-1] for n, c in counted.items()})
        if headers:
            at = int(offsets[-1])
            self._open = self._left(codes, begins, stops, skips, drops, counted, headers[-1], at)

    def _closed(self, headers: list[bytes], offsets: Ints, counted: dict[str, Ints]) -> Counted:
        length, dropped = counted["length"], counted["dropped"]
        skipped = np.minimum(length, self._frame) + 3 * dropped
        codons = counted["codons"]
        partial = length - skipped - 3 * codons
        return Counted(
            headers, offsets, counted["counts"], codons, counted["ambiguous"], partial, skipped, dropped,
            length, counted["strong"], counted["known"], counted["odd"],
        )  # fmt: skip

    def _left(
        self, codes: v.Codes, begins: v.Places, stops: v.Places, skips: Ints, drops: NDArray[np.bool_],
        counted: dict[str, Ints], header: bytes, offset: int,
    ) -> _Open:  # fmt: skip
        """What is kept of the last record."""
        start, stop = int(begins[-1] + skips[-1]), int(stops[-1])
        whole = max(stop - start, 0) // 3
        drop = bool(drops[-1]) and not whole
        sums = {name: column[-1].copy() for name, column in counted.items()}
        return _Open(header, offset, max(start - stop, 0), drop, codes[min(start + 3 * whole, stop) :], sums)

    def _segments(
        self, codes: v.Codes, begins: v.Places, stops: v.Places, skips: Ints, drops: NDArray[np.bool_]
    ) -> dict[str, Ints]:
        """Sums by segment: a record, or what there is of it."""
        number, starts = len(begins), begins + skips
        each = np.maximum(stops - starts, 0) // 3
        ends = np.cumsum(each)
        padded = np.concatenate((codes, np.full(2, v.MARK, np.uint8)))
        key = _of_codons(padded[:-2] | padded[1:-1] << 2 | padded[2:] << 4, starts, each)
        odd = np.flatnonzero(codes >= v.N)
        odd = odd[codes[odd] != v.MARK]
        dropped = drops & (each > 0)
        left_out = np.zeros(len(key), bool)
        left_out[(ends - each)[dropped]] = True
        ambiguous = np.zeros(number, np.int64)
        if len(odd):
            is_odd = padded >= v.N
            mixed = _of_codons(is_odd[:-2] | is_odd[1:-1] | is_odd[2:], starts, each) & ~left_out
            ambiguous = np.bincount(
                np.searchsorted(ends, np.flatnonzero(mixed), side="right"), minlength=number
            )
            if self._odd is not None:
                at = _of_codons(np.arange(len(codes)), starts, each)
                self._odd(padded[at[mixed, None] + np.arange(3)])
            left_out |= mixed
        key[left_out] = _LEFT_OUT
        kinds = codes[odd]
        of = np.searchsorted(stops, odd, side="right")
        return {
            "counts": _histograms(key, each),
            "codons": each - dropped,
            "ambiguous": ambiguous,
            "dropped": dropped.astype(np.int64),
            "length": stops - begins,
            "strong": _strong(padded, begins, stops),
            **_letters(of, kinds, stops - begins, number),
        }


class CompiledReader(Reader):
    """:class:`Reader` in compiled code: the same numbers, for inputs that are worth loading it."""

    def __init__(
        self, bad: Callable[[int, int, bytes], BadInput], *, frame: int = 0, drop_start: bool = False
    ) -> None:
        super().__init__(bad, frame=frame, drop_start=drop_start)
        self._state, self._bases = layout.begin()
        self._out = np.zeros((_ROWS + 2, layout.WIDTH), np.int64)  # what is not written to takes no memory
        self._places = np.zeros((len(self._out), 2), np.int64)
        self._last: tuple[Ints, bytes, int] | None = None
        """Of the open record: what was counted, its header, and where that begins."""

    def _step(self, text: bytes, size: int, offset: int, *, line_start: bool) -> Iterator[Counted]:
        state, padded = self._state, np.frombuffer(text, np.uint8)
        state[layout.IN_SEQUENCE] = not line_start
        at = 0
        while at < size:
            out, places = self._out, self._places
            state[layout.ROW] = -1
            if self._last is not None:
                out[0], state[layout.ROW] = self._last[0], 0
            opened = self._last is not None
            at = layout.scan(padded, at, size, self._frame, self._drop, state, self._bases, out, places)
            if at < 0:
                self._letters(text[:size], offset, line_start=line_start, opened=opened)
                raise PenstockError(
                    f"what is wrong near byte {offset} of the text was seen, and is not there"
                )
            rows = out[: int(state[layout.ROW]) + 1].copy()
            out[: len(rows)] = 0
            yield from self._rows(text, offset, rows, places)

    def _rows(self, text: bytes, offset: int, out: Ints, places: Ints) -> Iterator[Counted]:
        """The records that ended, of those with rows; the last one is open."""
        if not len(out):
            return
        low = 0 if self._last is None else 1
        starts, ends = places[low : len(out)].T.tolist()
        headers = [text[start + 1 : end] for start, end in zip(starts, ends, strict=True)]
        if b"\r" in text:
            headers = [header.rstrip(b"\r") for header in headers]
        offsets = places[low : len(out), 0] + offset
        if self._last is not None:
            headers, offsets = [self._last[1], *headers], np.append(self._last[2], offsets)
        self._last = out[-1].copy(), headers[-1], int(offsets[-1])
        if len(out) > 1:
            yield self._closed(headers[:-1], offsets[:-1], self._named(out[:-1]))

    def _named(self, out: Ints) -> dict[str, Ints]:
        odd, length = out[:, layout.ODD :], out[:, layout.LENGTH]
        return {
            "counts": out[:, :64], "codons": out[:, layout.CODONS], "ambiguous": out[:, layout.AMBIGUOUS],
            "dropped": out[:, layout.DROPPED], "length": length, "strong": out[:, layout.STRONG],
            "odd": odd, "known": length - odd.sum(axis=1) + out[:, layout.TELLING],
        }  # fmt: skip


# Of long segments each by itself costs less than an index of all letters, of short ones more.


def _of_codons(values: NDArray[Any], starts: v.Places, each: Ints) -> NDArray[Any]:
    """The values of the first letters of codons: of each segment, so many from its start on."""
    if len(starts) * _SHORT < len(values):
        return np.concatenate(
            [values[a : a + 3 * n : 3] for a, n in zip(starts.tolist(), each.tolist(), strict=True)]
        )
    before = np.cumsum(each) - each
    return np.asarray(values[np.repeat(starts - 3 * before, each) + 3 * np.arange(each.sum())])


def _histograms(key: v.Codes, each: Ints) -> Ints:
    """How often each codon is there, by segment; ``key`` has so many codons of each in turn."""
    number, width = len(each), _LEFT_OUT + 1
    if number * _SHORT < 3 * len(key):
        ends = np.cumsum(each).tolist()
        found = np.array(
            [np.bincount(key[end - n : end], minlength=width) for end, n in zip(ends, each, strict=True)]
        )
    else:
        place = np.repeat(np.arange(number) * width, each) + key
        found = np.bincount(place, minlength=number * width).reshape(number, width)
    return np.ascontiguousarray(found[:, :_LEFT_OUT])


def _strong(padded: v.Codes, begins: v.Places, stops: v.Places) -> Ints:
    """Letters that are G, C or S, by segment."""
    bits = padded & 1
    if len(begins) * _SHORT < len(padded):
        pairs = zip(begins.tolist(), stops.tolist(), strict=True)
        return np.array([np.count_nonzero(bits[a:b].view(bool)) for a, b in pairs], np.int64)
    return np.add.reduceat(bits, begins, dtype=np.int64)


def _letters(of: v.Places, kinds: v.Codes, lengths: Ints, number: int) -> dict[str, Ints]:
    """Letters that are no base, by segment and kind, and how many of all tell whether they are strong."""
    groups = np.full(256, 1)
    groups[[v.N, v.GAP, v.PROTEIN]] = 0, 2, 3
    odd = np.bincount(of * 4 + groups[kinds], minlength=4 * number).reshape(number, 4)
    telling = np.bincount(of[(kinds == v.STRONG) | (kinds == v.WEAK)], minlength=number)
    return {"odd": odd, "known": lengths - odd.sum(axis=1) + telling}


def _take_carried(counted: dict[str, Ints], carried: v.Codes) -> None:
    """The letters of a codon that began in the piece before were told there."""
    kinds = carried[carried >= v.N]
    again = _letters(np.zeros(len(kinds), np.intp), kinds, np.array([len(carried)]), 1)
    counted["odd"][0] -= again["odd"][0]
    counted["known"][0] -= again["known"][0]
