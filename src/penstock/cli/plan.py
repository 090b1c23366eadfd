"""The verb ``penstock plan``: what a run would do, and where every number comes from."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from penstock.cli import options, tell
from penstock.cli.options import CliOptions
from penstock.cli.run import Targets
from penstock.cli.target import Target
from penstock.engine.decide.plan import Plan

SCHEMA = 1


def _ours() -> list[click.Option]:
    return [
        *options.budget(),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object."),
        click.Option(
            ["-v", "--verbose", "verbose"], is_flag=True, help="Say why there are not more workers."
        ),
    ]


def _do(found: Target, values: dict[str, Any]) -> None:
    as_json, verbose = values.pop("as_json"), values.pop("verbose")
    asked = CliOptions.take(values)
    if found.is_job:
        plans = [found.job().plan(budget=asked.budget, workers=asked.workers, call=asked.call)]
    else:
        wishes = {"workers": asked.workers, "call": asked.call}
        more = {name: wish for name, wish in wishes.items() if wish is not None}
        plans = found.workload().plan(asked.budget, **more, **values)
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "plans": [_values(plan) for plan in plans]}))
    else:
        tell("\n\n".join(_text(plan, verbose=verbose) for plan in plans))


def _text(plan: Any, *, verbose: bool) -> str:
    return plan.as_text(verbose=True) if verbose and isinstance(plan, Plan) else str(plan)


def _values(plan: Any) -> dict[str, Any]:
    derived = {name: getattr(plan, name) for name in ("projected", "headroom", "threads", "seconds")}
    return {**asdict(plan), **derived}


@click.command(cls=Targets, ours=_ours, do=_do, subcommand_metavar="WORKLOAD|FILE.py:JOB|module:JOB ...")
def plan() -> None:
    """Try a few items, print the plan, run nothing.

    The items are tried in a child process and their output is thrown away.
    """
