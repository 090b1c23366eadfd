"""The verb ``penstock plan``: what a run would do, and where each number comes from."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from penstock import discover, layout
from penstock.abc import NodeOffer
from penstock.cli import options, target, tell
from penstock.cli.nodes import draw
from penstock.cli.options import CliOptions
from penstock.cli.run import Targets
from penstock.cli.target import Target
from penstock.durations import parse_duration
from penstock.engine.decide.grow import Growth, grown
from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.plan import Plan
from penstock.engine.decide.spread import Spread, spread
from penstock.errors import UsageError
from penstock.runs import on_nodes, remembering

SCHEMA = 1
_MOST = 1_000_000
"""Factor of a growth, at most; the least is its inverse."""


def _ours() -> list[click.Option]:
    return [
        *options.budget(),
        *options.cluster(),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object."),
        click.Option(
            ["--grow", "growth"], callback=_growth, metavar="items=N,size=N",
            help="Try nothing: plan N times the items, each N times as large, from what the last run took.",
        ),
        click.Option(
            ["-v", "--verbose", "verbose"], is_flag=True, help="Say why there are not more workers."
        ),
    ]  # fmt: skip


def _growth(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Growth | None:
    """``items=10,size=2``."""
    if value is None:
        return None
    given: dict[str, float] = {}
    for part in value.split(","):
        name, _, text = part.strip().partition("=")
        try:
            factor = float(text)
        except ValueError:
            factor = math.nan
        if name not in ("items", "size") or name in given or not 1 / _MOST <= factor <= _MOST:
            raise click.BadParameter(
                f"{part.strip()!r}: items=N, size=N or both were expected, N from 0.000001 to {_MOST:,}"
            )
        given[name] = factor
    return Growth(**given)


def _do(found: Target, values: dict[str, Any]) -> None:
    as_json, verbose, growth = values.pop("as_json"), values.pop("verbose"), values.pop("growth", None)
    asked = CliOptions.take(values)
    offers = _survey(asked)
    said: dict[str, Any] = {}
    if growth is not None or found.is_folder:
        growth = growth or Growth()
        said = {"grow": asdict(growth)}
        plans = [
            grown(
                learnt,
                growth,
                budget=discover.discover(asked.budget).budget,
                workers=discover.most_workers(asked.workers),
                call=asked.call,
                cores=discover.cpus(),
                stage=stage,
            )
            for stage, learnt in _remembered(found)
        ]
    elif found.is_job:
        plans = [found.job().plan(budget=asked.budget, workers=asked.workers, call=asked.call)]
    else:
        wishes = {"workers": asked.workers, "call": asked.call}
        more = {name: wish for name, wish in wishes.items() if wish is not None}
        plans = found.workload().plan(asked.budget, **more, **values)
    spreads = [None if offers is None else spread(plan, offers, workers=asked.workers) for plan in plans]
    both = list(zip(plans, spreads, strict=True))
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, **said, "plans": [_values(*each) for each in both]}))
    else:
        if offers is not None:
            tell("\n".join(draw(offers)) + "\n")
        if growth is not None:
            tell(f"{growth}, by what the last run took:\n")
        tell("\n\n".join(_text(*each, verbose=verbose) for each in both))
    if any(each is not None and not each.workers for each in spreads):
        click.get_current_context().exit(3 if any(not each.why for each in offers or ()) else 1)


def _survey(asked: CliOptions) -> list[NodeOffer] | None:
    """Who is there in the cluster that was asked for; None where none was."""
    cluster = on_nodes.find(asked.cluster, "local")
    if cluster is None:
        return None
    try:
        return cluster.survey(None, asked.budget, parse_duration(asked.wait, "--wait"))
    finally:
        cluster.leave()


def _remembered(found: Target) -> list[tuple[str, Learnt]]:
    """What the last run took, by stage.

    Raises:
        UsageError: nothing is known of one.
    """
    if found.is_folder:
        folder = Path(found.name)
        if not (folder / layout.STATE).is_dir():
            raise UsageError(target.no_run(folder))
        stages = [path.parent.name for path in layout.journals(folder / layout.STATE)]
        kept = [
            ("" if stages == [layout.JOB] else stage, learnt)
            for stage in stages
            if (learnt := remembering.in_file(folder / layout.STATE / stage / layout.LEARNT)) is not None
        ]
        if not kept:
            raise UsageError(
                f"{folder} does not say what its calls took: no item of it was done, or it was run with "
                "--no-history"
            )
        return kept
    learnt = remembering.of_job(found.job())
    if learnt is None:
        raise UsageError(
            f"nothing is known of {found.name} as it is now: run it once, or name the folder of a run: "
            "penstock plan DIR --grow ..."
        )
    return [("", learnt)]


def _text(plan: Any, on: Spread | None, *, verbose: bool) -> str:
    text = plan.as_text(verbose=True) if verbose and isinstance(plan, Plan) else str(plan)
    rows = [] if on is None else on.rows()
    return "\n".join([text, *(f"{word:<10} {number:>9}   {where}" for word, number, where in rows)])


def _values(plan: Any, on: Spread | None) -> dict[str, Any]:
    derived = {name: getattr(plan, name) for name in ("projected", "headroom", "threads", "seconds")}
    return {**asdict(plan), **derived, **({} if on is None else {"cluster": asdict(on)})}


class _Planned(Targets):
    """The same, and the folders of runs."""

    def ours_for(self, found: Target) -> list[click.Option]:
        """Of a workload the folder of a run is asked what more would take: it may have a ``--grow`` too."""
        with_growth = found.is_job or found.is_folder
        return [option for option in self.ours() if with_growth or option.name != "growth"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        is_path = "/" in cmd_name and ":" not in cmd_name and not cmd_name.endswith(".py")
        if is_path or (Path(cmd_name) / layout.STATE).is_dir():
            return self._command(cmd_name, [], Target(cmd_name, is_folder=True), help="Plan a run like this.")
        return super().get_command(ctx, cmd_name)


@click.command(cls=_Planned, ours=_ours, do=_do, subcommand_metavar="WORKLOAD|FILE.py:JOB|module:JOB|DIR ...")
def plan() -> None:
    """Try a few items, print the plan, run nothing.

    The items are tried in a child process and their output is discarded. With --grow, or for the folder of a
    run, nothing is tried: the plan is made from what the last run took. With --cluster, the nodes are asked
    for, and the plan says how the run would go on them, from what the items took here.
    """
