"""The verb ``penstock plugins``: every source, sink, reducer, backend, limit and workload."""

from __future__ import annotations

import json

import click

from penstock import registry
from penstock.cli import tell

SCHEMA = 1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plugins(as_json: bool) -> None:
    """List the plug-ins and the packages they come from."""
    found = [
        {"kind": kind, "name": name, "package": registry.owner(kind, name), "of": registry.family(kind, name)}
        for kind in registry.KINDS
        for name in registry.names(kind)
    ]
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "plugins": found}))
        return
    kinds, names = (max((len(each[key]) for each in found), default=0) for key in ("kind", "name"))
    for each in found:
        of = f" (of {each['of']})" if each["of"] else ""
        tell(f"{each['kind']:<{kinds}}  {each['name']:<{names}}  {each['package']}{of}")
