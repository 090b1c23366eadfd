"""The stages of ``rank-train`` in order, and its files at the top of the run folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import metadata
from typing import Any

import click

import penstock
from penstock import foreign
from penstock.budget import format_size
from penstock.errors import CannotFit, UsageError
from penstock.plurals import plural
from penstock.workloads.recsys.readers.table import RankingTable, open_table
from penstock.workloads.recsys.shared.peak import Training, what_fits
from penstock.workloads.recsys.training.growing import Growing, grow_trees, make_bins, merge_blocks
from penstock.workloads.recsys.training.results import draw_curve, write_importance
from penstock.workloads.recsys.training.sampling import choose_rows
from penstock.workloads.recsys.training.scoring import ScoreGroup, best_first, measure, with_losses
from penstock.workloads.recsys.training.survey import Wanted, survey
from penstock.workloads.recsys.training.xgboost_blocks import grow_with_xgboost

_SCHEMA = 1


@dataclass(frozen=True)
class Asked:
    """The options, as they are used."""

    table: str
    label: str
    weight: str | None
    valid: float
    split: str
    as_of: str | None
    trees: int
    leaves: int
    learning_rate: float
    bagging: float
    block: int
    max_samples: int | str
    bin_sample: int
    position_bias: bool
    curve: tuple[int, ...]
    sweep: tuple[dict[str, Any], ...]
    picture: bool
    engine: str
    seed: int

    def growing(self) -> Growing:
        """What decides how trees grow."""
        return Growing(self.leaves, self.learning_rate, self.bagging, self.seed, self.position_bias)


@dataclass(frozen=True)
class _Model:
    """A model of a run: the step that has it, and what it took."""

    stored: penstock.Stored
    trees: int
    rows: int
    unused: tuple[str, ...]


class Stages:
    """Runs one training in an open run."""

    def __init__(self, run: penstock.Run, asked: Asked) -> None:
        self._run = run
        self._table: RankingTable = open_table(asked.table)
        self._asked = replace(asked, weight=self._weight(asked))

    def do(self) -> None:
        """Run survey, bins, trees, test, and results."""
        self._tell_split()
        self._tell_frozen()
        self._check_fit()
        if self._asked.sweep:
            self._sweep()
            return
        model = self._model("train")
        tested = self._test("train", model) if self._asked.valid else None
        curve = self._curve(model, tested) if tested is not None and self._asked.curve else []
        self._results(model, tested, curve)

    def _weight(self, asked: Asked) -> str | None:
        """The column of the weights: what was asked for, or that of rows that stand for others left out."""
        given: str | None = asked.weight or self._table.meta.get("weight")
        if given is None or given == "none":
            return None
        if asked.engine == "xgboost":
            raise UsageError(
                f"the column {foreign.line(given)} weighs rows, and XGBoost's rankers take weights of "
                "queries: use --engine lightgbm, or --weight none"
            )
        if asked.weight is None:
            click.echo(f"rows count by the column {foreign.line(given)} (--weight none: all alike)", err=True)
        return given

    def _tell_frozen(self) -> None:
        """Features that count the clicks of what is tested cannot be told from others by their values."""
        meta = self._table.meta
        known = "left_out" in meta and meta.get("compat") != "upstream"  # ranking leaves such features out
        if known or not self._asked.valid or meta.get("as_of") or self._asked.as_of:
            return
        foreign.warn(
            "the table does not say when its features about items and users were frozen (--as-of): "
            "where they count clicks of the queries that are tested, these measures are too good",
        )  # fmt: skip

    # ------------------------------------------------------------------ rows

    @cached_property
    def _fingerprint(self) -> str:
        return self._table.fingerprint()

    @cached_property
    def _survey(self) -> penstock.Stored:
        asked = self._asked
        wanted = Wanted(asked.label, asked.weight, asked.split, asked.valid, asked.as_of, asked.seed)
        return self._run.step(
            "train-survey", survey, threads=1,
            inputs={"table": asked.table, "fingerprint": self._fingerprint, "wanted": asdict(wanted)},
        )  # fmt: skip

    @property
    def _like(self) -> Training:
        asked = self._asked
        leaves = max([asked.leaves, *(each.get("leaves", 0) for each in asked.sweep)])
        group = self._table.largest_group
        tested = self._survey.facts["valid"]["rows"]
        return Training(1, len(self._table.features), leaves, asked.bin_sample, group, tested)

    @cached_property
    def _sample(self) -> penstock.Stored:
        return self._run.step(
            "train-sample", choose_rows, threads=1,
            inputs={"table": self._asked.table, "survey": self._survey,
                    "max_samples": self._asked.max_samples, "like": asdict(self._like)},
        )  # fmt: skip

    def _tell_split(self) -> None:
        facts, asked = self._survey.facts, self._asked
        if facts["split"] != asked.split:
            click.echo(
                f"the table has no {asked.split} of its requests: they are parted by {facts['split']}",
                err=True,
            )
        if facts["without_time"]:
            queries = plural(facts["without_time"], "query", "queries")
            click.echo(f"{queries} without a time: left out", err=True)
        sample = self._sample.facts
        if sample["most"] is not None:
            click.echo(
                f"learning from {sample['rows']:,} of {plural(sample['of_rows'], 'row')} (--max-samples "
                f"{asked.max_samples})", err=True,
            )  # fmt: skip

    def _check_fit(self) -> None:
        """Refuse before hours of work what the arithmetic says will not fit."""
        if self._asked.engine != "lightgbm" or (self._run.folder / "train-trees-000").exists():
            return
        planned = replace(self._like, rows=self._sample.facts["rows"])
        trial = penstock.Job(source=penstock.sources.Range(1), function=abs)
        budget = self._run.try_out(trial).budget
        if planned.needed > budget:
            raise CannotFit(
                f"training on {plural(planned.rows, 'row')} of {plural(planned.features, 'feature')} is "
                f"planned to take {format_size(planned.peak)} (bins {format_size(planned.bins_peak)}, trees "
                f"{format_size(planned.trees_peak)}, test {format_size(planned.test_peak)}), and with "
                f"what is kept free a budget of {format_size(planned.needed)}; it is {format_size(budget)}: "
                f"{what_fits(budget, planned)}",
                needed=planned.needed,
            )

    # ------------------------------------------------------------------ models

    @cached_property
    def _rows(self) -> dict[str, Any]:
        """Which rows are learnt from, as inputs of a step."""
        return {
            "table": self._asked.table,
            "survey": self._survey,
            "sample": self._sample,
            "label": self._asked.label,
        }

    @cached_property
    def _bins(self) -> penstock.Stored:
        asked = self._asked
        return self._run.step(
            "train-bins", make_bins,
            inputs={**self._rows, "weight": asked.weight, "bin_sample": asked.bin_sample, "seed": asked.seed,
                    "library": metadata.version("lightgbm")},
        )  # fmt: skip

    def _model(self, name: str, *, most: int | None = None, **other: Any) -> _Model:
        """Grow a model block by block.

        Args:
            name: prefix of its steps.
            most: rows of a smaller sample.
            other: options that differ from those that were asked for.
        """
        asked = replace(self._asked, **other)
        before: penstock.Stored | None = None
        blocks, grown = [], 0
        while grown < asked.trees and not (before and before.facts["finished"]):
            block = self._block(f"{name}-trees-{grown:03d}", asked, before, grown, most)
            blocks.append(block)
            grown, before = grown + block.facts["trees"], block
        assert before is not None
        unused = self._bins.facts["unused"] if asked.engine == "lightgbm" else blocks[0].facts["unused"]
        model = before
        if asked.engine == "lightgbm":
            inputs = {f"block_{at}": block for at, block in enumerate(blocks)}
            model = self._run.step(f"{name}-model", merge_blocks, inputs=inputs, threads=1)
        return _Model(model, grown, before.facts["rows"], tuple(unused))

    def _block(
        self, name: str, asked: Asked, before: penstock.Stored | None, grown: int, most: int | None
    ) -> penstock.Stored:
        inputs = {
            **self._rows, "before": before, "block": grown, "trees": min(asked.block, asked.trees - grown),
            "growing": asdict(asked.growing()), "most": most,
        }  # fmt: skip
        if asked.engine == "xgboost":
            return self._run.step(name, grow_with_xgboost, inputs=inputs)
        more = {
            "bins": self._bins,
            "weight": asked.weight,
            "bin_sample": asked.bin_sample,
            "seed": asked.seed,
        }
        return self._run.step(name, grow_trees, inputs=inputs | more)

    def _test(self, name: str, model: _Model) -> dict[str, Any]:
        """What the test part says of a model."""
        asked = self._asked
        scores = self._run.stage(
            f"{name}-score",
            penstock.Job(
                source=penstock.sources.Range(len(self._table.groups)),
                function=ScoreGroup(asked.table, asked.engine),
                into=penstock.sinks.Parquet(grain=1),
                inputs={"survey": self._survey, "model": model.stored},
            ),
        )
        inputs = {"table": asked.table, "survey": self._survey, "scores": scores}
        return _facts(self._run.step(f"{name}-metrics", measure, inputs=inputs, threads=1))

    def _curve(self, model: _Model, tested: dict[str, Any]) -> list[dict[str, Any]]:
        points = []
        for percent in self._asked.curve:
            name = f"train-curve-{percent:03d}"
            smaller = self._model(name, most=max(self._sample.facts["rows"] * percent // 100, 1))
            points.append({"percent": percent, **_facts_of(smaller), **_brief(self._test(name, smaller))})
        points.append({"percent": 100, **_facts_of(model), **_brief(tested)})
        return with_losses(points)

    def _sweep(self) -> None:
        rows: list[Any] = []
        for number, each in enumerate(self._asked.sweep):
            name = f"train-sweep-{number:02d}"
            model = self._model(name, **each)
            rows.append({**each, **_facts_of(model), **_brief(self._test(name, model))})
        self._write("sweep.json", {
            "schema": _SCHEMA, "selected_on": "the test part, so that the best one's measures are too good",
            "settings": best_first(rows), "sample": _facts(self._sample), "split": _facts(self._survey),
        })  # fmt: skip

    # ------------------------------------------------------------------ results

    def _results(self, model: _Model, tested: dict[str, Any] | None, curve: list[dict[str, Any]]) -> None:
        asked = self._asked
        importance = self._run.step(
            "train-importance", write_importance, threads=1,
            inputs={"model": model.stored, "engine": asked.engine, "features": list(self._table.features),
                    "unused": list(model.unused)},
        )  # fmt: skip
        file = "model.txt" if asked.engine == "lightgbm" else "model.ubj"
        self._run.publish(model.stored, file)
        self._run.publish(importance, "importance.parquet")
        if curve and asked.picture:
            drawn = self._run.step("train-curve", draw_curve, inputs={"curve": curve}, threads=1)
            self._run.publish(drawn, "curve.png")
        if model.trees < asked.trees:
            click.echo(
                f"training ended with {model.trees:,} of {plural(asked.trees, 'tree')}: no split of "
                f"{plural(model.rows, 'row')} gains anything any more", err=True,
            )  # fmt: skip
        if model.unused:
            names = ", ".join(model.unused[:5]) + (" ..." if len(model.unused) > 5 else "")
            click.echo(
                f"not used, for one value or none in all rows: {plural(len(model.unused), 'feature')}, "
                f"{foreign.line(names)}", err=True,
            )  # fmt: skip
        self._write("metrics.json", {
            "schema": _SCHEMA, "engine": asked.engine, "version": metadata.version(_package(asked.engine)),
            "options": {**asdict(asked), "sweep": None, "table": None}, "features": len(self._table.features),
            "unused": list(model.unused), "split": _facts(self._survey), "sample": _facts(self._sample),
            "frozen": self._asked.as_of or self._table.meta.get("as_of"),
            "negatives": (self._table.meta.get("sampling") or {}).get("negatives"),
            "model": {"file": file, **_facts_of(model)}, "test": tested, "curve": curve, "cost": self._cost(),
        })  # fmt: skip

    def _cost(self) -> dict[str, Any]:
        report = self._run.report()
        return {"peak": report.peak, "budget": report.budget, "cpu": report.cpu, "seconds": report.seconds,
                "of": "this run: what was kept before it is not counted"}  # fmt: skip

    def _write(self, name: str, value: dict[str, Any]) -> None:
        with penstock.atomic(self._run.folder / name) as draft:
            draft.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _facts(stored: penstock.Stored) -> dict[str, Any]:
    """What a step says, without what the engine says of every one."""
    return {name: value for name, value in stored.facts.items() if name not in ("items", "set_aside")}


def _facts_of(model: _Model) -> dict[str, Any]:
    return {"trees": model.trees, "rows": model.rows}


def _brief(tested: dict[str, Any]) -> dict[str, Any]:
    names = ("auc", "request_auc", "ndcg@5", "ndcg@10", "queries_ndcg", "ndcg_lightgbm@5", "ndcg_lightgbm@10",
             "coverage@10")  # fmt: skip
    return {name: tested[name] for name in names if name in tested}


def _package(engine: str) -> str:
    if engine == "lightgbm":
        return engine
    found = metadata.packages_distributions().get("xgboost", ["xgboost"])
    return found[0]
