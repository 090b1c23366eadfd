"""The verb ``penstock nodes``: the nodes that a cluster would give, before anything runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from penstock.abc import NodeOffer
from penstock.budget import format_size
from penstock.cli import options, tell
from penstock.durations import parse_duration
from penstock.plurals import plural
from penstock.runs import on_nodes

SCHEMA = 1
"""Version of the JSON object."""


@click.command()
@options.with_options(
    [
        *options.cluster(required=True),
        *options.budget()[:1],
        click.Option(
            ["--into", "into"], metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
            help="Also ask whether each node sees this folder.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object."),
    ]
)  # fmt: skip
def nodes(cluster: str, wait: str, budget: str, into: Path | None, as_json: bool) -> None:
    """Show the nodes that a cluster would give: budget and who set it, cores, version, the folder.

    Jobs of a batch system are submitted for this, and cancelled again. Exit code 1 if no node could work.
    """
    found = on_nodes.find(cluster, "local")
    assert found is not None
    try:
        offers = found.survey(
            None if into is None else into.absolute(), budget, parse_duration(wait, "--wait")
        )
    finally:
        found.leave()
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "nodes": [asdict(each) for each in offers]}))
    else:
        tell("\n".join(draw(offers)))
    if not any(not each.why for each in offers):
        click.get_current_context().exit(1)


def draw(offers: list[NodeOffer]) -> list[str]:
    """The findings as lines for people."""
    if not offers:
        return ["there is no node"]
    width = max(len("node"), *(len(each.host) for each in offers))
    lines = [f"{'node':<{width}}  {'budget':>10}  cores  Penstock  Python   set by"]
    for each in offers:
        said = f"{each.version:<8}  {each.python:<7}"
        if each.why:
            lines.append(f"{each.host:<{width}}  {'none':>10}  {each.cores:>5}  {said}  not used: {each.why}")
        else:
            size = format_size(each.budget)
            lines.append(f"{each.host:<{width}}  {size:>10}  {each.cores:>5}  {said}  {each.origin}")
    fit = [each for each in offers if not each.why]
    total = format_size(sum(each.budget for each in fit))
    cores = plural(sum(each.cores for each in fit), "core")
    return [*lines, "", f"{len(fit)} of {plural(len(offers), 'node')} can work: {total}, {cores}"]
