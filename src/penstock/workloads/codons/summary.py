"""Summary of a stretch of FASTA text, such that neighbours can be combined exactly.

A stretch may begin and end anywhere: in a header, in a line, in a codon. Its summary is one vector
of int64, and ``join`` is associative with ``empty()`` as its neutral element, so any cut of a
text into stretches gives the same summary. Covers the layout and the joining; the scanning is in
``kernel``. Plain NumPy, nothing of ours.

A stretch is seen as three fragments and the records closed in between::

    ...ACGT | ACGTAC\\nGTAC...  >id\\nACGT...   >id\\nAC...  | GT...
            | `line'  `head'    closed records   `tail'     |

``line`` is what comes before the first newline: whether it is sequence or the rest of a header only
the left neighbour knows, so it stands apart. A codon is coded as ``b0 + 4 b1 + 16 b2`` with
A, C, T, G = 0, 1, 2, 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.hashing import mixed as mixed

Vector = NDArray[np.int64]

# ------------------------------------------------------------------ layout
# A fragment: consecutive positions of one record.
LENGTH = 192  # after 3 x 64 counts by phase (first position of the codon mod 3) and codon
FIRST = 193  # codes of the first three positions; 4 for a letter that is no base, -1 for none
LAST = 196  # codes of the last two positions
LETTERS = 198  # letters that are no base: N, other IUPAC and X, gaps, protein
OFFENCE = 202  # 1 + offset of the first byte that cannot be in a sequence; 0 for none
FRAGMENT = 203

LINE, HEAD, TAIL = 0, FRAGMENT, 2 * FRAGMENT
CLOSED = 3 * FRAGMENT  # 3 x 3 x 64 counts of closed records by length mod 3, phase, codon
STARTS = CLOSED + 576  # 64 counts of closed records by their first codon, where it is of bases alone
RECORDS = STARTS + 64
BASES = RECORDS + 1
BY_LENGTH = RECORDS + 2  # records by length mod 3
BARE = RECORDS + 5  # records of length 0, of length 1 and of length 2
CLOSED_LETTERS = RECORDS + 8
HAS_NEWLINE = RECORDS + 12  # ``line`` is complete
CUT = RECORDS + 13  # the record that was open on the left has ended in here
OPEN = RECORDS + 14  # ``tail`` belongs to a record that is open on the right
KEPT = RECORDS + 15  # that record is in the sample
MODE = RECORDS + 16  # where the stretch ends
MARK = RECORDS + 17  # its first byte, one of the marks below; 0 for none, and where a file begins
MARK_KEPT = RECORDS + 18  # a record whose header begins at the first byte is in the sample
BAD = RECORDS + 19  # 1 + offset of the first bad byte, 0 for none
BAD_FILE = RECORDS + 20
BAD_KIND = RECORDS + 21
FILE = RECORDS + 22  # number of the file that the first byte is in
ORIGIN = RECORDS + 23  # its offset there
SIZE = RECORDS + 24

_PLACES = np.array([1, 4, 16])
TURNED = (np.arange(3)[:, None] + np.arange(3)) % 3
"""Where each phase's counts are among those of places mod 3, for a fragment that begins at 0, 1 and 2."""

# Where a stretch ends.
IN_FIRST_LINE, IN_SEQUENCE, AT_LINE_START, IN_HEADER = 0, 1, 2, 3
# How it begins.
MARK_RECORD, MARK_COMMENT, MARK_OTHER = 1, 2, 3
# What is wrong with a byte.
BAD_BYTE, BAD_TEXT, BAD_RETURN = 1, 2, 3


def empty() -> Vector:
    """The summary of no text."""
    summary = np.zeros(SIZE, np.int64)
    for fragment in (LINE, HEAD, TAIL):
        _clear(summary, fragment)
    return summary


def file_start() -> Vector:
    """The summary before a file's first byte: at a line start, no record open."""
    summary = empty()
    summary[[HAS_NEWLINE, CUT]] = 1
    summary[MODE] = AT_LINE_START
    return summary


def is_empty(summary: Vector) -> bool:
    """Whether it stands for no text at all."""
    return not (summary[MARK] or summary[HAS_NEWLINE])


def end_file(summary: Vector) -> Vector:
    """The file ends: close its last line and its last record. Changes ``summary``."""
    summary[HAS_NEWLINE] = 1
    summary[MODE] = AT_LINE_START
    _cut(summary)
    return summary


