"""The verb ``penstock resume``: go on with a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from penstock.cli import options, target
from penstock.cli.options import Asked
from penstock.cli.run import execute


def _ours() -> list[click.Option]:
    ours = [*options.budget(), *options.running()]
    for option in ours:
        if option.name == "budget":
            option.show_default = "as last asked for"
    return ours


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@options.with_options(_ours())
def resume(folder: Path, **values: Any) -> None:
    """Go on with the run in DIR, from what is done.

    With the budget, the workers and the items that may be set aside as last asked for, unless others
    are given here: the results are the same. A run that a script made goes on when the script is run
    again.
    """
    found = target.read(folder)
    execute(found, folder, Asked.take({**values, **_asked_before(folder)}))


def _asked_before(folder: Path) -> dict[str, Any]:
    """What was asked for last, where nothing is asked for now."""
    context = click.get_current_context()
    return {
        name: value
        for name, value in target.read_asked(folder).items()
        if context.get_parameter_source(name) is ParameterSource.DEFAULT
    }
