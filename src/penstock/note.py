"""The note that a worker keeps in shared memory: where it is, told without a message.

Eight 64-bit words, written by one worker and read by the parent at any moment, also after the
worker was killed: so the item that was being worked is always known.
"""

from __future__ import annotations

WORDS = 8
BYTES = 8 * WORDS

ITEM = 0
"""The item being worked, or -1; KEEPING between calls."""
CALL_START = 1
"""The first item of the call being worked."""
CALL_STOP = 2
"""One past its last item."""
CUT = 3
"""Set by the parent: end the batch at the first possible place."""
KEEPING = -2
"""No item is being worked: results are being kept, which no timeout bounds."""
STEPS = 4
"""Counts calls: progress."""
