"""The verb ``penstock resume``: go on with a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from penstock.cli import options, target
from penstock.cli.options import Asked
from penstock.cli.run import execute


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@options.with_options([*options.budget(), *options.running()])
def resume(folder: Path, **values: Any) -> None:
    """Go on with the run in DIR, from what is done.

    The budget and the workers may be others than before: the results are the same. A run that a
    script made goes on when the script is run again.
    """
    asked = Asked.take(values)
    execute(target.read(folder), folder, asked)
