"""The peak memory of a process between two readings, mapped files excluded.

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
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from penstock import proc
from penstock.identity import after_command

_FIELDS = (b"VmHWM:", b"RssAnon:", b"RssFile:", b"RssShmem:")
_HUGE_PAGE = 2 << 20
_AROUND = 16
"""Pages of a file that one fault maps."""
_SLACK = 1 << 20
_HUGE_EVERY = 0.1
"""Seconds for which a count of huge pages is good enough, as long as nothing depends on it."""
_HUGE_COUNTS = (b"thp_fault_alloc ", b"thp_collapse_alloc ")
_KEPT = 512
"""Even, so that all but the first of one more are pairs."""


class Mark(NamedTuple):
    """The kernel's counters of one process at one moment."""

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
    """Huge pages that the whole machine has handed out at page faults so far."""
    collapsed: int = 0
    """Huge pages that it has put together without a fault."""


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


def fields(stat: bytes) -> list[bytes]:
    """The first fields of ``/proc/PID/stat`` after the command's name, which may contain anything.

    Raises:
        ValueError: there is no such text: the process is gone.
    """
    return after_command(stat).split(None, 14)


def faults(of: list[bytes]) -> int:
    """Minor and major page faults of all threads so far, from :func:`fields`."""
    return int(of[7]) + int(of[9])


def faults_below(of: list[bytes]) -> int:
    """The same for children that have ended and were reaped."""
    return int(of[8]) + int(of[10])


def take(of: list[bytes], status: bytes, again: Callable[[], bytes], huge: HugePages) -> tuple[Mark, int]:
    """A reading of a process: (the mark, its shared memory).

    Args:
        of: the :func:`fields` of its stat, read just before ``status``.
        status: the text of ``/proc/PID/status``.
        again: reads its stat anew.
        huge: the machine's count of huge pages.

    Raises:
        ValueError: it is gone.
    """
    at = time.monotonic()
    top, anonymous, files, shared = resident(status)
    held = anonymous + shared
    before = after = faults(of)
    handed_out = huge.latest
    if top - files > held + _SLACK:
        # Only then does it matter how many faults there were: those after the reading count too.
        after, handed_out = faults(fields(again())), huge.read()
    return Mark(at, top, held, files, before, after, *handed_out), shared


def between(first: Mark, last: Mark, page: int, *, known: int = 0) -> int:
    """The peak between two readings of one process.

    Never too low where as many file pages as at one of the readings were mapped all the time, and the
    mark did not stand too high to tell (see :class:`Peak`). File pages that came in between count as
    memory as far as faults explain them: a sixteenth, or less.

    Args:
        first: the earlier reading.
        last: the later one.
        page: bytes of memory that one fault may bring in.
        known: bytes of shared files that it may have mapped without a fault for each page.
    """
    return max(first.held, last.held, _risen(first, last, page, known))


def _risen(first: Mark, last: Mark, page: int, known: int) -> int:
    """What the mark says of the time between two readings; 0 where it says nothing new."""
    rose = last.mark > first.mark or _was_reset(first.mark, last.mark)
    if not rose and last.files >= first.files:
        return 0  # it stood there before
    top = last.mark - min(first.files, last.files)
    if top <= max(first.held, last.held):
        return 0
    faults = last.faults - first.before
    # Others' huge pages are counted with ours, but none of ours came without a fault.
    huge = min(last.huge - first.huge, faults) + last.collapsed - first.collapsed
    return min(top, first.held + page * faults + _HUGE_PAGE * huge + known)


def _was_reset(before: int, now: int) -> bool:
    """Whether somebody lowered the mark; the kernel's own count of it is a few pages off now and then."""
    return now < before - _SLACK


