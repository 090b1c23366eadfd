"""Memory in pipe buffers, where the kernel reports only the sum of its memory (control groups v1).

Much else may be in that sum: names and inodes of a million files that somebody looked at, page tables,
stacks. None of it is in a pipe that nobody has, and a pipe holds no more than its capacity.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from penstock import proc
from penstock.budget import MiB
from penstock.groups.files import GroupFiles

_F_GETPIPE_SZ = 1032
_PIDFD_GETFD = 438
"""The number of the system call, the same on every machine."""
_GROWN = MiB
"""By so much the kernel's memory grows until pipes are looked for again."""
_EVERY = 1.0
"""Seconds until they are looked for again in any case."""
_SHARE = 0.02
"""Share of one core that looking for them may take."""


class PipeBuffers:
    """The pipes of the processes in a group and below it, scanned as rarely as possible.

    Args:
        folder: of the group.
        capacity: what the pipes of some processes can hold.
        clock: seconds, monotonic.
        spent: CPU seconds of this thread: on a crowded machine a look lasts longer, and costs no more.
    """

    def __init__(
        self,
        folder: Path,
        files: GroupFiles,
        capacity: Callable[[Iterable[int]], int | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._folder = folder
        self._files = files
        self._capacity = capacity or capacity_of
        self._clock, self._spent = clock, spent
        self._most: int | None = 0
        self._then = 0
        self._next = self._again = 0.0

    def most(self, kernel: int) -> int:
        """How much of the group's kernel memory may be in pipes, at most."""
        now = self._clock()
        if now >= self._next and (kernel > self._then + _GROWN or now >= self._again):
            begin = self._spent()
            self._most, self._then = self._capacity(self._files.inside(self._folder)), kernel
            self._next = now + (self._spent() - begin) / _SHARE
            self._again = now + _EVERY
        if self._most is None:
            return kernel
        return min(kernel, self._most + max(kernel - self._then, 0))


def capacity_of(pids: Iterable[int], root: Path = proc.SYSTEM) -> int | None:
    """Capacity in bytes of these processes' pipes; None if that cannot be found."""
    total, known = 0, set()
    for pid in pids:
        if pid == 0:  # one that cannot be seen from here
            return None
        folder = str(root / "proc" / str(pid) / "fd")
        try:
            with os.scandir(folder) as entries:
                numbers = [entry.name for entry in entries]
        except FileNotFoundError:  # it has ended
            continue
        except OSError:  # another user's
            return None
        for number in numbers:
            with suppress(OSError):
                name = os.readlink(f"{folder}/{number}")  # noqa: PTH115
                if name.startswith("pipe:") and name not in known:
                    known.add(name)
                    total += _size(pid, int(number)) or _largest(root)
    return total


@cache
def _largest(root: Path) -> int:
    """The most that a pipe can hold, unless root made it larger."""
    text = proc.text(root / "proc/sys/fs/pipe-max-size").strip()
    return int(text) if text.isdigit() else MiB


def _size(pid: int, number: int) -> int:
    """The capacity of a process's pipe; 0 where it may not be asked for.

    Its descriptor is borrowed for a moment. Opened anew the pipe would have another reader or writer.
    """
    take = _getfd()
    if take is None:
        return 0
    descriptor = -1
    try:
        process = os.pidfd_open(pid)
        try:
            descriptor = take(process, number)
            return fcntl.fcntl(descriptor, _F_GETPIPE_SZ) if descriptor >= 0 else 0
        finally:
            os.close(process)
            if descriptor >= 0:
                os.close(descriptor)
    except OSError:
        return 0


@cache
def _getfd() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes

    call = ctypes.CDLL(None).syscall
    call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long] * 4
    return lambda process, number: int(call(_PIDFD_GETFD, process, number, 0))
