"""Functions that misbehave on schedule, to see how a run copes.

Each is a small picklable object that is called with an int and gives back ``answer(item)``, so
that results can be checked after any misfortune. ``items`` are those that suffer; the others
behave. Sizes are bytes that are really written to, durations are seconds.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_leaked: list[Any] = []


def answer(item: int) -> int:
    """The result of every function here for an item that it survives."""
    return (int(item) * 2_654_435_761 + 12_345) % (1 << 32)


@dataclass(frozen=True)
class Allocate:
    """Allocate memory, hold it, release it."""

    bytes: int | Sequence[int]
    """How much; a sequence is taken in turn by the items."""
    seconds: float = 0.0

    def __call__(self, item: int) -> int:
        size = self.bytes if isinstance(self.bytes, int) else self.bytes[item % len(self.bytes)]
        _hold(size, self.seconds)
        return answer(item)


@dataclass(frozen=True)
class Leak:
    """Allocate memory and never release it."""

    bytes: int

    def __call__(self, item: int) -> int:
        _leaked.append(_written(self.bytes))
        return answer(item)


@dataclass(frozen=True)
class Spike:
    """Allocate much memory for some items and none for the others."""

    bytes: int
    items: Container[int]
    seconds: float = 0.0

    def __call__(self, item: int) -> int:
        if item in self.items:
            _hold(self.bytes, self.seconds)
        return answer(item)


@dataclass(frozen=True)
class SecondHalfHeavy:
    """Allocate nothing for the first half of the items and much for each of the second."""

    bytes: int
    count: int
    """How many items there are."""
    seconds: float = 0.0

    def __call__(self, item: int) -> int:
        if item >= self.count // 2:
            _hold(self.bytes, self.seconds)
        return answer(item)


@dataclass(frozen=True)
class AllocateInThread:
    """Allocate memory in a thread, as a library's thread pool would."""

    bytes: int
    seconds: float = 0.0

    def __call__(self, item: int) -> int:
        thread = threading.Thread(target=_hold, args=(self.bytes, self.seconds))
        thread.start()
        thread.join()
        return answer(item)


@dataclass(frozen=True)
class FillShm:
    """Allocate shared memory, which belongs to no single process."""

    bytes: int
    seconds: float = 0.0

    def __call__(self, item: int) -> int:
        with mmap.mmap(-1, self.bytes) as shared:
            for at in range(0, self.bytes, mmap.PAGESIZE):
                shared[at] = 1
            time.sleep(self.seconds)
        return answer(item)


@dataclass(frozen=True)
class Children:
    """Start child processes that allocate the memory."""

    bytes: int
    """Of each child."""
    count: int = 1
    seconds: float = 0.0

    def __call__(self, item: int) -> int:
        program = f"import time; held = b'x' * {self.bytes}; time.sleep({self.seconds})"
        command = [sys.executable, "-I", "-S", "-c", program]
        children = [subprocess.Popen(command) for _ in range(self.count)]
        codes = [child.wait() for child in children]
        if any(codes):
            raise ChildProcessError(f"children of item {item} ended with {codes}")
        return answer(item)


@dataclass(frozen=True)
class Hang:
    """Wait for ever, using neither CPU nor disk."""

    items: Container[int]

    def __call__(self, item: int) -> int:
        if item in self.items:
            while True:
                time.sleep(3600)
        return answer(item)


@dataclass(frozen=True)
class BusyLoop:
    """Compute for ever."""

    items: Container[int]

    def __call__(self, item: int) -> int:
        while item in self.items:
            pass
        return answer(item)


@dataclass(frozen=True)
class Crash:
    """End the process by a signal."""

    signal: int
    items: Container[int]

    def __call__(self, item: int) -> int:
        if item in self.items:
            os.kill(os.getpid(), self.signal)
            time.sleep(3600)  # a signal to oneself may arrive a moment later
        return answer(item)


@dataclass(frozen=True)
class Exit:
    """Exit with a code, without any clean-up."""

    code: int
    items: Container[int]

    def __call__(self, item: int) -> int:
        if item in self.items:
            os._exit(self.code)
        return answer(item)


@dataclass(frozen=True)
class DieOnce:
    """Be killed on the first attempt at each of some items; a file per item records it."""

    folder: str | os.PathLike[str]
    items: Container[int]
    signal: int = signal.SIGKILL

    def __call__(self, item: int) -> int:
        if item in self.items:
            try:
                (Path(self.folder) / f"died-{item}").touch(exist_ok=False)
            except FileExistsError:
                return answer(item)
            Crash(self.signal, (item,))(item)
        return answer(item)


@dataclass(frozen=True)
class Raise:
    """Raise an exception."""

    items: Container[int]
    error: type[Exception] = ValueError

    def __call__(self, item: int) -> int:
        if item in self.items:
            raise self.error(f"item {item} was asked to fail")
        return answer(item)


@dataclass(frozen=True)
class HugeOutput:
    """Return a large result: a text that begins with the answer."""

    bytes: int

    def __call__(self, item: int) -> str:
        return f"{answer(item)}".ljust(self.bytes, "x")


@dataclass(frozen=True)
class Unkeepable:
    """Return a value that can be neither serialised nor pickled."""

    items: Container[int]

    def __call__(self, item: int) -> Any:
        return threading.Lock() if item in self.items else answer(item)


@dataclass(frozen=True)
class IgnoreTerm:
    """Ignore SIGTERM, and take some time."""

    seconds: float

    def __call__(self, item: int) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        end = time.monotonic() + self.seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(left)
        return answer(item)


@dataclass(frozen=True)
class Print:
    """Print on both streams, from Python and at the level of descriptors."""

    bytes: int = 100

    def __call__(self, item: int) -> int:
        text = f"item {item} ".ljust(self.bytes, ".")
        print(text, flush=True)
        print(text, file=sys.stderr, flush=True)
        os.write(1, f"{text}\n".encode())
        os.write(2, f"{text}\n".encode())
        return answer(item)


def _written(size: int) -> bytearray:
    """Memory of which every page was written to: zeros alone would cost nothing."""
    return bytearray(b"\x01") * size


def _hold(size: int, seconds: float) -> None:
    held = _written(size)
    time.sleep(seconds)
    del held
