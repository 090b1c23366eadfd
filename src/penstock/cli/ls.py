"""The verb ``penstock ls``: the runs below a folder and their outcomes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from penstock import foreign, layout
from penstock.budget import format_size
from penstock.cli import tell
from penstock.cli.report import from_events
from penstock.durations import format_seconds
from penstock.errors import UsageError
from penstock.record.following import LockWatch
from penstock.report.report import Report

_DEEPEST = 6
"""Folders within each other that are looked into."""
_REPORT_BYTES = 64 << 20
"""Of a report that is read; some megabytes name 10,000 items set aside."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A run folder in the listing."""

    path: Path
    outcome: str
    """As of a report; where there is none that can be read and nobody runs there ``"unknown"``, or
    ``"not begun"``."""
    at: float
    """When it was last written to, in seconds since the epoch."""
    report: Report | None
    """None where there is none."""
    command: bool = False
    """Whether it is the record of a supervised command, which has no items."""

    def as_json(self) -> dict[str, Any]:
        """JSON values; sizes in bytes, times in seconds."""
        told = self.report
        return {
            "folder": str(self.path), "outcome": self.outcome, "at": self.at,
            **({} if told is None else {
                "items": told.items, "done": told.done, "set_aside": told.set_aside_total,
                "peak": told.peak, "budget": told.budget, "seconds": told.seconds,
            }),
        }  # fmt: skip

    def row(self) -> tuple[str, ...]:
        """The row as printed."""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.at))
        told = self.report
        if told is None:
            return foreign.line(str(self.path)), self.outcome, "", "", "", "", when
        done, of = sum(each.done for each in told.counted), sum(each.items for each in told.counted)
        items = f"{done:,} of {of:,}"
        items += f", {told.set_aside_total:,} set aside" if told.set_aside_total else ""
        if self.command:
            items = ""
        return (
            foreign.line(str(self.path)), self.outcome, items, format_size(told.peak) if told.peak else "",
            format_size(told.budget) if told.budget else "", format_seconds(told.seconds), when,
        )  # fmt: skip


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per run.")
def ls(folder: Path, as_json: bool) -> None:
    """List the runs in DIR and below, each with its outcome.

    Shows outcome, items, measured peak and budget, and time, from the report of each. The last written comes
    last. `penstock report` shows one run, even if it was killed and left no report.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not there, or is no folder")
    runs = sorted((listed(path) for path in found(folder)), key=lambda run: (run.at, run.path))
    if as_json:
        for run in runs:
            click.echo(json.dumps(run.as_json()))
        return
    if not runs:
        tell(f"no runs in {folder}", err=True)
        return
    head = ("run", "outcome", "items", "peak", "budget", "time", "last written")
    rows = [head, *(run.row() for run in runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        cells = [
            f"{cell:>{width}}" if 3 <= column <= 5 else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        tell("  ".join(cells).rstrip())


def found(folder: Path, deepest: int = _DEEPEST) -> Iterator[Path]:
    """The run folders in a folder and below; does not descend into runs, nor follow links."""
    if (folder / layout.STATE).is_dir():
        yield folder
        return
    if deepest < 1:
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))
    except OSError:  # of somebody else
        return
    for name in names:
        if not name.startswith("."):
            yield from found(folder / name, deepest - 1)


def listed(path: Path) -> Listed:
    """What is known of a run: from its report and its lock, or without a report from its events."""
    state = path / layout.STATE
    at = _written(state / layout.EVENTS) or _written(state)
    command = (state / layout.EXEC).exists()
    held = LockWatch(path).is_held()
    if held or command or (state / layout.LOCK).exists():
        # Their last report is of a run before, or there is none.
        told = _from_events(path)
        outcome = "running" if held else told.outcome if command and told is not None else "died"
        return Listed(path, outcome, at, told, command)
    try:
        report = Report.from_json(foreign.read_text(path / layout.REPORT, _REPORT_BYTES))
    except (OSError, ValueError, TypeError):
        return Listed(path, "unknown" if layout.is_begun(state) else "not begun", at, None)
    return Listed(path, report.outcome, at, report)


def _from_events(path: Path) -> Report | None:
    """The report so far; None where there are no events, or too many to count for a list."""
    events = path / layout.STATE / layout.EVENTS
    try:
        stages = from_events(path, events) if events.stat().st_size < _REPORT_BYTES else []
    except OSError:
        return None
    return stages[0] if len(stages) == 1 else Report.of_stages(stages, folder=path) if stages else None


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
