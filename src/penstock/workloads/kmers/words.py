"""k-mers as numbers, two bits per base: from letters, to text, sorted and counted. Plain NumPy.

A, C, G, T are 0, 1, 2, 3, and the first base is the highest: the order of numbers is that of the words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.sequences.letters import BAD, BLANKS, BREAK, GAP, IUPAC, LETTERS, PROTEIN, N

__all__ = [
    "BAD", "BLANKS", "BREAK", "GAP", "IUPAC", "LETTERS", "LONGEST", "PROTEIN", "N", "added", "codes_of",
    "codes_of_words", "reverse_complements", "tally", "text_of",
]  # fmt: skip

LONGEST = 31
"""Bases of the longest word: 62 bits."""


def codes_of(letters: NDArray[np.uint8], k: int, canonical: bool) -> NDArray[Any]:
    """The k-mers of consecutive letters, in order.

    Args:
        letters: as ``LETTERS`` tells them; a k-mer is of bases alone.
        k: 1 to 31.
        canonical: the smaller of a word and its reverse complement in place of either.

    Returns uint16 up to k = 8, uint32 up to 16, then uint64.
    """
    count = len(letters) - k + 1
    kind = np.uint16 if k <= 8 else np.uint32 if k <= 16 else np.uint64
    if count <= 0:
        return np.zeros(0, kind)
    odd = np.zeros(len(letters) + 1, np.int32)
    np.cumsum(letters > 3, out=odd[1:])
    valid = odd[k:] == odd[:-k]
    words = _joined((letters & 3).astype(kind), k, forward=True)[valid]
    if canonical:
        words = np.minimum(words, _joined((3 - (letters & 3)).astype(kind), k, forward=False)[valid])
    found: NDArray[Any] = words
    return found


def _joined(single: NDArray[Any], k: int, *, forward: bool) -> NDArray[Any]:
    """The words of length k at each place, from those of half the length."""
    found: NDArray[Any] | None = None
    power, length, have = single, 1, 0
    rest = k
    while rest:
        if rest & 1:
            found = power if found is None else _pair(found, have, power, length, forward)
            have += length
        rest >>= 1
        if rest:
            power, length = _pair(power, length, power, length, forward), 2 * length
    assert found is not None
    return found


def _pair(left: NDArray[Any], a: int, right: NDArray[Any], b: int, forward: bool) -> NDArray[Any]:
    """Words of ``a`` bases with the words of ``b`` bases that follow them."""
    right = right[a:]
    left = left[: len(right)]
    right = right[: len(left)]
    kind = left.dtype.type
    found: NDArray[Any] = (left << kind(2 * b)) | right if forward else (right << kind(2 * a)) | left
    return found


def reverse_complements(codes: NDArray[np.uint64], k: int) -> NDArray[np.uint64]:
    """The reverse complement of each word."""
    rest = codes.astype(np.uint64)
    found = np.zeros(len(rest), np.uint64)
    for _ in range(k):
        found = (found << np.uint64(2)) | (np.uint64(3) - (rest & np.uint64(3)))
        rest >>= np.uint64(2)
    return found


_EIGHT = np.frombuffer(b"ACGT", np.uint8)[np.arange(1 << 16)[:, None] >> np.arange(14, -1, -2) & 3]
"""The eight letters of each 16 bits."""
_AT_ONCE = 1 << 18


def text_of(codes: NDArray[Any], k: int) -> NDArray[np.uint8]:
    """The words as concatenated ASCII, ``k`` letters each."""
    first = k % 8 or 8
    fields = [(f"f{at}", f"V{first if not at else 8}") for at in range(0, k, 8)]
    out = np.empty(len(codes), np.dtype(fields))
    for low in range(0, len(codes), _AT_ONCE):
        part, shift = codes[low : low + _AT_ONCE].astype(np.uint64), 2 * k
        for number, (name, _) in enumerate(fields):
            width = 8 if number else first
            shift -= 2 * width
            group = (part >> np.uint64(shift)) & np.uint64((1 << 2 * width) - 1)
            words = np.ascontiguousarray(_EIGHT[:, 8 - width :]).view(f"V{width}").reshape(-1)
            out[name][low : low + _AT_ONCE] = words[group.astype(np.int64)]
    return out.view(np.uint8)


def codes_of_words(words: list[str]) -> list[int]:
    """The numbers of words."""
    return [int(word.translate(str.maketrans("ACGT", "0123")), 4) for word in words]


def tally(codes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct numbers, ascending, with their counts; sorts ``codes`` in place."""
    codes.sort()
    if not len(codes):
        return codes.copy(), np.zeros(0, np.int64)
    borders = np.ones(len(codes) + 1, np.bool_)
    np.not_equal(codes[1:], codes[:-1], out=borders[1:-1])
    starts = np.flatnonzero(borders)
    return codes[starts[:-1]], starts[1:] - starts[:-1]


def added(codes: NDArray[np.uint64], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct numbers, ascending, each with the sum of its counts; may sort ``codes`` in place."""
    total = int(counts.sum(dtype=np.int64))
    if total == len(codes):
        return tally(codes)
    if total <= 2 * len(codes):  # most were counted once: sorting them alone is four times as fast
        return tally(np.repeat(codes, counts.astype(np.int64)))
    order = np.argsort(codes, kind="stable")
    ordered, weights = codes[order], counts[order].astype(np.int64)
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    return ordered[starts], np.add.reduceat(weights, starts)
