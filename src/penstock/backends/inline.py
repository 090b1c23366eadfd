"""Runs everything in the calling process: for debuggers, and as the simplest example of a backend.

Promises nothing about memory: there is no other process to pause, kill or replace.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock import worker_note as note
from penstock.abc import Death, Message, Reading
from penstock.held_memory import Shared
from penstock.proc import descendants, held_apart


class Inline:
    """The backend ``inline``: one worker, which is this process; a message is handled when it is sent."""

    cpu = 0.0
    governs = False
    """There is nobody to pause or kill."""

    def __init__(self) -> None:
        self._job: Any = None
        self._events: deque[Message | Death] = deque()
        self._number = 0
        self._worker: Any = None
        self._shared = Shared()
        self._words = memoryview(bytearray(note.BYTES)).cast("q")

    def open(self, setup: bytes, environment: Mapping[str, str], log: Path | None) -> None:
        """Load the job; environment and log remain this process's own."""
        self._job = pickle.loads(setup)

    def start(self) -> int:
        """Start the worker."""
        self._number += 1
        self._worker = self._job.worker(self._words)
        self._events.append(Message(self._number, self._worker.prepare()))
        return self._number

    def send(self, worker: int, content: Any) -> None:
        """Do what the message asks, now."""
        if worker != self._number or self._worker is None:
            return
        answer = self._worker.answer(content)
        if answer is None:
            self.kill(worker)
        else:
            self._events.append(Message(worker, answer))

    def wait(self, timeout: float) -> list[Message | Death]:
        """The answers so far."""
        if not self._events:
            time.sleep(min(timeout, 0.01))
        happened = list(self._events)
        self._events.clear()
        return happened

    def wake(self) -> None:
        """Does nothing: nobody waits."""

    def noted(self, worker: int) -> tuple[int, int, int]:
        """The worker's note."""
        return self._words[note.ITEM], self._words[note.CALL_START], self._words[note.CALL_STOP]

    def cut(self, worker: int) -> None:
        """Ask for the batch to end soon; only a signal handler could call this."""
        self._words[note.CUT] = 1

    def read(self) -> Mapping[int, Reading]:
        """Empty: the worker's memory is this process's own."""
        return {}

    def io(self, worker: int) -> int:
        """0: not measured."""
        return 0

    def overhead(self) -> int:
        """0."""
        return 0

    def shared(self) -> int:
        """Bytes of shared memory that this process and its children hold without mapping it here."""
        processes = dict.fromkeys((os.getpid(), *descendants(os.getpid())), 0)
        mapped = {pid: held_apart(pid)[1] for pid in processes}
        return self._shared.read(processes, sum(mapped.values()), mapped[os.getpid()]).beside

    def total(self) -> int | None:
        """None: there is no such counter."""
        return None

    def top(self) -> int:
        """0: see :meth:`total`."""
        return 0

    def fence(self, worker: int, most: int) -> None:
        """Does nothing: the kernel must not kill this process."""

    @property
    def measure(self) -> str:
        """How memory is measured."""
        return "memory is measured in this process alone; what its children hold cannot be seen"

    def pause(self, worker: int) -> None:
        """Does nothing: this process cannot pause itself."""

    def resume(self, worker: int) -> None:
        """Does nothing: see :meth:`pause`."""

    def kill(self, worker: int) -> None:
        """End the worker; work in progress cannot be ended."""
        if self._worker is not None:
            self._worker = None
            self._events.append(Death(worker, None, 0))

    def close(self) -> None:
        """Forget the job."""
        self._job = self._worker = None
