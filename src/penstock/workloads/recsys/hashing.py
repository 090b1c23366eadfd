"""Hashes that draw requests, users or rows for a sample or a split.

Each use has a salt of its own, or a sample (the smallest hashes) and a split (the largest) would exclude each
other. A hash depends on the value alone: on no order, no batch, no version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import hashing
from penstock.hashing import mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE, SPLIT, NEGATIVES, PAIRS = "sample", "split", "negatives", "pairs"
"""What is drawn."""


def hashes(values: Any, salt: str, seed: int = 0) -> NDArray[np.uint64]:
    """The hash of each value.

    Args:
        values: an array of integers, or an Arrow array of numbers, texts, times or a dictionary of these.
        salt: what is drawn by it.
        seed: other numbers give other draws.

    Returns uint64 of the length of ``values``; an integer's hash does not depend on the width of its type,
    so that a column may be narrowed without other rows being drawn.
    """
    return hashing.hashes(values, _start(salt, seed))


def _start(salt: str, seed: int) -> np.uint64:
    name = int.from_bytes(salt.encode()[:8].ljust(8, b"\0"), "little")
    words: NDArray[np.uint64] = np.array([name, seed & 0xFFFFFFFFFFFFFFFF], np.uint64)
    return np.uint64(mix(mix(words[:1]) ^ words[1:])[0])