def _closely(first: Mark, last: Mark, page: int, known: int) -> int:
    """The same for two readings that are close: the faults by which file pages came are taken off.

    It is too low by a sixteenth of these at most, where fewer faults brought them.
    """
    came = max(last.files - first.files, 0)
    return _risen(first, last, page, known - came // _AROUND)


class Peak:
    """The peak of a process that is read repeatedly; fed its readings in order.

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
        """Take the next reading; returns the peak since the last one that was not reported then."""
        most = max(reading.held, _closely(self.last, reading, self._page, known))
        self.best = max(self.best, most)
        # Whatever lowered the mark, the worker itself or we: it tells what was held since then.
        self._since = most if _was_reset(self.last.mark, reading.mark) else max(self._since, most)
        over = reading.mark - reading.files - self._since
        self.hidden = over > max(_SLACK, self._since // 100)
        self.last = reading
        return most

    def reset(self) -> None:
        """The mark was reset just after the last reading: it stands at what was resident then.

        A spike may bring it back to where it stood, which would look as if nothing had happened.
        """
        self.last = self.last._replace(mark=self.last.held + self.last.files)
        self._since = self.last.held


class Trail:
    """A process's readings during a batch, from which the peak of a single call can be derived.

    Of a long batch every second, fourth, eighth is kept: a few hundred at most, evenly spread.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start a new batch."""
        self._steps: list[tuple[Mark, int, int]] = []
        self._stride = 1
        self._merged = 0

    def add(self, reading: Mark, most: int) -> None:
        """Add a reading, and the peak since the last one."""
        step = (reading, most, reading.mark)
        if 0 < self._merged < self._stride:
            self._steps[-1] = _merge(self._steps[-1], step)
        else:
            self._steps.append(step)
            self._merged = 0
        self._merged += 1
        if len(self._steps) > _KEPT:  # the first stays as it was, and says how a call began
            self._steps[1:] = map(_merge, self._steps[1::2], self._steps[2::2])
            self._stride *= 2
            self._merged = self._stride

    def peak(self, begin: Mark, end: Mark, told: int) -> int:
        """The peak of a call, from these readings and its own two.

        Args:
            begin: the process's own reading at the beginning, when it had reset the mark.
            end: the same at the end.
            told: what these two say.
        """
        during = [step for step in self._steps if begin.at < step[0].at < end.at]
        if not during:
            return told
        head = _closely(begin, during[0][0], fault_size(), 0)
        tail = _closely(during[-1][0], end, fault_size(), 0)
        samples = max(begin.held, end.held, during[0][0].held)
        most = max(samples, head, tail, *(most for _, most, _ in during[1:]))
        # Where the mark was reset in between, its end tells of the time since then only.
        lost = _was_reset(max(mark for _, _, mark in during), end.mark)
        return most if lost else min(told, most)


def _merge(early: tuple[Mark, int, int], late: tuple[Mark, int, int]) -> tuple[Mark, int, int]:
    return late[0], max(early[1], late[1]), max(early[2], late[2])


# --------------------------------------------------------------------------- the machine


@cache
def fault_size(root: Path = proc.SYSTEM) -> int:
    """The most bytes that one page fault brings in; huge pages of 2 MiB are counted separately."""
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
    """Counts huge pages allocated on the machine; a reading takes 30 us."""

    def __init__(self) -> None:
        never = "[never]" in proc.text(Path("/sys/kernel/mm/transparent_hugepage/enabled"))
        self._file = None if never else proc.KernelFile(Path("/proc/vmstat"))
        self.latest = (0, 0)
        """How many at the last reading: handed out at faults, put together without."""
        self._at = 0.0
        self.begin = self.read()
        """How many there were when we began to count."""

    def recent(self) -> tuple[int, int]:
        """The count, at most a tenth of a second old."""
        return self.latest if time.monotonic() - self._at <= _HUGE_EVERY else self.read()

    def read(self) -> tuple[int, int]:
        """The count so far."""
        if self._file is not None:
            text = self._file.read()
            self._at = time.monotonic()
            faulted, collapsed = (proc.find(text, name) or 0 for name in _HUGE_COUNTS)
            self.latest = faulted, collapsed
        return self.latest
