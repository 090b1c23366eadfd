"""The verb ``penstock report``: what a run did, read from its events."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from penstock import advice, event_lines, foreign, layout
from penstock.budget import format_size
from penstock.cli import options, tell, with_flags
from penstock.cli.target import no_run, path_of
from penstock.durations import format_seconds
from penstock.errors import CannotResume, SetAside, UsageError
from penstock.foreign import as_cell, within
from penstock.record import journal, postmortem
from penstock.record.described import described
from penstock.record.lock_file import holder_of
from penstock.record.postmortem import PostMortem
from penstock.report.page import write_page
from penstock.report.report import Report
from penstock.report.tally import Tally

_FACTS = 1 << 20
"""Bytes of what is kept of a supervised command that are read."""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@options.with_options([options.system()])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a line for each batch and each item set aside.")
@click.option("--page", is_flag=True, help="Redraw report.html, for example after a run was killed.")
def report(folder: Path, system: str | None, as_json: bool, as_csv: bool, page: bool) -> None:
    """Show what the run in DIR did, in numbers.

    Memory against the budget, failures, items set aside. Works during the run, and after it was
    killed: then it says when the run died, at what memory, at which items, and what was lost.

    With --csv: first and last item, how many of them are kept, peak in bytes, seconds, attempts and
    outcome of each batch, and a row for each item set aside, for tables of your own.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json are two ways to say it: give one of them")
    events = events_of(folder)
    if as_csv:
        _print_rows(events)
        return
    died = postmortem.of_run(folder)
    stages = from_events(folder, events, died)
    whole = stages[0] if len(stages) == 1 else Report.of_stages(stages, folder=folder)
    told = described(folder / layout.STATE)
    if as_json:
        values = json.loads(whole.to_json())
        values |= {"died": None if died is None else died.as_json(), "described": told}
        click.echo(json.dumps(values, indent=1))
    else:
        command = _command(folder)
        tell(with_flags(whole.as_text(system)) if command is None else _of_command(command, whole, system))
        for name, value in told.items():
            tell(f"{name:<12}{value}")
        if died is not None and whole.outcome != "died":  # every stage that began had ended
            tell(str(died))
        if whole.outcome in ("died", "failed", "interrupted"):
            how = "penstock resume" if path_of(folder).exists() else "run the same script again, with"
            if command is None:
                tell(f"to go on: {how} {shlex.quote(str(folder))}", err=True)
    if page:
        write_page(folder, event_lines.read(events), stages)
    drawn = folder / layout.PAGE
    if not as_json and drawn.exists():
        tell(f"page: {drawn}", err=True)


def check_begun(folder: Path) -> None:
    """Check that there is a run to tell of.

    Raises:
        UsageError: the folder holds none, or nothing was begun in it.
    """
    if not layout.is_begun(folder / layout.STATE):
        raise UsageError(no_run(folder))


def events_of(folder: Path) -> Path:
    """The event log of a run folder.

    Raises:
        UsageError: the folder holds no run, nothing was begun in it, or the log is gone.
    """
    check_begun(folder)
    events = folder / layout.STATE / layout.EVENTS
    if not events.is_file():
        raise UsageError(f"{events} is gone, and reports are made from it; penstock verify reads the results")
    return events


def _command(folder: Path) -> dict[str, Any] | None:
    """What is kept of a supervised command; None of a run."""
    path = folder / layout.STATE / layout.EXEC
    if not path.exists():
        return None
    with suppress(OSError, ValueError):
        told = foreign.read_json(path, _FACTS)
        return told if isinstance(told, dict) else {}
    return {}


def _of_command(told: Mapping[str, Any], whole: Report, system: str | None) -> str:
    """The table of a supervised command: it has no items, no plan and no workers."""
    words = told.get("command")
    command = shlex.join(map(str, words)) if isinstance(words, list) else ""
    code = told.get("code")
    ended = f"{whole.outcome}, exit code {code}" if foreign.is_count(code) else whole.outcome
    cpu = f", {format_seconds(whole.cpu)} of CPU" if whole.cpu else ""
    spent = f"{format_seconds(whole.seconds)}{cpu}"
    of = f" of {format_size(whole.budget)} ({whole.origin})" if whole.budget else ""
    killed = told.get("complete") is False  # then only the least is known
    more, advised = ("more than ", "try") if killed else ("", "next time ask for")
    limit = told.get("advised")
    rows = [
        ("command", command),
        ("ended", f"{ended}, {spent}"),
        ("needed", f"{more}{format_size(whole.peak)}{of}, peak of the process tree"),
        ("", whole.message),
    ]
    if isinstance(limit, int) and foreign.is_count(limit) and limit > 0:
        asked = advice.request(system or advice.here(os.environ), limit)
        rows.append(("advice", f"{advised} {asked}"))
    rows.append(("folder", str(whole.folder)))
    return "\n".join(f"{word:<9} {foreign.line(text)}" for word, text in rows if text)


def _print_rows(events: Path) -> None:
    """A line at a time, however many there are."""
    import csv

    from penstock.report import listed

    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(listed.COLUMNS)
    for row in listed.rows(event_lines.read(events)):
        out.writerow([as_cell(value) if isinstance(value, str) else value for value in row])


def from_events(folder: Path, events: Path, died: PostMortem | None = None) -> list[Report]:
    """The reports of a run folder's stages, counted from its events over all runs in it."""
    tallies: dict[str, Tally] = {}
    last = ""
    for event in event_lines.read(events):
        tally = tallies.get(event.stage)
        if tally is None:
            tally = tallies[event.stage] = Tally(event.stage)
        tally(event)
        last = event.stage
    stages = [
        tally.report(folder=folder, set_aside=_set_aside(folder, tally))
        for name, tally in tallies.items()
        if name or tally.items
    ]
    holder = holder_of(folder / layout.STATE)
    running = holder if holder is not None and holder.alive else None
    for place, stage in enumerate(stages):
        if running is not None and stage.stage == last and stage.outcome == "interrupted":
            stages[place] = replace(stage, outcome="running", message=running.at_it)
        elif died is not None and stage.stage == died.stage and not died.between:
            stages[place] = replace(stage, outcome="died", message=str(died), done=died.kept)
    return stages


def _set_aside(folder: Path, tally: Tally) -> Iterable[SetAside] | None:
    """The items given up as the journal tells them, with error and traceback, which events do not have."""
    if tally.set_aside_total:
        with suppress(OSError, ValueError, CannotResume):  # damaged, or gone: what the events tell is left
            past = journal.read(within(folder, layout.journal_of(tally.stage)))
            return past.aside.values() if past.job else None
    return None
