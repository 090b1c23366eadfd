"""``penstock.share()``: the memory, threads and scratch folder that a call was granted."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from penstock import temporary
from penstock.budget import GiB


@dataclass(slots=True)
class Share:
    """What the current call may use. For DuckDB, tiles, caches, thread pools.

    Results must not depend on it: it changes with the budget.
    """

    memory: int
    """Bytes that this call was admitted with: what it is predicted to take, or what was stated with
    ``memory=``; where nothing is known yet, or it is alone, all that one worker may use."""
    threads: int
    """Threads that this worker may run."""
    attempt: int
    """0 at the first try, more after a failure."""
    scratch: Path | None = None
    _folder: Path | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """An empty scratch folder for this item, on the run's disk; removed afterwards."""
        if self._folder is None:
            if self.scratch is not None:
                self._folder = _new_in(self.scratch)
            else:
                self._folder = temporary.make("penstock-item-") / "item"
                self._folder.mkdir(mode=0o700)
        return self._folder

    @property
    def used_folder(self) -> bool:
        """Whether the item asked for its folder."""
        return self._folder is not None

    def next_item(self) -> None:
        """Give the next item a folder of its own."""
        self._folder = None


def _new_in(scratch: Path) -> Path:
    """A new folder, as the umask says: it may become a step's, and one of ``mkdtemp`` is closed to others."""
    scratch.mkdir(parents=True, exist_ok=True)
    while True:
        folder = scratch / f"item-{os.urandom(8).hex()}"
        with suppress(FileExistsError):
            folder.mkdir()
            return folder


_current: Share | None = None


def share() -> Share:
    """What the calling function may use: memory, threads, a scratch folder, the attempt.

    Outside a worker it tells one thread, 1 GiB and a temporary folder, so that a function can be
    tried by hand.
    """
    return _current if _current is not None else Share(memory=GiB, threads=1, attempt=0)


def set_share(value: Share | None) -> None:
    """Called by the worker before each batch."""
    global _current
    _current = value
