"""The stages of a run in order, and what each passes to the next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import penstock
from penstock import foreign
from penstock.errors import BadInput
from penstock.files import discard
from penstock.workloads.snv.coverage_unit import Cover, measured, warning
from penstock.workloads.snv.given import Excluded, asked_to_exclude, contig_lengths
from penstock.workloads.snv.projection import FINAL_BYTES
from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.table import Blocks, Table, block_rows, open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SCRATCH, _FINAL = "read", "final"
_SPARE = 2 * FINAL_BYTES
"""Bytes for each cell that a copy leaves on the disk: a final table beside the parts it is made of."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of a run; see ``Snv.run``."""

    table: str
    coverage: str
    model: str | None = None
    min_cov_samp: float = 45
    exclude: str | int | Sequence[str] | None = None
    carriers: int | None = None
    no_quality_rules: bool = False
    low_depth: str = "auto"
    contigs: str | Sequence[int] | None = None
    coverage_unit: str = "auto"
    compat: str = "none"
    scratch: str = "auto"
    tensor: bool = False
    picture: str | Sequence[str] = ()
    tie_rule: str = "stable"

    @property
    def as_published(self) -> bool:
        """Whether rules of version 1.0 of the tool apply that have no biological basis."""
        return self.compat != "none"

    @property
    def quality_rules(self) -> bool:
        """Whether the rules about quality apply."""
        return not (self.no_quality_rules or (self.as_published and self.min_cov_samp == 100))


@dataclass(frozen=True)
class _Chosen:
    """What every stage behind the first asks of the table.

    Attributes:
        table: read and checked.
        samples: the numbers of those that are neither outgroup nor excluded.
        medians: their median coverage.
        all_medians: that of all samples of the table.
        cover: their coverage at some positions.
        excluded: names, and how they were chosen.
    """

    table: Table
    samples: list[int]
    medians: NDArray[np.float64]
    all_medians: NDArray[np.float64]
    cover: Cover
    excluded: Excluded


