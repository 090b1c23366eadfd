"""Builds a ranker's training table, larger than memory: samples with features of items and users.

    items, users -> items, users      float32 columns in a file that is mapped, and where each key's row is
    samples ------> survey            runs of requests, texts of categories, rows that are dropped
                      |
                    queries           is each request in one piece; which are drawn; spans of whole ones
                      |  no: sort     the narrow columns alone, by DuckDB, and surveyed again
                      |
                    table             the features of each row, looked up and written, span by span
                      |
                    meta              groups.npy, positions.npy, meta.json

``stages`` has them in order. No stage holds more than a span of rows, so that memory does not grow with them;
tables that are looked up are mapped, and the kernel keeps in memory what there is room for.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import click

import penstock
from penstock.errors import MissingExtra, UsageError
from penstock.workload_options import read_options
from penstock.workloads.recsys import environment


def _most(_context: click.Context, _param: click.Parameter, given: Any) -> int | str:
    """Rows, 0 for all, or ``"auto"``."""
    if str(given).strip() == "auto":
        return "auto"
    try:
        rows = int(str(given).replace(",", "").replace("_", ""))
    except ValueError:
        rows = -1
    if rows < 0:
        raise click.BadParameter(f"{given!r} is neither a number of rows, nor 0 for all, nor auto")
    return rows


def _seed(_context: click.Context, _param: click.Parameter, given: Any) -> int | str:
    if str(given) == "random":
        return "random"
    text = str(given).strip()
    if not (text.isascii() and text.isdecimal() and int(text) < 1 << 32):
        raise click.BadParameter(f"{given!r} is neither a number from 0 to {(1 << 32) - 1} nor 'random'")
    return int(text)


_TABLE: dict[str, Any] = {"type": click.Path(), "metavar": "TABLE", "multiple": True}


@click.command()
@click.option("--samples", help="Rows to be ranked: request_id, dataset_id, label, ...; Parquet.", **_TABLE)
@click.option("--items", help="Features of each dataset_id.", **_TABLE)
@click.option("--users", help="Features of each user_id.", **_TABLE)
@click.option("--page-items", help="Features of each page_id, looked up as dataset_id.", **_TABLE)
@click.option(
    "--max-samples", callback=_most, default="0", show_default=True, envvar="MAX_RANKING_SAMPLES",
    show_envvar=True, metavar="N|auto|0",
    help="Rows of the table at most, of whole requests; 0 for all; auto: as many as can be trained on in "
    "this budget, which is told, and stays when the run is resumed with another one.",
)  # fmt: skip
@click.option(
    "--seed", callback=_seed, default="42", show_default=True, metavar="N|random", help="Of every draw."
)
@click.option(
    "--sample-by", type=click.Choice(["request", "row", "pandas"]), default="request", show_default=True,
    help="Draw whole requests, rows, or the rows that DataFrame.sample draws.",
)  # fmt: skip
@click.option(
    "--stratify",
    type=click.Choice(["label", "day"]),
    help="Draw the same share of requests with and without a click, or of each day.",
)
@click.option(
    "--negatives", type=click.FloatRange(0, 1, min_open=True), metavar="RATE",
    help="Keep this share of the rows without a click; their weight is 1 / RATE.",
)  # fmt: skip
@click.option(
    "--duplicates", type=click.Choice(["first", "error"]), default="first", show_default=True,
    help="What is done with a key that a table of features has twice.",
)  # fmt: skip
@click.option("--sort", is_flag=True, help="Sort the table by request, position and row of the samples.")
@click.option("--fast", is_flag=True, help="Write files that are not compressed.")
@click.option(
    "--lossy-float32", is_flag=True,
    help="It is meant that features are rounded to float32: say nothing of those that lose digits.",
)  # fmt: skip
@click.option(
    "--null-label", type=click.Choice(["drop", "zero"]), default="drop", show_default=True,
    help="Rows whose label is null: drop and count them, or take them as not clicked.",
)  # fmt: skip
@click.option("--clicks", help="Clicks that make the labels: request_id, dataset_id, server_time.", **_TABLE)
@click.option(
    "--attribution", default="24h", show_default=True, metavar="24h|any",
    help="With --clicks: a click counts if it comes within so long of the row; rows for which that is not "
    "over when the log ends are dropped and counted.",
)  # fmt: skip
@click.option(
    "--repeats", type=click.Choice(["first", "keep"]),
    help="Rows of one request with the same item: keep the first that was shown (the default with --clicks), "
    "or all.",
)  # fmt: skip
@click.option(
    "--as-of", metavar="TIME",
    help="When the tables of features were frozen: earlier rows are dropped, and features counted over the "
    "log are kept.",
)  # fmt: skip
@click.option(
    "--log-features", type=click.Choice(["leave-out", "keep"]), default="leave-out", show_default=True,
    help="Features that are counted over the log, and so over the labels: ctr, popularity and the like.",
)  # fmt: skip
@click.option(
    "--compat", type=click.Choice(["none", "upstream"]), default="none", show_default=True,
    help="upstream: position is a feature, what is missing is 0, features may hold the label, sorted.",
)  # fmt: skip
def _command(**options: Any) -> None:
    """Join samples with the features of their items and users, as the table that a ranker learns from.

    Writes table/part-*.parquet, groups.npy (rows of each request), positions.npy and meta.json into the run
    folder. Each TABLE is a Parquet file, a folder of them or a pattern, and may be given several times.
    """


class Ranking:
    """The workload ``ranking``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Make the table.

        Args:
            run: an open run.
            samples, items, users, page_items: paths, folders or patterns of Parquet files; users and
                page_items may be left out.
            max_samples: rows of the table at most; 0 for all; ``"auto"`` for as many as ``rank-train`` has
                room for with its defaults.
            seed: of every draw; ``"random"`` draws one, which is kept in the run folder.
            sample_by: ``"request"``, ``"row"`` or ``"pandas"``.
            stratify: ``"label"``, ``"day"`` or None.
            negatives: share of the rows without a click that is kept.
            duplicates: ``"first"`` or ``"error"``.
            sort: sort by request, position, row.
            fast: files that are not compressed.
            lossy_float32: say nothing of features that lose digits as float32.
            null_label: ``"drop"`` or ``"zero"``.
            clicks: a table of clicks, which make the labels; the samples' own labels are not read then.
            attribution: how long after a row was shown a click of it counts: ``"24h"``, or ``"any"``.
            repeats: ``"first"`` or ``"keep"``: rows of one request with the same item; None for the first
                where clicks make the labels, else all.
            as_of: ISO time at which the tables of features were frozen.
            log_features: ``"leave-out"`` or ``"keep"``.
            compat: ``"none"`` or ``"upstream"``.
            span: rows that are read at once; another number gives other parts.

        Raises:
            BadInput: a table that is not what it should be, naming file and column.
            UsageError: options that make no sense together.
            MissingExtra: a package is not installed.
        """
        from penstock.workloads.recsys.ranking.given import Asked
        from penstock.workloads.recsys.ranking.stages import Stages

        asked = _asked(options, Asked)
        for line in _defaults():
            click.echo(line, err=True)
        Stages(run, asked).do()

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the survey of the samples, by trying it; later stages are computed.

        Args:
            budget: as for a run.
            options: as for ``run``.
        """
        from penstock.workloads.recsys.ranking.foreseen import later_stages
        from penstock.workloads.recsys.ranking.given import Asked
        from penstock.workloads.recsys.ranking.given_tables import Tables
        from penstock.workloads.recsys.ranking.stages import survey_job

        for line in _defaults():
            click.echo(line, err=True)
        asked = _asked(options, Asked)
        survey = survey_job(asked).plan(budget=budget, workers=workers, call=call)
        return [survey, later_stages(survey.budget, asked, Tables(asked))]


def _defaults() -> list[str]:
    return [line for line in (*environment.defaults(), environment.superseded()) if line]


def _asked(options: dict[str, Any], kind: Any) -> Any:
    for package in ("pyarrow", "duckdb"):
        if find_spec(package) is None:
            raise MissingExtra("the workload ranking", package, "recsys")
    span = {name: options.pop(name) for name in ("span",) if name in options}
    asked = read_options(_command, options)
    given = {name: value for name, value in asked.items() if value not in (None, ())} | span
    for name in ("samples", "items"):
        if not given.get(name):
            raise UsageError(f"ranking needs --{name}")
    if given.get("stratify") and given.get("sample_by", "request") != "request":
        raise UsageError("--stratify draws whole requests: leave --sample-by at request")
    return kind(**given)
