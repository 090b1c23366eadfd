"""k-mers of FASTA text, compiled: the same numbers and ledger as ``reading.Plain``, faster.

The text is looked at 64 bytes at a time: the bytes that are no base are a bit mask, and what lies
between them is a run of bases, so line width and case cost nothing.

What it begins with and keeps between pieces is told by ``scanning``, by which it is called.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from penstock.sequences.vectors import lowest, not_bases, unowned
from penstock.workloads.kmers import words as w
from penstock.workloads.kmers.scanning import (
    AT_LINE_START, BAD, BASES, FILLED, IN_HEADER, IN_SEQUENCE, KEPT, KIND, LENGTH, LETTERS, MODE, OPEN,
    RECORDS, RUN, SHORT, WINDOWS,
)  # fmt: skip

_NEVER = -(1 << 62)
"""A run of so many bases never becomes a word: what is left out is read, but not counted."""

_TABLE = np.frombuffer(w.LETTERS, np.uint8)
_LETTERS_OF = _TABLE.copy()
_LETTERS_OF[0] = w.BAD
_BLANK = 16
for _byte in w.BLANKS:
    _LETTERS_OF[_byte] = _BLANK
_LF, _CR, _GT, _SEMICOLON = 10, 13, 62, 59
_N, _BREAK = w.N, w.BREAK
_BAD_BYTE, _BAD_TEXT, _BAD_RETURN = 1, 2, 3

_compiled: Any = njit
_inner = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")


@_inner
def _mixed(number):
    """splitmix64's finaliser, as :func:`penstock.hashing.mixed`."""
    x = np.uint64(number)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@_inner
def close_record(state, k):
    """End the open record."""
    if state[OPEN] and state[KEPT]:
        length = state[LENGTH]
        state[RECORDS] += 1
        state[BASES] += length
        if length >= k:
            state[WINDOWS] += length - k + 1
        else:
            state[SHORT] += 1
    state[LENGTH] = 0
    state[RUN] = 0


@_inner
def _bad(state, offset, kind):
    state[BAD] = offset + 1
    state[KIND] = kind


@_inner
def _count(text, start, stop, state, code, k, mask, table):
    """Count the words that end in a run of bases."""
    run, word = state[RUN], code[0]
    i = np.uint64(start)
    end = np.uint64(stop)
    while i < end:
        x = (text[i] >> 1) & 3
        word = ((word << np.uint64(2)) | np.uint64(x ^ (x >> 1))) & mask
        run += 1
        if run >= k:
            table[word] += np.uint32(1)
        i += np.uint64(1)
    state[RUN], code[0] = run, word


@_inner
def _list(text, start, stop, state, code, k, mask, out, canonical):
    """List the words that end in a run of bases."""
    run, word, back, filled = state[RUN], code[0], code[1], np.uint64(state[FILLED])
    top = np.uint64(2 * k - 2)
    i = np.uint64(start)
    end = np.uint64(stop)
    while i < end:
        x = (text[i] >> 1) & 3
        base = np.uint64(x ^ (x >> 1))
        word = ((word << np.uint64(2)) | base) & mask
        back = (back >> np.uint64(2)) | ((np.uint64(3) - base) << top)
        run += 1
        if run >= k:
            out[filled] = min(word, back) if canonical else word
            filled += np.uint64(1)
        i += np.uint64(1)
    state[RUN], code[0], code[1], state[FILLED] = run, word, back, np.int64(filled)


@_inner
def _header(text, p, stop, origin, state):
    """Go to the end of a header or comment."""
    while p < stop:
        byte = text[p]
        p += 1
        if byte == _LF:
            state[MODE] = AT_LINE_START
            break
        if byte == _CR and p < stop and text[p] != _LF:
            _bad(state, origin + p - 1, _BAD_RETURN)
            break
    return p


@_inner
def _letter(state, byte, offset):
    """A letter that is no base: it holds a position, or is wrong."""
    letter = _LETTERS_OF[byte]
    if letter > w.PROTEIN:
        _bad(state, offset, _BAD_BYTE if state[OPEN] else _BAD_TEXT)
        return
    if not state[OPEN]:
        _bad(state, offset, _BAD_TEXT)
        return
    if state[KEPT]:
        state[LENGTH] += 1
        state[LETTERS + letter - _N] += 1
        state[RUN] = 0


def scan(text, start, origin, k, canonical, state, code, table, out, salt, limit):
    """Read ``text[start:]``; return where it stopped: at its end, at a bad byte, or as ``out`` is full.

    Args:
        text: uint8; a line end and the byte behind it are never parted between two pieces.
        start: where to go on in it.
        origin: offset of its first byte in the file's text.
        k, canonical: as in ``words``; the second is 0 or 1.
        state: int64, zeros at first, with ``MODE`` ``AT_LINE_START``; changed.
        code: uint64 of 2, the word so far and its reverse complement; changed.
        table: uint32 of 4**k; the counts of words are added. Empty: words are listed.
        out: uint64; takes the words; ``state[FILLED]`` of them are there.
        salt, limit: uint64; a record whose header is at ``offset`` counts if
            ``mixed(salt + offset) <= limit``.
    """
    view, held, words, counts, listed = (
        unowned(text),
        unowned(state),
        unowned(code),
        unowned(table),
        unowned(out),
    )
    mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - 2 * k)
    dense = len(table) > 0
    p, stop = start, len(text)
    while p < stop and held[BAD] == 0:
        if held[MODE] == IN_HEADER:
            p = _header(view, p, stop, origin, held)
            continue
        if held[MODE] == AT_LINE_START:
            held[MODE] = IN_SEQUENCE
            if view[p] == _GT:
                close_record(held, k)
                held[OPEN] = 1
                held[KEPT] = _mixed(salt + np.uint64(origin + p)) <= limit
                held[RUN] = 0 if held[KEPT] else _NEVER
            if view[p] == _GT or view[p] == _SEMICOLON:
                held[MODE] = IN_HEADER
            continue
        if not dense and held[FILLED] + 64 > len(out):
            return p
        size = 64
        if p + 64 <= stop:
            odd = not_bases(view, p)
        else:
            size = 1
            odd = np.uint64(_LETTERS_OF[view[p]] > 3)
        done = 0
        ended = False
        while done < size and not ended and held[BAD] == 0:
            at = min(lowest(odd), size)
            if at > done:
                if not held[OPEN]:
                    _bad(held, origin + p + done, _BAD_TEXT)
                    break
                if held[KEPT]:
                    held[LENGTH] += at - done
                    if dense:
                        _count(view, p + done, p + at, held, words, k, mask, counts)
                    else:
                        _list(view, p + done, p + at, held, words, k, mask, listed, canonical)
            done = at
            if at < size:
                byte = view[p + at]
                odd &= odd - np.uint64(1)
                done = at + 1
                if byte == _LF:
                    if p + done >= stop or view[p + done] == _GT or view[p + done] == _SEMICOLON:
                        held[MODE] = AT_LINE_START
                        ended = True
                elif _LETTERS_OF[byte] != _BLANK:
                    _letter(held, byte, origin + p + at)
        p += done
    return p


def finish(state, k):
    """End the text, and with it its last record."""
    close_record(state, k)
    state[OPEN] = 0
