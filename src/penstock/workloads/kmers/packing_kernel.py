"""Words packed, unpacked and spelled, compiled: the same bytes as ``packing`` makes with NumPy, faster."""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from penstock.sequences.vectors import eight, put_eight, unowned

_FOUR = (
    np.frombuffer(b"ACGT", np.uint8)[np.arange(256)[:, None] >> np.arange(6, -1, -2) & 3]
    .view("<u4")
    .reshape(-1)
)
"""The four letters of each 8 bits."""

_compiled: Any = njit
_inner = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")


def pack(words, low_bits, width, ends, places, out):
    """Put words apart by their high bits, each part's in their order, of each the ``width`` lowest bytes.

    Args:
        words: uint64.
        low_bits: what is above them is the number of the part.
        width: bytes that hold ``low_bits``.
        ends: int64 of the number of parts and one more, zeros; where each part ends in ``out``, after a 0.
        places: int64 of the number of parts; what is in it does not matter.
        out: uint8 of ``width`` for each word.
    """
    given, borders, next_place, packed = unowned(words), unowned(ends), unowned(places), unowned(out)
    shift, one = np.uint64(low_bits), np.uint64(1)
    mask = (one << shift) - one
    count = np.uint64(len(words))
    i = np.uint64(0)
    while i < count:
        borders[(given[i] >> shift) + one] += width
        i += one
    for part in range(1, len(ends)):
        next_place[part - 1] = borders[part - 1]
        borders[part] += borders[part - 1]
    i = np.uint64(0)
    while i < count:
        part = given[i] >> shift
        rest = given[i] & mask
        at = next_place[part]
        next_place[part] = at + width
        if at + 8 <= borders[part + one]:  # what is written beyond a word, the next one is written over
            put_eight(packed, at, rest)
        else:
            for byte in range(width):
                packed[at + byte] = np.uint8((rest >> np.uint64(8 * byte)) & np.uint64(0xFF))
        i += one


def unpack(data, width, high, out):
    """The words of one part.

    Args:
        data: uint8, ``width`` for each word.
        width: bytes of each.
        high: uint64, the bits that all of them have.
        out: uint64, one for each.
    """
    packed, words = unowned(data), unowned(out)
    mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * width)
    count = len(out)
    whole = max(count - 8, 0)  # of the last ones eight bytes may not be there
    for i in range(whole):
        words[i] = (eight(packed, i * width) & mask) | high
    for i in range(whole, count):
        word = high
        for byte in range(width):
            word |= np.uint64(packed[i * width + byte]) << np.uint64(8 * byte)
        words[i] = word


@_inner
def _letters(bits):
    """The letters of 16 bits as eight bytes."""
    first, second = _FOUR[bits >> np.uint64(8)], _FOUR[bits & np.uint64(0xFF)]
    return np.uint64(first) | (np.uint64(second) << np.uint64(32))


def spell(words, start, k, min_count, text, counts):
    """Count equal words among sorted ones, and write them as letters; return how many words were looked at.

    Args:
        words: uint64, ascending.
        start: where to go on in them.
        k: letters of a word.
        min_count: words that are there less often are left out.
        text: uint8 of ``k`` for each row and 8 more.
        counts: int64, one for each row; a 0 ends the rows where there are fewer.
    """
    given, letters, found = unowned(words), unowned(text), unowned(counts)
    stop, rows, one = np.uint64(len(words)), np.uint64(len(counts)), np.uint64(1)
    left, most = np.uint64(64 - 2 * k), np.uint64(min_count)
    row, at, i = np.uint64(0), 0, np.uint64(start)
    while i < stop and row < rows:
        word = given[i]
        begin = i
        i += one
        while i < stop and given[i] == word:
            i += one
        if i - begin < most:
            continue
        found[row] = np.int64(i - begin)
        row += one
        rest = word << left
        for group in range(0, k, 8):  # what is written beyond a word, the next one is written over
            put_eight(letters, at + group, _letters(rest >> np.uint64(48)))
            rest <<= np.uint64(16)
        at += k
    if row < rows:
        found[row] = 0
    return np.int64(i)
