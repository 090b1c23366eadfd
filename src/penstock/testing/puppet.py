"""A job whose workers follow orders: the backend suite sends them around."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import MutableSequence
from dataclasses import dataclass
from typing import Any

from penstock import worker_note as note

READY = "ready"

_kept: list[Any] = []


@dataclass(frozen=True)
class Puppet:
    """The job: answers each order with its result, and exits when told None."""

    name: str = "puppet"
    broken: bool = False
    """Whether it cannot be made ready in a fork server."""

    def warm(self) -> None:
        """Called before workers are forked."""
        if self.broken:
            raise RuntimeError("this puppet is broken")

    def serve(self, channel: Any, words: MutableSequence[int]) -> None:
        """Run a worker in a process of its own."""
        here = self.worker(words)
        channel.send(here.prepare())
        while (answer := here.answer(channel.receive())) is not None:
            channel.send(answer)

    def worker(self, words: MutableSequence[int]) -> _ThisProcess:
        """A worker in this process."""
        return _ThisProcess(self.name, words)


class _ThisProcess:
    def __init__(self, name: str, words: MutableSequence[int]) -> None:
        self._name = name
        self._words = words

    def prepare(self) -> Any:
        return READY, self._name, os.getpid()

    def answer(self, order: Any) -> Any:
        return None if order is None else (order(self._words),)


@dataclass(frozen=True)
class Echo:
    """Return a value."""

    value: Any

    def __call__(self, words: MutableSequence[int]) -> Any:
        return self.value


@dataclass(frozen=True)
class NoteItem:
    """Note an item and its call."""

    item: int
    start: int
    stop: int

    def __call__(self, words: MutableSequence[int]) -> None:
        words[note.ITEM], words[note.CALL_START], words[note.CALL_STOP] = self.item, self.start, self.stop


@dataclass(frozen=True)
class Die:
    """Die of a signal or exit with a code, after setting the note."""

    signal: int | None = None
    code: int = 0
    noted: tuple[int, int, int] = (-1, -1, -1)

    def __call__(self, words: MutableSequence[int]) -> None:
        NoteItem(*self.noted)(words)
        if self.signal is not None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), self.signal)
            signal.pause()
        os._exit(self.code)


@dataclass(frozen=True)
class Burn:
    """Use so many CPU seconds, fewer when cut; returns whether it was cut."""

    seconds: float

    def __call__(self, words: MutableSequence[int]) -> bool:
        until = time.process_time() + self.seconds
        while time.process_time() < until:
            if words[note.CUT]:
                return True
        return False


@dataclass(frozen=True)
class Spawn:
    """Start children that use CPU; returns their pids."""

    count: int = 1
    detached: bool = False
    """In a session of their own, their parent gone."""

    def __call__(self, words: MutableSequence[int]) -> list[int]:
        return [self._one() for _ in range(self.count)]

    def _one(self) -> int:
        burn = "while True: pass"
        if not self.detached:
            child = subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.DEVNULL)
            _kept.append(child)
            return child.pid
        between = (
            "import subprocess, sys; "
            f"child = subprocess.Popen([sys.executable, '-c', {burn!r}], stdout=2, start_new_session=True); "
            "print(child.pid)"
        )
        told = subprocess.run([sys.executable, "-c", between], stdout=subprocess.PIPE, check=True)
        return int(told.stdout)


@dataclass(frozen=True)
class Hold:
    """Allocate memory and keep it."""

    size: int

    def __call__(self, words: MutableSequence[int]) -> int:
        _kept.append(bytearray(b"\1") * self.size)
        return self.size


@dataclass(frozen=True)
class Large:
    """Return so many bytes."""

    size: int

    def __call__(self, words: MutableSequence[int]) -> bytes:
        return b"x" * self.size


@dataclass(frozen=True)
class Environment:
    """Return an environment variable."""

    name: str

    def __call__(self, words: MutableSequence[int]) -> str | None:
        return os.environ.get(self.name)


@dataclass(frozen=True)
class Say:
    """Print a line on stdout and one on stderr."""

    text: str

    def __call__(self, words: MutableSequence[int]) -> None:
        print(self.text, flush=True)
        print(self.text, file=sys.stderr, flush=True)
