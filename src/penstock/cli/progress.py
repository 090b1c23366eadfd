"""How a run goes, on stderr: one live line on a terminal, a plain line every 30 s elsewhere.

An observer of events; it asks the engine nothing and starts no thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from penstock import events as ev
from penstock import foreign, layout
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.plurals import plural
from penstock.report.report import Report

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod, RenderableType
    from rich.live import Live
    from rich.text import Text

_PLAIN_SECONDS = 30.0
_PLAN_SECONDS = 5.0
"""A plan that changes to and fro is not told more often."""
_LIVE_SECONDS = 0.15
_BAR, _SHORTEST_BAR = 24, 6
_LONGEST = 20_000
"""Letters of a line."""


class Progress(AbstractContextManager["Progress"]):
    """Tells how a run goes; call it with every event.

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
        self.began = False
        """Whether any stage has begun: one that was finished before does not."""
        self._stage = ""
        self._items = self._done = self._before = self._set_aside = 0
        self._budget = self._used = 0
        self._workers: set[int] = set()
        self._started = clock()
        self._plan: ev.Planned | None = None
        """This stage's plan as it was told last."""
        self._next_plan: ev.Planned | None = None
        """What it is now, where that is very different."""
        self._plan_at = clock()

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the live line away."""
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

    def _take(self, event: ev.Event) -> None:
        match event:
            case ev.StageStarted():
                self.began = True
                self._stage, self._items = event.stage, event.items
                self._done = self._before = event.done
                self._budget, self._used, self._set_aside = event.budget, 0, event.set_aside
                self._plan = self._next_plan = None
                self._started = self._clock()
                self._workers.clear()
            case ev.BudgetChanged():
                self._budget = event.budget
            case ev.MemoryRead():
                self._used = event.used
            case ev.WorkerStarted():
                self._workers.add(event.worker)
            case ev.WorkerEnded():
                self._workers.discard(event.worker)
            case ev.BatchDone():
                self._done += event.stop - event.start
            case ev.TakenBack():
                self._done -= event.items
            case ev.ItemSetAside():
                self._set_aside += 1
                self._done -= 1  # its batch is counted whole
            case ev.StageEnded():
                self._done, self._set_aside = event.done, event.set_aside

    def _worth_saying(self, event: ev.Event) -> str:
        """A line of its own: for a death before this run, and for what -v or -vv asks to hear."""
        if isinstance(event, ev.RunDied | ev.Looking | ev.TakenBack):
            return event.message
        if isinstance(event, ev.StageStarted):
            return self._beginning(event)
        if isinstance(event, ev.Planned) and self._plan is None:
            self._plan, self._plan_at = event, self._clock()
            return f"plan: {_planned(event)}"
        at = time.strftime("%H:%M:%S", time.localtime(event.at))
        if self._verbose >= 2 and not isinstance(event, ev.MemoryRead):
            return f"{at} {event.kind} {ev.to_line(event)}"
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

    def left(self) -> float | None:
        """Predicted seconds to go, from the rate so far; None when nothing is done yet."""
        done = self._done - self._before
        spent = self._clock() - self._started
        remaining = self._items - self._done - self._set_aside
        return spent * remaining / done if done > 0 and spent > 0 and remaining >= 0 else None

    def reached(self) -> str:
        """How far it came, to be said after "interrupted"."""
        stage = f" of {self._stage}" if self._stage else ""
        return f" at {self._done:,} of {self._items:,} items{stage}; these are kept" if self._items else ""

    def _parts(self) -> list[str]:
        parts = [f"{self._done:,} of {self._items:,} items"]
        if self._set_aside:
            parts.append(f"{self._set_aside:,} set aside")
        if self._used:
            parts.append(f"{format_size(self._used)} of {format_size(self._budget)}")
        workers = len(self._workers)
        parts.append(f"{plural(workers, 'worker')}")
        left = self.left()
        if left is not None:
            about = f"{left:.0f} s" if left < 120 else format_seconds(left)
            parts.append(f"about {about} left" if left >= 1 else "nearly done")
        return parts

    def _plain(self) -> str:
        percent = f" ({100 * self._done // self._items} %)" if self._items else ""
        first, *rest = self._parts()
        name = f"{self._stage}: " if self._stage else ""
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
        self._live.update(self._line(self._live.console), refresh=True)

    def _line(self, console: Console) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        name, words = foreign.line(self._stage), self._words()
        # The bar takes what the words leave of the line; on a narrow one there is none.
        bar = min(_BAR, console.width - words.cell_len - (len(name) + 2 if name else 0) - 3)
        line = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = []
        # An ellipsis is no letter of every terminal.
        overflow: OverflowMethod = "crop" if console.options.ascii_only else "ellipsis"
        if name:
            line.add_column(style="bold", no_wrap=True, overflow=overflow)
            cells.append(name)
        if bar >= _SHORTEST_BAR:
            line.add_column(width=bar)
            cells.append(
                ProgressBar(
                    total=max(self._items, 1), completed=min(self._done, self._items), width=bar,
                    style="bright_black", complete_style="cyan", finished_style="cyan",
                )
            )  # fmt: skip
        line.add_column(no_wrap=True, overflow=overflow)
        line.add_row(*cells, words)
        return line

    def _words(self) -> Text:
        from rich.text import Text

        line = Text()
        for index, part in enumerate(self._parts()):
            line.append("  " if index else "")
            close = (
                self._budget and self._used > 0.9 * self._budget and " of " in part and "items" not in part
            )
            line.append(part, style="yellow" if close else "")
        return line


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


def summary(report: Report, folder: Path, *, began: bool = True, system: str | None = None) -> str:
    """What is told at the end of a run.

    Args:
        report: of the run.
        folder: the run folder.
        began: whether any stage had work left.
        system: whose words say what to ask for next time; by default the one that this runs in.
    """
    lines = [f"{report.outcome}: {report.progress()}"]
    if not began:
        lines.append("  nothing was left to do: it was finished before")
    if report.budget:
        measured = f"measured peak {format_size(report.peak)} of {format_size(report.budget)}"
        projected = f", projected {format_size(report.projected)}" if report.projected else ""
        lines.append(f"  {measured} ({report.origin}){projected}")
    lines += [
        f"  set aside {foreign.line(item.name)}: {foreign.line(item.message)}"
        for item in report.set_aside[:5]
    ]
    if report.set_aside_total > 5:
        lines.append(f"  and {report.set_aside_total - 5:,} more set aside")
    results = _results(folder)
    if results:
        lines.append(f"  results in {folder}: {', '.join(map(foreign.line, results))}")
    log = folder / layout.STATE / layout.WORKERS_LOG
    if log.exists() and log.stat().st_size:
        lines.append(f"  what workers printed {log}")
    if began:
        lines += [f"  {sentence}" for sentence in report.next_time(system)]
    page = folder / layout.PAGE
    if page.exists():
        lines.append(f"  report {page}")
    return "\n".join(lines)


def _results(folder: Path, most: int = 8) -> list[str]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    kept = [path for path in paths if not path.name.startswith(".") and path.name not in layout.OURS]
    names = [f"{path.name}/" if path.is_dir() else path.name for path in kept]
    return [*names[:most], f"and {len(names) - most} more"] if len(names) > most else names
