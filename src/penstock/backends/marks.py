"""A mark in the environment that identifies processes of a run that escaped their tree.

The fork server is started with ``PENSTOCK_MARK=RUN-...`` of a fixed length. Each worker writes its own
number behind it: in ``os.environ``, which programs that it starts inherit, and in place, over the bytes of
its first environment, which ``/proc/PID/environ`` shows of it and of all that it forks.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from penstock.identity import after_command, began, reap, send
from penstock.proc import KernelFile, tracks_resources

VARIABLE = "PENSTOCK_MARK"
_LENGTH = 24
_RUN = 8
_EVERY = 0.2
"""Seconds between looks through /proc, at least."""
_TRIES = 3
"""A process without an environment is between two programs, or has none."""
_LONGEST = 1 << 18


def new_run() -> str:
    """A prefix shared by all marks of one run."""
    return os.urandom(_RUN // 2).hex()


def of_server(run: str) -> str:
    """The mark that a fork server is started with."""
    return f"{run}-".ljust(_LENGTH, ".")


def mark_worker() -> None:
    """Make this process's mark its own; a no-op where there is no mark."""
    before = os.environ.get(VARIABLE, "")
    if len(before) != _LENGTH:
        return
    mark = f"{before[:_RUN]}-{os.getpid()}".ljust(_LENGTH, ".")
    os.environ[VARIABLE] = mark
    with suppress(OSError, ValueError, IndexError):
        stat = Path("/proc/self/stat").read_bytes()
        start, end = (int(field) for field in after_command(stat).split()[47:49])
        place = ctypes.string_at(start, end - start).find(f"{VARIABLE}=".encode())
        if start and place >= 0:
            ctypes.memmove(start + place + len(VARIABLE) + 1, mark.encode(), _LENGTH)


def worker_of(pid: int, run: str | None = None) -> int | None:
    """The worker whose mark a process carries, 0 for the fork server's; None: no mark, or another run's.

    Raises:
        LookupError: it has no environment, for now at least.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            text = file.read(_LONGEST)
    except OSError:  # gone, or another user's
        return None
    if not text:
        raise LookupError(pid)
    name = f"{VARIABLE}=".encode()
    place = 0 if text.startswith(name) else text.find(b"\0" + name) + 1
    if place == 0 and not text.startswith(name):
        return None
    mark = text[place + len(name) : place + len(name) + _LENGTH].partition(b"\0")[0].decode(errors="replace")
    of_run, _, number = mark.partition("-")
    if run is not None and of_run != run:
        return None
    number = number.rstrip(".")
    return int(number) if number.isdigit() else 0


class Marked:
    """All processes that carry marks of one run, wherever they are.

    Args:
        run: what its marks begin with.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._load = KernelFile(Path("/proc/loadavg"))
        self._last: bytes | None = None
        self._at = float("-inf")
        self._seen: set[str] = set()
        self._tries: dict[str, int] = {}
        self._processes: dict[int, tuple[int, str]] = {}
        self._lock = threading.Lock()

    def look(self, *, now: bool = False) -> dict[int, int]:
        """Marked processes by pid, with their worker's pid; 0 where it is the fork server's.

        New ones are looked for where processes were started since the last time.

        Args:
            now: although it is not long since the last time.
        """
        with self._lock:
            last = self._load.read().rsplit(None, 1)[-1:]
            moment = time.monotonic()
            moved = not last or last[0] != self._last
            if now or ((moved or self._tries) and moment - self._at >= _EVERY):
                self._at, self._last = moment, last[0] if last else None
                self._look()
            return {pid: worker for pid, (worker, _) in self._processes.items()}

    def began(self, pid: int) -> str:
        """When a marked process started; empty for others."""
        with self._lock:
            return self._processes.get(pid, (0, ""))[1]

    def signal(self, pid: int, number: int) -> bool:
        """Signal a process that was seen with a mark; returns whether it is still that process."""
        since = self.began(pid)
        return bool(since) and send(pid, number, lambda pid: began(pid) == since)

    def _look(self) -> None:
        there = {name for name in os.listdir("/proc") if name.isdigit()}
        for name in there - self._seen:
            try:
                worker = worker_of(int(name), self._run)
            except LookupError:
                self._tries[name] = self._tries.get(name, 0) + 1
                if self._tries[name] < _TRIES:
                    there.discard(name)  # to be looked at again
                else:
                    self._tries.pop(name)
                continue
            self._tries.pop(name, None)
            if worker is not None:
                self._processes[int(name)] = worker, began(int(name))
        self._seen = there
        for name in [
            name for name in self._tries if name not in there and not Path(f"/proc/{name}").exists()
        ]:
            del self._tries[name]
        for pid, (_, since) in list(self._processes.items()):
            if str(pid) not in there or began(pid) != since:  # gone, or another has its number by now
                del self._processes[pid]


def end(pids: Iterable[int], run: str, *, trackers: bool = False) -> int:
    """Kill those of these processes that still carry a mark of the run; returns how many.

    Args:
        pids: of the processes.
        run: what the marks of the run begin with.
        trackers: also resource trackers, which end by themselves when the others have.
    """
    ended = 0
    for pid in pids:
        if not trackers and tracks_resources(pid):
            continue
        since = began(pid)
        if send(pid, signal.SIGKILL, lambda pid: _bears_mark(pid, run)):
            ended += 1
            reap(pid, since)  # where it was adopted by us
    return ended


def _bears_mark(pid: int, run: str) -> bool:
    try:
        return worker_of(pid, run) is not None
    except LookupError:
        return False
