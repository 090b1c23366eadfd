"""More functions that misbehave, for one test each; they are imported by the workers too."""

import mmap
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import penstock
from penstock.testing.misfortune import answer


@dataclass(frozen=True)
class ShmFiles:
    """Fill files in shared memory, which stay when the function is done, up to the last call."""

    name: str
    bytes: int
    seconds: float = 0.0

    def __call__(self, item):
        path = Path(f"/dev/shm/{self.name}-{item}")
        path.write_bytes(b"\1" * self.bytes)
        time.sleep(self.seconds)
        path.unlink()
        return answer(item)


@dataclass(frozen=True)
class HeavyBatches:
    """A function of a list of ints, which takes memory for each of them at once."""

    bytes: int
    seconds: float = 0.0

    def __call__(self, items):
        held = [bytearray(b"\1") * self.bytes for _ in items]
        time.sleep(self.seconds)
        del held
        return [answer(item) for item in items]


@dataclass(frozen=True)
class RefuseLarge:
    """Raise MemoryError for calls of more than so many items, as an allocator would."""

    most: int

    def __call__(self, items):
        items = list(items)
        if len(items) > self.most:
            raise MemoryError(f"{len(items)} items at once")
        return [answer(item) for item in items]


@dataclass(frozen=True)
class NoteCalls:
    """Write down how many items each call had; refuse calls of any other size, if told."""

    path: str

    def __call__(self, items):
        with open(self.path, "a") as file:
            file.write(f"{items[0]} {len(items)}\n")
        return [answer(item) for item in items]


@dataclass(frozen=True)
class BatchWithCulprits:
    """Misbehave in a call that holds one of some items."""

    how: str
    items: frozenset

    def __call__(self, items):
        bad = [int(item) for item in items if int(item) in self.items]
        if bad and self.how == "raise":
            raise ValueError(f"cannot do {bad}")
        if bad and self.how == "crash":
            os.abort()
        return [answer(int(item)) for item in items]


@dataclass(frozen=True)
class RaiseMemoryError:
    """Raise MemoryError although there is memory."""

    items: frozenset

    def __call__(self, item):
        if item in self.items:
            raise MemoryError("cannot allocate a matrix of 10^9 x 10^9")
        return answer(item)


@dataclass(frozen=True)
class Grandchildren:
    """A child whose child takes the memory and is left behind when the child ends."""

    bytes: int
    pids: str
    """A file that takes the number of each process left behind."""
    seconds: float = 0.1

    def __call__(self, item):
        child = os.fork()
        if child == 0:
            left_behind = os.fork()
            if left_behind == 0:
                held = bytearray(b"\1") * self.bytes
                time.sleep(10_000)
                del held
            with open(self.pids, "a") as file:  # by its parent, who is waited for
                file.write(f"{left_behind}\n")
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(self.seconds)
        return answer(item)


@dataclass(frozen=True)
class Outrun:
    """Touch memory with many threads at once, faster than any watcher can look."""

    bytes: int
    items: frozenset
    threads: int = 4

    def __call__(self, item):
        if item in self.items:
            import numpy as np

            shares = [np.empty(self.bytes // self.threads, np.uint8) for _ in range(self.threads)]
            threads = [threading.Thread(target=share.fill, args=(1,)) for share in shares]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return answer(item)


@dataclass(frozen=True)
class BlindParent:
    """Stop the process that watches, then take memory: only the kernel is left to end this one.

    Somebody has to let the process ``PARENT`` go on again when that has come about.
    """

    bytes: int
    items: frozenset

    def __call__(self, item):
        if item in self.items:
            os.kill(int(os.environ["PARENT"]), signal.SIGSTOP)
            held = bytearray(b"\1") * self.bytes
            time.sleep(10_000)
            del held
        return answer(item)


@dataclass(frozen=True)
class Tell:
    """Append the item to a file, once for each time it is worked."""

    path: str
    seconds: float = 0.0

    def __call__(self, item):
        with open(self.path, "a") as file:
            file.write(f"{item}\n")
        time.sleep(self.seconds)
        return answer(item)


def draw(item):
    """From both global generators."""
    import numpy as np

    return [random.random(), float(np.random.random()), float(np.random.normal())]


def draw_sometimes(item):
    """Only some items draw."""
    return random.random() if item % 7 == 3 else item


def shares(item):
    """What the function is told about its share."""
    share = penstock.share()
    (share.folder / "mine").write_text(str(item))
    left = len(list(share.folder.iterdir()))
    return [share.memory, share.threads, left, share.attempt, str(share.folder)]


@dataclass
class Counter:
    """A callable object with state of its own and prepare()."""

    offset: int = 0
    prepared: list = field(default_factory=list)

    def prepare(self):
        self.prepared.append(os.getpid())

    def __call__(self, item):
        assert self.prepared == [os.getpid()]
        return answer(item) + self.offset

    def method(self, item):
        return answer(item) + self.offset


def reserve_without_touching(item: int) -> Any:
    """Map much and touch nothing: not memory, in our word for it."""
    with mmap.mmap(-1, 4 << 30):
        return answer(item)


def count(state, result):
    """Steps and parts of folds that take time, memory, or for ever."""
    return [state[0] + 1]


def slow_count(state, result):
    time.sleep(0.1)
    return [state[0] + 1]


def nothing():
    return [0]


def join(left, right):
    return [left[0] + right[0]]


def slow_finish(states):
    time.sleep(1.5)
    return sum(state[0] for state in states)


def hanging_finish(states):
    time.sleep(3600)


@dataclass(frozen=True)
class HeavyFinish:
    """Take memory at the end of a fold."""

    bytes: int

    def __call__(self, states):
        held = bytearray(b"\1") * self.bytes
        time.sleep(0.1)
        del held
        return sum(state[0] for state in states)


def answers_of(items):
    return [answer(item) for item in items]


def append(state, text):
    return state + text


def much_text(item):
    """Of some items; of the others a letter."""
    return "x" * (2 << 20 if 50 <= item < 100 else 1)


LOADED = []


def count_all(state, number):
    return state + number


def late_model(item):
    """Loads 60 MiB at its fourth call or later; one item takes 200 MiB."""
    if item % 10 >= 3 and not LOADED:
        LOADED.append(b"x" * (60 << 20))
    return min(len(b"x" * (200 << 20 if item == 15 else 1)), 1)


def late_memory_error(item):
    """The same, but of one item it says so."""
    if item == 15:
        raise MemoryError("as a corrupt header would have it")
    return late_model(item)
