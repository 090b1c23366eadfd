"""The stages of a run in order, and what each passes to the next."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import penstock
from penstock import foreign
from penstock.budget import format_size
from penstock.plurals import plural
from penstock.workloads.recsys.ranking import columns as c
from penstock.workloads.recsys.ranking.clicks import Attribution, time_column, write_clicks
from penstock.workloads.recsys.ranking.dimension import write_dimension
from penstock.workloads.recsys.ranking.drawing import draw_rows
from penstock.workloads.recsys.ranking.finishing import DROPPED, write_meta
from penstock.workloads.recsys.ranking.gather import BUCKETS, Gather
from penstock.workloads.recsys.ranking.given import Asked, microseconds, path_of, paths_of
from penstock.workloads.recsys.ranking.given_tables import Tables
from penstock.workloads.recsys.ranking.queries import Draw, write_queries
from penstock.workloads.recsys.ranking.repeats import write_repeats
from penstock.workloads.recsys.ranking.rules import Rules
from penstock.workloads.recsys.ranking.sorting import Codes, SortedRows, sort_samples
from penstock.workloads.recsys.ranking.survey import Counts, SurveySpan
from penstock.workloads.recsys.ranking.table import RankingTable
from penstock.workloads.recsys.ranking.telling import lines_of, meta_of, sampling_told, tables_told
from penstock.workloads.recsys.shared.peak import Training, limit
from penstock.workloads.recsys.shared.spans import Spans

if TYPE_CHECKING:
    pass

_TABLE = "table"
_PREFIX = "ranking-"


class Stages:
    """Runs the stages of one run, in order.

    Args:
        run: an open run.
        asked: what the user wants.

    Raises:
        BadInput: a table is not what it should be.
        UsageError: options that make no sense together.
    """

    def __init__(self, run: penstock.Run | None, asked: Asked) -> None:
        self._run: penstock.Run = run  # type: ignore[assignment]  # None to plan alone
        self._asked = asked
        self._tables = tables = Tables(asked)
        self._given: dict[str, penstock.Stored] = {}
        zero = asked.upstream or asked.null_label == "zero"
        self._rules = Rules(tables.columns, zero, microseconds(asked.as_of), tables.file)

    def do(self) -> None:
        """Run all stages."""
        self._run.describe(**tables_told(self._tables.all()), sampling=sampling_told(self._asked))
        seed = self._seed()
        self._asked = replace(self._asked, max_samples=self._most())
        # First, as it has the fork server load what all later stages need.
        self._given = self._write_clicks()
        survey = self._run.stage(f"{_PREFIX}survey", self._surveying(self._given))
        looked = {each.name: self._look_up(each) for each in self._tables.dimensions}
        counts = survey.open("counts")
        inputs = {**looked, **self._given}
        if self._asked.max_samples and self._asked.sample_by != "request":
            inputs["rows"] = self._draw_rows(seed)
        rows, queries, stage = self._order(survey, seed, counts["texts"])
        inputs |= self._repeats(rows, queries)
        texts = self._texts(counts["texts"])
        gather = Gather(
            self._rules, tuple(self._tables.dimensions), texts, self._tables.schema(), self._asked.upstream,
            self._asked.negatives, seed, self._asked.keeps_repeats,
        )  # fmt: skip
        spans = np.load(queries.folder / "spans.npy", allow_pickle=False)
        table = self._run.stage(
            _TABLE,
            penstock.Job(
                source=Spans(rows, spans[:, 0].copy(), stage), function=gather,
                into=RankingTable(schema=self._tables.schema(), fast=self._asked.fast),
                inputs={"queries": queries, **inputs}, threads=1,
            ),
        )  # fmt: skip
        if table.missing:
            foreign.warn(f"set aside: {plural(len(table.missing), 'span')} of the samples")
        order = "samples" if stage is None else "request"
        metadata = self._meta(
            counts, texts, looked, seed, queries.facts["queries"], order, len(table.missing)
        )
        meta = self._run.step(
            f"{_PREFIX}meta", write_meta, threads=1,
            inputs={"table": table, "survey": survey, "file": self._tables.file, "meta": metadata},
        )  # fmt: skip
        self._run.publish(meta, "groups.npy", "positions.npy", "meta.json")
        for line in lines_of(meta.facts, metadata, self._asked.lossy_float32):
            click.echo(line, err=True)

    # ------------------------------------------------------------------ what is told

    def _meta(
        self,
        counts: Mapping[str, Any],
        texts: Mapping[str, list[str] | None],
        looked: Mapping[str, penstock.Stored],
        seed: int,
        queries: int,
        order: str,
        missing: int,
    ) -> dict[str, Any]:
        """What ``meta.json`` says of the tables and of how rows were chosen."""
        metadata = meta_of(
            self._asked, self._tables.columns, self._tables.dimensions, self._tables.all(),
            self._tables.schema(),
        )  # fmt: skip
        metadata |= {
            "label": {"column": c.LABEL, "attribution": self._attribution_told()},
            "rows": dict.fromkeys(("samples", *DROPPED), 0) | counts["rows"],
            "queries": {"samples": queries},
            "categories": {
                name: {"hashed": BUCKETS} if found is None else found for name, found in texts.items()
            },
            "duplicates": {name: stored.facts["duplicates"] for name, stored in looked.items()},
            "order": order,
            "spans_set_aside": missing,
            "rounded": self._rounded(looked),
            "numeric": list(self._tables.columns.numeric),
        }
        if metadata["sampling"] is not None:
            metadata["sampling"]["seed"] = seed
        return metadata

    def _attribution_told(self) -> dict[str, Any] | None:
        how, clicks = self._rules.clicks, self._given.get("clicks")
        if how is None or clicks is None:
            return None
        end = np.datetime64(how.end, "us").item()
        return {
            "window": "any" if how.window is None or how.always else how.window / 1e6,
            "end": None if how.always or end is None else end.isoformat(),
            **{name: clicks.facts[name] for name in ("clicks", "without_key")},
        }

    def _rounded(self, looked: Mapping[str, penstock.Stored]) -> list[str]:
        """Features of the tables that are looked up that float32 does not hold exactly."""
        return [
            each.features[name]
            for each in self._tables.dimensions
            for name in looked[each.name].facts["rounded"]
        ]

    def _texts(self, found: Mapping[str, list[str] | None]) -> dict[str, list[str] | None]:
        categories: dict[str, list[str] | None] = {}
        for name in self._tables.columns.categorical:
            texts = found.get(name, [])
            categories[name] = (
                sorted({*texts, "unknown"}) if texts is not None and self._asked.upstream else texts
            )
            if texts is None:
                foreign.warn(
                    f"{name} has more than 50,000 different texts: they are categories apart by a hash of "
                    f"{BUCKETS:,} values",
                )
        return categories

    # ------------------------------------------------------------------ stages

    def _seed(self) -> int:
        """The seed; a random one is drawn once for a run folder."""
        if self._asked.seed != "random":
            return int(self._asked.seed)
        return int(self._run.step(f"{_PREFIX}seed", _draw_seed, threads=1).facts["seed"])

    def _most(self) -> int:
        """Rows of the table at most; what ``auto`` stands for is chosen once for a run folder."""
        if self._asked.max_samples != "auto":
            return int(self._asked.max_samples)
        chosen = self._run.step(
            f"{_PREFIX}auto", _choose_most, threads=1, inputs={"features": len(self._tables.features)}
        ).facts
        if not chosen["most"]:
            return 0
        click.echo(
            f"--max-samples auto: {chosen['most']:,} rows of {len(self._tables.features)} features can be "
            f"trained on in {format_size(chosen['memory'])} for one worker",
            err=True,
        )
        return int(chosen["most"])

    def _look_up(self, dimension: c.Dimension) -> penstock.Stored:
        rows = self._tables.looked_up[dimension.name]
        stored = self._run.step(
            f"{_PREFIX}{dimension.name.replace('_', '-')}", write_dimension, threads=1,
            inputs={
                "paths": paths_of(rows), "key": dimension.key, "columns": list(dimension.features),
                "duplicates": "first" if self._asked.upstream else self._asked.duplicates,
                "zero": self._asked.upstream, "found": bool(dimension.found), "told": path_of(rows),
            },
        )  # fmt: skip
        if twice := stored.facts["duplicates"]:
            foreign.warn(
                f"{dimension.option} has {plural(twice, 'row')} with a key that was there before: the first "
                "row of each counts",
            )
        return stored

    def _write_clicks(self) -> dict[str, penstock.Stored]:
        """The clicks that make labels, where some are given; the rules hear of them."""
        given, clicks = self._tables, self._tables.clicks
        if clicks is None:
            return {}
        stored = self._run.step(
            f"{_PREFIX}clicks", write_clicks, threads=1,
            inputs={
                "paths": paths_of(clicks), "time": time_column(clicks.schema.names, given.clicks_file),
                "samples": paths_of(given.samples) if given.columns.time else [],
                "told": given.clicks_file, "samples_told": given.file,
            },
        )  # fmt: skip
        how = Attribution(self._asked.window, stored.facts["end"], self._asked.upstream)
        self._rules = replace(self._rules, clicks=how)
        return {"clicks": stored}

    def survey_job(self) -> penstock.Job:
        """The job of the survey, to be planned."""
        return self._surveying({})

    def _surveying(self, inputs: Mapping[str, penstock.Stored]) -> penstock.Job:
        function = SurveySpan(self._rules, runs=not self._sorts())
        return _surveying(self._tables.surveyed(), function, inputs)

    def _sorts(self) -> bool:
        """Whether the samples are sorted wherever their requests lie."""
        return self._asked.sort or self._asked.upstream

    def _repeats(
        self, rows: penstock.sources.ParquetRows, queries: penstock.Stored
    ) -> dict[str, penstock.Stored]:
        """Where a query is larger than a span, its rows that repeat others are found beforehand."""
        if self._asked.keeps_repeats or queries.facts["largest"] <= self._tables.rows_of_span():
            return {}
        return {
            "repeats": self._run.step(
                f"{_PREFIX}repeats", write_repeats, threads=1,
                inputs={
                    "paths": paths_of(rows), "columns": list(rows.schema.names), "queries": queries,
                    "most": self._tables.rows_of_span(), "rules": self._rules, **self._given,
                },
            )
        }  # fmt: skip

    def _draw_rows(self, seed: int) -> penstock.Stored:
        return self._run.step(
            f"{_PREFIX}draw", draw_rows, threads=1,
            inputs={
                "paths": paths_of(self._tables.samples), "by": self._asked.sample_by,
                "most": self._asked.max_samples, "seed": seed, "told": self._tables.file,
            },
        )  # fmt: skip

    def _order(
        self, survey: penstock.Stored, seed: int, texts: Mapping[str, list[str] | None]
    ) -> tuple[penstock.sources.ParquetRows, penstock.Stored, penstock.Stored | None]:
        """The samples with each query in one piece: as they are, or sorted."""
        if not self._sorts():
            queries = self._queries("queries", survey, len(self._tables.samples), seed, sure=False)
            if queries.facts["in_one_piece"]:
                return self._tables.samples, queries, None
            click.echo("rows of a request do not lie together: the samples are sorted by request", err=True)
        names, dictionaries = self._tables.columns.needed(), self._tables.dictionaries()
        codes = Codes.of(texts, dictionaries)
        stage = self._run.step(
            f"{_PREFIX}sort", sort_samples, threads=1,
            inputs={
                "paths": paths_of(self._tables.samples), "columns": names,
                "position": self._tables.columns.position, "texts": dict(codes.texts),
            },
        )  # fmt: skip
        rows = SortedRows(stage.folder / "sorted.parquet", names, codes, dictionaries)
        columns = replace(self._tables.columns, categorical=(), texts=())
        narrow = penstock.sources.ParquetRows(stage.folder / "sorted.parquet", columns.surveyed())
        source = Spans.of(narrow, self._asked.span)
        source.stage = stage
        function = SurveySpan(replace(self._rules, columns=columns), datasets=False)
        again = self._run.stage(f"{_PREFIX}sorted-survey", _surveying(source, function, self._given))
        return rows, self._queries("sorted-queries", again, len(rows), seed, sure=True), stage

    def _queries(
        self, name: str, survey: penstock.Stored, rows: int, seed: int, *, sure: bool
    ) -> penstock.Stored:
        asked = self._asked
        draw = None
        if asked.max_samples and asked.sample_by == "request":
            draw = asdict(Draw(int(asked.max_samples), seed, asked.stratify or ""))
        return self._run.step(
            f"{_PREFIX}{name}", _write_queries, threads=1,
            inputs={
                "survey": survey, "rows": rows, "most": self._tables.rows_of_span(),
                "draw": draw, "must_fit": sure,
            },
        )  # fmt: skip


def survey_job(asked: Asked) -> penstock.Job:
    """The job of the survey."""
    return Stages(None, asked).survey_job()


def _surveying(source: Spans, function: SurveySpan, inputs: Mapping[str, penstock.Stored]) -> penstock.Job:
    parquet = penstock.sinks.Parquet(grain=1, one_file=True, statistics=False, encoding={"*": "plain"})
    return penstock.Job(
        source=source, function=function, threads=1, inputs=dict(inputs),
        into={"runs": parquet, "datasets": parquet, "counts": Counts()},
    )  # fmt: skip


def _write_queries(folder: Path, *, survey: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    return write_queries(folder, runs=Path(survey["runs"].files[0]), **options)


def _choose_most(folder: Path, *, features: int) -> dict[str, int]:
    """The most rows whose training fits into what one worker may use; 0 where nobody limits it."""
    del folder
    memory = penstock.share().memory
    return {"most": limit("auto", memory, Training(1, features)) or 0, "memory": memory}


def _draw_seed(folder: Path) -> dict[str, int]:
    return {"seed": int.from_bytes(os.urandom(4), "little")}
