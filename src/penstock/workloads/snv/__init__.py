"""Candidate mutation tables of bacterial isolates: which positions are real SNVs, in a fixed memory budget.

A table of 700 samples and 800,000 positions has 560 million cells of 40 statistics, and the tool that
reads it whole takes 1.2 KB for each: 0.67 TB. Here each large member of the file is inflated once, as a
stream (``reading``), into a narrow scratch copy that can be entered anywhere. Everything after it reads
blocks of a few positions (``table``): a filter of one position needs that position's samples and a
handful of numbers about the whole table.

    .npz, .npy, Zarr -> read -> survey -> judge -> settle -> network -> positions.parquet, summary.json, ...
                         |        |         |        |          \\-> tensor.zarr
                         |        |         |        one global switch, clusters of gaps
                         |        |         all filters, for both states of the switch
                         |        samples without reads
                         checks, scratch copy, medians of the coverage

The rules are those of AccuSNV 1.0.0.6 with a stable tie rule: among equal maxima the later of A T C G wins,
on every machine. The network's weights are read without unpickling (``weights``) and run without torch
(``network``).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penstock
from penstock.errors import BadInput, MissingExtra, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from penstock.workloads.snv.table import Table

_SCRATCH = "read"
_PACKAGES = ("numba", "pyarrow")


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
    help="Drop samples with no reads at so many of the positions, or more; 100 drops none.",
)  # fmt: skip
@click.option(
    "--exclude", metavar="NAMES|FILE|N",
    help="Samples to leave out: names with commas, a file with one a line, or those that carry the second "
    "allele at N positions or more.",
)  # fmt: skip
@click.option("--tensor", is_flag=True, help="Write the tensor of the kept positions too, as tensor.zarr.")
@click.option(
    "--picture", type=click.Choice(["png", "svg"]), multiple=True,
    help="Draw probabilities, reasons and coverage, as picture.png or .svg; may be given twice.",
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

    Writes positions.parquet (pos, kept, removed_by, gap, prob, label), summary.json and
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
            exclude: names (a text with commas, or a list), a file with one a line, or a number: samples
                with the second allele at so many positions.
            tensor: write ``tensor.zarr``.
            picture: ``"png"``, ``"svg"``, or a list of both: write ``picture.png``, ``picture.svg``.
            tie_rule: ``"stable"``.

        Raises:
            BadInput: an input that is not what it should be, naming file and place.
            MissingExtra: a package is not installed.
        """
        asked = _Asked(**{name: value for name, value in options.items() if name in _Asked.__annotations__})
        _check_packages()
        if asked.shape is not None:
            raise UsageError("--shape is for penstock plan snv; a run takes --table and --coverage")
        if asked.table is None or asked.coverage is None:
            raise UsageError("snv needs --table and --coverage")
        _Doing(run, asked).do()

    def plan(self, budget: str | int, **options: Any) -> list[Any]:
        """What a shape takes (see ``projection``), or the shape of a table that is there.

        Args:
            budget: as for a run.
            shape: ``"700x800000"``; or table and coverage.

        Raises:
            UsageError: neither a shape nor a table.
        """
        from penstock.workloads.snv.projection import plan_shape
        from penstock.workloads.snv.table import open_table

        shape = options.get("shape")
        if shape is None:
            if options.get("table") is None or options.get("coverage") is None:
                raise UsageError("snv needs --table and --coverage, or --shape SAMPLESxPOSITIONS")
            opened = open_table(str(options["table"]), str(options["coverage"]))
            shape = f"{len(opened.names)}x{max(opened.positions, 1)}"
        cores = len(os.sched_getaffinity(0))
        return [plan_shape(str(shape), _bytes(budget), options.get("workers") or cores)]


def _bytes(budget: str | int) -> int:
    """The budget that a run would have now: of a job's only item nothing is tried."""
    plan = penstock.Job(source=penstock.sources.Range(1), function=abs).plan(budget=budget)
    return plan.budget


@dataclass(frozen=True, kw_only=True)
class _Asked:
    table: str | None = None
    coverage: str | None = None
    model: str | None = None
    min_cov_samp: float = 45
    exclude: str | int | Sequence[str] | None = None
    tensor: bool = False
    picture: str | Sequence[str] = ()
    tie_rule: str = "stable"
    shape: str | None = None


def _check_packages() -> None:
    from importlib.util import find_spec

    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra("the workload snv", package, "snv")


