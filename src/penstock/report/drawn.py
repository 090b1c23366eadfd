"""The page's chart data as comma-separated values: a download link that contains the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from penstock.foreign import as_cell, in_html
from penstock.report import charts
from penstock.report.timeline import Timeline

Cell = str | int | float
_LONGEST = 80
"""Letters of a text."""


def link(name: str, rows: Iterable[Sequence[Cell]]) -> str:
    """A link that saves rows as a file of this name."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    for row in rows:
        out.writerow([as_cell(cell, _LONGEST) if isinstance(cell, str) else cell for cell in row])
    href = "data:text/csv;charset=utf-8," + quote(text.getvalue(), safe=",:;()!*'", errors="replace")
    return f'<a class="csv" download="{in_html(name)}.csv" href="{in_html(href, len(href))}">CSV</a>'


def memory(timeline: Timeline) -> Iterator[Sequence[Cell]]:
    """Bytes over seconds of running: the whole tree, what was left, and each worker or program."""
    bands = list(timeline.command.programs) or [f"worker {row + 1}" for row in range(timeline.bands)]
    yield ["seconds", "used", "free", *bands]
    for moment in charts.drawn_moments(timeline):
        held = [moment.rows.get(row, 0) for row in range(len(bands))]
        yield [round(moment.at, 3), moment.used, moment.free, *held]


def work(timeline: Timeline) -> Iterator[Sequence[Cell]]:
    """Each bar and mark: what, from when to when, whose, which items, and its peak in bytes."""
    yield ["what", "from", "to", "node", "row", "first_item", "last_item", "count", "peak", "about"]
    for what, bars in (("done", timeline.done), ("failed", timeline.failed), ("paused", timeline.paused)):
        for bar in bars:
            items: tuple[Cell, Cell] = ("", "") if what == "paused" else (bar.first, bar.last)
            yield [
                what, round(bar.start, 3), round(bar.stop, 3), timeline.rows.nodes[bar.row], bar.row + 1,
                *items, bar.count, bar.peak, " ".join(sorted(bar.causes)),
            ]  # fmt: skip
    for kind, marks in timeline.marks.items():
        for mark in marks.marks:
            yield [kind, round(mark.at, 3), "", "", "", "", "", mark.count, "", mark.text]


def nodes(timeline: Timeline) -> Iterator[Sequence[Cell]]:
    """Each node's readings: the most bytes since the previous one."""
    yield ["node", "host", "seconds", "used", "budget"]
    for name, node in timeline.nodes.items():
        for at, used in node.readings:
            yield [name, node.host, round(at, 3), used, node.budget]


def predictions(timeline: Timeline) -> Iterator[Sequence[Cell]]:
    """Predicted and measured peaks in bytes, and how many batches each point stands for."""
    yield ["predicted", "measured", "batches"]
    for cell in timeline.pairs.cells.values():
        yield [round(cell.predicted), round(cell.measured), cell.count]
