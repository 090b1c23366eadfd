"""What a worker's process tree holds and does, from ``/proc``, cheaply enough for every 10 ms."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from penstock.abc import Reading
from penstock.proc import descendants

_TICK = os.sysconf("SC_CLK_TCK")
_THREADS_EVERY = 8
"""Children of threads other than the main one are looked for at every eighth reading."""


class Tree:
    """A worker's process and its descendants.

    Args:
        pid: of the worker, alive and ours.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._files = {
            name: os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("status", "stat", f"task/{pid}/children")
        }
        self._count = 0
        self._children: list[int] = []

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in (self._pidfd, *self._files.values()):
            with suppress(OSError):
                os.close(descriptor)
        self._files = {}

    def send(self, number: signal.Signals) -> None:
        """Signal the whole tree; a process that is gone is no matter."""
        # The worker first: stopped, it starts no further children.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)
        for pid in list(descendants(self.pid)):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def read(self) -> Reading | None:
        """Memory and CPU of the tree now; None when the worker is gone."""
        try:
            memory, shared = _resident(os.pread(self._files["status"], 4096, 0))
            cpu = _cpu(os.pread(self._files["stat"], 1024, 0))
            children = os.pread(self._files[f"task/{self.pid}/children"], 4096, 0)
        except (OSError, KeyError):
            return None
        self._count += 1
        if children or self._children or self._count % _THREADS_EVERY == 0:
            self._children = list(descendants(self.pid))
            for pid in self._children:
                with suppress(OSError):
                    more, more_shared = _resident(_slurp(f"/proc/{pid}/status"))
                    memory, shared = memory + more, shared + more_shared
                    cpu += _cpu(_slurp(f"/proc/{pid}/stat"))
        return Reading(memory, cpu, shared)

    def io(self) -> int:
        """Bytes read and written by the worker so far; 0 where that is not told."""
        with suppress(OSError, ValueError, IndexError):
            lines = _slurp(f"/proc/{self.pid}/io").splitlines()
            return sum(int(line.split()[1]) for line in lines[:2])
        return 0


def end_sessions(leaders: Collection[int]) -> None:
    """Kill what is left of the sessions of workers that are gone without anybody to adopt their children."""
    for folder in Path("/proc").glob("[0-9]*") if leaders else ():
        with suppress(OSError, ValueError, IndexError):
            stat = _slurp(f"{folder}/stat")
            if int(stat[stat.rindex(b")") + 2 :].split()[3]) in leaders:
                os.kill(int(folder.name), signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    """CPU seconds of one process so far; 0 when it is gone."""
    try:
        return _cpu(_slurp(f"/proc/{pid}/stat"))
    except (OSError, ValueError):
        return 0.0


def _slurp(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _resident(status: bytes) -> tuple[int, int]:
    """(anonymous + shared, shared) bytes, from the text of ``/proc/PID/status``."""
    place = status.find(b"RssAnon:")
    if place < 0:
        return 0, 0  # a zombie has no memory
    at = status.index(b"RssShmem:", place)
    anonymous = int(status[place + 8 : status.index(b"kB", place)]) << 10
    shared = int(status[at + 9 : status.index(b"kB", at)]) << 10
    return anonymous + shared, shared


def _cpu(stat: bytes) -> float:
    # The command's name may hold anything, blanks and brackets too: count from its end.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
