"""Keeps a command inside its budget: warns at high water, and kills it over the line, or only says so."""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock.budget import Budget, MiB, format_size
from penstock.supervise import command
from penstock.supervise.tree_events import TreeEvents
from penstock.supervise.verdict import Over
from penstock.supervise.watch import TreeMemory

_HIGH = 0.9
"""Share of the budget from which on we say so."""


class BudgetGuard:
    """Acts where a tree goes over its budget, or just before a real limit is reached.

    Args:
        budget: of the tree.
        watch: its readings.
        kills: whether to kill the tree; else to say so.
        events: the highest reading is emitted before the tree is killed.
        say: takes a sentence for people.
    """

    def __init__(
        self,
        budget: Budget,
        watch: TreeMemory,
        *,
        kills: bool,
        events: TreeEvents,
        say: Callable[[str], None],
    ) -> None:
        self._budget = budget
        self._watch = watch
        self._kills = kills
        self._events = events
        self._say = say
        self._warned = self._said_over = False
        self.over: Over | None = None
        """Why the tree was killed, if it was."""

    def check(self) -> None:
        """Look at the last reading."""
        watch, budget = self._watch, self._budget
        tight = watch.tightest()
        if self.over is not None:
            return
        if watch.is_over(budget.bytes):
            self._go_over(budget.bytes, budget.origin)
        elif tight is not None and _reaches(tight.bytes, tight.used):
            self._go_over(tight.bytes, tight.origin)
        elif not self._warned and watch.used > _HIGH * budget.bytes:
            self._warned = True
            self._say(f"it holds {format_size(watch.used)} of {format_size(budget.bytes)} ({budget.origin})")

    def _go_over(self, line: int, origin: str) -> None:
        watch = self._watch
        largest = watch.tree.largest(1)
        if not largest or (self._said_over and not self._kills):
            return
        most = largest[0]
        over = Over(watch.used, line, origin, watch.at, most.pid, most.command, most.memory)
        if self._kills:
            self.over = over
            self._events.tell_reading(time.time())
            command.end(watch.tree)
            return
        self._said_over = self._warned = True
        self._say(
            f"over the budget: it holds {format_size(over.used)} of {format_size(over.line)} "
            f"({over.origin}); most is held by process {over.pid} ({over.command}): "
            f"{format_size(over.memory)}"
        )


def _reaches(limit: int, used: int) -> bool:
    """Whether so little is left under a ceiling that the kernel may be the next to act."""
    return used > 0 and limit - used < min(32 * MiB, limit // 32)
