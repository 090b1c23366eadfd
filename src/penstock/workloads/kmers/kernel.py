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

from penstock.sequences.vectors import copy, eight, lowest, not_bases, unowned
from penstock.workloads.kmers import words as w
from penstock.workloads.kmers.scanning import (
    AT_LINE_START,
    BAD,
    BASES,
    BUFFER,
    FILLED,
    IN_HEADER,
    IN_SEQUENCE,
    KEPT,
    KIND,
    LENGTH,
    LETTERS,
    MODE,
    OPEN,
    RECORDS,
    RUN,
    SHORT,
    WINDOWS,
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
def _eight(text, at):
    """Eight bases as 16 bits, two each, the first highest."""
    x = (eight(text, at) >> np.uint64(1)) & np.uint64(0x0303030303030303)
    x ^= (x >> np.uint64(1)) & np.uint64(0x0101010101010101)
    pairs = np.uint64(0x0003000300030003)
    x = ((x & pairs) << np.uint64(2)) | ((x >> np.uint64(8)) & pairs)
    fours = np.uint64(0x0000000F0000000F)
    x = ((x & fours) << np.uint64(4)) | ((x >> np.uint64(16)) & fours)
    return ((x & np.uint64(0xFF)) << np.uint64(8)) | (x >> np.uint64(32))


@_inner
def _count(bases, state, code, k, mask, table):
    """Count the words that end among the bases put together, eight with each load; none are left there."""
    run, word, filled = state[RUN], code[0], state[FILLED]
    i = 0
    while i < filled and (run < k - 1 or i + 8 > filled):  # the first ones, or all of a few
        n = min(8, filled - i)
        word, run = _count_few(bases, i, n, word, run, k, mask, table)
        i += n
    run += (filled - i) // 8 * 8
    while i + 8 <= filled:
        word = (word << np.uint64(16)) | _eight(bases, i)
        table[(word >> np.uint64(14)) & mask] += np.uint32(1)
        table[(word >> np.uint64(12)) & mask] += np.uint32(1)
        table[(word >> np.uint64(10)) & mask] += np.uint32(1)
        table[(word >> np.uint64(8)) & mask] += np.uint32(1)
        table[(word >> np.uint64(6)) & mask] += np.uint32(1)
        table[(word >> np.uint64(4)) & mask] += np.uint32(1)
        table[(word >> np.uint64(2)) & mask] += np.uint32(1)
        table[word & mask] += np.uint32(1)
        i += 8
    if i < filled:
        word, run = _count_few(bases, i, filled - i, word, run, k, mask, table)
    state[RUN], code[0], state[FILLED] = run, word, 0


@_inner
def _count_few(bases, at, n, word, run, k, mask, table):
    """Count the words that end in ``n`` of eight bases."""
    word = (word << np.uint64(2 * n)) | (_eight(bases, at) >> np.uint64(16 - 2 * n))
    run += n
    for back in range(min(n, run - k + 1)):
        table[(word >> np.uint64(2 * back)) & mask] += np.uint32(1)
    return word, run


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


def scan(text, start, origin, k, canonical, state, code, table, bases, out, salt, limit):
    """Read ``text[start:]``; return where it stopped: at its end, at a bad byte, or as ``out`` is full.

    Args:
        text: uint8; a line end and the byte behind it are never parted between two pieces.
        start: where to go on in it.
        origin: offset of its first byte in the file's text.
        k, canonical: as in ``words``; the second is 0 or 1.
        state: int64, zeros at first, with ``MODE`` ``AT_LINE_START``; changed.
        code: uint64 of 2, the word so far and its reverse complement; changed.
        table: uint32 of 4**k; the counts of words are added. Empty: words are listed.
        bases: uint8 of BUFFER + 128; what is put together before it is counted.
        out: uint64; takes the words that are listed; ``state[FILLED]`` of them are there.
        salt, limit: uint64; a record whose header is at ``offset`` counts if
            ``mixed(salt + offset) <= limit``.
    """
    view, held, words = unowned(text), unowned(state), unowned(code)
    counts, buffer, listed = unowned(table), unowned(bases), unowned(out)
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
                if dense:
                    _count(buffer, held, words, k, mask, counts)
                close_record(held, k)
                held[OPEN] = 1
                held[KEPT] = _mixed(salt + np.uint64(origin + p)) <= limit
                held[RUN] = 0 if held[KEPT] else _NEVER
            if view[p] == _GT or view[p] == _SEMICOLON:
                held[MODE] = IN_HEADER
            continue
        if not dense and held[FILLED] + 64 > len(out):
            return p
        if dense and held[FILLED] > BUFFER - 64:
            _count(buffer, held, words, k, mask, counts)
        size = 64
        if p + 128 <= stop:
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
                    if not dense:
                        _list(view, p + done, p + at, held, words, k, mask, listed, canonical)
                    elif size == 64:
                        copy(buffer, held[FILLED], view, p + done)
                        held[FILLED] += at - done
                    else:
                        buffer[held[FILLED]] = view[p]
                        held[FILLED] += 1
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
                    if dense:
                        _count(buffer, held, words, k, mask, counts)
                    _letter(held, byte, origin + p + at)
        p += done
    if dense:
        _count(buffer, held, words, k, mask, counts)
    return p


def finish(state, k):
    """End the text, and with it its last record."""
    close_record(state, k)
    state[OPEN] = 0


def add(words, table):
    """Add to a table of all words, uint32, the number of each of some, uint32."""
    given, counts = unowned(words), unowned(table)
    for i in range(len(words)):
        counts[np.intp(given[i])] += np.uint32(1)
