"""This process's own memory, measured exactly and cheaply from ``/proc/self``.

Two readings, at the begin and the end of a call, and the rule of :mod:`penstock.peaks` between them:
no spike is missed, and files that were mapped count at most for the page faults that they took. The
governor's readings in between make that exact for calls that last longer than one of its turns.
Where the mark cannot be reset (no /proc, hardened containers) the governor's samples stand in.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress

from penstock import proc
from penstock.peaks import HugePages, Mark, between, fault_size, resident

_DATA = b"VmData:"
_LONG = 0.005
"""Seconds of a call beside which a reading of the huge pages costs nothing."""
_CLEAR = 1 << 20
"""Where the mark is so close to what is held there is nothing to be told apart."""


class Meter:
    """Peak, held and mapped memory of this process. One per process: it owns its files.

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
        self._page = fault_size()
        self._huge = HugePages()
        self._lasted = 0.0
        self._forked: dict[int, tuple[int, int]] = {}
        self._begin = self._mark(huge=self._huge.latest)

    def __del__(self) -> None:
        for descriptor in (self._status, self._clear):
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Its open descriptors."""
        return self._status, self._clear

    def reset(self) -> Mark:
        """Start a new peak; returns the reading it starts with."""
        huge = self._huge.recent() if self._lasted > _LONG else self._huge.latest
        before = _faults()
        if self.peaks:
            os.pwrite(self._clear, b"5", 0)
        self._begin = self._mark(before, huge)
        return self._begin

    def held(self) -> int:
        """Anonymous + shared bytes held now."""
        _, held, _ = self._read()
        return held + self.children()

    def children(self) -> int:
        """Bytes that children hold in addition; 0 if they are not counted.

        Children that were forked, and run no program of their own, have our pages until either writes:
        they count with what was theirs alone when they were first seen, and what they grew by since.
        The governor, who has the time to ask for shares, tells that better.
        """
        return self._beside(self._read()[1]) if self._children and _has_children() else 0

    def _beside(self, own: int) -> int:
        """What children hold beside ``own`` bytes that we hold."""
        image = proc.image(os.getpid())
        total = most = apart = 0
        known, self._forked = self._forked, {}
        for pid in proc.descendants(os.getpid()):
            held = proc.held(pid)
            if not image or proc.image(pid) != image:
                total += held
                continue
            before, private = known.get(pid, (0, 0))
            if abs(held - before) > max(before // 20, _CLEAR):  # dear: not at each call
                before, private = held, own_pages(pid)
            self._forked[pid] = before, private
            apart += private + max(held - before, 0)
            most = max(most, held - own)
        return total + max(apart, most)

    def peak(self) -> tuple[int, int, Mark]:
        """The peak since :meth:`reset`, bytes held now, and the reading behind both.

        What the reading says of huge pages counts only where the two numbers are far apart.
        """
        begin, end = self._begin, self._mark()
        self._lasted = end.at - begin.at
        children = self._children and _has_children()
        held = end.held + (self._beside(end.held) if children else 0)
        if not self.peaks:
            return held, held, end
        if end.mark - min(begin.files, end.files) - max(begin.held, end.held) <= _CLEAR:
            most = max(end.mark - end.files, begin.held, end.held)
        else:
            huge, collapsed = self._huge.read()
            end = end._replace(huge=huge, collapsed=collapsed)
            most = between(begin, end, self._page)
        return max(most + (self._beside(most) if children else 0), held), held, end

    def data(self) -> int:
        """Private writable bytes mapped, as RLIMIT_DATA counts them."""
        if self._status < 0:
            return _most_resident()
        return (proc.find(os.pread(self._status, 4096, 0), _DATA) or 0) << 10

    def _mark(self, before: int | None = None, huge: tuple[int, int] = (0, 0)) -> Mark:
        mark, held, files = self._read()
        faults = _faults()
        return Mark(time.monotonic(), mark, held, files, faults if before is None else before, faults, *huge)

    def _read(self) -> tuple[int, int, int]:
        """(high-water mark, held, file pages)."""
        if self._status < 0:
            # macOS: no current reading in the standard library; the highest one is all there is.
            top = _most_resident()
            return top, top, 0
        mark, anonymous, files, shared = resident(os.pread(self._status, 4096, 0))
        return mark, anonymous + shared, files


def _faults() -> int:
    """Page faults of this process so far, of all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt


def _most_resident() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _has_children() -> bool:
    """Whether there are any, ended ones too: one system call, where a look at /proc takes many."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def own_pages(pid: int | str = "self") -> int:
    """Anonymous + shared bytes of this process alone, without pages shared with its fork server.

    Slow (0.7 to 20 ms): for a worker at its birth, never in a loop. 0 where it cannot be read.
    """
    return sum(own_pages_apart(pid))


def own_pages_apart(pid: int | str = "self") -> tuple[int, int]:
    """The same as (anonymous bytes, its part of the shared bytes that it maps)."""
    private = mapped = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Private_Dirty:"):
                    private += int(line.split()[1]) << 10
                elif line.startswith(b"Pss_Shmem:"):
                    mapped += int(line.split()[1]) << 10
    except OSError:
        return 0, 0
    return private, mapped