def join(left: Vector, right: Vector) -> Vector:
    """Combine the summaries of two neighbouring stretches. Changes neither."""
    if is_empty(left):
        return right.copy()
    if is_empty(right):
        return left.copy()
    if left[MODE] == IN_FIRST_LINE:
        return _join_line(left, right)
    out = left.copy()
    at_start = left[MODE] == AT_LINE_START
    in_header = left[MODE] == IN_HEADER or (at_start and right[MARK] in (MARK_RECORD, MARK_COMMENT))
    if not in_header:
        _extend(out, right, LINE)
    if at_start and right[MARK] == MARK_RECORD:
        _cut(out)
        out[OPEN], out[KEPT] = 1, right[MARK_KEPT]
    if right[HAS_NEWLINE]:
        _extend(out, right, HEAD)
        if right[CUT]:
            _cut(out)
            out[TAIL : TAIL + FRAGMENT] = right[TAIL : TAIL + FRAGMENT]
            out[OPEN], out[KEPT] = right[OPEN], right[KEPT]
        out[CLOSED:HAS_NEWLINE] += right[CLOSED:HAS_NEWLINE]
        out[MODE] = right[MODE]
    elif right[MARK]:
        out[MODE] = IN_HEADER if in_header else IN_SEQUENCE
    if not out[BAD]:
        out[[BAD, BAD_FILE, BAD_KIND]] = right[[BAD, BAD_FILE, BAD_KIND]]
    return out


def _join_line(left: Vector, right: Vector) -> Vector:
    """The left stretch is the beginning of one line: it comes before the right one's first."""
    out = right.copy()
    out[LINE : LINE + FRAGMENT] = _concatenate(left[LINE:HEAD], right[LINE:HEAD])
    out[[MARK, MARK_KEPT, FILE, ORIGIN]] = left[[MARK, MARK_KEPT, FILE, ORIGIN]]
    return out


def _extend(out: Vector, right: Vector, fragment: int) -> None:
    """Lengthen the fragment at the end of ``out`` by one of ``right``, now known to be sequence."""
    more = right[fragment : fragment + FRAGMENT]
    if more[OFFENCE] and not out[BAD]:
        out[[BAD, BAD_FILE, BAD_KIND]] = more[OFFENCE], right[FILE], BAD_BYTE
    if not more[LENGTH]:
        return
    if out[CUT] and not out[OPEN]:
        if not out[BAD]:
            out[[BAD, BAD_FILE, BAD_KIND]] = right[ORIGIN] + 1, right[FILE], BAD_TEXT
        return
    at = TAIL if out[CUT] else HEAD
    out[at : at + FRAGMENT] = _concatenate(out[at : at + FRAGMENT], more)


def _cut(out: Vector) -> None:
    """The record at the end of ``out`` ends."""
    if not out[CUT]:
        out[CUT] = 1
        return
    if out[OPEN] and out[KEPT]:
        _close(out, out[TAIL : TAIL + FRAGMENT])
    out[OPEN] = out[KEPT] = 0
    _clear(out, TAIL)


def _close(out: Vector, record: Vector) -> None:
    length = int(record[LENGTH])
    at = CLOSED + 192 * (length % 3)
    out[at : at + 192] += record[:192]
    out[RECORDS] += 1
    out[BASES] += length
    out[BY_LENGTH + length % 3] += 1
    if length < 3:
        out[BARE + length] += 1
    elif max(record[FIRST : FIRST + 3]) < 4:
        out[STARTS + int(record[FIRST : FIRST + 3] @ _PLACES)] += 1
    out[CLOSED_LETTERS : CLOSED_LETTERS + 4] += record[LETTERS : LETTERS + 4]


def _clear(summary: Vector, fragment: int) -> None:
    summary[fragment : fragment + FRAGMENT] = 0
    summary[fragment + FIRST : fragment + LETTERS] = -1


