"""The memory of the machine itself.

``bytes`` is all of it and ``used`` is what cannot be had (MemTotal - MemAvailable), so
``bytes - used`` is what is free now and ``used`` less our own share is what others hold. Page cache
counts as free; files in ``/dev/shm`` and other tmpfs count as used. Swap is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.budget import Ceiling
from penstock.proc import SYSTEM, KernelFile, find


class Machine:
    """One ceiling: the memory of this machine (or what a container shows as such).

    Args:
        root: where ``/proc`` lies.
        environ: not used; every limit takes it.
    """

    def __init__(self, root: Path = SYSTEM, environ: Mapping[str, str] | None = None) -> None:
        self._memory = KernelFile(root / "proc/meminfo")
        # Kernel kills on the whole machine: the only counter where no group has a limit.
        self._events = KernelFile(root / "proc/vmstat")
        self._is_real = root == SYSTEM

    def read(self) -> Sequence[Ceiling]:
        """The current ceiling. Never raises."""
        memory = self._memory.read()
        total = find(memory, b"MemTotal:")
        if total is None:
            return _from_system() if self._is_real else []
        available = find(memory, b"MemAvailable:")
        if available is None:  # before Linux 3.14
            available = find(memory, b"MemFree:") or 0
        used = max(0, total - available) * 1024
        kills = self._events.value(b"oom_kill ")
        return [
            Ceiling(total * 1024, "tree", "memory of this machine (/proc/meminfo)", used, kernel_kills=kills)
        ]


def _from_system() -> list[Ceiling]:
    """The same where there is no ``/proc`` (macOS): all of it, and what is free where that is told."""
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return []
    try:
        free = os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        free = pages
    return [Ceiling(page * pages, "tree", "memory of this machine", page * (pages - free))]
