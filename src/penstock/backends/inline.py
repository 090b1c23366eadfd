"""Everything in this very process: for a debugger, and as the plainest example of a backend.

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
    """The backend ``inline``: one worker, which is this process; a message is worked when it is sent."""

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
        """Load the job; environment and log are this process's own."""
        self._job = pickle.loads(setup)

    def start(self) -> int:
        """Begin a worker."""
        self._number += 1
        self._worker = self._job.worker(self._words)
        self._events.append(Message(self._number, self._worker.prepare()))
        return self._number

    def send(self, worker: int, content: Any) -> None:
        """Do what is asked, now."""
        if worker != self._number or self._worker is None:
            return
        answer = self._worker.answer(content)
        if answer is None:
            self.kill(worker)
        else:
            self._events.append(Message(worker, answer))

    def wait(self, timeout: float) -> list[Message | Death]:
        """What was answered."""
        if not self._events:
            time.sleep(min(timeout, 0.01))
        happened = list(self._events)
        self._events.clear()
        return happened

    def wake(self) -> None:
        """Nobody waits."""

    def noted(self, worker: int) -> tuple[int, int, int]:
        """The worker's note."""
        return self._words[note.ITEM], self._words[note.CALL_START], self._words[note.CALL_STOP]

    def cut(self, worker: int) -> None:
        """End the batch soon; only a signal handler could ask."""
        self._words[note.CUT] = 1

    def read(self) -> Mapping[int, Reading]:
        """Nothing: the worker's memory is this process's."""
        return {}

    def io(self, worker: int) -> int:
        """Not told."""
        return 0

    def overhead(self) -> int:
        """None."""
        return 0

    def shared(self) -> int:
        """Bytes of shared memory that this process and its children hold, and this process does not map."""
        processes = dict.fromkeys((os.getpid(), *descendants(os.getpid())), 0)
        mapped = {pid: held_apart(pid)[1] for pid in processes}
        return self._shared.read(processes, sum(mapped.values()), mapped[os.getpid()]).beside

    def total(self) -> int | None:
        """Not counted as one."""
        return None

    def top(self) -> int:
        """Nor the most of it."""
        return 0

    def fence(self, worker: int, most: int) -> None:
        """No kernel is there to end a worker."""

    @property
    def measure(self) -> str:
        """How memory is measured."""
        return "memory is measured in this process alone; what its children hold cannot be seen"

    def pause(self, worker: int) -> None:
        """Cannot be."""

    def resume(self, worker: int) -> None:
        """Cannot be."""

    def kill(self, worker: int) -> None:
        """The worker ends; what it is doing cannot be ended."""
        if self._worker is not None:
            self._worker = None
            self._events.append(Death(worker, None, 0))

    def close(self) -> None:
        """Forget the job."""
        self._job = self._worker = None
