"""The verb ``penstock limits``: the limits on this process, who set each, and the budget that follows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from penstock import registry
from penstock.budget import Budget, Ceiling, format_size, parse_size
from penstock.discover import Discovery, cpus, discover, in_memory, room, tree_memory
from penstock.engine.decide.governor import headroom

SCHEMA = 1
"""Version of the JSON object; raised when a key changes its meaning or goes away."""


@click.command()
@click.option("--budget", default="auto", metavar="SIZE", help="What a run would ask for: 12GiB, 80%, auto.")
@click.option("--per-worker", metavar="SIZE", help="Show how many workers of this size would fit: 1.5GiB.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def limits(budget: str, per_worker: str | None, as_json: bool) -> None:
    """Show what limits memory here, who set it, and the budget.

    Reads every control group that contains this process, the batch system's variables, the per-process
    limits, and the machine. Says how a run's memory is measured here, and what cannot be seen.
    """
    each = None if per_worker is None else parse_size(per_worker)
    ours = tree_memory()
    found = discover(budget)
    if as_json:
        click.echo(json.dumps(describe(found, ours, each)))
        return
    for line in draw(found, ours, each):
        click.echo(line)


def describe(found: Discovery, ours: int, per_worker: int | None = None) -> dict[str, Any]:
    """The findings as JSON values; sizes in bytes.

    Args:
        found: what was discovered.
        ours: bytes that this process and its children hold.
        per_worker: bytes of one worker, to say how many would fit.
    """
    answer: dict[str, Any] = {
        "schema": SCHEMA,
        "requested": found.requested,
        "budget": asdict(found.budget),
        "ceilings": [asdict(ceiling) for ceiling in found.ceilings],
        "cpus": cpus(),
        "measure": measure(),
        "notes": notes(found.budget),
    }
    if per_worker is not None:
        count = workers(found.budget.bytes, ours, per_worker, cpus())
        answer |= {"per_worker": per_worker, "workers": count}
    return answer


def draw(found: Discovery, ours: int, per_worker: int | None = None) -> list[str]:
    """The findings as lines for people; the arguments are those of :func:`describe`."""
    lines = [f"{'limit':>10}  {'used':>10}  {'for us':>10}  set by"]
    lines += [_row(ceiling, ours) for ceiling in found.ceilings if ceiling.scope == "tree"]
    alone = [ceiling for ceiling in found.ceilings if ceiling.scope == "process"]
    lines += [f"{format_size(each.bytes):>10}  for each process alone: {each.origin}" for each in alone]
    lines += ["", f"budget  {found.budget}", f"cpus    {cpus()}"]
    if per_worker is not None:
        count = workers(found.budget.bytes, ours, per_worker, cpus())
        lines.append(
            f"workers {count} of {format_size(per_worker)} each{_why(found.budget, ours, per_worker)}"
        )
    lines.append(f"memory  {measure().removeprefix('memory ')}")
    return lines + [f"note    {note}" for note in notes(found.budget)]


def measure() -> str:
    """How a run's memory is measured here, found by trying to make control groups where that is allowed."""
    backend = registry.make("backend", "local")
    try:
        return str(backend.measure)
    finally:
        backend.close()


def _row(ceiling: Ceiling, ours: int) -> str:
    used = format_size(ceiling.used) if ceiling.used else "not told"
    sizes = (format_size(ceiling.bytes), used, format_size(room(ceiling, ours)))
    return "  ".join((*(f"{size:>10}" for size in sizes), ceiling.origin))


def workers(budget: int, ours: int, per_worker: int, most: int) -> int:
    """Workers of one size that fit beside this process and the headroom, at most one for each CPU."""
    return max(0, min(most, (budget - headroom(budget) - ours) // per_worker))


def _why(budget: Budget, ours: int, per_worker: int) -> str:
    by_memory = workers(budget.bytes, ours, per_worker, 1 << 30)
    if by_memory == 0:
        least = per_worker + ours
        while workers(least, ours, per_worker, 1) == 0:  # the headroom grows with the budget
            least += headroom(least)
        return f": not one fits; it would in about {format_size(least)}"
    return f" (memory for {by_memory}, {cpus()} CPUs)"


def notes(budget: Budget) -> Sequence[str]:
    """Further remarks about this machine."""
    found = []
    if budget.kills_group:
        found.append(
            "over that limit the kernel ends every process of the group, this one too (memory.oom.group)"
        )
    temporary = in_memory(tempfile.gettempdir())
    if temporary is not None:
        found.append(f"temporary files: {temporary}")
    if budget.per_process is not None and budget.per_process < budget.bytes:
        found.append(f"one process alone may use {format_size(budget.per_process)}")
    return found
