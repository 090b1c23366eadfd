"""What the compiled kernel keeps between two pieces of text, and how it is called."""

from __future__ import annotations

from penstock.machine_code import Function

MODE, KEPT, OPEN, RUN, LENGTH, FILLED, BAD, KIND, LEDGER = 0, 1, 2, 3, 4, 5, 6, 7, 8
"""MODE: where in the text; KEPT, OPEN: of the record; RUN: bases in a row; LENGTH: letters of the record;
FILLED: words listed, or bases put together; BAD: 1 + the place of what cannot be there, of this KIND; then
the ledger of ``reading``."""
STATE = LEDGER + 8
BUFFER = 4096
"""Bases that are put together before their words are counted."""
IN_SEQUENCE, AT_LINE_START, IN_HEADER = 0, 1, 2
RECORDS, BASES, WINDOWS, SHORT, LETTERS = LEDGER, LEDGER + 1, LEDGER + 2, LEDGER + 3, LEDGER + 4

_KERNEL = f"{__package__}.kernel"
_NEEDS = (__name__, f"{__package__}.words", "penstock.sequences.letters", "penstock.sequences.vectors")

scan = Function(
    _KERNEL,
    "scan",
    [
        "const uint8[::1]", "int64", "int64", "int64", "int64", "int64[::1]", "uint64[::1]", "uint32[::1]",
        "uint8[::1]", "uint64[::1]", "uint64", "uint64",
    ],
    returns="int64",
    needs=_NEEDS,
)  # fmt: skip
finish = Function(_KERNEL, "finish", ["int64[::1]", "int64"], needs=_NEEDS)
add = Function(_KERNEL, "add", ["const uint32[::1]", "uint32[::1]"], needs=_NEEDS)
