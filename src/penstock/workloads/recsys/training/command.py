"""The command ``penstock run rank-train``: its options, and the workload that has them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

import penstock
from penstock.errors import MissingExtra, UsageError
from penstock.workload_options import read_options
from penstock.workloads.recsys import environment
from penstock.workloads.recsys.shared.peak import BIN_SAMPLE, Training, TrainingPlan, grown, plan_shape

SWEPT = {"trees": int, "leaves": int, "learning_rate": float, "bagging": float}


def _rows(_context: click.Context, _param: click.Parameter, given: str | int) -> int | str:
    return rows_asked(given)


def rows_asked(given: str | int) -> int | str:
    """Parse ``--max-samples``: a number of rows, 0 for all, or ``"auto"``.

    Raises:
        click.BadParameter: it is something else.
    """
    text = str(given).strip()
    if text == "auto":
        return text
    if not (text.isascii() and text.isdecimal()):
        raise click.BadParameter(f"{given!r}: a number of rows, 0 for all, or auto was expected")
    return int(text)


def _curve(_context: click.Context, _param: click.Parameter, given: str) -> str:
    percents(given)
    return given


def percents(given: str) -> list[int]:
    """Parse ``--curve``: ascending whole percents without 100, which is the model itself.

    Raises:
        click.BadParameter: it is something else.
    """
    words = [word.strip() for word in given.split(",") if word.strip()]
    if not all(word.isascii() and word.isdecimal() and 1 <= int(word) <= 100 for word in words):
        raise click.BadParameter(f"{given!r}: percents from 1 to 100 were expected, as in 5,10,25,50,100")
    return sorted({int(word) for word in words} - {100})


def _sweep(_context: click.Context, _param: click.Parameter, given: Sequence[str]) -> Sequence[str]:
    combinations(given)
    return given


def combinations(given: Sequence[str]) -> list[dict[str, Any]]:
    """Parse ``--sweep``: all combinations of the values in ``NAME=A,B``, in order; none if nothing is swept.

    Raises:
        click.BadParameter: it is something else.
    """
    found: dict[str, list[Any]] = {}
    for text in given:
        name, _, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in SWEPT or name in found:
            raise click.BadParameter(f"{text!r}: each of {', '.join(SWEPT)} can be swept, once")
        try:
            found[name] = [SWEPT[name](value) for value in values.split(",")]
        except ValueError:
            raise click.BadParameter(f"{text!r}: numbers were expected, as in leaves=31,63,127") from None
        if not all(_allowed(name, value) for value in found[name]):
            raise click.BadParameter(f"{text!r}: a value is out of range")
    return (
        [dict(zip(found, each, strict=True)) for each in itertools.product(*found.values())] if found else []
    )


def _allowed(name: str, value: float) -> bool:
    if name in ("learning_rate", "bagging"):
        return 0 < value <= 1
    return value >= (2 if name == "leaves" else 1)


def _moment(_context: click.Context, _param: click.Parameter, given: str | None) -> str | None:
    return moment_asked(given)


def moment_asked(given: str | None) -> str | None:
    """Parse ``--as-of``: an ISO 8601 time without a zone; or an integer, taken as it is.

    Raises:
        click.BadParameter: it is something else.
    """
    if given is None or given.lstrip("-").isdecimal():
        return given
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise click.BadParameter(f"{given!r}: a time such as 2025-12-31T00:00 was expected") from None
    if moment.tzinfo is not None:  # times of a table are UTC
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat()


@click.command()
@click.argument("table", type=click.Path(), required=False, metavar="DIR")
@click.option(
    "--label", default="label", show_default=True, metavar="COLUMN", help="0 for no click, or a grade."
)
@click.option("--weight", metavar="COLUMN|none",
              help="What a row counts in training; by default the weights that the table was given with "
              "--negatives, if any.")  # fmt: skip
@click.option("--valid", type=click.FloatRange(0, 0.9), default=0.2, show_default=True, metavar="SHARE",
              help="Of the queries, that are tested; 0 trains without a test.")  # fmt: skip
@click.option("--split", type=click.Choice(["time", "user", "request"]), default="time", show_default=True,
              help="The last queries are tested; or all those of some users; or any. Without times by user, "
              "without users by request.")  # fmt: skip
@click.option("--as-of", metavar="TIME", callback=_moment,
              help="Leave out queries before TIME: features frozen then know their clicks.")  # fmt: skip
@click.option("--trees", type=click.IntRange(1), default=300, show_default=True, envvar="RANKER_ESTIMATORS",
              help="Trees in all.")  # fmt: skip
@click.option("--leaves", type=click.IntRange(2), default=63, show_default=True, envvar="RANKER_NUM_LEAVES",
              help="Leaves of a tree, at most.")  # fmt: skip
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True,
              envvar="RANKER_LEARNING_RATE", help="What a tree counts.")  # fmt: skip
@click.option("--bagging", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
              metavar="SHARE", help="Of the rows, that each tree learns from.")  # fmt: skip
@click.option("--block", type=click.IntRange(1), default=50, show_default=True,
              help="Trees of a step: what a killed run does again, at most.")  # fmt: skip
@click.option("--max-samples", default="0", show_default=True, metavar="N|auto|0", callback=_rows,
              envvar="MAX_RANKING_SAMPLES",
              help="Rows to learn from, in whole queries; auto: as many as the budget has room for; "
              "0: all.")  # fmt: skip
@click.option("--bin-sample", type=click.IntRange(1000), default=BIN_SAMPLE, show_default=True,
              metavar="ROWS", help="Rows that the borders of the bins are learnt from, in memory as float64; "
              "50000 takes less.")  # fmt: skip
@click.option("--position-bias/--no-position-bias", default=True, show_default=True,
              help="Learn how much a place alone is clicked, so that trees need not.")  # fmt: skip
@click.option("--curve", default="", metavar="5,10,25,50,100", callback=_curve,
              help="Percents of the rows that smaller models learn from, with the same bins.")  # fmt: skip
@click.option("--sweep", multiple=True, metavar="NAME=A,B", callback=_sweep,
              help="Only the measures of all combinations of these values of trees, leaves, learning_rate, "
              "bagging, on the same bins; no model. May be repeated.")  # fmt: skip
@click.option("--picture/--no-picture", default=True, show_default=True,
              help="With --curve: draw curve.png (needs matplotlib).")  # fmt: skip
@click.option("--engine", type=click.Choice(["lightgbm", "xgboost"]), default="lightgbm", show_default=True,
              help="xgboost keeps the bins on disk, where not even they fit.")  # fmt: skip
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 31) - 1),
    default=42,
    show_default=True,
    help="Of samples, splits and trees.",
)
@click.option("--shape", metavar="ROWSxFEATURES", help="For plan: the peak of a table of this shape.")
@click.option("--grow", metavar="rows=10,features=2", help="For plan: what growth takes.")
def _command(**options: Any) -> None:
    """Train a ranker on a ranking table, which is never in memory as a whole.

    DIR is what penstock run ranking wrote: table/, groups.npy, positions.npy, meta.json. Writes model.txt
    (LightGBM's text format; model.ubj with --engine xgboost), metrics.json and importance.parquet.
    """


class RankTrain:
    """The workload ``rank-train``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Train, test, and write the results into the run folder; the options are those of the command.

        Args:
            run: an open run.
            options: ``table`` is the folder of the ranking table.

        Raises:
            BadInput: a table that is not what it should be, naming file and place.
            CannotFit: the planned peak is above the budget; the message says what would do.
            MissingExtra: a package is not installed.
            PluginError: the OpenMP library of the system is not.
            UsageError: options that make no sense together.
        """
        from penstock.workloads.recsys.training.stages import Asked, Stages

        asked = read_options(_command, options)
        if asked.pop("shape") is not None or asked.pop("grow") is not None:
            raise UsageError("--shape and --grow are for penstock plan rank-train; a run takes a DIR")
        if asked["table"] is None:
            raise UsageError("rank-train needs the DIR of a ranking table, as penstock run ranking writes it")
        for line in environment.defaults():
            click.echo(line, err=True)
        checked = Asked(**{
            **asked, "table": str(Path(asked["table"]).absolute()),
            "max_samples": rows_asked(asked["max_samples"]),
            "as_of": moment_asked(asked["as_of"]),
            "curve": tuple(percents(asked["curve"])), "sweep": tuple(combinations(asked["sweep"])),
        })  # fmt: skip
        _check(checked)
        Stages(run, checked).do()

    def plan(self, budget: str | int, **options: Any) -> list[TrainingPlan]:
        """The projected peak of a shape, or of an existing table, and what other budgets allow.

        Args:
            budget: as for a run.
            options: ``shape``, or ``table``; ``grow``.

        Raises:
            UsageError: neither a shape nor a table.
        """
        asked = read_options(_command, options)
        available = penstock.Job(source=penstock.sources.Range(1), function=abs).plan(budget=budget).budget
        defaults = tuple(environment.defaults())
        if asked["shape"] is not None:
            shape, like = (
                str(asked["shape"]),
                {name: asked[name] for name in ("leaves", "bin_sample", "grow")},
            )
            return [plan_shape(shape, available, defaults=defaults, **like)]
        if asked["table"] is None:
            raise UsageError("rank-train needs the DIR of a ranking table, or --shape ROWSxFEATURES")
        from penstock.workloads.recsys.readers.table import open_table

        table = open_table(asked["table"])
        rows = max(round(table.rows * (1 - asked["valid"])), 1)
        most = rows_asked(asked["max_samples"])
        rows = min(rows, most) if isinstance(most, int) and most else rows
        training = Training(
            rows, len(table.features), asked["leaves"], asked["bin_sample"], table.largest_group,
            round(table.rows * asked["valid"]),
        )  # fmt: skip
        bigger = grown(training, asked["grow"]) if asked["grow"] else None
        return [TrainingPlan(available, training, bigger, defaults)]


def _check(asked: Any) -> None:
    if asked.engine == "lightgbm":
        from penstock.workloads.recsys.readers.lightgbm_library import check_lightgbm

        check_lightgbm()
    else:
        from penstock.workloads.recsys.training.xgboost_blocks import check_xgboost

        check_xgboost()
    if (asked.curve or asked.sweep) and not asked.valid:
        raise UsageError("--curve and --sweep compare what the test part says, and --valid 0 leaves none")
    if asked.curve and asked.sweep:
        raise UsageError("--curve is of one model, and --sweep makes none: give one of the two")
    if asked.curve and asked.picture and find_spec("matplotlib") is None:
        raise MissingExtra("the picture of --curve", "matplotlib", "plot")
