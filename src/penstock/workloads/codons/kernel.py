"""Counts the codons of FASTA text in all three frames at once, from a stream of bytes.

Covers one pass over chunks of bytes with the state carried over, and the summary of the whole stretch
(see ``summary``). The text is looked at 64 bytes at a time: the bytes that are no base are a bit
mask, and what lies between them is copied together, so line width, case and line ends cost
nothing. Eight bases at a time give two windows of five, which hold the codons of all three phases;
windows are folded into codons when a record ends.

What it begins with and keeps between chunks is told by ``scanning``, by which it is called.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from penstock.sequences.vectors import copy, eight, equal, lowest, not_bases, unowned
from penstock.workloads.codons import summary as s
from penstock.workloads.codons.scanning import (
    BEFORE,
    BUFFER,
    FILLED,
    FIRST,
    HEAD,
    LAST,
    LETTERS,
    LINE,
    MODE,
    NO_RECORD,
    OPENED,
    SCRATCH,
    SLOT,
    TAIL,
    TOUCHED,
    WINDOWS,
)  # fmt: skip

# Bytes that are no base.
_BLANK, _N, _BAD = 0, 1, 5
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_KINDS = np.full(256, _BAD, np.uint8)
for _kind, _bytes in enumerate((b" \t\r\v\f", b"N", b"RYSWKMBDHVX", b"-.*~?", b"EFILPQJOZ")):
    _KINDS[np.frombuffer(_bytes + _bytes.lower(), np.uint8)] = _kind

_LF, _CR, _GT, _SEMICOLON = 10, 13, 62, 59

# ------------------------------------------------------------------ counting

# Compiled without the wrappers that Python would call: never call these from Python.
_compiled: Any = njit
_inner = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")


@_inner
def _window(bases, at):
    """Eight bases as 16 bits, two each, the first lowest. Bits 1 and 2 of a letter are its code."""
    x = (eight(bases, at) >> np.uint64(1)) & np.uint64(0x0303030303030303)
    x = (x | (x >> np.uint64(6))) & np.uint64(0x000F000F000F000F)
    return (x * np.uint64(0x0001001001001000)) >> np.uint64(48)


@_inner
def _count_singly(bases, start, stop, before, singles):
    """Count the codons that begin in ``bases[start:stop]``, at most 6 of them, one by one."""
    window = _window(bases, start)
    phase = (before + start) % 3
    for _ in range(stop - start):
        singles[phase, window & np.uint64(63)] += 1
        window >>= np.uint64(2)
        phase = phase + 1 if phase < 2 else 0


@_inner
def _count(bases, filled, before, windows, singles):
    """Count codons that begin in a run of bases, up to the last 2 to 7; return how many began."""
    u = min((3 - before % 3) % 3, max(filled - 2, 0))
    _count_singly(bases, 0, u, before, singles)
    while u + 8 <= filled:
        window = _window(bases, u)
        windows[window & np.uint64(1023)] += np.uint32(1)
        windows[window >> np.uint64(6)] += np.uint32(1)
        u += 6
    return u


@_inner
def _edge(state, code):
    """One more position of the fragment, by its code."""
    state[LAST] = state[LAST + 1]
    state[LAST + 1] = code


@_inner
def _first(state, bases):
    """Note the fragment's first three positions, when the run in the buffer holds them."""
    for i in range(min(state[FILLED], 3 - state[BEFORE])):
        state[FIRST + state[BEFORE] + i] = bases[i] >> 1 & 3


@_inner
def _advance(state, bases, windows, singles):
    """Make room in the buffer: count what it holds but the last few bases."""
    if state[BEFORE] < 3:
        _first(state, bases)
    u = _count(bases, state[FILLED], state[BEFORE], windows[3], singles[3])
    copy(bases, 0, bases, u)
    state[FILLED] -= u
    state[BEFORE] += u
    state[TOUCHED] = 1
    state[WINDOWS] += u // 3 + 1
    if state[WINDOWS] > 1 << 31:
        for row in range(4):
            _fold(windows[row], singles[row])
        state[WINDOWS] = 0