class _Doing:
    """The stages of one run, in order."""

    def __init__(self, run: penstock.Run, asked: _Asked) -> None:
        from penstock.workloads.snv.picture import formats_of
        from penstock.workloads.snv.table import open_table
        from penstock.workloads.snv.weights import load_weights

        self._pictures = formats_of(asked.picture)
        self._run, self._asked = run, asked
        # The same files have the same names wherever the run is resumed from.
        self._given = open_table(
            str(Path(str(asked.table)).absolute()), str(Path(str(asked.coverage)).absolute())
        )
        self._weights = None if asked.model is None else load_weights(str(asked.model))

    def do(self) -> None:
        """All of them."""
        table, medians = self._read()
        excluded = self._excluded(table)
        samples = self._samples(table, excluded)
        medians = medians[samples]
        inside = self._survey(table, samples, medians)
        settled, switch = self._judge(table, samples, medians, inside)
        predicted = self._on_survivors(table, samples, medians, inside, settled)
        summary = self._summary(table, samples, medians, inside, settled, switch, excluded)
        sources = _Sources(table, [name in excluded for name in table.names])
        results = self._run.step(
            "results", _write_results,
            inputs={
                "found": sources, "settled": settled, "kept": settled.facts["kept"],
                "predicted": predicted, "summary": summary,
            },
        )  # fmt: skip
        self._lift("results")
        shutil.rmtree(self._run.folder / _SCRATCH, ignore_errors=True)
        self._draw(results)

    # ------------------------------------------------------------------ stages

    def _read(self) -> tuple[Table, NDArray[np.float64]]:
        from penstock.workloads.snv.reading import GatherFacts, Members, ReadMember, Scratch, mapped

        job = penstock.Job(
            source=Members(self._given), function=ReadMember(),
            into={"copies": Scratch(), "facts": GatherFacts()},
        )  # fmt: skip
        stored = self._run.stage(_SCRATCH, job)
        facts = _reduced(stored, "facts")
        return mapped(self._given, facts, stored.folder / "copies"), facts["coverage"]["medians"]

    def _excluded(self, table: Table) -> frozenset[str]:
        given = self._asked.exclude
        if given is None:
            return frozenset()
        limit = _number(given)
        if limit is None:
            return frozenset(_names(given))
        from penstock.workloads.snv.jobs import AddUp, CountCarriers
        from penstock.workloads.snv.table import Blocks

        job = penstock.Job(source=Blocks(table), function=CountCarriers(), into=AddUp())
        carried = self._run.stage("carriers", job).open().get("carried")
        if carried is None or isinstance(carried, int):  # no positions
            return frozenset()
        return frozenset(name for name, count in zip(table.names, carried, strict=True) if count >= limit)

    def _samples(self, table: Table, excluded: frozenset[str]) -> list[int]:
        samples = [
            s
            for s, (name, outgroup) in enumerate(zip(table.names, table.outgroup, strict=True))
            if not outgroup and name not in excluded
        ]
        if not samples:
            raise BadInput(
                f"no samples are left: of {len(table.names)}, {sum(table.outgroup)} are outgroup and "
                f"{len(excluded)} are excluded",
                file=self._asked.table,
            )
        return samples

    def _survey(self, table: Table, samples: list[int], medians: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which samples the tensor has."""
        import numpy as np

        from penstock.workloads.snv.jobs import AddUp, SurveyPositions
        from penstock.workloads.snv.table import Blocks

        inside = np.ones(len(samples), np.bool_)
        if self._asked.min_cov_samp == 100:
            return inside
        job = penstock.Job(source=Blocks(table, samples), function=SurveyPositions(), into=AddUp())
        found = self._run.stage("survey", job).open()
        kept = found.get("kept", 0)
        if kept:
            inside = found["zero"] / kept * 100 < self._asked.min_cov_samp
        if not inside.any():
            raise BadInput(
                f"every sample has no reads at {self._asked.min_cov_samp:g} % of the positions or more, so "
                "that all would be dropped: raise --min-cov-samp",
                file=self._asked.table,
            )
        return inside

    def _judge(
        self, table: Table, samples: list[int], medians: NDArray[np.float64], inside: NDArray[np.bool_]
    ) -> tuple[penstock.Stored, dict[str, int]]:
        from penstock.workloads.snv.jobs import AddUp, JudgePositions
        from penstock.workloads.snv.table import Blocks
        from penstock.workloads.snv.verdicts import uses_low_depth

        function = JudgePositions(medians, inside, self._asked.min_cov_samp != 100)
        into = {"told": penstock.sinks.Parquet(grain=64), "alive": AddUp()}
        source = Blocks(table, samples)
        judged = self._run.stage("judge", penstock.Job(source=source, function=function, into=into))
        alive = _reduced(judged, "alive")
        settled = self._run.step(
            "settle", _settle, inputs={"judged": judged, "p": table.p, "low_depth": uses_low_depth(alive)}
        )
        return settled, alive

    def _on_survivors(
        self, table: Table, samples: list[int], medians: NDArray[np.float64], inside: NDArray[np.bool_],
        settled: penstock.Stored,
    ) -> penstock.Stored | None:  # fmt: skip
        from penstock.workloads.snv.jobs import MakeFeatures, Predict
        from penstock.workloads.snv.table import Blocks
        from penstock.workloads.snv.tensor import TensorZarr, chunk_shape

        features = MakeFeatures(medians, inside)
        kept = (settled.folder / "kept.npy", settled.facts["kept"])
        predicted = None
        if self._weights is not None:
            source = Blocks(table, samples, kept=kept, features=True)
            function = Predict(features, self._weights)
            into = penstock.sinks.Parquet(grain=16)
            predicted = self._run.stage("network", penstock.Job(source=source, function=function, into=into))
        if self._asked.tensor:
            left = int(inside.sum())
            rows = chunk_shape(left)[0]
            chunks = Blocks(table, samples, kept=kept, rows=rows, features=True)
            sink = TensorZarr(shape=(kept[1], left))
            self._run.stage("tensor.zarr", penstock.Job(source=chunks, function=features, into=sink))
        return predicted

    # ------------------------------------------------------------------ the end

    def _summary(
        self, table: Table, samples: list[int], medians: NDArray[np.float64], inside: NDArray[np.bool_],
        settled: penstock.Stored, alive: Mapping[str, int], excluded: frozenset[str],
    ) -> dict[str, Any]:  # fmt: skip
        import numpy as np

        from penstock.workloads.snv.verdicts import uses_low_depth

        names = [table.names[s] for s in samples]
        depth = float(np.median(medians))
        return {
            "schema": 1,
            "samples": len(table.names),
            "positions": table.positions,
            "kept": settled.facts["kept"],
            "removed": settled.facts["removed"],
            "outgroup": [name for name, out in zip(table.names, table.outgroup, strict=True) if out],
            "excluded": [name for name in table.names if name in excluded],
            "unknown_names": sorted(excluded - set(table.names)),
            "dropped": [name for name, kept in zip(names, inside, strict=True) if not kept],
            "median_coverage": {name: float(each) for name, each in zip(names, medians, strict=True)},
            "thresholds": {
                "min_cov_samp": float(self._asked.min_cov_samp),
                "quality_rules": self._asked.min_cov_samp != 100,
                "low_depth_filter": uses_low_depth(alive),
                "low_depth_votes": alive.get("switch", 0),
                "low_depth_voters": alive.get("positions", 0),
                "group_depth": depth,
                "depth_over_9": depth > 9,
                "depth_over_20": depth > 20 and int(inside.sum()) > 50,
                "label": 0.5,
            },
            "tie_rule": self._asked.tie_rule,
            "network": self._weights is not None,
        }

    def _draw(self, results: penstock.Stored) -> None:
        """A step for each format, so that the other one can be drawn later."""
        from penstock.workloads.snv.picture import draw_run

        for kind in self._pictures:
            step = f"picture-{kind}"
            self._run.step(step, draw_run, inputs={"results": results, "kind": kind})
            self._lift(step)

    def _lift(self, step: str) -> None:
        """Put what a step made at the top of the run folder."""
        folder = self._run.folder / step
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not path.name.startswith("."):
                _link(path, self._run.folder / path.name)


def _link(path: Path, final: Path) -> None:
    """A second name for a file, or a copy where a disk has no links."""
    if final.exists() and final.samefile(path):
        return  # from before; to rename one name to another of the same file does nothing, and leaves both
    draft = final.with_name(f".{final.name}.tmp")
    draft.unlink(missing_ok=True)
    try:
        os.link(path, draft)
    except OSError:
        shutil.copyfile(path, draft)
    os.replace(draft, final)


@dataclass(frozen=True)
class _Sources:
    """What the results are made from."""

    table: Table
    excluded: Sequence[bool]


def _reduced(stored: penstock.Stored, name: str) -> Any:
    """What a stage's reducer made, without opening what its sinks kept."""
    return stored._open(name, stored.rooms[name])


def _settle(folder: Path, *, judged: Mapping[str, Any], p: Any, low_depth: bool) -> dict[str, Any]:
    from penstock.workloads.snv.verdicts import settle

    return settle(folder, told=judged["told"], p=p, low_depth=low_depth)


def _write_results(
    folder: Path, *, found: _Sources, settled: Path, kept: int, predicted: Any, summary: Mapping[str, Any]
) -> dict[str, Any]:
    from penstock.workloads.snv import results

    known = results.Found(found.table, settled, kept, predicted)
    results.write_positions(known, folder / "positions.parquet")
    results.write_table(known, folder / "candidate_mutation_table_final.npz", found.excluded)
    if known.predicted and kept > results.FAST:
        results.write_predictions(known, folder / "pred_res.txt")
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return {}


def _number(given: str | int | Sequence[str]) -> int | None:
    if isinstance(given, int):
        return given
    return int(given) if isinstance(given, str) and given.strip().isdigit() else None


def _names(given: str | int | Sequence[str]) -> list[str]:
    if not isinstance(given, str):
        return list(given) if isinstance(given, Sequence) else []
    if Path(given).is_file():
        given = Path(given).read_text(encoding="utf-8").replace("\n", ",")
    return [name.strip() for name in given.split(",") if name.strip()]
