"""Who holds a run folder, and is the holder alive? Decisions about a lock's content. Pure.

On this very boot and in this process namespace a holder is dead when its process is gone (or its number
belongs to another process now), and else alive, also when it is suspended. Elsewhere nothing can be seen of
it but the counter in its lock: it is dead when that did not move for a minute of *our* clock. No clock of
two machines is ever compared, and no time of a file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from penstock.foreign import line
from penstock.identity import UNSEEN

SILENT = 60.0
"""Seconds of our own clock after which a counter that did not move is that of a dead holder."""
_GAP = 5.0
"""The most seconds that count between two looks: should we sleep, the other may sleep with us."""
_TEXT = 256
"""The most characters of a name that a lock tells."""


@dataclass(frozen=True, slots=True)
class ThisMachine:
    """Where a process runs, as far as it matters for which processes it can see."""

    host: str
    boot: str
    """Changes with each boot of the machine; empty where that is not told."""
    processes: str
    """The process namespace: a container has numbers of its own."""

    def sees(self, other: ThisMachine) -> bool:
        """Whether processes there are visible here."""
        told = bool(self.boot and self.processes)
        return told and (self.boot, self.processes) == (other.boot, other.processes)


@dataclass(frozen=True, slots=True)
class LockEntry:
    """The content of a lock."""

    where: ThisMachine
    pid: int
    started: str
    """When that process began, in clock ticks since boot."""
    since: str
    """When it took the folder, as people write it."""
    token: str = ""
    """Random; empty in a lock of an earlier version."""
    number: int = 0
    """The owner's."""
    count: int = 0
    """Rises while the holder lives."""
    at: float = 0.0
    """Its last sign of life by its own clock, in seconds since the epoch; for people to read."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.where.host}"

    def to_bytes(self) -> bytes:
        """A line of constant length, so that it can be overwritten in place."""
        values = {
            "host": self.where.host, "boot": self.where.boot, "processes": self.where.processes,
            "pid": self.pid, "started": self.started, "since": self.since, "token": self.token,
            "number": self.number, "count": f"{self.count:020d}", "at": f"{self.at:020.3f}",
        }  # fmt: skip
        return json.dumps(values).encode() + b"\n"

    def beaten(self, at: float) -> LockEntry:
        """The same with another heartbeat."""
        return replace(self, count=self.count + 1, at=at)


def read_entry(data: bytes) -> LockEntry | None:
    """Parse a lock's content; None if it is invalid."""
    try:
        values: Mapping[str, Any] = json.loads(data)
        where = ThisMachine(_text(values["host"]), _text(values["boot"]), _text(values.get("processes", "")))
        at = float(values.get("at", 0))
        return LockEntry(
            where,
            int(values["pid"]),
            _text(values.get("started", "")),
            _text(values["since"]),
            _text(values.get("token", "")),
            int(values.get("number", 0)),
            int(values.get("count", 0)),
            at if math.isfinite(at) else 0.0,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text, not {value!r}")
    return line(value, _TEXT)


@dataclass(slots=True)
class LockSilence:
    """How long a lock has not changed, by our own clock.

    Args:
        mark: what it says, as something that moves when its holder lives.
        now: our clock, in seconds.
    """

    mark: Hashable
    now: float
    seconds: float = 0.0

    def look(self, mark: Hashable, now: float) -> bool:
        """Look again; returns whether it is unchanged."""
        self.seconds += min(max(now - self.now, 0.0), _GAP)
        self.now = now
        return mark == self.mark


Life = Literal["alive", "dead", "unknown"]


def life_of(
    entry: LockEntry | None, here: ThisMachine, started: Callable[[int], str], silent: float = 0.0
) -> Life:
    """Whether a holder is alive.

    Args:
        entry: what its lock says; None where that cannot be read.
        here: where we are.
        started: when a process began; empty when there is none, ``identity.UNSEEN`` where that is not told.
        silent: for how many seconds of our clock the lock did not move.
    """
    if entry is not None and here.sees(entry.where):
        began = started(entry.pid) if entry.pid > 0 else ""
        if began != UNSEEN:
            return "alive" if began == entry.started != "" else "dead"
    return "dead" if silent >= SILENT else "unknown"
