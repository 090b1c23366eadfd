"""Narrows a table's columns without changing values, decided over the whole table before the first write.

    table -> shrink-survey    of each column: least, largest, nulls, whole numbers?, exact as float32?
               |
             types            the narrowest type that holds every value
               |
             shrunk           the rows again, in these types -> shrunk.parquet

A type that is chosen by what one batch holds fails at the next; one that is chosen for floats without a look
loses digits, and of ids whole items. Here nothing is lost unless it is asked for (``--lossy-float32``).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import click

import penstock
from penstock.errors import MissingExtra
from penstock.workload_options import read_options


@click.command()
@click.argument("table", type=click.Path(), nargs=-1, required=True, metavar="TABLE...")
@click.option(
    "--lossy-float32", is_flag=True,
    help="Make every float64 a float32, and not only where no digit is lost; ids apart.",
)  # fmt: skip
@click.option(
    "--keep",
    multiple=True,
    metavar="PATTERN",
    help="Columns that stay as they are; may be given several times.",
)  # fmt: skip
@click.option(
    "--compat", type=click.Choice(["none", "upstream"]), default="none", show_default=True,
    help="upstream: its types: floats of any kind, booleans and unsigned integers become float32.",
)  # fmt: skip
def _command(**options: Any) -> None:
    """Write a table in narrower columns with the same values.

    Each TABLE is a Parquet file, a folder of them or a pattern; together they are one table. Writes
    shrunk/results.parquet and shrink.json (types before and after, and why) into the run folder.
    """


class Shrink:
    """The workload ``shrink``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Write the table.

        Args:
            run: an open run.
            table: paths, folders or patterns of Parquet files.
            lossy_float32: make every float64 a float32.
            keep: patterns of columns that stay as they are.
            compat: ``"none"`` or ``"upstream"``.

        Raises:
            BadInput: a file is not Parquet, or types do not agree between files.
            MissingExtra: a package is not installed.
        """
        from penstock.workloads.recsys.shrink.stages import Asked, shrink

        shrink(run, _asked(options, Asked))

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the survey; the rows are then written in as much memory.

        Args:
            budget: as for a run.
            options: as for ``run``.
        """
        from penstock.workloads.recsys.shrink.stages import Asked, survey_job

        return [survey_job(_asked(options, Asked)).plan(budget=budget, workers=workers, call=call)]


def _asked(options: dict[str, Any], kind: Any) -> Any:
    if find_spec("pyarrow") is None:
        raise MissingExtra("the workload shrink", "pyarrow", "recsys")
    return kind(**read_options(_command, options))
