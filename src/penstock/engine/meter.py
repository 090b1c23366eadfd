"""This process's own memory, read exactly and cheaply from ``/proc/self``.

VmHWM is the kernel's own high-water mark: no spike is missed between two readings. It counts
mapped files too, which are no memory that can run out, so they are taken off. Resetting and
reading costs about 20 us. Where the mark cannot be reset (no /proc, hardened containers) the
governor's samples stand in.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress

from penstock import proc

_FIELDS = (b"VmHWM:", b"RssAnon:", b"RssFile:", b"RssShmem:", b"VmData:")


class Meter:
    """Peak, held and mapped memory of this process. One per process: the files are its own.

    Args:
        children: whether what its children hold, and theirs, counts too. Of these only the present
            is known, no peak.
    """

    def __init__(self, *, children: bool = False) -> None:
        self._children = children
        self.peaks = False
        """Whether peaks are exact."""
        self._status = self._clear = -1
        try:
            self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
            self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
            os.pwrite(self._clear, b"5", 0)
            self.peaks = True
        except OSError:
            pass

    def __del__(self) -> None:
        for descriptor in (self._status, self._clear):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)

    def reset(self) -> None:
        """Begin a new peak."""
        if self.peaks:
            os.pwrite(self._clear, b"5", 0)

    def held(self) -> int:
        """Anonymous + shared bytes held now."""
        return self._read()[0] + self.children()

    def children(self) -> int:
        """The part of it that children hold; 0 where they do not count."""
        if not self._children or not _has_children():
            return 0
        return sum(proc.held(pid) for pid in proc.descendants(os.getpid()))

    def peak(self) -> tuple[int, int]:
        """(highest since :meth:`reset`, held now): anonymous + shared bytes."""
        held, files, mark, _ = self._read()
        others = self.children()
        return (max(mark - files, held) if self.peaks else held) + others, held + others

    def data(self) -> int:
        """Private writable bytes mapped, as RLIMIT_DATA counts them."""
        return self._read()[3]

    def _read(self) -> tuple[int, int, int, int]:
        if self._status < 0:
            # macOS: no current reading in the standard library; the highest one is all there is.
            top = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
                1 if sys.platform == "darwin" else 1024
            )
            return top, 0, top, top
        text = os.pread(self._status, 4096, 0)
        mark, anonymous, files, shared, data = (_field(text, name) for name in _FIELDS)
        return anonymous + shared, files, mark, data


def _has_children() -> bool:
    """Whether there are any, ended ones too: one system call, where a look at /proc takes many."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _field(text: bytes, name: bytes) -> int:
    place = text.find(name)
    if place < 0:
        return 0
    end = text.index(b"kB", place)
    return int(text[place + len(name) : end]) << 10


def own_pages(pid: int | str = "self") -> int:
    """Anonymous bytes that belong to this process alone, not shared with its fork server.

    Slow (0.7 to 20 ms): for a worker at its birth, never in a loop. 0 where it cannot be read.
    """
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith((b"Private_Dirty:", b"Pss_Shmem:")):
                    total += int(line.split()[1]) << 10
    except OSError:
        return 0
    return total
