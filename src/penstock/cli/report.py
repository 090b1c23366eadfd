"""The verb ``penstock report``: what a run did, from its events."""

from __future__ import annotations

from pathlib import Path

import click

from penstock.engine.page import read_events, write_page
from penstock.engine.report import Report, Tally
from penstock.errors import BadInput


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--page", is_flag=True, help="Draw report.html anew, as after a run that was killed.")
def report(folder: Path, as_json: bool, page: bool) -> None:
    """Show what the run in DIR did, in numbers.

    Memory against the budget, failures, items set aside. Works while it runs, and after it was
    killed.
    """
    events = folder / ".penstock" / "events.jsonl"
    if not events.is_file():
        raise BadInput("no run has told anything here; expected a run folder", file=folder)
    whole = from_events(folder, events)
    click.echo(whole.to_json() if as_json else str(whole))
    if page:
        write_page(folder, read_events(events))
    drawn = folder / "report.html"
    if not as_json and drawn.exists():
        click.echo(f"page: {drawn}", err=True)


def from_events(folder: Path, events: Path) -> Report:
    """The report of a run folder, counted from its events, all runs of it together."""
    tallies: dict[str, Tally] = {}
    for event in read_events(events):
        tally = tallies.get(event.stage)
        if tally is None:
            tally = tallies[event.stage] = Tally(event.stage)
        tally(event)
    stages = [tally.report(folder=folder) for tally in tallies.values()]
    return stages[0] if len(stages) == 1 else Report.of_stages(stages, folder=folder)
