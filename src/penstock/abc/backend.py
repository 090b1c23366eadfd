"""The backend protocol: start, watch and end workers on one node, and report what they hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from penstock.peaks import Mark


@dataclass(frozen=True, slots=True)
class Reading:
    """What one worker and its children hold at one moment, in bytes, and the CPU time they have used."""

    memory: int
    """Anonymous + shared memory of the worker's whole process tree."""
    cpu: float
    """CPU seconds so far."""
    shared: int = 0
    """The shared part of ``memory``."""
    peak: int = 0
    """The most of ``memory`` since the reading before, where that is known; else 0."""
    pipes: int = 0
    """Bytes that lie in the tree's pipes, where they are told; not part of ``memory``."""
    charged: int | None = None
    """What a control group of the worker alone is charged with: anonymous + shared, each page once,
    those that it has in common with others not at all, or all. None without such a group."""
    charged_peak: int = 0
    """The most of ``charged`` since the reading before, as far as that is sure: never too high."""
    charged_bound: float = math.inf
    """More than ``charged`` was at no moment since the reading before."""
    mark: Mark | None = None
    """The kernel's own marks of the worker's process, without its children, behind ``peak``."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something a worker sent."""

    worker: int
    content: Any


@dataclass(frozen=True, slots=True)
class Death:
    """The death of a worker."""

    worker: int
    signal: int | None
    """The signal that ended it, or None."""
    code: int | None
    """Its exit code, or None."""
    noted: tuple[int, int, int] = (-1, -1, -1)
    """The item, and start and stop of the call, that it was at."""
    why: str = ""
    """Why it never was, where it could not be started."""
    kernel_killed: bool | None = field(default=None, compare=False)
    """Whether the kernel took a process of it for memory since it was last sent something; None where
    that is not told."""
    left: int = 0
    """What its note said as :data:`penstock.worker_note.LEFT`; 0 where that is not told."""


class Backend(Protocol):
    """Starts, watches and stops workers on one node.

    A worker is known by a small number. Nothing here waits for a worker without an end: one that does
    not answer, or what starts them, is given up and told of as dead. This is all that a backend must have;
    what it may have besides is in :class:`MoreOfABackend`, and the engine does without.

    What ``open`` is given unpickles to an object with ``warm()``, called once where workers are forked from;
    ``serve(channel, words)``, a worker's whole life; and ``worker(words)``, for a backend that has no
    processes: its ``prepare()`` gives the first message, its ``answer(content)`` the answer to each that is
    sent, None when it leaves. ``channel`` has ``send(content)`` and ``receive()``, which raises EOFError
    when the parent is gone. ``words`` is its note (:mod:`penstock.worker_note`): at least eight 64-bit
    words, shared with the parent and kept when the worker dies, from which ``noted`` reads and into which
    ``cut`` writes.
    """

    @property
    def cpu(self) -> float:
        """CPU seconds of the workers that have ended and of the backend's own processes."""
        ...

    def open(self, setup: bytes, environment: Mapping[str, str], log: Path | None) -> None:
        """Prepare to start workers for one job.

        Args:
            setup: the pickled job; read by the engine's worker loop.
            environment: variables to set before anything is imported (thread counts).
            log: file that takes the workers' stdout and stderr, or None to drop them.

        Raises:
            PenstockError: the job cannot be loaded in a worker (a module not found).
        """
        ...

    def start(self) -> int:
        """Start a worker and return its number; its ``Ready`` message carries what ``prepare()`` returned."""
        ...

    def send(self, worker: int, content: Any) -> None:
        """Queue a message to a worker."""
        ...

    def wait(self, timeout: float) -> list[Message | Death]:
        """Messages and deaths since the last call; blocks for at most ``timeout`` seconds."""
        ...

    def wake(self) -> None:
        """Make a blocked ``wait`` return at once; callable from any thread."""
        ...

    def noted(self, worker: int) -> tuple[int, int, int]:
        """(item, start and stop of its call) that a worker is working on, or -1s; read from shared memory."""
        ...

    def cut(self, worker: int) -> None:
        """Ask a worker to end its batch at the next possible point."""
        ...

    def read(self) -> Mapping[int, Reading]:
        """What every living worker holds now; called from the governor's thread."""
        ...

    def io(self, worker: int) -> int:
        """Bytes that a worker has read and written so far; 0 where that is not known."""
        ...

    def overhead(self) -> int:
        """Anonymous + shared bytes that the backend itself holds now, workers excluded."""
        ...

    def pause(self, worker: int) -> None:
        """Stop a worker's whole process tree; its memory stays."""
        ...

    def resume(self, worker: int) -> None:
        """Let a paused worker continue."""
        ...

    def kill(self, worker: int) -> None:
        """Kill a worker's whole process tree at once; its Death arrives through ``wait``."""
        ...

    def close(self) -> None:
        """End all processes; none is left behind."""
        ...


class MoreOfABackend(Protocol):
    """Optional methods of a backend; the engine does without those that are missing."""

    governs: bool
    """False: there is nobody to pause or kill, so memory is only watched. Taken for True."""
    output: bool
    """Set to True to have workers write to this process's stdout and stderr, where no log takes it."""
    short: bool
    """Set to True while memory is short: then it is read as well as can be, whatever that costs."""

    def early(self, worker: int) -> tuple[int, bytes]:
        """The seventh word of a worker's note; then what stands behind the eight, as long as the sixth says.

        Of a batch of an executor's calls these are the results so far. Without it, or without room behind
        the words, they come when the batch ends.
        """
        ...

    def preload(self, modules: Iterable[str]) -> None:
        """Import what workers were seen to import in the process they are forked from, to share it."""
        ...

    def shared(self) -> int:
        """Bytes of shared memory that workers and backend hold now, each page counted once.

        Takes the place of the ``shared`` parts of the readings, which are added up without it: what
        two workers map is in both of these. Without what this process maps, which counts with it.
        """
        ...

    def total(self) -> int | None:
        """Bytes that workers and backend hold together, if one counter gives the exact sum; else None.

        Where it tells, it is believed before any sum.
        """
        ...

    def top(self) -> int:
        """The maximum of ``total`` between its last two calls."""
        ...

    def fence(self, worker: int, most: int) -> None:
        """Have the kernel kill a worker, and only that worker, rather than let it hold more bytes."""
        ...

    @property
    def measure(self) -> str:
        """How memory is measured here and what that cannot see: a sentence for people."""
        ...
