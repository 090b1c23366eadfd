"""The stages of a run, in order, and what each gives to the next."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import penstock
from penstock.budget import format_size
from penstock.errors import BadInput
from penstock.workloads.recsys.ranking import columns as c
from penstock.workloads.recsys.ranking.dimension import write_dimension
from penstock.workloads.recsys.ranking.drawing import draw_rows
from penstock.workloads.recsys.ranking.finishing import write_meta
from penstock.workloads.recsys.ranking.gather import BUCKETS, Gather
from penstock.workloads.recsys.ranking.given import Asked, microseconds, path_of, paths_of
from penstock.workloads.recsys.ranking.queries import WIDE, Draw, write_queries
from penstock.workloads.recsys.ranking.rules import Rules
from penstock.workloads.recsys.ranking.sorting import ROW, sort_samples
from penstock.workloads.recsys.ranking.survey import Counts, SurveySpan
from penstock.workloads.recsys.ranking.table import RankingTable
from penstock.workloads.recsys.shared.peak import Training, limit
from penstock.workloads.recsys.shared.spans import Spans
from penstock.workloads.recsys.shared.tables import opened

if TYPE_CHECKING:
    import pyarrow as pa

_TABLE = "table"
_PREFIX = "ranking-"


class Stages:
    """The stages of one run, in order.

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
        given = {"items": asked.items, "users": asked.users, "page_items": asked.page_items}
        self._tables = {
            name: opened(f"--{name.replace('_', '-')}", each) for name, each in given.items() if each
        }
        whole = opened("--samples", asked.samples)
        self._file = path_of(whole)  # the same text wherever the run is resumed from
        for name, rows in {"samples": whole, **self._tables}.items():
            if not len(rows):
                raise BadInput(
                    f"has no rows: there is nothing in --{name.replace('_', '-')}", file=path_of(rows)
                )
        self._columns = c.of_samples(
            whole.schema, upstream=asked.upstream, pages="page_items" in self._tables, file=self._file
        )
        if "users" in self._tables and not self._columns.user:
            raise BadInput(f"has no column {c.USER}, and --users is given", file=self._file)
        self._samples = opened("--samples", asked.samples, self._columns.needed(), self._dictionaries(whole))
        self._whole = whole
        self._dimensions = self._find_dimensions()
        self._features = self._find_features()
        self._rules = Rules(
            self._columns, asked.upstream or asked.null_label == "zero", microseconds(asked.as_of), self._file
        )
        if asked.as_of is not None and not self._columns.time:
            raise BadInput(f"has no column {c.TIME}, and --as-of is given", file=self._file)

    def do(self) -> None:
        """All of them."""
        seed = self._seed()
        self._asked = replace(self._asked, max_samples=self._most())
        # First, as it has the fork server load what all later stages need.
        survey = self._survey("survey", Spans.of(self._samples, self._asked.span), self._rules)
        looked = {each.name: self._look_up(each) for each in self._dimensions}
        counts = survey.open("counts")
        inputs = dict(looked)
        if self._asked.max_samples and self._asked.sample_by != "request":
            inputs["rows"] = self._draw_rows(seed)
        rows, queries, stage = self._order(survey, seed)
        texts = self._texts(counts["texts"])
        gather = Gather(
            self._rules, tuple(self._dimensions), texts, self._schema(), self._asked.upstream,
            self._asked.negatives, seed,
        )  # fmt: skip
        spans = np.load(queries.folder / "spans.npy", allow_pickle=False)
        table = self._run.stage(
            _TABLE,
            penstock.Job(
                source=Spans(rows, spans[:, 0].copy(), stage), function=gather,
                into=RankingTable(schema=self._schema(), fast=self._asked.fast),
                inputs={"queries": queries, **inputs}, threads=1,
            ),
        )  # fmt: skip
        if table.missing:
            click.echo(f"warning: {len(table.missing)} spans of the samples were set aside", err=True)
        meta = self._run.step(
            f"{_PREFIX}meta", write_meta, threads=1,
            inputs={
                "table": table, "survey": survey, "file": self._file,
                "meta": self._meta(counts["rows"], texts, looked, queries, seed)
                | {"spans_set_aside": len(table.missing)},
            },
        )  # fmt: skip
        self._run.publish(meta, "groups.npy", "positions.npy", "meta.json")
        self._tell(meta.facts, looked)

    # ------------------------------------------------------------------ what there is

    def _find_dimensions(self) -> list[c.Dimension]:
        asked, upstream = self._asked, self._asked.upstream
        frozen = asked.as_of is not None or asked.log_features == "keep"
        kinds = {
            "items": ("--items", c.DATASET, c.DATASET, ""),
            "users": ("--users", c.USER, c.USER, "user_"),
            "page_items": ("--page-items", c.DATASET, c.PAGE, "page_"),
        }
        return [
            c.of_dimension(
                name, option, key, by, rows.schema, self._whole.schema,
                prefix=prefix, upstream=upstream, frozen=frozen, file=path_of(rows),
            )
            for name, (option, key, by, prefix) in kinds.items()
            if (rows := self._tables.get(name)) is not None
        ]  # fmt: skip

    def _dictionaries(self, whole: penstock.sources.ParquetRows) -> list[str]:
        """The categories that are texts."""
        import pyarrow as pa

        return [name for name in self._columns.texts if pa.types.is_string(whole.schema.field(name).type)]

    def _find_features(self) -> Sequence[str]:
        own = [*self._columns.numeric, *self._columns.absent]
        looked_up = [name for each in self._dimensions for name in each.names]
        return c.distinct([*own, *looked_up, *self._columns.categorical], self._file)

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        given = self._whole.schema
        names = [c.REQUEST, c.DATASET, *([c.USER] if self._columns.user else [])]
        fields = [pa.field(name, c.key_type(given.field(name).type)) for name in names]
        if self._columns.time:
            fields.append(pa.field(c.TIME, given.field(c.TIME).type))
        texts = set(self._columns.categorical)
        # Never null: what is not known is NaN, or -1.
        numbers = [(ROW, pa.int64()), (c.LABEL, pa.float32())]
        if self._asked.negatives is not None:
            numbers.append(("weight", pa.float32()))
        numbers += [(name, pa.int32() if name in texts else pa.float32()) for name in self._features]
        return pa.schema(fields + [pa.field(name, kind, nullable=False) for name, kind in numbers])

    def _texts(self, found: Mapping[str, list[str] | None]) -> dict[str, list[str] | None]:
        told: dict[str, list[str] | None] = {}
        for name in self._columns.categorical:
            texts = found.get(name, [])
            told[name] = sorted({*texts, "unknown"}) if texts is not None and self._asked.upstream else texts
            if texts is None:
                click.echo(
                    f"warning: {name} has more than 50,000 different texts: they are told apart by a hash of "
                    f"{BUCKETS:,} values",
                    err=True,
                )
        return told

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
            f"{_PREFIX}auto", _choose_most, threads=1, inputs={"features": len(self._features)}
        ).facts
        if not chosen["most"]:
            return 0
        click.echo(
            f"--max-samples auto: {chosen['most']:,} rows of {len(self._features)} features can be trained "
            f"on in {format_size(chosen['memory'])} for one worker",
            err=True,
        )
        return int(chosen["most"])

    def _look_up(self, dimension: c.Dimension) -> penstock.Stored:
        rows = self._tables[dimension.name]
        stored = self._run.step(
            f"{_PREFIX}{dimension.name.replace('_', '-')}", write_dimension, threads=1,
            inputs={
                "paths": paths_of(rows), "key": dimension.key, "columns": list(dimension.features),
                "duplicates": "first" if self._asked.upstream else self._asked.duplicates,
                "zero": self._asked.upstream, "found": bool(dimension.found), "told": path_of(rows),
            },
        )  # fmt: skip
        if twice := stored.facts["duplicates"]:
            click.echo(
                f"warning: {dimension.option} has {twice:,} rows of keys that were there before: the first "
                "row of each counts",
                err=True,
            )
        return stored

    def _survey(self, name: str, source: Spans, rules: Rules) -> penstock.Stored:
        return self._run.stage(f"{_PREFIX}{name}", _surveying(source, rules))

    def survey_job(self) -> penstock.Job:
        """The first stage that reads the samples, to be planned."""
        return _surveying(Spans.of(self._samples, self._asked.span), self._rules)

    def _draw_rows(self, seed: int) -> penstock.Stored:
        return self._run.step(
            f"{_PREFIX}draw", draw_rows, threads=1,
            inputs={
                "paths": paths_of(self._samples), "by": self._asked.sample_by,
                "most": self._asked.max_samples, "seed": seed, "told": self._file,
            },
        )  # fmt: skip

    def _order(
        self, survey: penstock.Stored, seed: int
    ) -> tuple[penstock.sources.ParquetRows, penstock.Stored, penstock.Stored | None]:
        """The samples with each query in one piece: as they are, or sorted."""
        if not (self._asked.sort or self._asked.upstream):
            queries = self._queries("queries", survey, len(self._samples), seed, sure=False)
            if queries.facts["in_one_piece"]:
                return self._samples, queries, None
            click.echo("rows of a request do not lie together: the samples are sorted by request", err=True)
        names = self._columns.needed()
        stage = self._run.step(
            f"{_PREFIX}sort", sort_samples, threads=1,
            inputs={
                "paths": paths_of(self._samples), "columns": names,
                "position": self._columns.position,
            },
        )  # fmt: skip
        rows = penstock.sources.ParquetRows(
            stage.folder / "sorted.parquet", [*names, ROW], dictionary=self._dictionaries(self._whole)
        )
        source = Spans.of(rows, self._asked.span)
        source.stage = stage
        rules = replace(self._rules, columns=replace(self._columns, categorical=(), texts=()))
        again = self._survey("sorted-survey", source, rules)
        return rows, self._queries("sorted-queries", again, len(rows), seed, sure=True), stage

    def _queries(
        self, name: str, survey: penstock.Stored, rows: int, seed: int, *, sure: bool
    ) -> penstock.Stored:
        asked = self._asked
        draw = None
        if asked.max_samples and asked.sample_by == "request":
            draw = asdict(Draw(int(asked.max_samples), seed, asked.stratify or ""))
        width = 4 * len(self._features) + 64
        return self._run.step(
            f"{_PREFIX}{name}", _write_queries, threads=1,
            inputs={
                "survey": survey, "rows": rows, "most": max(min(asked.span, WIDE // width), 1), "draw": draw,
                "must_fit": sure,
            },
        )  # fmt: skip

    # ------------------------------------------------------------------ what is told

    def _meta(
        self, rows: Mapping[str, int], texts: Mapping[str, list[str] | None],
        looked: Mapping[str, penstock.Stored], queries: penstock.Stored, seed: int,
    ) -> dict[str, Any]:  # fmt: skip
        asked, schema = self._asked, self._schema()
        origins = dict.fromkeys(
            [*self._columns.numeric, *self._columns.absent, *self._columns.categorical], "samples"
        )
        left_out = {"samples": c.left_out_of_samples(self._whole.schema, self._columns)}
        for each in self._dimensions:
            origins.update(dict.fromkeys(each.names, each.name))
            left_out[each.name] = dict(each.left_out)
        tables = {"samples": self._whole, **self._tables}
        sampling = None
        if asked.max_samples or asked.negatives is not None:
            sampling = {
                "max_samples": asked.max_samples, "by": asked.sample_by, "seed": seed,
                "stratify": asked.stratify, "negatives": asked.negatives,
            }  # fmt: skip
        in_order = asked.sort or asked.upstream or queries.name.endswith("sorted-queries")
        return {
            "schema": 1,
            "features": list(self._features),
            "categorical": list(self._columns.categorical),
            "categories": {
                name: {"hashed": BUCKETS} if found is None else found for name, found in texts.items()
            },
            "types": {field.name: str(field.type) for field in schema},
            "origins": origins,
            "left_out": left_out,
            "label": {"column": c.LABEL},
            "weight": "weight" if asked.negatives is not None else None,
            "time": {"column": c.TIME} if self._columns.time else None,
            "as_of": asked.as_of,
            "rows": {"samples": 0, "without_key": 0, "without_label": 0, "before_as_of": 0, **rows},
            "queries": {"samples": queries.facts["queries"]},
            "columns": {name: len(each.schema.names) for name, each in tables.items()}
            | {"table": len(schema.names)},
            "duplicates": {name: stored.facts["duplicates"] for name, stored in looked.items()},
            "width": 8 * (len(self._columns.needed()) + len(self._features)),
            "sampling": sampling,
            "order": "request" if in_order else "samples",
            "compat": asked.compat,
        }

    def _tell(self, facts: Mapping[str, Any], looked: Mapping[str, penstock.Stored]) -> None:
        rows, queries, size = facts["rows"], facts["queries"], facts["bytes"]
        dropped = ", ".join(
            f"{rows[name]:,} {words}"
            for name, words in (
                ("without_key", "without request_id or dataset_id"), ("without_label", "without a label"),
                ("before_as_of", "from before --as-of"), ("not_sampled", "not drawn"),
            )
            if rows[name]
        )  # fmt: skip
        lines = [
            f"rows: {rows['table']:,} of {rows['samples']:,}" + (f" ({dropped})" if dropped else ""),
            f"requests: {queries['table']:,} of {queries['samples']:,}; "
            f"the largest has {queries['largest']:,} rows",
            f"datasets: {facts['datasets']['table']:,} of {facts['datasets']['samples']:,}",
            "columns: "
            + ", ".join(
                f"{len(each.schema.names)} of {name}"
                for name, each in {"samples": self._whole, **self._tables}.items()
            ),
            f"features: {len(self._features)}",
            f"memory: {size['before'] / 1e6:,.1f} MB as float64, {size['after'] / 1e6:,.1f} MB in the table",
        ]
        left = {
            column: each.name
            for each in self._dimensions
            for column, why in each.left_out.items()
            if why.startswith("counted")
        }
        if left:
            lines.append(
                f"left out, as they are counted over the labels to be predicted: {', '.join(left)}; say with "
                "--as-of when the tables were frozen, or --log-features keep"
            )
        if queries["largest"] > 10_000:
            lines.append("warning: LightGBM refuses requests of more than 10,000 rows")
        for each in lines:
            click.echo(each, err=True)


def survey_job(asked: Asked) -> penstock.Job:
    """The first stage that reads the samples."""
    return Stages(None, asked).survey_job()


def _surveying(source: Spans, rules: Rules) -> penstock.Job:
    parquet = penstock.sinks.Parquet(grain=1, one_file=True, statistics=False, encoding={"*": "plain"})
    return penstock.Job(
        source=source, function=SurveySpan(rules), threads=1,
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
