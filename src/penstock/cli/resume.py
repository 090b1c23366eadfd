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
    help="Run the file that the folder names even if it is inside the folder, or others may write to it.",
)
@options.with_options(_ours())
def resume(folder: Path, trust: bool, **values: Any) -> None:
    """Continue the run in DIR from what is done.

    Uses --budget, --workers, --call, --set-aside and --history as last asked for, unless you give others: the
    results are the same. To resume a run that a script made, run the script again.

    The folder names the file with the code of a job, which is printed before it runs. A file inside the
    folder itself, or one that somebody else could have written, runs only with --trust.
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
