"""What the compiled kernel keeps between two chunks of text, and how it is called."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.machine_code import Function
from penstock.workloads.codons import summary as s

BUFFER = 8192
"""Bases of one record put together before they are counted."""
SCRATCH = BUFFER + 128
"""Behind them: where what is near the end of a text is read from, 192 bytes."""

MODE, SLOT, FILLED, BEFORE, FIRST, LAST, LETTERS, TOUCHED, WINDOWS, OPENED = 0, 1, 2, 3, 4, 7, 9, 13, 14, 15
STATE = 16
"""
MODE as in ``summary``; SLOT what the current fragment is; FILLED bases in the buffer and BEFORE
the positions of the fragment before them; FIRST, LAST, LETTERS as in a fragment; TOUCHED whether the
fragment has counts of its own already; WINDOWS counted since they were folded; OPENED records.
"""
LINE, HEAD, TAIL, NO_RECORD = 0, 1, 2, 3
"""Of SLOT."""

_KERNEL = f"{__package__}.kernel"
_NEEDS = (__name__, f"{__package__}.summary", "penstock.sequences.vectors")
_ARRAYS = ["int64[::1]", "uint8[::1]", "uint32[:,::1]", "int64[:,:,::1]", "int64[::1]"]

scan = Function(
    _KERNEL, "scan", ["const uint8[::1]", "int64", *_ARRAYS, "uint64", "uint64"], needs=_NEEDS
)  # fmt: skip
scan_rows = Function(
    _KERNEL,
    "scan_rows",
    ["const uint8[::1]", "const int64[::1]", "int64", *_ARRAYS, "uint64", "uint64"],
    needs=_NEEDS,
)
settle = Function(_KERNEL, "settle", _ARRAYS, needs=_NEEDS)


def begin(file: int, *, at_start: bool) -> tuple[Any, ...]:
    """State, buffers and summary to scan a stretch with: ``(state, bases, windows, singles, out)``.

    Args:
        file: its number, noted in the summary.
        at_start: the stretch begins its file.
    """
    state = np.zeros(STATE, np.int64)
    state[FIRST:LETTERS] = -1
    out = s.file_start() if at_start else s.empty()
    out[s.FILE] = file
    state[MODE] = out[s.MODE]
    state[SLOT] = NO_RECORD if at_start else LINE
    return (
        state,
        np.zeros(SCRATCH + 192, np.uint8),
        np.zeros((4, 1024), np.uint32),
        np.zeros((4, 3, 64), np.int64),
        out,
    )
