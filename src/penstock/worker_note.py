"""The note of a worker in shared memory: its progress, readable without a message.

Eight 64-bit words, written by one worker and read by the parent at any moment, also after the
worker was killed: so the item that was being worked is always known. Behind them is room for results
of the batch that the worker is at (:mod:`penstock.engine.apart`).
"""

from __future__ import annotations

HEAD = 8
"""The words of the note itself."""
ROOM = 32 << 10
"""Bytes for results; taken from memory only as far as there are some."""
BYTES = 8 * HEAD + ROOM

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
EARLY = 5
"""Bytes of results that are there."""
BATCH = 6
"""The number of the batch that all this is of; written last."""
LEFT = 7
"""Bytes that the worker held above idle when the call began, where those that earlier items of the batch
left behind count twice (results, or what was loaded or cached since the first call): who is ended with less
than this may hold more of theirs than of the call's own."""
MUTE = 213
"""The code with which a worker exits that can speak no more."""
MUTED = "lacks a descriptor of its own, which was closed or made another file's"
"""Why."""
NARROW = 214
"""The code with which a worker exits that has not the memory to tell why it cannot go on."""
NARROWED = "may have less memory than it began with: a function lowered RLIMIT_AS or RLIMIT_DATA"
"""Why."""


def words(file_size: int, notes: int) -> int:
    """The number of words of each note in one file; fewer if file sizes are limited.

    Args:
        file_size: the most bytes of a file (RLIMIT_FSIZE), which counts for files in memory too; negative
            where there is no limit.
        notes: how many.
    """
    whole = BYTES // 8
    return whole if file_size < 0 else max(min(file_size // notes // 8, whole), HEAD)
