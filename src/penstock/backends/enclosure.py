"""The control groups of a fork server and its workers, where they can be made; otherwise a no-op.

Covers who is in which group, what the groups tell about each worker, and their end. Where no group can
be made every method says so with None, and the backend goes by processes.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace

from penstock import groups
from penstock.abc import Reading
from penstock.groups import Found, Member

_SLACK = 64 * 4096
"""Bytes for each CPU by which the kernel's counters may lag."""
_MANY_CPUS = 64
_STOCK = 1 << 20
"""What a group is charged with ahead, about: not worth asking whose it is."""
_BY_PROCESS = (
    "memory is measured by adding up processes and the shared memory that they hold; it cannot see pipes and "
    "socket buffers, files in memory on their way through a socket, open for less than 2 ms or in a mount "
    "that a function made for itself, a process without its environment after the fork server's end, and "
    "what is started elsewhere for us (systemd-run, at, docker)"
)


class Enclosure:
    """The groups of one fork server and of the workers that it forks.

    Args:
        found: how they were made; found here by default.
    """

    def __init__(self, found: Found | None = None) -> None:
        self._found = found or groups.find()
        self._run = self._found.run
        self._lock = threading.Lock()
        self._members: dict[int, Member] = {}
        self._entered: set[int] = set()
        self._kills: dict[int, int] = {}
        self._top = 0

    @property
    def active(self) -> bool:
        """Whether there are groups, from which no process can escape."""
        return self._run is not None

    @property
    def measure(self) -> str:
        """How memory is measured, and what that cannot see."""
        return measure(self._found)

    def command(self, command: list[str]) -> list[str]:
        """The command that starts a fork server inside its group from its first byte on."""
        return self._found.command(command)

    # ------------------------------------------------------------------ workers

    def entrance(self, worker: int) -> int | None:
        """Make a group for a new worker; returns a descriptor to enter it by, which the caller closes."""
        if self._run is None:
            return None
        try:
            member = self._run.member(f"w{worker}")
            descriptor = member.entrance()
        except OSError:  # no more groups are allowed: it stays in the server's, where it counts as well
            return None
        with self._lock:
            self._members[worker] = member
        return descriptor

    def _member(self, worker: int, pid: int | None = None) -> Member | None:
        """A worker's group, once it was seen in it."""
        with self._lock:
            member = self._members.get(worker)
        if member is None or worker in self._entered:
            return member
        if pid is None or pid not in member.pids():
            return None
        self._entered.add(worker)
        return member

    def read(self, worker: int, reading: Reading, pid: int) -> Reading:
        """A reading of a worker's processes, including what its group reports."""
        member = self._member(worker, pid)
        told = member.read() if member is not None else None
        if told is None:
            return reading
        held = told.held.memory
        top = told.top
        # The mark counts what was cached as well: a file that came and went between two readings is no
        # memory. Page faults tell that apart, of one process.
        rise = held + max(reading.peak - reading.memory, 0)
        if top > rise + _STOCK and member is not None and len(member.pids()) == 1:
            top = max(rise, told.before)
        return replace(
            reading, pipes=told.held.pipes, charged=held, charged_peak=top, charged_bound=told.bound
        )

    def total(self) -> int | None:
        """Bytes that the whole run holds; None without groups."""
        told = self._run.all.read() if self._run is not None else None
        if told is None:
            return None
        self._top = told.top + told.held.pipes
        return told.held.memory + told.held.pipes

    def top(self) -> int:
        """The maximum of :meth:`total` between its last two calls."""
        return self._top

    def order(self, worker: int, pid: int | None) -> None:
        """Note that a worker was given work: kernel kills from now on are attributed to it."""
        member = self._member(worker, pid)
        if member is not None:
            self._kills[worker] = member.kernel_kills() or 0

    def kernel_killed(self, worker: int) -> bool | None:
        """Whether the kernel killed a process of a worker for memory since it was given work."""
        member = self._member(worker)
        kills = member.kernel_kills() if member is not None else None
        return None if kills is None else kills > self._kills.get(worker, 0)

    def fence(self, worker: int, most: int) -> None:
        """Have the kernel kill a worker rather than let it hold more."""
        member = self._member(worker)
        if member is not None:
            member.fence(most)

    def send(self, worker: int, pid: int | None, number: signal.Signals) -> bool:
        """Stop, continue or kill everything in a worker's group; returns whether the worker is in it."""
        member = self._member(worker, pid)
        if member is None:
            return False
        if number == signal.SIGKILL:
            member.kill(trackers=False)
        elif number == signal.SIGSTOP:
            member.pause()
        else:
            member.resume()
        return True

    # ------------------------------------------------------------------ the end

    def reap(self, worker: int) -> None:
        """Kill what a dead worker left behind, and remove its group as soon as possible."""
        with self._lock:
            member = self._members.pop(worker, None)
        self._entered.discard(worker)
        self._kills.pop(worker, None)
        if member is not None and self._run is not None:
            self._run.drop(member)

    def tidy(self) -> None:
        """Remove groups that could not be removed yet; call it now and then."""
        if self._run is not None:
            self._run.tidy()

    def close(self) -> None:
        """Kill everything and remove the groups."""
        run, self._run = self._run, None
        if run is not None:
            run.close()
        with self._lock:
            self._members.clear()


def measure(found: Found) -> str:
    """How memory is measured with the groups that were found, and what that cannot see."""
    if found.run is None:
        return f"{_BY_PROCESS}; no control group of our own: {'; '.join(found.refused)}"
    text = (
        f"memory is measured by control groups of our own ({found.way}, {found.run.folder.parent}): one for "
        "the run and one for each worker; it cannot see socket buffers, pipe buffers under 8 MiB, and what "
        "is started outside of them for us (systemd-run, at, docker) or moves out as root"
    )
    cpus = os.cpu_count() or 1
    if cpus > _MANY_CPUS:
        text += f"; with {cpus} CPUs it may lag by {_SLACK * cpus >> 20} MiB"
    return text
