"""The rows that the kernel of records fills, what it keeps between two texts, and how it is called."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.machine_code import Function

CODONS, AMBIGUOUS, DROPPED, LENGTH, STRONG, TELLING, ODD = 64, 65, 66, 67, 68, 69, 70
"""Columns of a row after the counts of 64 codons; ODD are four, by kind; TELLING are S and W among them."""
WIDTH = 74
IN_SEQUENCE, ROW, FILLED, SKIP, SWALLOW, DROP = 0, 1, 2, 3, 4, 5
STATE = 6
"""
IN_SEQUENCE: the text goes on inside a line of letters. ROW: of the record that is open, -1 for none. FILLED:
letters in the buffer, at most 2 between texts. SKIP: letters to leave out; SWALLOW: letters that an ambiguous
codon still takes; DROP: the first codon is still to come, and left out.
"""
PAD = 128
"""Bytes behind a text that can be read."""
BUFFER = 8192

scan = Function(
    f"{__package__}.record_kernel",
    "scan",
    [
        "const uint8[::1]", "int64", "int64", "int64", "int64", "int64[::1]", "uint8[::1]", "int64[:,::1]",
        "int64[:,::1]",
    ],
    returns="int64",
    needs=(__name__, "penstock.sequences.vectors"),
)  # fmt: skip


def begin() -> tuple[Any, Any]:
    """State and buffer at the start of a stretch."""
    state = np.zeros(STATE, np.int64)
    state[ROW] = -1
    return state, np.zeros(BUFFER + 3 * 64, np.uint8)