@_inner
def _end_run(state, bases, windows, singles, row):
    """Count all that the buffer holds, and empty it."""
    filled, before = state[FILLED], state[BEFORE]
    if filled == 0:
        return
    if before < 3:
        _first(state, bases)
    u = _count(bases, filled, before, windows[row], singles[row])
    _count_singly(bases, u, max(filled - 2, u), before, singles[row])
    for i in range(max(filled - 2, 0), filled):
        _edge(state, bases[i] >> 1 & 3)
    state[BEFORE] += filled
    state[FILLED] = 0
    state[WINDOWS] += filled // 3
    if row == 3:
        state[TOUCHED] = 1


@_inner
def _fold(windows, singles):
    """Windows of five bases into codons by phase; the windows are zero afterwards."""
    for window in range(1024):
        n = np.int64(windows[window])
        singles[0, window & 63] += n
        singles[1, window >> 2 & 63] += n
        singles[2, window >> 4] += n
        windows[window] = 0


@_inner
def _reset(state):
    state[BEFORE] = state[FILLED] = state[TOUCHED] = 0
    for i in range(FIRST, LETTERS):
        state[i] = -1
    for i in range(LETTERS, LETTERS + 4):
        state[i] = 0


@_inner
def _close_fragment(state, bases, windows, singles, out, at):
    """Write the current fragment into the summary."""
    _end_run(state, bases, windows, singles, 3)
    _fold(windows[3], singles[3])
    for phase in range(3):
        for code in range(64):
            out[at + phase * 64 + code] = singles[3, phase, code]
            singles[3, phase, code] = 0
    out[at + s.LENGTH] = state[BEFORE]
    for i in range(LETTERS + 4 - FIRST):
        out[at + s.FIRST + i] = state[FIRST + i]
    _reset(state)


@_inner
def _close_record(state, bases, windows, singles, out):
    """The current record ends: its length is known, so its counts find their class."""
    length = state[BEFORE] + state[FILLED]
    rest = length % 3
    if out[s.KEPT]:
        _end_run(state, bases, windows, singles, 3 if state[TOUCHED] else rest)
        out[s.RECORDS] += 1
        out[s.BASES] += length
        out[s.BY_LENGTH + rest] += 1
        if length < 3:
            out[s.BARE + length] += 1
        elif max(state[FIRST], state[FIRST + 1], state[FIRST + 2]) < 4:
            out[s.STARTS + state[FIRST] + 4 * state[FIRST + 1] + 16 * state[FIRST + 2]] += 1
        for i in range(4):
            out[s.CLOSED_LETTERS + i] += state[LETTERS + i]
    if state[TOUCHED]:
        kept = np.uint32(0xFFFFFFFF if out[s.KEPT] else 0)
        for window in range(1024):
            windows[rest, window] += windows[3, window] & kept
            windows[3, window] = 0
        for phase in range(3):
            for code in range(64):
                if kept:
                    singles[rest, phase, code] += singles[3, phase, code]
                singles[3, phase, code] = 0
    _reset(state)


# ------------------------------------------------------------------ reading


@_inner
def _mixed(number):
    """A random-looking 64-bit number for each 64-bit number, no two alike (splitmix64's finish)."""
    x = np.uint64(number)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@_inner
def _bad(out, offset, kind):
    out[s.BAD] = offset + 1
    out[s.BAD_FILE] = out[s.FILE]
    out[s.BAD_KIND] = kind


@_inner
def _open_record(state, bases, windows, singles, out, offset, kept):
    """A header begins: what was open ends."""
    if state[SLOT] == NO_RECORD and state[BEFORE] + state[FILLED] > 0:
        _bad(out, offset, s.BAD_TEXT)
    if state[SLOT] == HEAD:
        _close_fragment(state, bases, windows, singles, out, s.HEAD)
        out[s.CUT] = 1
    else:
        _close_record(state, bases, windows, singles, out)
    state[SLOT] = TAIL
    state[OPENED] += 1
    state[MODE] = s.IN_HEADER
    out[s.OPEN] = 1
    out[s.KEPT] = kept


