"""What a worker's process tree holds and does, from ``/proc``, cheaply enough for every 10 ms."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from penstock.abc import Reading
from penstock.peaks import HugePages, Mark, Peak, fault_size, resident
from penstock.proc import descendants

_TICK = os.sysconf("SC_CLK_TCK")
_NEAR = 1 << 20
"""Where the mark is so close to what is held there is nothing to be told apart."""
_END_SECONDS = 2.0
_THREADS_EVERY = 8
"""Children of threads other than the main one are looked for at every eighth reading."""


class Tree:
    """A worker's process and its descendants.

    Args:
        pid: of the worker, alive and ours.
        huge: the machine's count of huge pages.
    """

    def __init__(self, pid: int, huge: HugePages) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._files = {
            name: os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("status", "stat", f"task/{pid}/children")
        }
        self._clear = -1
        with suppress(OSError):
            self._clear = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._count = 0
        self._children: list[int] = []
        self._huge = huge
        self._page = fault_size()
        self._peak: Peak | None = None
        self._before_reset: Mark | None = None
        self._lock = threading.Lock()
        self.asked = False
        """Whether somebody was asked to reset its mark, and has not yet."""

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:  # a number that was given back may be another file's at once
            for descriptor in (self._pidfd, self._clear, *self._files.values()):
                with suppress(OSError):
                    os.close(descriptor)
            self._files = {}
            self._clear = -1

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
            mark, shared, cpu = self._mark()
            children = os.pread(self._files[f"task/{self.pid}/children"], 4096, 0)
        except (OSError, KeyError, ValueError):
            return None
        rise = self._feed(mark) - mark.held
        memory = mark.held
        self._count += 1
        if children or self._children or self._count % _THREADS_EVERY == 0:
            self._children = list(descendants(self.pid))
            for pid in self._children:
                with suppress(OSError):
                    more, more_shared = _resident(_slurp(f"/proc/{pid}/status"))
                    memory, shared = memory + more, shared + more_shared
                    cpu += _cpu(_slurp(f"/proc/{pid}/stat"))
        return Reading(memory, cpu, shared, peak=memory + rise, mark=mark)

    def _mark(self) -> tuple[Mark, int, float]:
        """What the kernel tells of the worker alone, with its shared memory and its CPU."""
        stat = _fields(os.pread(self._files["stat"], 1024, 0))
        at = time.monotonic()
        top, anonymous, files, shared = resident(os.pread(self._files["status"], 4096, 0))
        held = anonymous + shared
        before = faults = _faults(stat)
        huge = self._huge.latest
        if top - files > held + _NEAR:
            # Only then does it matter how many faults there were: those after the reading count too.
            faults, huge = _faults(_fields(os.pread(self._files["stat"], 1024, 0))), self._huge.read()
        return Mark(at, top, held, files, before, faults, huge), shared, _cpu_of(stat)

    def _feed(self, mark: Mark) -> int:
        if self._peak is None:
            self._peak = Peak(mark, self._page)
            return mark.held
        most = 0
        before, self._before_reset = self._before_reset, None
        if before is not None and before.at > self._peak.last.at:
            most = self._peak.feed(before)
        return max(most, self._peak.feed(mark))

    @property
    def hidden(self) -> bool:
        """Whether its high-water mark should be reset, lest a spike hide below it."""
        return self._clear >= 0 and not self.asked and self._peak is not None and self._peak.hidden

    def reset(self) -> None:
        """Reset its high-water mark; waits for its memory's lock (40 ms were seen), so not in the governor.

        In a thread of its own; what it read just before is fed to the rule by the next :meth:`read`.
        """
        with self._lock, suppress(OSError, KeyError, ValueError):
            mark, _, _ = self._mark()
            os.pwrite(self._clear, b"5", 0)
            self._before_reset = mark
        self.asked = False

    def io(self) -> int:
        """Bytes read and written by the worker so far; 0 where that is not told."""
        with suppress(OSError, ValueError, IndexError):
            lines = _slurp(f"/proc/{self.pid}/io").splitlines()
            return sum(int(line.split()[1]) for line in lines[:2])
        return 0


class Resetter(threading.Thread):
    """Resets high-water marks beside the governor's thread, which waits for no process."""

    def __init__(self) -> None:
        super().__init__(name="penstock-resetter", daemon=True)
        self._wanted: queue.SimpleQueue[Tree | None] = queue.SimpleQueue()

    def ask(self, tree: Tree) -> None:
        """Reset a tree's mark soon."""
        if not self.is_alive():
            self.start()
        tree.asked = True
        self._wanted.put(tree)

    def stop(self) -> None:
        """End the thread."""
        if self.is_alive():
            self._wanted.put(None)
            self.join(_END_SECONDS)  # a process in the midst of I/O may hold it up

    def run(self) -> None:
        """Until stopped."""
        while (tree := self._wanted.get()) is not None:
            tree.reset()


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


def state(pid: int) -> str:
    """One letter, as ``ps`` tells it: ``"T"`` is stopped; "" when it is gone."""
    try:
        stat = _slurp(f"/proc/{pid}/stat")
        return stat[stat.rindex(b")") + 2 :][:1].decode()
    except (OSError, ValueError):
        return ""


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
    return _cpu_of(_fields(stat))


def _fields(stat: bytes) -> list[bytes]:
    """The fields of ``/proc/PID/stat`` behind the command's name, which may hold blanks and brackets too."""
    return stat[stat.rindex(b")") + 2 :].split(None, 14)


def _cpu_of(fields: list[bytes]) -> float:
    return (int(fields[11]) + int(fields[12])) / _TICK


def _faults(fields: list[bytes]) -> int:
    """Page faults so far, minor and major, of all threads."""
    return int(fields[7]) + int(fields[9])
