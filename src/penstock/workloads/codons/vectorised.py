"""Counts the codons of FASTA text with NumPy alone: the same summaries as ``kernel``, for small inputs.

They would not pay for the load of compiled code. Covers one pass over a piece of text, whose letters
become codes without headers, blanks and line ends, and from these the summary (see ``summary``). A piece is
a stretch of its own; pieces are put together by ``summary.join``, so no state is carried. Every third window
of five letters holds codons of all three phases, so one histogram of 1,024 windows gives all of them, as in
``kernel``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.workloads.codons import summary as s

Codes = NDArray[np.uint8]
Places = NDArray[np.intp]

# Codes of letters; 0 to 3 are bases.
N, STRONG, IUPAC, GAP, PROTEIN, WEAK, MARK, BLANK, FEED, BAD = 4, 5, 6, 8, 10, 12, 14, 16, 17, 18
"""STRONG is S (C or G), WEAK W (A or T); MARK stands where a record begins. Odd numbers are C or G."""
_LETTERS = {
    0: b"A", 1: b"C", 2: b"TU", 3: b"G", N: b"N", IUPAC: b"RYKMBDHVX", GAP: b"-.*~?", PROTEIN: b"EFILPQJOZ",
    STRONG: b"S", WEAK: b"W", BLANK: b" \t\r\v\f", FEED: b"\n",
}  # fmt: skip
_GROUPS = 13
"""Of codons: closed records by length mod 3 and place mod 3, the three fragments, what is not counted."""
_LINE, _HEAD, _TAIL, _NOWHERE = 9, 10, 11, 12


def _table() -> bytes:
    kinds = np.full(256, BAD, np.uint8)
    for code, letters in _LETTERS.items():
        kinds[np.frombuffer(letters + letters.lower(), np.uint8)] = code
    return kinds.tobytes()


TABLE = _table()
_DROPPED = bytes([BLANK, FEED, BAD])


@dataclass(frozen=True, slots=True)
class Letters:
    """The letters of a piece of text.

    Attributes:
        codes: uint8, one for each letter, and ``MARK`` where a record begins and, unless the piece is at a
            line's start, where its first line ends.
        headers: where in the piece each record's header begins.
        ends: where each of these lines ends: at its line feed, or the piece's end.
        bad: place and kind of the first byte that cannot be there, or None.
        offence: place of the first byte in the first, unknown line that cannot be in a sequence, or -1.
        feed: where that line ends, or None.
        in_header: the piece ends inside a header or comment.
    """

    codes: Codes
    headers: Places
    ends: Places
    bad: tuple[int, int] | None
    offence: int
    feed: int | None
    in_header: bool


def letters_of(text: bytes, *, line_start: bool, table: bytes = TABLE) -> Letters:
    """Find headers and comments, and convert everything else to codes.

    Args:
        text: the piece.
        line_start: it begins where a line does.
        table: the code of each byte.
    """
    raw, size = np.frombuffer(text, np.uint8), len(text)
    kinds = np.frombuffer(bytearray(text.translate(table)), np.uint8)
    feeds = np.flatnonzero(raw == 10)
    starts = np.concatenate(([0], feeds + 1)) if line_start else feeds + 1
    ends = np.append(feeds if line_start else feeds[1:], size)
    if size and len(starts) and starts[-1] == size:
        starts, ends = starts[:-1], ends[:-1]
    first = raw[starts] if size else raw
    is_header = first == ord(">")
    told = is_header | (first == ord(";"))
    headers, header_ends = starts[is_header], ends[: len(starts)][is_header]
    lines = starts[told], ends[: len(starts)][told]
    _blank(kinds, *lines)
    kinds[headers] = MARK
    feed = None
    if not line_start and len(feeds):
        feed = int(feeds[0])
        kinds[feed] = MARK
    flat = kinds.tobytes()
    unknown = 0 if line_start else size if feed is None else feed
    offence = flat.find(BAD, 0, unknown)
    bad = flat.find(BAD, unknown)
    wrong = [(bad, s.BAD_BYTE)] if bad >= 0 else []
    if b"\r" in text and (at := _lone_return(raw, *lines)) is not None:
        wrong.append((at, s.BAD_RETURN))
    codes = np.frombuffer(flat.translate(None, _DROPPED), np.uint8)
    in_header = bool(len(told) and told[-1] and lines[1][-1] == size)
    return Letters(codes, headers, header_ends, min(wrong, default=None), offence, feed, in_header)


def _blank(kinds: Codes, starts: Places, ends: Places) -> None:
    """Headers and comments hold no letters."""
    if len(starts) < 32:
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            kinds[start:end] = BLANK
        return
    inside = np.zeros(len(kinds) + 1, np.int8)
    inside[starts] = 1
    inside[ends] = -1
    kinds[np.cumsum(inside[:-1], dtype=np.int8).view(bool)] = BLANK


def _lone_return(raw: Codes, starts: Places, ends: Places) -> int | None:
    """The first carriage return inside these lines that no line feed follows."""
    if not len(starts):
        return None
    returns = np.flatnonzero(raw[:-1] == 13)
    returns = returns[raw[returns + 1] != 10]
    line = np.searchsorted(starts, returns, side="right") - 1
    inside = returns[(line >= 0) & (returns < ends[line])]
    return int(inside[0]) if len(inside) else None


# ------------------------------------------------------------------ the summary


def scan(
    text: bytes | memoryview, origin: int, file: int, *, at_start: bool, salt: int, limit: int,
    numbers: NDArray[np.uint64] | None = None,
) -> s.Vector:  # fmt: skip
    """The summary of a piece, int64.

    Args:
        text: the bytes; may be empty.
        origin: offset of its first byte in the file's text.
        file: its number, noted in the summary.
        at_start: the piece begins its file.
        salt, limit: a record whose header is at ``offset`` is counted if
            ``mixed(salt + offset) <= limit``.
        numbers: used instead of the offsets.

    A byte that cannot be there is named in ``BAD``, and nothing else can be relied on then.
    """
    text = bytes(text)
    out = s.file_start() if at_start else s.empty()
    out[s.FILE] = file
    if not text:
        return out
    if not at_start:
        out[s.ORIGIN] = origin
        out[s.MARK] = {ord(">"): s.MARK_RECORD, ord(";"): s.MARK_COMMENT}.get(text[0], s.MARK_OTHER)
        out[s.MARK_KEPT] = _kept(np.array([origin], np.uint64), salt, limit)[0]
    found = letters_of(text, line_start=at_start)
    if found.offence >= 0:
        out[s.LINE + s.OFFENCE] = origin + found.offence + 1
    bad = found.bad if not at_start else text_before(text, found)
    if bad is not None:
        at, kind = bad
        out[[s.BAD, s.BAD_FILE, s.BAD_KIND]] = (origin + at if at >= 0 else 0) + 1, file, kind
        return out
    if at_start or found.feed is not None:
        out[s.HAS_NEWLINE] = 1
        out[s.MODE] = s.IN_HEADER if found.in_header else s.IN_SEQUENCE
    if text[-1] == 10:
        out[s.MODE] = s.AT_LINE_START
    headers = found.headers.astype(np.uint64) + np.uint64(origin) if numbers is None else numbers
    _fill(out, found, _kept(headers, salt, limit), at_start=at_start)
    return out


def text_before(text: bytes, found: Letters) -> tuple[int, int] | None:
    """What is wrong at the beginning of a file: letters before its first header; -1 is no place."""
    first = int(found.headers[0]) if len(found.headers) else len(text)
    if not len(found.codes) or found.codes[0] == MARK:
        if found.bad and found.bad[1] == s.BAD_BYTE and found.bad[0] < first:
            return found.bad[0], s.BAD_TEXT
        return found.bad
    before = _without_comments(text[:first]).translate(TABLE)
    odd = min((at for code in (*range(N, MARK), BAD) if (at := before.find(code)) >= 0), default=None)
    place = odd if odd is not None else first if len(found.headers) else -1
    if found.bad is not None and found.bad[1] == s.BAD_RETURN and found.bad[0] < place:
        return found.bad
    return place, s.BAD_TEXT


def _without_comments(text: bytes) -> bytes:
    """Comments blank, so that everything keeps its place."""
    lines = text.split(b"\n")
    return b"\n".join(b" " * len(line) if line.startswith(b";") else line for line in lines)


def _kept(numbers: NDArray[np.uint64], salt: int, limit: int) -> NDArray[np.bool_]:
    if limit == 2**64 - 1:
        return np.ones(len(numbers), bool)
    with np.errstate(over="ignore"):
        return s.mixed(np.uint64(salt) + numbers) <= np.uint64(limit)


def _fill(out: s.Vector, found: Letters, kept: NDArray[np.bool_], *, at_start: bool) -> None:
    """Closed records and fragments."""
    codes = found.codes
    marks = np.flatnonzero(codes == MARK)
    begins, stops = np.append(0, marks + 1), np.append(marks, len(codes))
    # Segments: the first line and what follows it, unless the piece begins its file; records, the last open.
    before = 1 if at_start or found.feed is None else 2
    group = np.full(len(begins), _NOWHERE)
    if not at_start:
        group[0] = _LINE
        group[1:before] = _HEAD
    closed = np.arange(before, len(begins) - 1)[kept[:-1]]
    group[closed] = (stops[closed] - begins[closed]) % 3 * 3 + begins[closed] % 3
    if len(begins) > before:
        group[-1] = _TAIL
        out[s.CUT] = out[s.OPEN] = 1
        out[s.KEPT] = kept[-1]
    odd = np.flatnonzero(codes >= N)
    counts = count(codes, odd, begins, group, _GROUPS)
    _close(out, codes, begins[closed], stops[closed], counts)
    odd = odd[codes[odd] != MARK]
    if len(odd):
        of = group[np.searchsorted(stops, odd, side="right")]
        out[s.CLOSED_LETTERS : s.CLOSED_LETTERS + 4] = tally(codes[odd[of < _LINE]])
    for segment, of, at in (
        (0, _LINE, s.LINE),
        (before - 1, _HEAD, s.HEAD),
        (len(begins) - 1, _TAIL, s.TAIL),
    ):
        if group[segment] == of:
            begin, stop = int(begins[segment]), int(stops[segment])
            inside = odd[np.searchsorted(odd, begin) : np.searchsorted(odd, stop)]
            _fragment(out[at : at + s.FRAGMENT], codes[begin:stop], counts[of][s.TURNED[begin % 3]])
            out[at + s.LETTERS : at + s.LETTERS + 4] = tally(codes[inside])


def _close(out: s.Vector, codes: Codes, begins: Places, stops: Places, counts: s.Vector) -> None:
    """Records that begin and end in the piece."""
    by_length = out[s.CLOSED : s.CLOSED + 576].reshape(3, 3, 64)
    for rest in range(3):
        for place in range(3):
            by_length[rest] += counts[rest * 3 + place][s.TURNED[place]]
    lengths = stops - begins
    out[s.RECORDS], out[s.BASES] = len(lengths), lengths.sum()
    out[s.BY_LENGTH : s.BY_LENGTH + 3] = np.bincount(lengths % 3, minlength=3)
    out[s.BARE : s.BARE + 3] = np.bincount(lengths[lengths < 3], minlength=3)
    triplets = codes[begins[lengths >= 3, None] + np.arange(3)]
    whole = triplets[(triplets < N).all(axis=1)].astype(np.intp)
    out[s.STARTS : s.STARTS + 64] = np.bincount(whole @ np.array([1, 4, 16]), minlength=64)


def _fragment(out: s.Vector, codes: Codes, counts: s.Vector) -> None:
    out[:192] = counts.ravel()
    out[s.LENGTH] = len(codes)
    edges = np.minimum(codes[:3], N), np.minimum(codes[-2:], N)
    out[s.FIRST : s.FIRST + len(edges[0])] = edges[0]
    out[s.LAST + 2 - len(edges[1]) : s.LAST + 2] = edges[1]


def tally(codes: Codes) -> s.Vector:
    """Letters that are not bases: N, other IUPAC and X, gaps, protein."""
    found = np.bincount(codes, minlength=MARK)
    return np.array([found[N], found[IUPAC] + found[STRONG] + found[WEAK], found[GAP], found[PROTEIN]])


def count(codes: Codes, odd: Places, begins: Places, group: Places, groups: int) -> s.Vector:
    """Codons by group, place of the first letter mod 3, and code: int64 of shape (groups, 3, 64).

    Args:
        codes: letters, where no codon of a segment reaches into the next: a ``MARK`` lies between.
        odd: where a letter is no base, and the marks.
        begins: where each segment begins.
        group: of each segment.
        groups: how many there are.
    """
    last = len(codes) - 2
    if last < 1:
        return np.zeros((groups, 3, 64), np.int64)
    windows = -(-last // 3)
    padded = np.concatenate((codes, np.full(4, MARK, np.uint8)))
    pairs = padded[:-1] | padded[1:] << 2
    key = (pairs[: 3 * windows : 3] | pairs[2 : 3 * windows + 2 : 3] << 4).astype(np.intp)
    key |= padded[4 : 3 * windows + 4 : 3].astype(np.intp) << 8
    edges = np.append(-(-begins // 3), windows).clip(0, windows)
    key += np.repeat(group * 1024, np.diff(edges))
    odd = np.append(odd, [len(codes), len(codes) + 1])
    near = np.concatenate((odd // 3, (odd - 2) // 3))
    is_near = np.zeros(windows, bool)
    is_near[near[(near >= 0) & (near < windows)]] = True
    near = np.flatnonzero(is_near)  # not np.unique, which imports numpy.ma: longer than a small count takes
    key[near] = groups * 1024
    found = np.bincount(key, minlength=groups * 1024)[: groups * 1024].reshape(groups, 1024)
    counts = np.zeros((groups, 3, 64), np.int64)
    present = np.flatnonzero(np.bincount(group, minlength=groups))
    whole_windows = found[present]
    counts[present, 0] = whole_windows.reshape(-1, 16, 64).sum(axis=1)
    counts[present, 1] = whole_windows.reshape(-1, 4, 64, 4).sum(axis=(1, 3))
    counts[present, 2] = whole_windows.reshape(-1, 64, 16).sum(axis=2)
    # Windows that are near a letter that is no base: their codons one by one.
    at = (near[:, None] * 3 + np.arange(3)).ravel()
    triplets = padded[at[:, None] + np.arange(3)]
    whole = (triplets < N).all(axis=1)
    at, code = at[whole], triplets[whole].astype(np.intp) @ np.array([1, 4, 16])
    of = group[np.searchsorted(begins, at, side="right") - 1]
    single = np.bincount((of * 3 + at % 3) * 64 + code, minlength=groups * 192)
    return np.asarray(counts + single.reshape(groups, 3, 64), np.int64)


# ------------------------------------------------------------------ whole items


def scan_rows(
    text: NDArray[np.uint8], offsets: NDArray[np.int64], row: int, *, salt: int, limit: int
) -> tuple[s.Vector, int | None]:
    """The summary of sequences without headers, each a record; closed.

    Args:
        text: one sequence after the other.
        offsets: where each begins in it, and where the last ends.
        row: number of the first; a record is counted if ``mixed(salt + its number) <= limit``.

    Returns:
        The summary, and the number of a row (from 0) that holds what cannot be there, or None.
    """
    total = s.empty()
    low, rows = 0, len(offsets) - 1
    while low < rows:
        high = max(int(np.searchsorted(offsets, offsets[low] + _ROWS, side="right")) - 1, low + 1)
        # What would begin a header or a comment is no sequence, and no byte of one is '!'.
        sequences = [
            text[offsets[i] : offsets[i + 1]].tobytes().replace(b">", b"!") for i in range(low, high)
        ]
        sequences = [b"!" + each[1:] if each[:1] == b";" else each for each in sequences]
        whole = b"".join(b">\n" + sequence + b"\n" for sequence in sequences)
        numbers = np.arange(row + low, row + high, dtype=np.uint64)
        part = scan(whole, 0, 0, at_start=True, salt=salt, limit=limit, numbers=numbers)
        if part[s.BAD]:
            lengths = np.cumsum([3 + len(each) for each in sequences])
            return total, low + int(np.searchsorted(lengths, int(part[s.BAD]) - 1, side="right"))
        total = s.join(total, s.end_file(part))
        low = high
    return total, None


_ROWS = 1 << 17
"""Bytes of rows that are looked at together."""
