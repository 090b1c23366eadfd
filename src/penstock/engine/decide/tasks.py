"""The schedule's inputs and outputs: tasks, failures, and verdicts on items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["memory", "died", "stalled", "kept"]
Cause = Literal[
    "memory",
    "governor",
    "kernel",
    "killed",
    "crashed",
    "stalled",
    "timeout",
    "kept",
    "load",
    "unfit",
    "dropped",
]


@dataclass(frozen=True, slots=True)
class Task:
    """Items to be worked on together, and their failure history."""

    start: int
    stop: int
    call: int | None = None
    """The most items a call; None: as the plan says."""
    alone: bool = False
    """Whether everything else must be drained first."""
    floor: int = 0
    """Bytes that it was seen to need at least."""
    suspect: int = -1
    """The item that was being worked when it last failed."""
    suspects: int = 0
    """How often that was another one than the time before."""
    crashes: int = 0
    kills: int = 0
    timeouts: int = 0
    evictions: int = 0
    """How often the governor ended it to make room."""
    wary: bool = False
    """Whether an item of it took from its worker what our part needs: which is seen behind each."""
    suspicion: Suspicion | None = None
    """Set while the culprit is looked for in a call that may not be split: nothing that is done is kept."""

    @property
    def attempt(self) -> int:
        """How many attempts have failed."""
        return self.crashes + self.kills + self.timeouts + self.evictions

    @property
    def fresh(self) -> bool:
        """Whether it has no failure history."""
        return self.attempt == 0 and self.call is None and not self.alone


@dataclass(frozen=True, slots=True)
class Given:
    """A worker's task, with the items that are left out of it."""

    task: Task
    without: tuple[int, ...]
    advanced: bool = False
    """Whether the task's first items were kept before its end, and are no more part of it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a batch failed."""

    cause: Cause
    item: int = -1
    """The item being worked; -1 when no item was."""
    call: tuple[int, int] = (-1, -1)
    """The call being worked."""
    held: int = 0
    """The most that it was seen to hold, in bytes above idle."""
    reserved: int = 0
    """What it was admitted with."""
    detail: str = ""
    """``"signal 11 (SIGSEGV)"``, ``"exit code 3"``."""
    keeping: bool = False
    """Whether no item was worked just then: results were kept, or sent."""
    left: int = 0
    """As :data:`penstock.worker_note.LEFT`."""

    @property
    def of_results(self) -> bool:
        """Whether what items before left behind took more memory than the call itself."""
        return self.keeping or 0 < self.held < self.left


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A call that cannot be split and always fails: which of its items is to blame?"""

    call: tuple[int, int]
    reason: Reason
    times: int
    """How often it failed whole."""
    failure: Failure
    """The last of these times."""
    grain: bool = False
    """It is a grain, which what its items leave behind may be too much for; tried is one item by itself."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Items to set aside, and why."""

    items: tuple[int, ...]
    reason: Reason
    times: int
    """How often they were tried."""
    suspicion: Suspicion | None = None
    """The call that they were found in, or which fails though none of its parts does."""

    @property
    def of_grain(self) -> bool:
        """Whether it is what a grain's items leave behind that is too much, and not one of them."""
        return self.suspicion is not None and self.suspicion.grain and len(self.items) > 1
