"""Candidate mutation tables of bacterial isolates: which positions are real SNVs, in a fixed memory budget.

A table of 700 samples and 800,000 positions has 560 million cells of 40 statistics, and the tool that
reads it whole takes 1.2 KB for each: 0.67 TB. Here each large member of the file is inflated once, as a
stream, into a narrow copy that can be entered anywhere; or, where the disk is short, it is read by cursors
in lockstep (``reading``). Everything after it reads blocks of a few positions (``table``): a filter of one
position needs that position's samples and a handful of numbers about the whole table.

    .npz, .npy, Zarr -> read -> survey -> judge -> settle -> network -> final -> results -> picture
                         |        |         |        |          |         |        |
                         |        |         |        |          |         |        positions, summary
                         |        |         |        |          |         final table, pred_res.txt
                         |        |         |        |          probabilities, tensor.zarr
                         |        |         |        one global switch, clusters of gaps (``verdicts``)
                         |        |         all filters, for both states of the switch
                         |        samples without reads
                         checks, scratch copy, medians of the coverage

``stages`` has them in order, ``jobs`` what they do with a block, ``kernel`` the arithmetic. The rules are
those of AccuSNV 1.0.0.6 with a stable tie rule: among equal maxima the later of A T C G wins, on every
machine. The network's weights are read without unpickling and run without torch (``network``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import penstock
from penstock.errors import MissingExtra, UsageError
from penstock.files import is_file
from penstock.workload_options import read_options
from penstock.workloads.snv.given import check_lists

_PACKAGES = ("numba", "pyarrow")


def _whole_path(_context: click.Context, _param: click.Parameter, given: str | None) -> str | None:
    """A file is the same one wherever the run is resumed from."""
    return str(Path(given).absolute()) if given is not None and is_file(given) else given


@click.command()
@click.option(
    "--table",
    type=click.Path(),
    metavar="CMT",
    help="Candidate mutation table: .npz, Zarr, or a folder of .npy.",
)
@click.option(
    "--coverage", type=click.Path(), metavar="COV", help="Coverage of each sample along the genome."
)
@click.option(
    "--model", type=click.Path(), help="Weights of the network; without it there are no probabilities."
)
@click.option(
    "--min-cov-samp", type=click.FloatRange(0, 100), default=45, show_default=True, metavar="PERCENT",
    help="Drop samples without reads at so many of the positions, or more; 100 drops none.",
)  # fmt: skip
@click.option(
    "--no-quality-rules", is_flag=True, help="Keep positions whose strands do not agree on the minor allele."
)
@click.option(
    "--exclude", metavar="NAMES|FILE", callback=_whole_path,
    help="Samples to leave out: names with commas, or a file with one a line.",
)  # fmt: skip
@click.option(
    "--carriers", type=click.IntRange(0), metavar="N",
    help="Leave out samples that carry the second allele at N positions or more.",
)  # fmt: skip
@click.option(
    "--low-depth", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
    help="Filter calls of low depth: as the whole table votes, always, or never.",
)  # fmt: skip
@click.option(
    "--contigs", metavar="FILE", callback=_whole_path,
    help="Contigs and their lengths, one a line in the order of the positions, as in a .fai file: gaps of "
    "two contigs are then no neighbours.",
)  # fmt: skip
@click.option(
    "--coverage-unit", type=click.Choice(["auto", "reads", "all40"]), default="auto", show_default=True,
    help="What the coverage counts: reads, or all statistics of a cell (AccuSNV 1.0); it is measured, and a "
    "warning says where it is not what it should be.",
)  # fmt: skip
@click.option(
    "--compat", type=click.Choice(["none", "accusnv-1.0"]), default="none", show_default=True,
    help="Apply rules of that version that depend on what has nothing to do with a position.",
)  # fmt: skip
@click.option(
    "--scratch", type=click.Choice(["auto", "never"]), default="auto", show_default=True,
    help="Copy compressed members into the run folder, where its disk has the room, so that they can be "
    "entered anywhere; or read them as streams again and again: slower, without the disk.",
)  # fmt: skip
@click.option("--tensor", is_flag=True, help="Write the tensor of the kept positions too, as tensor.zarr.")
@click.option(
    "--picture", type=click.Choice(["png", "svg", "pdf"]), multiple=True,
    help="Draw probabilities, reasons and coverage, as picture.png, .svg or .pdf; may be repeated.",
)  # fmt: skip
@click.option(
    "--tie-rule", type=click.Choice(["stable"]), default="stable", show_default=True,
    help="Among equal counts the later of A T C G wins, on every machine.",
)  # fmt: skip
@click.option(
    "--shape", metavar="SAMPLESxPOSITIONS",
    help="For plan: memory, disk and time of a table of this shape; no data are needed.",
)  # fmt: skip
def _command(**options: Any) -> None:
    """Filter a candidate mutation table and predict which positions are real SNVs.

    Writes positions.parquet (pos, kept, removed_by, gap, prob, label, read_support), summary.json and
    candidate_mutation_table_final.npz into the run folder; above 100,000 kept positions pred_res.txt too.
    """


class Snv:
    """The workload ``snv``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Filter, predict, and write the results into the run folder.

        Args:
            run: an open run.
            table, coverage: paths.
            model: path of the network's weights, or None for the filters alone.
            min_cov_samp: percent of positions without reads at which a sample is dropped from the tensor.
            no_quality_rules: keep positions whose strands do not agree on the minor allele.
            exclude: names (a text with commas, or a list), or a file with one a line. A number that is no
                sample's name is taken as ``carriers``.
            carriers: leave out samples with the second allele at so many positions or more.
            low_depth: ``"auto"``, as the whole table votes, ``"on"`` or ``"off"``.
            contigs: lengths in the order of the positions, or a file with names and lengths.
            coverage_unit: ``"auto"``, ``"reads"`` or ``"all40"``: what the coverage is said to count.
            compat: ``"none"``, or ``"accusnv-1.0"``: labels of pred_res.txt are rescued by reads above
                100,000 kept positions, min_cov_samp=100 drops the quality rules too, and the outgroup
                counts for carriers.
            scratch: ``"auto"``, or ``"never"`` to read compressed members as streams again and again
                instead of copying them.
            tensor: write ``tensor.zarr``.
            picture: ``"png"``, ``"svg"``, ``"pdf"``, or a list of these: write ``picture.png`` ...
            tie_rule: ``"stable"``.

        Raises:
            BadInput: an input that is not what it should be, naming file and place.
            MissingExtra: a package is not installed.
        """
        _check_packages()
        from penstock.workloads.snv.stages import Asked, Stages

        asked = _read(options)
        if asked.pop("shape") is not None:
            raise UsageError("--shape is for penstock plan snv; a run takes --table and --coverage")
        if asked["table"] is None or asked["coverage"] is None:
            raise UsageError("snv needs --table and --coverage")
        Stages(run, Asked(**asked)).do()

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The projection of a shape (see ``projection``), or of an existing table.

        Args:
            budget: as for a run.
            shape: ``"700x800000"``; or table and coverage.

        Raises:
            UsageError: neither a shape nor a table.
        """
        from penstock.workloads.snv.projection import plan_shape
        from penstock.workloads.snv.table import open_table

        asked = _read(options)
        shape = asked["shape"]
        if shape is None:
            if asked["table"] is None or asked["coverage"] is None:
                raise UsageError("snv needs --table and --coverage, or --shape SAMPLESxPOSITIONS")
            opened = open_table(asked["table"], asked["coverage"])
            shape = f"{len(opened.names)}x{max(opened.positions, 1)}"
        cores = len(os.sched_getaffinity(0))
        return [plan_shape(shape, _bytes(budget), workers or cores)]


def _read(options: Mapping[str, Any]) -> dict[str, Any]:
    """All options. Python may give names and lengths as lists, and a number of carriers, too."""
    lists = [name for name in ("exclude", "contigs") if not isinstance(options.get(name), str | Path)]
    asked = read_options(_command, options, free=lists)
    check_lists(asked["exclude"], asked["contigs"])
    return asked


def _bytes(budget: str | int) -> int:
    """The budget that a run would have now: of a job's only item nothing is tried."""
    plan = penstock.Job(source=penstock.sources.Range(1), function=abs).plan(budget=budget)
    return plan.budget


def _check_packages() -> None:
    from importlib.util import find_spec

    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra("the workload snv", package, "snv")
