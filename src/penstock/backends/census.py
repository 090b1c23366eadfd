"""Finds stray processes of a fork server and its workers, and the shared memory that all of them hold.

A process may leave its worker's tree: its parents end, and it is the fork server's, or nobody's, until
the run ends. Where there are control groups of our own nobody can leave them; this is for where there
are none. Orphans are found below the fork server, others by a mark in their environment.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from penstock import held_memory
from penstock.abc import Reading
from penstock.backends import marks
from penstock.backends.lineage import adopt_for_now, adopt_no_more
from penstock.backends.processes import WorkerTree, spared
from penstock.backends.sentinel import Sentinel
from penstock.identity import UNSEEN, reap, send, started
from penstock.proc import TRACKER_SECONDS, KernelFile, descendants, find, held_apart, tracks_resources

_ROUNDS = 20
"""Times that processes are killed which others start meanwhile."""


class Census:
    """The processes of one run.

    Args:
        server: the fork server's process.
        run: what the marks of the run begin with.
    """

    def __init__(self, server: int, run: str) -> None:
        self._server = server
        self._run = run
        self._marked = marks.Marked(run)
        self._children = KernelFile(Path(f"/proc/{server}/task/{server}/children"))
        self._status = KernelFile(Path("/proc/self/status"))
        self._of_server = KernelFile(Path(f"/proc/{server}/status"))
        self._shared = held_memory.Shared()
        self._processes: dict[int, int] = {server: 0, os.getpid(): 0}
        self._known: dict[int, str] = {}
        self._unmapped: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._lock = threading.Lock()
        self.short = False
        """Whether memory is short, so that looking may cost what it takes."""
        self.beside = 0
        """Anonymous memory of the fork server and of those that belong to no living worker."""
        self.shared = 0
        """Shared memory of all, each page once, beside what this process maps."""
        adopt_for_now()
        try:
            self._sentinel = Sentinel(self._heard)
        except OSError:
            adopt_no_more()
            raise

    def read(self, trees: Mapping[int, WorkerTree], readings: Mapping[int, Reading]) -> dict[int, Reading]:
        """Readings of the workers' trees, including processes outside them."""
        processes = {os.getpid(): 0, self._server: 0}
        workers = {tree.pid: worker for worker, tree in trees.items()}
        for worker, tree in trees.items():
            processes[tree.pid] = worker
            processes |= dict.fromkeys(tree.children, worker)
        found = dict(readings)
        beside = (find(self._of_server.read(), b"RssAnon:") or 0) << 10
        mapped = sum(reading.shared for reading in readings.values())
        strays: dict[int, list[int]] = {worker: [] for worker in trees}
        for pid, worker in self._strays(processes, workers).items():
            processes[pid] = worker
            if worker in strays:
                strays[worker].append(pid)  # its tree counts it from the next reading on
            else:
                anonymous, shared = held_apart(pid)
                beside, mapped = beside + anonymous, mapped + shared
        for worker, tree in trees.items():
            tree.strays = strays[worker]
        own = (find(self._status.read(), b"RssShmem:") or 0) << 10
        self._remember(processes, {*workers, self._server, os.getpid()})
        held = self._shared.read(processes, mapped + own, own, short=self.short)
        self.beside, self.shared = beside, held.beside
        before, self._unmapped = self._unmapped, {}
        # Memory that grows between a process's reading and this one looks unmapped for a turn.
        lasting = {worker: min(much, self._last.get(worker, 0)) for worker, much in before.items()}
        self._last = before
        for worker, reading in found.items():
            # What it has open or made, and does not map.
            more = held.by_owner.get(worker, 0) - reading.shared
            if more > 0:
                self._unmapped[worker] = more
                # What was mapped until now, and is held still, is no rise.
                new = max(more - lasting.get(worker, 0), 0)
                found[worker] = replace(
                    reading,
                    memory=reading.memory + more,
                    shared=reading.shared + more,
                    peak=max(reading.peak - new, reading.memory) + more,
                )
        return found

    def _strays(self, known: Collection[int], workers: Mapping[int, int]) -> dict[int, int]:
        """Processes of ours below no worker: whose each is, by its number; 0: of none that lives."""
        marked = self._marked.look()
        strays = {pid: workers.get(of, 0) for pid, of in marked.items() if pid not in known}
        for child in self._children.read().split():
            orphan = int(child)
            if orphan in known:
                continue
            for pid in (orphan, *descendants(orphan)):
                if pid not in known:
                    strays.setdefault(pid, workers.get(marked.get(pid, 0), 0))
        return strays

    def _remember(self, processes: dict[int, int], roots: Collection[int]) -> None:
        with self._lock:
            self._processes = processes
            for pid in processes.keys() - self._known.keys():
                if pid not in roots:
                    self._known[pid] = started(pid)
            for pid in self._known.keys() - processes.keys():
                del self._known[pid]

    def _heard(self) -> None:
        """A file appeared in a folder of shared memory."""
        with self._lock:
            processes = self._processes
        self._shared.hear(processes)

    # ------------------------------------------------------------------ signals and ends

    def send(self, worker: int, number: signal.Signals) -> None:
        """Signal those processes of a worker that are not its descendants.

        Args:
            worker: its process.
            number: the signal.
        """
        for pid in self._marked_of(worker, now=number == signal.SIGKILL):
            self._marked.signal(pid, spared(pid, number))

    def end(self, worker: int) -> None:
        """Kill whatever a dead worker started, except resource trackers, which the fork server ends.

        Args:
            worker: its process, as it was.
        """
        for _ in range(_ROUNDS):
            if not marks.end(self._marked_of(worker, now=True), self._run):
                return

    def _marked_of(self, worker: int, *, now: bool) -> list[int]:
        return [pid for pid, of in self._marked.look(now=now).items() if of == worker and pid != worker]

    def close(self) -> None:
        """Kill whatever the fork server and its workers started, once the server is gone."""
        self._sentinel.close()
        adopt_no_more()
        with self._lock:
            known = dict(self._known)
        for pid, began in known.items():  # also those without a mark, as they were last seen
            _send(pid, spared(pid, signal.SIGKILL), began)
            reap(pid, began)
        for _ in range(_ROUNDS):
            if not marks.end(list(self._marked.look(now=True)), self._run):
                break
        self._end_trackers(known)

    def _end_trackers(self, known: Mapping[int, str]) -> None:
        """Wait for those resource trackers that are left, and no longer than they may take."""
        until = time.monotonic() + TRACKER_SECONDS
        ours = {**{pid: self._marked.began(pid) for pid in self._marked.look(now=True)}, **known}
        waiting = [pid for pid in ours if tracks_resources(pid)]
        while waiting and time.monotonic() < until:
            time.sleep(0.01)
            waiting = [pid for pid in waiting if tracks_resources(pid)]
        for pid in waiting:
            _send(pid, signal.SIGKILL, ours[pid])
        for pid, began in ours.items():
            reap(pid, began)


def _send(pid: int, number: signal.Signals, began: str) -> None:
    """Signal a process, if it is still the one that began then."""
    if began not in ("", UNSEEN):
        send(pid, number, lambda pid: started(pid) == began)