@_inner
def _skip_line(text, start, stop, origin, state, out):
    """Go to the end of a header or comment; return where the next line begins, or ``stop``."""
    for p in range(start, stop, 64):
        feeds, returns = equal(text, p, 10), equal(text, p, 13)
        valid = _ALL >> np.uint64(64 - min(64, stop - p))
        ends = feeds & valid
        line = (ends - np.uint64(1)) & ~ends if ends else valid
        lone = returns & line & ~equal(text, p + 1, 10)
        if lone:
            _bad(out, origin + p + lowest(lone), s.BAD_RETURN)
        if ends:
            state[MODE] = s.AT_LINE_START
            return p + lowest(ends) + 1
    return stop


@_inner
def _odd_letters(state, bases, windows, singles, out, byte, count, offset):
    """One or more of a letter that is no base: each holds a position, or is wrong."""
    kind = _KINDS[byte]
    if kind == _BAD or state[SLOT] == NO_RECORD:
        if state[SLOT] != LINE:
            _bad(out, offset, s.BAD_TEXT if state[SLOT] == NO_RECORD else s.BAD_BYTE)
        elif out[s.LINE + s.OFFENCE] == 0:
            out[s.LINE + s.OFFENCE] = offset + 1
        return
    _end_run(state, bases, windows, singles, 3)
    for i in range(min(count, 3)):
        if state[BEFORE] + i < 3:
            state[FIRST + state[BEFORE] + i] = 4
        _edge(state, 4)
    state[BEFORE] += count
    state[LETTERS + kind - _N] += count


@_inner
def _read_lines(text, start, stop, origin, state, bases, windows, singles, out):
    """Read sequence lines until a header, the stop, or a full buffer; return how far."""
    p = start
    filled = state[FILLED]
    while p < stop and filled <= BUFFER - 64:
        size = min(64, stop - p)
        odd = not_bases(text, p)
        if size < 64:
            odd &= (np.uint64(1) << np.uint64(size)) - np.uint64(1)
        done = 0
        while odd:
            at = lowest(odd)
            odd &= odd - np.uint64(1)
            copy(bases, filled, text, p + done)
            filled += at - done
            done = at + 1
            byte = text[np.uint64(p + at)]
            if byte == _LF:
                following = text[np.uint64(p + done)]
                ended = done == size or following in (_GT, _SEMICOLON)
                if state[SLOT] == LINE:
                    state[FILLED] = filled
                    _close_fragment(state, bases, windows, singles, out, s.LINE)
                    filled = 0
                    out[s.HAS_NEWLINE] = 1
                    state[SLOT] = HEAD
                    state[MODE] = s.IN_SEQUENCE
                if ended:
                    state[FILLED] = filled
                    state[MODE] = s.AT_LINE_START
                    return p + done
            elif _KINDS[byte] != _BLANK:
                count = 1
                if _KINDS[byte] == _N:  # gaps between contigs are long: take all that follow together
                    same = equal(text, p, 78) | equal(text, p, 110)
                    count = min(lowest(~(same >> np.uint64(at))), size - at)
                    done = at + count
                    odd &= _ALL << np.uint64(done) if done < 64 else np.uint64(0)
                state[FILLED] = filled
                _odd_letters(state, bases, windows, singles, out, byte, count, origin + p + at)
                filled = state[FILLED]
                if out[s.BAD]:
                    return p
        copy(bases, filled, text, p + done)
        filled += size - done
        p += size
    state[FILLED] = filled
    return p


@_inner
def _walk(text, start, stop, origin, state, bases, windows, singles, out, salt, limit):
    """Read ``text[start:stop]``; at least 64 bytes can be read after ``stop``."""
    p = start
    while p < stop and out[s.BAD] == 0:
        if state[MODE] == s.IN_HEADER:
            p = _skip_line(text, p, stop, origin, state, out)
        elif state[MODE] == s.AT_LINE_START:
            state[MODE] = s.IN_SEQUENCE
            if text[p] == _GT:
                kept = _mixed(salt + np.uint64(origin + p)) <= limit
                _open_record(state, bases, windows, singles, out, origin + p, kept)
            elif text[p] == _SEMICOLON:
                state[MODE] = s.IN_HEADER
        else:
            if state[FILLED] > BUFFER - 64:
                _advance(state, bases, windows, singles)
            p = _read_lines(text, p, stop, origin, state, bases, windows, singles, out)


