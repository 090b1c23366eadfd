"""Hashes that draw requests, users or rows: for a sample, for a split.

Each use has a salt of its own, or a sample (the smallest hashes) and a split (the largest) would exclude each
other. The hash is splitmix64's finaliser (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"), of texts over their UTF-8 bytes in words of eight; it depends on the value alone, on no order,
no batch, no version of Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE, SPLIT, NEGATIVES, PAIRS = "sample", "split", "negatives", "pairs"
"""What is drawn."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's step and finaliser of each word: a permutation of all 64-bit words."""
    mixed = words + _GOLDEN
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hashes(values: Any, salt: str, seed: int = 0) -> NDArray[np.uint64]:
    """The hash of each value.

    Args:
        values: integers (an array, or an Arrow array without nulls), or an Arrow array of texts or bytes.
        salt: what is drawn by it.
        seed: other numbers give other draws.

    Returns uint64 of the length of ``values``; an integer's hash is that of its 64-bit two's complement,
    whatever the width of its type, so that a column may be narrowed without other rows being drawn.
    """
    start = _start(salt, seed)
    if isinstance(values, np.ndarray):
        words = np.asarray(values.astype(np.int64, copy=False).view(np.uint64), np.uint64)
        return mix(words ^ start)
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.DictionaryArray):
        numbers: NDArray[np.int64] = values.indices.to_numpy(zero_copy_only=False)
        return hashes(values.dictionary, salt, seed)[numbers]
    if pa.types.is_integer(values.type):
        return hashes(values.to_numpy(zero_copy_only=False), salt, seed)
    return _of_bytes(values.cast(pa.large_binary()), start)


def _start(salt: str, seed: int) -> np.uint64:
    name = int.from_bytes(salt.encode()[:8].ljust(8, b"\0"), "little")
    words: NDArray[np.uint64] = np.array([name, seed & 0xFFFFFFFFFFFFFFFF], np.uint64)
    return np.uint64(mix(mix(words[:1]) ^ words[1:])[0])


def _of_bytes(values: Any, start: np.uint64) -> NDArray[np.uint64]:
    """Chained over words of eight bytes, the last filled with zeros; the length is the first word."""
    buffers = values.buffers()
    offsets = np.frombuffer(buffers[1], np.int64, len(values) + 1, values.offset * 8)
    data = np.frombuffer(buffers[2], np.uint8) if buffers[2] is not None else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    state = mix(lengths.view(np.uint64) ^ start)
    for at in range(0, int(lengths.max(initial=0)), 8):
        rows = np.flatnonzero(lengths > at)
        word = np.zeros(len(rows), np.uint64)
        for byte in range(8):
            there = lengths[rows] > at + byte
            found = data[offsets[rows[there]] + at + byte].astype(np.uint64)
            word[there] |= found << np.uint64(8 * byte)
        state[rows] = mix(state[rows] ^ word)
    return state
