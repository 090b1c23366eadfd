"""Reports kernel kills that a command survives, when they are seen: its pool may hang for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock import events as ev
from penstock.supervise.tree_events import TreeEvents
from penstock.supervise.verdict import Rise, is_settled, told_by
from penstock.supervise.watch import TreeMemory

_HANGING = (
    "the command runs on without it. A pool that lost a worker may wait for ever: if nothing comes any more, "
    "end it (Ctrl-C), and run it with more memory or fewer processes; under penstock exec --rescue the pools "
    "of Python go on"
)


class KillReports:
    """Reports each kernel kill in a tree once.

    Args:
        watch: the tree's readings, with the counters of kernel kills.
        events: takes the events.
        say: takes a sentence for people.
    """

    def __init__(self, watch: TreeMemory, events: TreeEvents, say: Callable[[str], None]) -> None:
        self._watch = watch
        self._events = events
        self._say = say
        self._seen = 0
        self._open: list[Rise] = []
        """Rises of a counter that are not explained yet."""
        self._advised = False

    def look(self, *, running: bool) -> None:
        """Report what is known by now.

        Args:
            running: whether the command itself still runs: then there is advice, once.
        """
        watch = self._watch
        self._open += watch.kills.rises[self._seen :]
        self._seen = len(watch.kills.rises)
        now = time.time()
        for rise in list(self._open):
            verdict = told_by(rise, tuple(watch.gone), watch.nearest(), now)
            if verdict is not None:
                self._say("; ".join(verdict.lines))
                if running and not self._advised:
                    self._advised = True
                    self._say(_HANGING)
                self._events(ev.KernelKill(at=now, count=rise.count, message="; ".join(verdict.lines)))
                self._events.killed(now, watch.gone, verdict.killed)
            if verdict is not None or is_settled(rise, now):
                self._open.remove(rise)
