"""Counts the codons of each record in one frame, from FASTA text, 64 bytes at a time: ``usage`` compiled.

Covers whole texts one after the other with the state carried over: what ``usage.Reader`` gives, in the same
numbers. Letters between two bytes that are no base are copied together into a buffer, from which codons are
counted, two with each load. What cannot be there is only noticed, and left to ``usage`` to word.

What it begins with and keeps between texts is told by ``record_scanning``, by which it is called.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from penstock.sequences.vectors import copy, eight, equal, lowest, not_bases, ones, strong_bases, unowned
from penstock.workloads.codons.record_scanning import (
    AMBIGUOUS,
    BUFFER,
    CODONS,
    DROP,
    DROPPED,
    FILLED,
    IN_SEQUENCE,
    LENGTH,
    ODD,
    ROW,
    SKIP,
    STRONG,
    SWALLOW,
    TELLING,
)  # fmt: skip

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_ONE = np.uint64(1)
_N, _IUPAC, _GAP, _PROTEIN, _S, _W, _BLANK, _BAD = 0, 1, 2, 3, 4, 5, 6, 7
_KINDS = np.full(256, _BAD, np.uint8)
for _kind, _bytes in enumerate((b"N", b"RYKMBDHVX", b"-.*~?", b"EFILPQJOZ", b"S", b"W", b" \t\r\v\f")):
    _KINDS[np.frombuffer(_bytes + _bytes.lower(), np.uint8)] = _kind
_LF, _GT, _SEMICOLON = 10, 62, 59

_compiled: Any = njit
_inner = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")


# ------------------------------------------------------------------ counting


@_inner
def _codons(bases, at):
    """Two codons of eight bases, six bits each, the first lowest. Bits 1 and 2 of a letter are its code."""
    x = (eight(bases, at) >> _ONE) & np.uint64(0x0303030303030303)
    x = (x | (x >> np.uint64(6))) & np.uint64(0x000F000F000F000F)
    return (x * np.uint64(0x0001001001001000)) >> np.uint64(48)


@_inner
def _flush(state, bases, row):
    """Count the whole codons in the buffer; what is left of it are at most 2 letters."""
    filled, u = state[FILLED], 0
    if filled >= 3 and state[DROP]:
        row[DROPPED] += 1
        state[DROP] = 0
        u = 3
    whole = (filled - u) // 3
    stop = u + 3 * whole
    row[CODONS] += whole
    while u + 6 <= stop:
        pair = _codons(bases, u)
        row[np.intp(pair & np.uint64(63))] += 1
        row[np.intp((pair >> np.uint64(6)) & np.uint64(63))] += 1
        u += 6
    if u < stop:
        row[np.intp(_codons(bases, u) & np.uint64(63))] += 1
        u += 3
    copy(bases, 0, bases, u)
    state[FILLED] = filled - u


@_inner
def _end_ambiguous(state, row):
    """A codon that holds a letter that is no base has all its letters."""
    if state[DROP]:
        state[DROP] = 0
        row[DROPPED] += 1
    else:
        row[CODONS] += 1
        row[AMBIGUOUS] += 1


@_inner
def _leave_out(count, state, row):
    """How many of the next bases are in no codon of bases: before the frame, or of an ambiguous codon."""
    left_out = min(count, state[SKIP])
    state[SKIP] -= left_out
    taken = min(count - left_out, state[SWALLOW])
    state[SWALLOW] -= taken
    if taken and not state[SWALLOW]:
        _end_ambiguous(state, row)
    return left_out + taken


@_inner
def _take_odd(kind, state, bases, row):
    """One letter that is no base: it holds its place."""
    row[LENGTH] += 1
    row[ODD + (kind if kind <= _PROTEIN else _IUPAC)] += 1
    if kind >= _S:
        row[TELLING] += 1
        row[STRONG] += kind == _S
    if state[SKIP]:
        state[SKIP] -= 1
        return
    if state[SWALLOW]:
        state[SWALLOW] -= 1
    else:
        _flush(state, bases, row)
        state[SWALLOW] = 2 - state[FILLED]
        state[FILLED] = 0
    if not state[SWALLOW]:
        _end_ambiguous(state, row)


# ------------------------------------------------------------------ reading


@_inner
def _line_end(text, start, size):
    """Where a header or comment ends, its line feed or ``size``; -1 where a lone carriage return is in it."""
    for p in range(start, size, 64):
        valid = _ALL >> np.uint64(64 - min(64, size - p))
        ends = equal(text, p, 10) & valid
        line = (ends - _ONE) & ~ends if ends else valid
        if size - p <= 64:  # whatever follows the last byte is in the next text
            line &= ~(_ONE << np.uint64(size - p - 1))
        if equal(text, p, 13) & line & ~equal(text, p + 1, 10):
            return -1
        if ends:
            return p + lowest(ends)
    return size


@_inner
def _take_letters(text, start, size, state, bases, out):
    """Read lines of letters up to a header or comment; return how far, -1 for what cannot be there."""
    is_open = state[ROW] >= 0
    row = out[max(state[ROW], 0)]
    p = start
    while p < size:
        count = min(64, size - p)
        odd, strong = not_bases(text, p), strong_bases(text, p)
        if count < 64:
            odd |= _ALL << np.uint64(count)
        done = 0
        while True:
            at = min(lowest(odd), count)
            if at > done:
                if not is_open:
                    return -1
                row[LENGTH] += at - done
                row[STRONG] += ones((strong >> np.uint64(done)) & (_ALL >> np.uint64(64 - (at - done))))
                if state[SKIP] or state[SWALLOW]:
                    done += _leave_out(at - done, state, row)
                copy(bases, state[FILLED], text, p + done)
                state[FILLED] += at - done
                if state[FILLED] > BUFFER:
                    _flush(state, bases, row)
            if at == count:
                break
            byte = text[p + at]
            done = at + 1
            odd &= odd - _ONE
            if byte == _LF:
                following = text[p + done] if p + done < size else np.uint8(_GT)
                if following in (_GT, _SEMICOLON):
                    state[IN_SEQUENCE] = 0
                    return p + done
            else:
                kind = _KINDS[byte]
                if kind == _BAD or (kind != _BLANK and not is_open):
                    return -1
                if kind != _BLANK:
                    _take_odd(kind, state, bases, row)
        p += count
    return p


def scan(text, start, size, frame, drop, state, bases, out, places):
    """Read ``text[start:size]``; return where it stopped: its end, or a header for which no row is left.

    Args:
        text: uint8; PAD bytes more can be read than ``size``.
        start, size: what to read; a line that holds a header is there whole.
        frame: letters to skip at the start of each record.
        drop: 1 to leave each record's first codon out.
        state: int64, as in the module; changed.
        bases: uint8, the buffer; changed.
        out: int64, rows; that of the open record, if any, is first and holds what was counted of it.
        places: int64, shape (rows, 2): where the header of each record begins and ends.

    Returns -1 where something cannot be there.
    """
    view, held, buffer = unowned(text), unowned(state), unowned(bases)
    rows, ranges = unowned(out), unowned(places)
    p = start
    while p < size:
        if held[IN_SEQUENCE]:
            p = _take_letters(view, p, size, held, buffer, rows)
            if p < 0:
                return -1
            continue
        held[IN_SEQUENCE] = 1
        if view[p] != _GT and view[p] != _SEMICOLON:
            continue
        end = _line_end(view, p, size)
        if end < 0:
            return -1
        if view[p] == _GT:
            if held[ROW] + 1 == len(out):
                held[IN_SEQUENCE] = 0
                break
            if held[ROW] >= 0:
                _flush(held, buffer, rows[held[ROW]])
            held[ROW] += 1
            ranges[held[ROW], 0], ranges[held[ROW], 1] = p, end
            held[FILLED], held[SKIP], held[SWALLOW], held[DROP] = 0, frame, 0, drop
        held[IN_SEQUENCE] = 0
        p = min(end + 1, size)
    if held[ROW] >= 0:
        _flush(held, buffer, rows[held[ROW]])
    return p
