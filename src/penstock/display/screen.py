"""The state of a run drawn for a terminal: the live line, and the screen of ``penstock watch``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from penstock import foreign
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.report.live import LiveState

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod, RenderableType
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

_BAR, _SHORTEST_BAR = 24, 6
_COLUMNS: tuple[Literal["left", "right"], ...] = ("left", "right", "right", "left")
"""A worker's name, memory, time and items."""
_MOST = 12
"""The most workers that are named."""
_LONGEST = 400
"""Letters of a failure."""


def live_line(state: LiveState, now: float, console: Console) -> RenderableType:
    """One line: the stage, a bar, items, memory, workers, what is left.

    Args:
        state: how the run stands.
        now: of the clock that the state was told.
        console: where it is drawn.
    """
    from rich.table import Table

    name = foreign.line(state.stage)
    words = _words(state, now, console.width - (len(name) + 2 if name else 0))
    # The bar takes what the words leave of the line; on a narrow one there is none.
    bar = min(_BAR, console.width - words.cell_len - (len(name) + 2 if name else 0) - 3)
    line = Table.grid(padding=(0, 2, 0, 0))
    cells: list[RenderableType] = []
    overflow = _overflow(console)
    if name:
        line.add_column(style="bold", no_wrap=True, overflow=overflow)
        cells.append(name)
    if bar >= _SHORTEST_BAR and not state.command:
        line.add_column(width=bar)
        cells.append(_bar(state.done, state.items, bar))
    line.add_column(no_wrap=True, overflow=overflow)
    line.add_row(*cells, words)
    return line


def screen(state: LiveState, now: float, console: Console) -> RenderableType:
    """Several lines: the live line, memory against the budget, each worker, the last failures."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [live_line(state, now, console)]
    if state.doing:
        parts.append(Text(foreign.line(state.doing, _LONGEST), style="bright_black"))
    if state.budget and state.used:
        parts.append(_memory(state, console))
    if state.workers:
        parts.append(_workers(state, now, console))
    for at, sentence in state.failures:
        said = Text(f"{time.strftime('%H:%M:%S', time.localtime(at))} ", style="bright_black")
        said.append(foreign.line(sentence, _LONGEST), style="yellow")
        said.truncate(console.width, overflow=_overflow(console))
        parts.append(said)
    return Group(*parts)


def _overflow(console: Console) -> OverflowMethod:
    # An ellipsis is no letter of every terminal.
    return "crop" if console.options.ascii_only else "ellipsis"


def _bar(done: int, total: int, width: int, colour: str = "cyan") -> ProgressBar:
    from rich.progress_bar import ProgressBar

    return ProgressBar(
        total=max(total, 1), completed=max(0, min(done, total)), width=width,
        style="bright_black", complete_style=colour, finished_style=colour,
    )  # fmt: skip


def _words(state: LiveState, now: float, width: int) -> Text:
    """The parts that there is room for: the first and the last matter most, memory before what is left."""
    from rich.text import Text

    line, memory, parts = Text(), state.memory(), state.parts(now)
    order = sorted(range(1, len(parts) - 1), key=lambda place: (parts[place] != memory, place))
    keep = [0, *([len(parts) - 1] if len(parts) > 1 else []), *order]
    while len(keep) > 1 and sum(len(parts[place]) + 2 for place in keep) - 2 > width:
        keep.pop()
    for index, place in enumerate(sorted(keep)):
        part = parts[place]
        line.append("  " if index else "")
        line.append(part, style="yellow" if state.is_tight and part == memory else "")
    return line


def _memory(state: LiveState, console: Console) -> Table:
    from rich.table import Table

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(style="bright_black")
    words = f"peak {format_size(state.peak)}, {foreign.line(state.origin, 60)}"
    bar = min(_BAR, console.width - len(words) - 10)
    cells: list[RenderableType] = ["memory"]
    if bar >= _SHORTEST_BAR:
        line.add_column(width=bar)
        cells.append(_bar(state.used, state.budget, bar, "yellow" if state.is_tight else "green"))
    line.add_column(style="bright_black", no_wrap=True, overflow=_overflow(console))
    line.add_row(*cells, words)
    return line


def _workers(state: LiveState, now: float, console: Console) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in _COLUMNS:
        table.add_column(justify=justify, no_wrap=True, overflow=_overflow(console))
    shown = sorted(state.workers.items(), key=lambda each: (-each[1].held, each[0]))[:_MOST]
    for number, worker in sorted(shown):
        kind = "process" if state.command else "worker"
        at = foreign.line(state.names.get(number, ""), 100) if state.command else worker.items or "waits"
        at += ", paused" if worker.paused else ""
        held = format_size(worker.held) if worker.held else ""
        table.add_row(f"{kind} {number}", held, format_seconds(max(0.0, now - worker.since)), at)
    if len(state.workers) > _MOST:
        table.add_row(f"and {len(state.workers) - _MOST:,} more", "", "", "")
    return table