class Stages:
    """Runs the stages of one run, in order.

    Args:
        run: an open run.
        asked: what the user wants.

    Raises:
        BadInput: table, coverage or weights are not what they should be.
    """

    def __init__(self, run: penstock.Run, asked: Asked) -> None:
        from penstock.workloads.snv.network.weights import load_weights
        from penstock.workloads.snv.results.picture import formats_of

        self._pictures = formats_of(asked.picture)
        self._run, self._asked = run, asked
        # The same files have the same names wherever the run is resumed from.
        self._given = open_table(str(Path(asked.table).absolute()), str(Path(asked.coverage).absolute()))
        self._weights = None if asked.model is None else load_weights(asked.model)
        self._contigs = contig_lengths(asked.contigs)

    def do(self) -> None:
        """Run all stages."""
        chosen = self._read()
        inside = self._survey(chosen)
        settled, alive = self._judge(chosen, inside)
        network = self._on_survivors(chosen, inside, settled)
        final = self._final(chosen, settled, network)
        results = self._run.step(
            "results", _write_results, threads=1,
            inputs={
                "p": chosen.table.p, "settled": settled, "network": network,
                "rows": block_rows(len(chosen.samples)),
                "final": final, "support_rows": block_rows(len(chosen.table.names)),
                "summary": self._summary(chosen, inside, settled, alive),
            },
        )  # fmt: skip
        self._run.publish(results)
        self._run.publish(final, "table")
        with suppress(OSError):
            discard(self._run.folder / _SCRATCH)
        self._draw(results)

    # ------------------------------------------------------------------ stages

    def _read(self) -> _Chosen:
        from penstock.workloads.snv.members import GatherFacts, Members, ReadMember, Scratch, mapped

        given = self._given
        function = ReadMember(
            self._asked.scratch == "auto", _SPARE * len(given.names) * given.positions, given.p
        )
        into = {"copies": Scratch(), "facts": GatherFacts()}
        job = penstock.Job(source=Members(given), function=function, into=into, threads=1)
        stored = self._run.stage(_SCRATCH, job)
        if stored.missing:
            lost = ", ".join(job.source.name(item) for item in stored.missing)  # type: ignore[attr-defined]
            raise BadInput("was set aside, and nothing can be done without it", file=lost)
        facts = stored.open("facts")
        table = mapped(given, facts, stored.folder / "copies")
        streams = [each.name for each in (table.counts, table.quals, table.indel) if each.kind == "deflated"]
        if streams and self._asked.scratch == "auto":
            click.echo(
                f"no room on the disk of {self._run.folder} for a scratch copy of {', '.join(streams)}: each "
                "stage reads them as streams, which takes longer",
                err=True,
            )
        excluded = self._excluded(table)
        samples = self._samples(table, excluded.names)
        cover = facts["coverage"]
        return _Chosen(
            table, samples, cover["medians"][samples], cover["medians"],
            Cover(cover["rows"], cover["seen"][samples]), excluded,
        )  # fmt: skip

    def _excluded(self, table: Table) -> Excluded:
        names, limit = asked_to_exclude(self._asked.exclude, self._asked.carriers, table.names)
        if limit is None:
            return Excluded(names)
        from penstock.workloads.snv.jobs import AddUp, CountCarriers

        # An allele that only the outgroup has makes nobody of the group a carrier.
        group = [s for s, out in enumerate(table.outgroup) if self._asked.as_published or not out]
        job = penstock.Job(source=Blocks(table, group), function=CountCarriers(), into=AddUp(), threads=1)
        carried = self._run.stage("carriers", job).open().get("carried")
        if carried is None or isinstance(carried, int):  # no positions
            return Excluded(names, limit)
        found = [table.names[s] for s, count in zip(group, carried, strict=True) if count >= limit]
        return Excluded(names | frozenset(found), limit)

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

    def _survey(self, chosen: _Chosen) -> NDArray[np.bool_]:
        """Which samples the tensor has."""
        from penstock.workloads.snv.jobs import AddUp, SurveyPositions

        inside = np.ones(len(chosen.samples), np.bool_)
        if self._asked.min_cov_samp == 100:
            return inside
        source = Blocks(chosen.table, chosen.samples)
        job = penstock.Job(source=source, function=SurveyPositions(), into=AddUp(), threads=1)
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

    def _judge(self, chosen: _Chosen, inside: NDArray[np.bool_]) -> tuple[penstock.Stored, Mapping[str, int]]:
        from penstock.workloads.snv.bits import UNKNOWN
        from penstock.workloads.snv.jobs import AddUp, JudgePositions

        source = Blocks(chosen.table, chosen.samples)
        function = JudgePositions(
            chosen.medians, inside, self._asked.quality_rules, source.rows, chosen.cover
        )
        into = {"told": penstock.sinks.Arrays(grain=64, fill=UNKNOWN), "alive": AddUp()}
        judged = self._run.stage(
            "judge", penstock.Job(source=source, function=function, into=into, threads=1)
        )
        alive = judged.open("alive")
        if text := warning(measured(alive.get("ratio", 0), self._asked.coverage_unit)):
            foreign.warn(text)
        settled = self._run.step(
            "settle", _settle, threads=1,
            inputs={
                "judged": judged, "rows": source.rows, "p": chosen.table.p,
                "low_depth": self._low_depth(alive), "contigs": self._contigs,
            },
        )  # fmt: skip
        return settled, alive

    def _low_depth(self, alive: Mapping[str, int]) -> bool:
        from penstock.workloads.snv.verdicts import uses_low_depth

        asked = self._asked.low_depth
        return uses_low_depth(alive) if asked == "auto" else asked == "on"

    def _on_survivors(
        self, chosen: _Chosen, inside: NDArray[np.bool_], settled: penstock.Stored
    ) -> penstock.Stored | None:
        from penstock.workloads.snv.jobs import MakeFeatures, Predict
        from penstock.workloads.snv.results.tensor import TensorZarr, chunk_shape

        table, samples = chosen.table, chosen.samples
        features = MakeFeatures(chosen.medians, inside)
        kept = (settled.folder / "kept.npy", settled.facts["kept"])
        network = None
        if self._weights is not None:
            source = Blocks(table, samples, kept=kept, features=True)
            function = Predict(features, self._weights, source.rows)
            job = penstock.Job(source=source, function=function, into=penstock.sinks.Arrays(grain=16))
            network = self._run.stage("network", job)
        if self._asked.tensor:
            left = int(inside.sum())
            chunks = Blocks(table, samples, kept=kept, rows=chunk_shape(left)[0], features=True)
            sink = TensorZarr(shape=(kept[1], left))
            self._run.stage(
                "tensor.zarr", penstock.Job(source=chunks, function=features, into=sink, threads=1)
            )
        return network

    def _final(
        self, chosen: _Chosen, settled: penstock.Stored, network: penstock.Stored | None
    ) -> penstock.Stored:
        from penstock.workloads.snv.results.final import FAST, NOT_KNOWN, FinalTable, PackBlock

        table, count = chosen.table, settled.facts["kept"]
        kept = settled.folder / "kept.npy"
        predicted = network is not None
        fast = predicted and count > FAST
        sink = FinalTable(
            names=table.names, outgroup=table.outgroup, predicted=predicted, fast=fast,
            excluded=tuple(name in chosen.excluded.names for name in table.names),
        )  # fmt: skip
        source = Blocks(table, kept=(kept, count), features=True)
        job = penstock.Job(
            source=source,
            function=PackBlock(
                table.p, block_rows(len(chosen.samples)), predicted, fast, source.rows,
                self._asked.as_published,
            ),
            into={"table": sink, "support": penstock.sinks.Arrays(grain=FinalTable.grain, fill=NOT_KNOWN)},
            inputs={"kept": kept} | ({"network": network} if network is not None else {}),
            threads=1,
        )  # fmt: skip
        return self._run.stage(_FINAL, job)

    # ------------------------------------------------------------------ the end

    def _summary(
        self, chosen: _Chosen, inside: NDArray[np.bool_], settled: penstock.Stored, alive: Mapping[str, int]
    ) -> dict[str, Any]:
        table = chosen.table
        names = [table.names[s] for s in chosen.samples]
        depth = float(np.median(chosen.medians))
        return {
            "schema": 1,
            "samples": len(table.names),
            "positions": table.positions,
            "kept": settled.facts["kept"],
            "removed": settled.facts["removed"],
            "outgroup": [name for name, out in zip(table.names, table.outgroup, strict=True) if out],
            "excluded": [name for name in table.names if name in chosen.excluded.names],
            "unknown_names": sorted(chosen.excluded.names - set(table.names)),
            "carriers": chosen.excluded.carriers,
            "dropped": [name for name, kept in zip(names, inside, strict=True) if not kept],
            "median_coverage": dict(zip(table.names, chosen.all_medians.tolist(), strict=True)),
            "coverage": measured(alive.get("ratio", 0), self._asked.coverage_unit),
            "tied_cells": alive.get("ties", 0),
            "contigs": len(self._contigs) or None,
            "thresholds": {
                "min_cov_samp": float(self._asked.min_cov_samp),
                "quality_rules": self._asked.quality_rules,
                "low_depth_filter": self._low_depth(alive),
                "low_depth": self._asked.low_depth,
                "low_depth_votes": alive.get("switch", 0),
                "low_depth_voters": alive.get("positions", 0),
                "group_depth": depth,
                "depth_over_9": depth > 9,
                "depth_over_20": depth > 20 and int(inside.sum()) > 50,
                "label": 0.5,
            },
            "tie_rule": self._asked.tie_rule,
            "compat": self._asked.compat,
            "network": self._weights is not None,
        }

    def _draw(self, results: penstock.Stored) -> None:
        """A step for each format, so that the other one can be drawn later."""
        from penstock.workloads.snv.results.picture import draw_run

        for kind in self._pictures:
            step = f"picture-{kind}"
            drawn = self._run.step(step, draw_run, inputs={"results": results, "kind": kind}, threads=1)
            self._run.publish(drawn)


def _settle(folder: Path, *, judged: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    from penstock.workloads.snv.verdicts import settle

    return settle(folder, told=judged["told"], **options)


def _write_results(
    folder: Path, *, p: Array, settled: Path, network: Any, rows: int, final: Mapping[str, Any],
    support_rows: int, summary: Mapping[str, Any],
) -> None:  # fmt: skip
    from penstock.workloads.snv.results.positions import write_positions

    support = final["support"]
    write_positions(folder / "positions.parquet", p, settled, network, rows, support, support_rows)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
