"""The verb ``penstock resume``: continue the run in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from penstock.cli import options, target, tell
from penstock.cli.options import CliOptions
from penstock.cli.run import execute
from penstock.cli.trust import check


def _ours() -> list[click.Option]:
    ours = [*options.budget(), *options.running()]
    for option in ours:
        if option.name == "budget":
            option.show_default = "as last asked for"
    return ours


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--trust",
    is_flag=True,
    help="Run the file that the folder names even if it lies in it, or others may write it.",
)
@options.with_options(_ours())
def resume(folder: Path, trust: bool, **values: Any) -> None:
    """Go on with the run in DIR, from what is done.

    With the budget, the workers and the items that may be set aside as last asked for, unless others
    are given here: the results are the same. A run that a script made goes on when the script is run
    again.

    The folder names the file with the code of a job, which is told before it runs. A file inside the folder
    itself, or one that somebody else could have written, runs only with --trust.
    """
    found = target.read(folder)
    if not trust:
        check(found, folder)
    if found.is_job and not values["quiet"]:
        tell(f"runs {found.name}", err=True)
    execute(found, folder, CliOptions.take({**values, **_asked_before(folder)}))


def _asked_before(folder: Path) -> dict[str, Any]:
    """What was asked for last, where nothing is asked for now."""
    context = click.get_current_context()
    return {
        name: value
        for name, value in target.read_asked(folder).items()
        if context.get_parameter_source(name) is ParameterSource.DEFAULT
    }