@_inner
def _walk_all(text, start, stop, origin, state, bases, windows, singles, out, salt, limit):
    """Read ``text[start:stop]``; what is near the end of ``text`` is read from a copy."""
    # Vectors reach up to 64 bytes past what is read.
    safe = max(min(stop, len(text) - 64), start)
    _walk(text, start, safe, origin, state, bases, windows, singles, out, salt, limit)
    if safe == stop:
        return
    rest = bases[SCRATCH:]
    for i in range(stop - safe):
        rest[i] = text[safe + i]
    rest[stop - safe] = _LF  # a carriage return that comes last may have its line feed in the next chunk
    moved = origin + safe
    _walk(rest, 0, stop - safe, moved, state, bases, windows, singles, out, salt, limit)


def scan(text, origin, state, bases, windows, singles, out, salt, limit):
    """Read the next chunk of a stretch.

    Args:
        text: uint8, the bytes; may be empty.
        origin: offset of its first byte in the file's text.
        state, bases, windows, singles, out: as made by ``begin``; changed.
        salt, limit: uint64; a record whose header is at ``offset`` is counted if
            ``mixed(salt + offset) <= limit``.

    A byte that cannot be there stops the reading and is named in ``out`` (``BAD``).
    """
    if len(text) and out[s.MARK] == 0 and state[SLOT] == LINE:
        first = text[0]
        out[s.MARK] = s.MARK_OTHER
        if first == _GT:
            out[s.MARK] = s.MARK_RECORD
        elif first == _SEMICOLON:
            out[s.MARK] = s.MARK_COMMENT
        out[s.MARK_KEPT] = _mixed(salt + np.uint64(origin)) <= limit
        out[s.ORIGIN] = origin
    _walk_all(
        unowned(text), 0, len(text), origin, unowned(state), unowned(bases), unowned(windows),
        unowned(singles), unowned(out), salt, limit,
    )  # fmt: skip


def scan_rows(text, offsets, row, state, bases, windows, singles, out, salt, limit):
    """Scan sequences without headers, each a record.

    Args:
        text: uint8, one sequence after the other.
        offsets: int64, where each begins in it, and where the last ends.
        row: number of the first; a record is counted if ``mixed(salt + its number) <= limit``.
        state, bases, windows, singles, out: as made by ``begin`` with ``at_start``; changed.

    What cannot be there stops the reading; ``BAD`` is then 1 + the number of its row.
    """
    text, state, bases, windows = unowned(text), unowned(state), unowned(bases), unowned(windows)
    singles, out = unowned(singles), unowned(out)
    for i in range(len(offsets) - 1):
        kept = _mixed(salt + np.uint64(row + i)) <= limit
        _open_record(state, bases, windows, singles, out, 0, kept)
        state[MODE] = s.IN_SEQUENCE
        opened = state[OPENED]
        start, stop = offsets[i], offsets[i + 1]
        _walk_all(text, start, stop, 0, state, bases, windows, singles, out, salt, limit)
        if out[s.BAD] or state[OPENED] != opened:
            out[s.BAD] = row + i + 1
            return


def settle(state, bases, windows, singles, out):
    """End the stretch: complete ``out``."""
    if state[SLOT] == NO_RECORD:
        if state[BEFORE] + state[FILLED] > 0:
            _bad(out, out[s.ORIGIN], s.BAD_TEXT)
    elif state[SLOT] == LINE:
        offence = out[s.LINE + s.OFFENCE]
        _close_fragment(state, bases, windows, singles, out, s.LINE)
        out[s.LINE + s.OFFENCE] = offence
    else:
        _close_fragment(state, bases, windows, singles, out, s.HEAD if state[SLOT] == HEAD else s.TAIL)
    for rest in range(3):
        _fold(windows[rest], singles[rest])
        for phase in range(3):
            for code in range(64):
                out[s.CLOSED + rest * 192 + phase * 64 + code] += singles[rest, phase, code]
                singles[rest, phase, code] = 0
    out[s.MODE] = state[MODE]
