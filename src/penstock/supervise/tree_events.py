"""Events of a supervised tree: its readings, its processes, and those that were killed."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence

from penstock import events as ev
from penstock.abc import Observer
from penstock.observers import Observers
from penstock.supervise.verdict import Gone
from penstock.supervise.watch import TreeMemory

_MOST_NAMED = 16
"""Processes named in a reading."""
_HEARTBEAT, _OFTEN = 1.0, 0.2
"""Seconds after which a reading is told anyway, and where it has moved."""


class TreeEvents:
    """Emits a tree's events; each reading is the highest since the last one emitted.

    Args:
        observers: called with every event.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = Observers(observers)
        self._highest: tuple[int, list[tuple[int, str, int]]] = (0, [])
        self._least = math.inf
        self._told_at = 0.0
        self._told = 0
        self._names: dict[int, str] = {}
        self._killed: set[int] = set()

    def __call__(self, event: ev.Event) -> None:
        """Emit an event."""
        self._observers(event)

    def read(self, watch: TreeMemory, now: float) -> None:
        """Take a reading, and emit the highest when due."""
        self._least = min(self._least, watch.free)
        if watch.used >= self._highest[0]:
            largest = watch.tree.largest(_MOST_NAMED)
            self._highest = watch.used, [(each.pid, each.command, each.memory) for each in largest]
        waited = now - self._told_at
        moved = abs(self._highest[0] - self._told) > watch.peak // 64
        if waited >= _HEARTBEAT or (waited >= _OFTEN and moved):
            self.tell_reading(now)

    def tell_reading(self, now: float) -> None:
        """Emit the highest reading, and the processes that held most of it."""
        self._told_at = now
        used, processes = self._highest
        self._told = used
        for pid, name, _ in processes:
            self.name(now, pid, name)
        # The processes may have been listed a little before the whole was read.
        workers = {str(pid): min(memory, used) for pid, _, memory in processes}
        free = 0 if math.isinf(self._least) else int(self._least)
        self(ev.MemoryRead(at=now, used=used, workers=workers, free=free))
        self._highest, self._least = (0, []), math.inf

    def name(self, now: float, pid: int, name: str) -> None:
        """Emit a process's name if it is new."""
        if self._names.get(pid) != name:
            if len(self._names) > 10_000:
                self._names.clear()
            self._names[pid] = name
            self(ev.ProcessSeen(at=now, pid=pid, command=name))

    def killed(self, now: float, gone: Iterable[Gone], for_sure: Container[int]) -> None:
        """Emit the processes that the kernel certainly killed, each once."""
        for each in [each for each in gone if each.pid in for_sure and each.pid not in self._killed]:
            self._killed.add(each.pid)
            self.name(now, each.pid, each.command)
            self(ev.WorkerEnded(at=now, worker=each.pid, why="kernel"))
