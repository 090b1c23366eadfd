"""Notices files in ``/dev/shm`` as they appear: they may be closed before the next reading.

By inotify, where the C library has it and the machine allows another watch; else nothing is told, and a
file that is open for less than a turn of the governor is missed.
"""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Callable

from penstock.patience import Unwaiting

_FOLDER = b"/dev/shm"
_IN_MOVED_TO, _IN_CREATE = 0x80, 0x100
_REST = 2
"""Milliseconds between two tellings, at least."""


class Sentinel:
    """Calls back for new files in ``/dev/shm``, from a thread of its own.

    Args:
        tell: called; several files may be told as one.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._events = _watch(_FOLDER)
        self._wake = -1
        self._thread: _Watcher | None = None
        if self._events >= 0:
            try:
                self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError:
                os.close(self._events)
                raise
            self._thread = _Watcher(self._run)
            self._thread.start()

    def _run(self) -> None:
        ear, rest = select.poll(), select.poll()  # select() takes no descriptor over 1,023
        for descriptor in (self._events, self._wake):
            ear.register(descriptor, select.POLLIN)
        rest.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in ear.poll()}
            if self._wake in ready:
                return
            try:
                os.read(self._events, 1 << 16)
            except BlockingIOError:
                continue
            self._tell()
            rest.poll(_REST)

    def close(self) -> None:
        """Stop watching."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        os.eventfd_write(self._wake, 1)
        thread.join()
        for descriptor in (self._events, self._wake):
            os.close(descriptor)


class _Watcher(Unwaiting):
    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__("penstock-sentinel")
        self._run = run

    def run(self) -> None:
        self._run()


def _watch(folder: bytes) -> int:
    """A descriptor of inotify; -1 where there is none."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor >= 0 and libc.inotify_add_watch(descriptor, folder, _IN_CREATE | _IN_MOVED_TO) < 0:
            os.close(descriptor)
            return -1
    except (AttributeError, OSError):
        return -1
    return descriptor
