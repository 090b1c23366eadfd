"""Progress on stderr: one live line on a terminal, a plain line every 30 s elsewhere.

An observer of events; it asks the engine nothing and starts no thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING

from penstock import event_lines, foreign
from penstock import events as ev
from penstock.budget import format_size
from penstock.display.screen import live_line
from penstock.plurals import plural
from penstock.report.live import LiveState

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_PLAIN_SECONDS = 30.0
_PLAN_SECONDS = 5.0
"""A plan that changes to and fro is not told more often."""
_LIVE_SECONDS = 0.15
_LONGEST = 20_000
"""Letters of a line."""


class Progress(AbstractContextManager["Progress"]):
    """Shows a run's progress; call it with every event.

    Args:
        stream: where to; stderr by default.
        quiet: say nothing.
        verbose: 1: what goes wrong, as it does; 2: every event but readings.
        live: a live line; by default when the stream is a terminal.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        *,
        stream: IO[str] | None = None,
        quiet: bool = False,
        verbose: int = 0,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._quiet, self._verbose, self._clock = quiet, verbose, clock
        self._is_live = self._stream.isatty() if live is None else live
        self._live: Live | None = None
        self._console: Console | None = None
        self._next = clock() + _PLAIN_SECONDS
        self._state = LiveState(clock())
        self._plan: ev.Planned | None = None
        """This stage's plan as it was told last."""
        self._next_plan: ev.Planned | None = None
        """What it is now, where that is very different."""
        self._plan_at = clock()

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Erase the live line."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: ev.Event) -> None:
        """Take the next event."""
        self._take(event)
        if self._quiet:
            return
        if said := self._changed_plan(event):
            self._say(said)
        if said := self._worth_saying(event):
            self._say(said)
        ended = isinstance(event, ev.StageEnded)
        now = self._clock()
        if self._is_live:
            if now >= self._next or ended or isinstance(event, ev.StageStarted):
                self._next = now + _LIVE_SECONDS
                self._draw()
        elif now >= self._next:
            self._next = now + _PLAIN_SECONDS
            self._say(f"{time.strftime('%H:%M:%S')} {self._plain()}")

    @property
    def began(self) -> bool:
        """Whether any stage has started: not if all were finished before."""
        return self._state.began

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.StageStarted):
            self._plan = self._next_plan = None
        self._state.take(event, self._clock())

    def _worth_saying(self, event: ev.Event) -> str:
        """A line of its own: for a death before this run, and for what -v or -vv asks to hear."""
        if isinstance(event, ev.RunDied | ev.Looking | ev.Recalled | ev.TakenBack):
            return event.message
        if isinstance(event, ev.StageStarted):
            return self._beginning(event)
        if isinstance(event, ev.NodeJoined):
            size = f"{format_size(event.budget)} ({event.origin}), {plural(event.cores, 'core')}"
            return f"node {event.node} is there: {event.host}, {size}"
        if isinstance(event, ev.NodeLeft):
            if not event.node:
                return f"a node cannot join: {event.why}"
            return f"node {event.node} is gone: {event.why}; what it had is worked elsewhere"
        if isinstance(event, ev.Planned) and self._plan is None:
            self._plan, self._plan_at = event, self._clock()
            return f"plan: {_planned(event)}"
        at = time.strftime("%H:%M:%S", time.localtime(event.at))
        if self._verbose >= 2 and not isinstance(event, ev.MemoryRead):
            return f"{at} {event.kind} {event_lines.to_line(event)}"
        if self._verbose < 1:
            return ""
        match event:
            case ev.BatchFailed():
                items = f"items {event.start:,} to {event.stop - 1:,}"
                return f"{at} {items}: {event.cause} {event.message}".rstrip()
            case ev.ItemSetAside():
                return f"{at} set aside {event.name}: {event.message}"
            case ev.BudgetChanged():
                return f"{at} the budget is now {format_size(event.budget)} ({event.origin})"
            case ev.WorkerEnded() if event.why not in ("done", "interrupted"):
                return f"{at} worker {event.worker} ended: {event.why}"
        return ""

    def _changed_plan(self, event: ev.Event) -> str:
        """The plan anew, where it is no more what was told: seldom, and at the end of the stage."""
        if isinstance(event, ev.Planned) and self._plan is not None:
            self._next_plan = event if _is_other(self._plan, event) else None
        due = self._clock() - self._plan_at >= _PLAN_SECONDS or isinstance(event, ev.StageEnded)
        if self._next_plan is None or not due:
            return ""
        self._plan, self._next_plan, self._plan_at = self._next_plan, None, self._clock()
        return f"plan now: {_planned(self._plan)}"

    def _beginning(self, event: ev.StageStarted) -> str:
        name = f"{event.stage}: " if event.stage else ""
        before = f", {event.done:,} done before" if event.done else ""
        before += f" ({event.again:,} more were kept, and are done again)" if event.again else ""
        before += f", {event.set_aside:,} set aside before" if event.set_aside else ""
        items = f"{plural(event.items, 'item')}"
        return f"{name}{items}{before}; budget {format_size(event.budget)} ({event.origin})"

    # ------------------------------------------------------------------ the line

    def reached(self) -> str:
        """How far it came, for the message after an interrupt."""
        state = self._state
        stage = f" of {state.stage}" if state.stage else ""
        return f" at {state.done:,} of {state.items:,} items{stage}; these are kept" if state.items else ""

    def _parts(self) -> list[str]:
        return self._state.parts(self._clock())

    def _plain(self) -> str:
        state = self._state
        percent = f" ({100 * state.done // state.items} %)" if state.items else ""
        first, *rest = self._parts()
        name = f"{state.stage}: " if state.stage else ""
        return f"{name}{', '.join([first + percent, *rest])}"

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._live.console.print(foreign.line(line, _LONGEST), markup=False, highlight=False)
        else:
            print(foreign.line(line, _LONGEST), file=self._stream, flush=True)

    def _draw(self) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            # Transient, and without the refreshing thread: processes are forked around here.
            self._console = self._console or Console(file=self._stream, force_terminal=True)
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
            )
            self._live.start()
        self._live.update(live_line(self._state, self._clock(), self._live.console), refresh=True)


def _is_other(told: ev.Planned, now: ev.Planned) -> bool:
    """Whether what was told of the plan misleads by now."""
    return told.workers != now.workers or not 0.67 < now.projected / max(told.projected, 1) < 1.5


def _planned(event: ev.Planned) -> str:
    workers = f"{plural(event.workers, 'worker')}"
    calls = f"calls of {plural(event.call, 'item')}"
    return (
        f"{workers}, {calls}; reserved {format_size(event.reserved)} + {workers} x "
        f"{format_size(event.footprint)} = projected {format_size(event.projected)}"
    )