def _concatenate(a: Vector, b: Vector) -> Vector:
    """Two neighbouring fragments of one record as one: b's phases turned, crossing codons added."""
    if not a[LENGTH] or not b[LENGTH]:
        out = (a if a[LENGTH] else b).copy()
        out[OFFENCE] = a[OFFENCE] or b[OFFENCE]
        return out
    out = a.copy()
    length = int(a[LENGTH])
    out[:192] += b[:192].reshape(3, 64)[TURNED[-length % 3]].ravel()
    out[LENGTH] = length + b[LENGTH]
    out[LETTERS : LETTERS + 4] += b[LETTERS : LETTERS + 4]
    out[OFFENCE] = a[OFFENCE] or b[OFFENCE]
    before = [int(code) for code in a[LAST : LAST + 2] if code >= 0]
    after = [int(code) for code in b[FIRST : FIRST + 2] if code >= 0]
    codes = before + after
    for i in range(len(codes) - 2):
        b0, b1, b2 = codes[i : i + 3]
        if i < len(before) and max(b0, b1, b2) < 4:
            out[(length - len(before) + i) % 3 * 64 + b0 + 4 * b1 + 16 * b2] += 1
    if length < 3:
        out[FIRST + length : FIRST + 3] = b[FIRST : FIRST + 3 - length]
    if b[LENGTH] == 1:
        out[LAST], out[LAST + 1] = a[LAST + 1], b[LAST + 1]
    else:
        out[LAST : LAST + 2] = b[LAST : LAST + 2]
    return out


# ------------------------------------------------------------------ reading a summary

_CODES = np.arange(64)
_REVERSED = (_CODES & 3 ^ 2) << 4 | (_CODES >> 2 & 3 ^ 2) << 2 | (_CODES >> 4 ^ 2)
CODONS = tuple("".join("ACTG"[code >> shift & 3] for shift in (0, 2, 4)) for code in range(64))
"""The codon of each code."""
SUMMED = (
    "records", "codons", "ambiguous", "partial", "skipped", "dropped", "length", "strong", "known", "n",
    "iupac", "gap", "protein",
)  # fmt: skip
"""What is summed of each genetic code after the counts of its 64 codons."""


def frames(summary: Vector, strand: str) -> Vector:
    """Counts of closed records, shape (3, 64): by frame and code, on the strand "+" or "-".

    Frame f of the reverse strand reads the reverse complement from its base f on: its codons are
    those of the forward strand that begin at p with p mod 3 = (length - f) mod 3.
    """
    by_length = summary[CLOSED : CLOSED + 576].reshape(3, 3, 64)
    if strand == "+":
        return np.asarray(by_length.sum(axis=0), np.int64)
    reverse = np.zeros((3, 64), np.int64)
    for rest in range(3):
        for frame in range(3):
            reverse[frame] += by_length[rest, (rest - frame) % 3][_REVERSED]
    return reverse


def starts(summary: Vector) -> Vector:
    """Counts of the first codons of closed records, shape (64,): forward, in frame 0, of bases alone."""
    return summary[STARTS : STARTS + 64]


def ledger(summary: Vector, strand: str, frame: int, *, drop_start: bool = False) -> dict[str, int]:
    """Account for each base of the closed records, in one frame: 3 codons + partial + skipped = bases.

    ``codons`` counts all triplets, ``ambiguous`` ones included; ``partial`` the 0 to 2 bases after a
    record's last codon; ``skipped`` those before its frame. Where ``drop_start``, of strand "+" and
    frame 0, they are also those of the first codons: ``dropped`` of them.
    """
    records, bases = int(summary[RECORDS]), int(summary[BASES])
    none, one, two = (int(n) for n in summary[BARE : BARE + 3])
    partial = sum(int(summary[BY_LENGTH + rest]) * ((rest - frame) % 3) for rest in range(3))
    # Records shorter than the frame have no partial codon: their bases are all skipped.
    partial -= (0, 2 * none, none + 2 * one)[frame]
    skipped = (0, records - none, 2 * (records - none) - one)[frame]
    codons = (bases - partial - skipped) // 3
    ambiguous = codons - int(frames(summary, strand)[frame].sum())
    dropped = records - none - one - two if drop_start else 0
    ambiguous -= dropped - int(starts(summary).sum()) if drop_start else 0
    return {
        "codons": codons - dropped, "ambiguous": ambiguous, "partial": partial,
        "skipped": skipped + 3 * dropped, "dropped": dropped,
    }  # fmt: skip


def letters(summary: Vector) -> dict[str, int]:
    """Letters of the closed records that are not bases."""
    names = ("n", "iupac", "gap", "protein")
    counts: list[Any] = summary[CLOSED_LETTERS : CLOSED_LETTERS + 4].tolist()
    return dict(zip(names, counts, strict=True))


def protein(summary: Vector) -> tuple[int, int]:
    """Protein-only letters, and all letters, as far as they are known to be sequence."""
    parts = [(CLOSED_LETTERS + 3, BASES)] + [(at + LETTERS + 3, at + LENGTH) for at in (HEAD, TAIL)]
    return sum(int(summary[i]) for i, _ in parts), sum(int(summary[i]) for _, i in parts)
