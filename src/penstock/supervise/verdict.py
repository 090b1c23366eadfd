"""Who ended the command? Judged from exit status, counters, signals received and last readings. Pure.

Nothing is guessed: what the evidence does not tell is said not to be known.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from penstock.budget import format_size
from penstock.plurals import plural

Scope = Literal["ours", "group", "machine"]
By = Literal["itself", "budget", "kernel", "signal", "unknown"]

_SETTLE = 2.0
"""A process that the kernel kills may take so long to be gone, in seconds."""
_WHERE = {"ours": "", "group": "in a group with others in it ", "machine": "somewhere on this machine "}
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGTRAP", "SIGSYS")


@dataclass(frozen=True, slots=True)
class Gone:
    """A process that has ended, as last seen."""

    pid: int
    command: str
    memory: int
    """Bytes that it held when last read: the more of two readings, as a process that ends shrinks first."""
    seen: float
    """When that was, in seconds since the epoch."""
    noticed: float
    """When it was noticed to be gone."""
    signal: int | None = None
    """The signal that ended it, where this process was told (it was our child)."""
    reaped: bool = False
    """Whether it was our child, so that the kernel told us how it ended."""
    most: int = 0
    """The most that it ever held, as far as the kernel's own marks told."""


@dataclass(frozen=True, slots=True)
class Rise:
    """An increase of a kernel-kill counter between two readings."""

    count: int
    origin: str
    scope: Scope
    """Whose processes it counts: our tree's alone, a control group's with others in it, the machine's."""
    since: float
    noticed: float
    used: int = 0
    """The most that the tree held in the second before."""


@dataclass(frozen=True, slots=True)
class SentSignal:
    """A signal that this process received and forwarded."""

    signal: int
    at: float
    sender: int
    """The process that sent it; 0 for the terminal."""
    name: str = ""
    """What that process is called, if it could still be seen."""

    def __str__(self) -> str:
        who = "the terminal" if self.sender == 0 else f"process {self.sender}"
        return f"{who} ({self.name})" if self.name else who


@dataclass(frozen=True, slots=True)
class Over:
    """We killed the tree because of the budget."""

    used: int
    line: int
    """Bytes that it might hold."""
    origin: str
    """Whose line."""
    at: float
    pid: int
    command: str
    memory: int
    """What the process that held most held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything known at the end. Sizes in bytes, times in seconds since the epoch."""

    code: int | None
    """The command's exit code; None when a signal ended it."""
    signal: int | None
    pid: int
    ended: float
    used: int
    """The most that the tree held in its last second."""
    read_at: float
    """When that was."""
    limit: str = ""
    """The ceiling that left least then, for people."""
    over: Over | None = None
    rises: Sequence[Rise] = ()
    gone: Sequence[Gone] = ()
    sent: Sequence[SentSignal] = ()
    counted: bool = True
    """Whether kernel kills are counted anywhere here."""


@dataclass(frozen=True, slots=True)
class CommandVerdict:
    """Who ended the command, and the sentences that say so."""

    by: By
    lines: tuple[str, ...]
    killed: tuple[int, ...] = ()
    """Processes that the kernel killed, as far as they are known for sure."""


def judge(evidence: Evidence) -> CommandVerdict:
    """Decide who ended the command, and what the kernel did to its tree before."""
    if evidence.over is not None:
        return CommandVerdict("budget", _over(evidence.over))
    kernel, killed = _kernel(evidence)
    if evidence.signal is None:
        if not kernel:
            return CommandVerdict("itself", ())
        ending = f"then the command itself ended with exit code {evidence.code}"
        return CommandVerdict("kernel" if evidence.code else "itself", (*kernel, ending), killed)
    number = evidence.signal
    name = _name(number)
    if number == signal.SIGKILL and evidence.pid in killed:
        return CommandVerdict("kernel", kernel, killed)
    passed = next((sent for sent in reversed(evidence.sent) if sent.signal == number), None)
    if passed is not None:
        return CommandVerdict(
            "signal",
            (*kernel, f"ended by {name}, sent by {passed} at {_clock(passed.at)}; {_held(evidence)}"),
            killed,
        )
    if name in _CRASHES:
        return CommandVerdict("itself", (*kernel, f"crashed with {name}; {_held(evidence)}"), killed)
    if number == signal.SIGKILL:
        by, line = _sigkill(evidence, bool(kernel))
        return CommandVerdict(by, (*kernel, line, _held(evidence)), killed)
    line = (
        f"ended by {name} at {_clock(evidence.ended)}, sent to it directly and not through this "
        f"process: by itself, another process of its tree, a user or the batch system (not told by whom)"
    )
    return CommandVerdict("signal", (*kernel, line, _held(evidence)), killed)


