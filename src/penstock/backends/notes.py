"""The notes of all workers as their parent reads them: one slot of shared memory each."""

from __future__ import annotations

import mmap
import os
import resource

from penstock import worker_note as note

_BLANK = memoryview(bytearray(8 * note.HEAD)).cast("q")
_BLANK[note.ITEM] = _BLANK[note.CALL_START] = _BLANK[note.CALL_STOP] = -1


class Notes:
    """A number of notes in one memory file, which workers inherit.

    Args:
        slots: how many; a worker has one while it lives.
    """

    def __init__(self, slots: int) -> None:
        self.file = os.memfd_create("penstock-notes")
        """Descriptor of the memory."""
        try:
            self._words = note.words(resource.getrlimit(resource.RLIMIT_FSIZE)[0], slots)
            os.ftruncate(self.file, slots * self._words * 8)
            self._all = memoryview(mmap.mmap(self.file, slots * self._words * 8)).cast("q")
        except OSError:
            os.close(self.file)
            raise

    def clear(self, slot: int) -> None:
        """Reset a note for a new worker."""
        at = slot * self._words
        self._all[at : at + note.HEAD] = _BLANK

    def at(self, slot: int) -> tuple[int, int, int]:
        """(item, start and stop of the call) that a worker is working on; item -1 between items."""
        at = slot * self._words
        return self._all[at + note.ITEM], self._all[at + note.CALL_START], self._all[at + note.CALL_STOP]

    def left(self, slot: int) -> int:
        """Bytes, as :data:`penstock.worker_note.LEFT` has them."""
        return self._all[slot * self._words + note.LEFT]

    def early(self, slot: int) -> tuple[int, bytes]:
        """The number of a worker's current batch, and its results so far."""
        at = slot * self._words
        number = self._all[at + note.BATCH]
        results = self._all[at + note.HEAD : at + self._words].cast("B")
        return number, bytes(results[: self._all[at + note.EARLY]])

    def cut(self, slot: int) -> None:
        """Ask a worker to end its batch soon."""
        self._all[slot * self._words + note.CUT] = 1

    def close(self) -> None:
        """Release the memory."""
        self._all.release()
        os.close(self.file)
