"""The most memory that a process held between two readings, without the files that it mapped.

The kernel's high-water mark (VmHWM) misses no spike, but counts the pages of mapped files, which are
no memory that can run out, and does not tell at which moment it stood there. So it is believed only
as far as page faults can explain: each page of memory is faulted in once, while one fault maps
sixteen pages of a file or more. What is read here is one process; children have marks of their own.

Pure but for :class:`HugePages` and :func:`fault_size`. All sizes in bytes.
"""

from __future__ import annotations

import os
import re
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

from penstock import proc

_FIELDS = (b"VmHWM:", b"RssAnon:", b"RssFile:", b"RssShmem:")
_HUGE_PAGE = 2 << 20
_SLACK = 1 << 20
_HUGE_EVERY = 0.1
"""Seconds for which a count of huge pages is good enough, as long as nothing depends on it."""
_KEPT = 512
"""Even, so that all but the first of one more are pairs."""


class Mark(NamedTuple):
    """What the kernel tells about one process at one moment."""

    at: float
    """Seconds of the monotonic clock."""
    mark: int
    """VmHWM: the most that was resident since the process began, or since somebody reset it."""
    held: int
    """Anonymous + shared memory."""
    files: int
    """Pages of mapped files."""
    before: int
    """Page faults so far, counted before the other numbers were read."""
    faults: int
    """Page faults so far, counted after they were read."""
    huge: int
    """Huge pages that the whole machine has handed out so far."""


def resident(status: bytes) -> tuple[int, int, int, int]:
    """(high-water mark, anonymous, file, shared) bytes in the text of ``/proc/PID/status``.

    Raises:
        ValueError: they are not there: a zombie has no memory.
    """
    found = []
    at = 0
    for name in _FIELDS:
        at = status.index(name, at) + len(name)
        found.append(int(status[at : status.index(b"kB", at)]) << 10)
    mark, anonymous, files, shared = found
    return mark, anonymous, files, shared


def between(first: Mark, last: Mark, page: int, *, known: int = 0) -> int:
    """The most that was held between two readings of one process.

    Never too low where as many file pages as at one of the readings were mapped all the time, and the
    mark did not stand too high to tell (see :class:`Peak`). File pages that came in between count as
    memory as far as faults explain them: a sixteenth, or less.

    Args:
        first: the earlier reading.
        last: the later one.
        page: bytes of memory that one fault may bring in.
        known: bytes of shared files that it may have mapped without a fault for each page.
    """
    held = max(first.held, last.held)
    if last.mark == first.mark and last.files >= first.files:
        return held  # nothing new: it stood there before
    top = last.mark - min(first.files, last.files)
    if top <= held:
        return held
    faulted = page * (last.faults - first.before) + _HUGE_PAGE * (last.huge - first.huge)
    return max(held, min(top, first.held + faulted + known))


class Peak:
    """The rule for a process that is read again and again; fed its readings in their order.

    Args:
        first: the first reading.
        page: bytes of memory that one fault may bring in.
    """

    def __init__(self, first: Mark, page: int) -> None:
        self.last = first
        self.best = first.held
        """The most that was held so far."""
        self.hidden = False
        """Whether the mark stands so high, for files that are gone, that a spike may hide below it.

        Then it should be reset.
        """
        self._page = page
        self._since = first.held

    def feed(self, reading: Mark, *, known: int = 0) -> int:
        """Take the next reading; the most that was held since the one before."""
        most = between(self.last, reading, self._page, known=known)
        self.best = max(self.best, most)
        # Whatever lowered the mark, the worker itself or we: it tells what was held since then.
        self._since = most if reading.mark < self.last.mark else max(self._since, most)
        over = reading.mark - reading.files - self._since
        self.hidden = over > max(_SLACK, self._since // 100)
        self.last = reading
        return most


class Trail:
    """The readings of one process during a batch, so that a call can be told from them afterwards.

    Of a long batch every second, fourth, eighth is kept: a few hundred at most, evenly spread.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Another batch begins."""
        self._steps: list[tuple[Mark, int]] = []
        self._stride = 1
        self._merged = 0

    def add(self, reading: Mark, most: int) -> None:
        """A reading, and the most that was held since the one before."""
        if 0 < self._merged < self._stride:
            self._steps[-1] = (reading, max(self._steps[-1][1], most))
        else:
            self._steps.append((reading, most))
            self._merged = 0
        self._merged += 1
        if len(self._steps) > _KEPT:  # the first stays as it was, and says how a call began
            pairs = zip(self._steps[1::2], self._steps[2::2], strict=True)
            self._steps[1:] = [(late, max(before, most)) for (_, before), (late, most) in pairs]
            self._stride *= 2
            self._merged = self._stride

    def most(self, begin: Mark, end: Mark, page: int) -> int | None:
        """The most that was held during a call; None when it was not read in between.

        Args:
            begin: the process's own reading at the beginning, when the mark had been reset.
            end: the same at the end.
            page: bytes of memory that one fault may bring in.
        """
        during = [step for step in self._steps if begin.at < step[0].at < end.at]
        if not during:
            return None
        head = between(begin, during[0][0], page)
        tail = between(during[-1][0], end, page)
        return max(head, tail, *(most for _, most in during[1:]), during[0][0].held)


# --------------------------------------------------------------------------- the machine


@cache
def fault_size(root: Path = proc.SYSTEM) -> int:
    """The most bytes that one page fault brings in, huge pages of 2 MiB aside: these are counted apart."""
    page = os.sysconf("SC_PAGE_SIZE")
    folder = root / "sys/kernel/mm/transparent_hugepage"
    general = "[never]" not in proc.text(folder / "enabled")
    for each in sorted(folder.glob("hugepages-*kB")):
        size = int(re.sub(r"\D", "", each.name) or 0) << 10
        state = proc.text(each / "enabled")
        used = bool(state) and "[never]" not in state and ("[inherit]" not in state or general)
        if used and size != _HUGE_PAGE:
            page = max(page, size)
    return page


class HugePages:
    """Counts the huge pages that the machine has handed out; a reading takes 30 us."""

    def __init__(self) -> None:
        never = "[never]" in proc.text(Path("/sys/kernel/mm/transparent_hugepage/enabled"))
        self._file = None if never else proc.KernelFile(Path("/proc/vmstat"))
        self.latest = 0
        """How many at the last reading."""
        self._at = 0.0
        self.read()

    def recent(self) -> int:
        """How many, at most a tenth of a second ago."""
        return self.latest if time.monotonic() - self._at <= _HUGE_EVERY else self.read()

    def read(self) -> int:
        """How many so far."""
        if self._file is not None:
            text = self._file.read()
            self._at = time.monotonic()
            self.latest = sum(
                proc.find(text, name) or 0 for name in (b"thp_fault_alloc ", b"thp_collapse_alloc ")
            )
        return self.latest