def _over(over: Over) -> tuple[str, ...]:
    return (
        f"over the budget: it held {format_size(over.used)} of {format_size(over.line)} ({over.origin}) at "
        f"{_clock(over.at)}, and was ended before the kernel would have",
        f"most was held by process {over.pid} ({over.command}): {format_size(over.memory)}",
    )


def _sigkill(evidence: Evidence, kernel_was_there: bool) -> tuple[By, str]:
    at = _clock(evidence.ended)
    if not evidence.counted:
        return "unknown", (
            f"killed by SIGKILL at {at}; by whom cannot be known: kernel kills are not counted on this "
            "system, and whoever sends SIGKILL is not told"
        )
    if kernel_was_there:
        return "unknown", f"killed by SIGKILL at {at}; whether by the kernel or by somebody else is not told"
    return "signal", (
        f"killed by SIGKILL at {at}, by a user, the batch system or another process (not told by whom); "
        "not by the kernel for memory (its counter of kills did not rise) and not by this process"
    )


def told_by(rise: Rise, gone: Sequence[Gone], limit: str, now: float) -> CommandVerdict | None:
    """What one increase of the counter means while the command runs; None: undecided, or not about us.

    Args:
        rise: of the counter.
        gone: the processes that have ended.
        limit: the ceiling that left least, for people.
        now: the time, in seconds since the epoch.
    """
    evidence = Evidence(
        code=None, signal=None, pid=0, ended=now, used=0, read_at=now, limit=limit, rises=[rise], gone=gone
    )
    lines, killed = _kernel(evidence)
    known = len(killed) == rise.count or is_settled(rise, now)
    return CommandVerdict("kernel", lines, killed) if lines and known else None


def is_settled(rise: Rise, now: float) -> bool:
    """Whether whoever was killed must have been found gone by now."""
    return now - rise.noticed > _SETTLE


def _kernel(evidence: Evidence) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What the kernel killed: sentences, and the processes that are known for sure."""
    lines: list[str] = []
    sure: list[int] = []
    for rise in evidence.rises:
        near = [
            gone
            for gone in evidence.gone
            if rise.since <= gone.noticed <= rise.noticed + _SETTLE
            and gone.pid not in sure
            and not (gone.reaped and gone.signal != signal.SIGKILL)
        ]
        told = [gone for gone in near if gone.reaped]
        if rise.scope != "ours" and not near:
            continue  # somebody else's process
        victims = told or near
        count = f"{plural(rise.count, 'process', 'processes')}"
        between = f"between {_clock(rise.since)} and {_clock(rise.noticed)}"
        counter = f"oom_kill of {rise.origin} rose by {rise.count}"
        limit = f" {evidence.limit}" if evidence.limit else ""
        held = f"the tree held {format_size(rise.used)}{limit}"
        first = f"the kernel killed {count} for memory {_WHERE[rise.scope]}{between} ({counter}); {held}"
        if rise.scope == "ours" and 0 < len(victims) <= rise.count:
            sure += [gone.pid for gone in victims]
            lines += [first, *(f"killed: {_seen(gone)}" for gone in victims)]
        else:
            lines.append(f"{first}; which one is not told")
            lines += [f"gone then: {_seen(gone)}" for gone in sorted(near, key=lambda each: -each.memory)[:5]]
    return tuple(lines), tuple(sure)


def _seen(gone: Gone) -> str:
    before = max(gone.noticed - gone.seen, 0.0)
    most = f", {format_size(gone.most)} at most" if gone.most > 1.02 * gone.memory else ""
    return (
        f"process {gone.pid} ({gone.command}), which held {format_size(gone.memory)} when last read, "
        f"{before:.2f} s before it was found gone{most}"
    )


def _held(evidence: Evidence) -> str:
    limit = f" {evidence.limit}" if evidence.limit else ""
    used = format_size(evidence.used)
    return f"in its last second, at {_clock(evidence.read_at)}, the tree held {used}{limit}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 100):02d}"
