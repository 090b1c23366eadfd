"""The verb ``penstock verify``: is a run folder whole?"""

from __future__ import annotations

from pathlib import Path

import click

from penstock import layout
from penstock.cli import tell
from penstock.cli.target import no_run
from penstock.errors import UsageError
from penstock.record.verify import verify as verify_folder


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(folder: Path, as_json: bool) -> None:
    """Read the run in DIR again, and say whether everything holds.

    Checks the journal, every part against the size and digest in its receipt, items done + set aside =
    items, no part without a receipt, peak against budget. Exit code 0 only if everything holds, 1 with
    each fault named, 2 for a folder that is not a run. Changes nothing, and needs none of your code.
    """
    if not (folder / layout.STATE).is_dir():
        raise UsageError(no_run(folder))
    found = verify_folder(folder)
    tell(found.to_json() if as_json else str(found))
    click.get_current_context().exit(0 if found.ok else 1)
