"""The stages: survey every value, choose the types, cast the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

import penstock
from penstock import foreign
from penstock.errors import BadInput
from penstock.workloads.recsys.shared.spans import Span, Spans
from penstock.workloads.recsys.shared.tables import opened
from penstock.workloads.recsys.shrink.types import look, narrowest, together, upstream

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 65_536
_BYTES = 16 << 20
"""Of a span's rows, about."""
_LOSSY, _ORIGINAL = "digits are lost", "as the original"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of a run; see ``Shrink.run``."""

    table: str | Sequence[str]
    lossy_float32: bool = False
    keep: Sequence[str] = ()
    compat: str = "none"


@dataclass(frozen=True)
class Survey:
    """Surveys the columns of a span."""

    def __call__(self, span: Span) -> dict[str, Any]:
        """Returns column -> its statistics and its bytes."""
        import pyarrow as pa

        statistics = {}
        for name, column in zip(span.table.schema.names, span.table.columns, strict=True):
            values = column.combine_chunks()
            values = values if isinstance(values, pa.Array) else pa.concat_arrays(values.chunks)
            statistics[name] = {**look(values), "bytes": _bytes_of(values)}
        return statistics


@dataclass(frozen=True)
class Together:
    """Merges the statistics of all spans."""

    order: Literal["any", "items"] = "any"
    grain: None = None

    def start(self) -> dict[str, Any]:
        """The empty state."""
        return {}

    def step(self, state: dict[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
        """Add one span."""
        if not state or not result:
            return dict(result or state)
        return {
            name: {**together(state[name], seen), "bytes": state[name]["bytes"] + seen["bytes"]}
            for name, seen in result.items()
        }

    def merge(self, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        """Merge two neighbours."""
        return self.step(left, right)

    def finish(self, states: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """The final value."""
        total = self.start()
        for state in states:
            total = self.merge(total, state)
        return total


@dataclass(frozen=True)
class Cast:
    """Casts the rows of a span to other types.

    Args:
        schema: names and types.
        lossy: columns that may lose digits.
    """

    schema: pa.Schema
    lossy: tuple[str, ...]

    def __call__(self, span: Span) -> Any:
        """Cast."""
        import pyarrow as pa

        columns = []
        for field in self.schema:
            column = span.table.column(field.name)
            if pa.types.is_boolean(column.type) and pa.types.is_floating(field.type):
                column = column.cast(pa.int8())
            columns.append(column.cast(field.type, safe=field.name not in self.lossy))
        return pa.Table.from_arrays(columns, schema=self.schema)


def survey_job(asked: Asked) -> penstock.Job:
    """The first stage."""
    return penstock.Job(source=_spans(asked)[1], function=Survey(), into=Together(), threads=1)


def shrink(run: penstock.Run, asked: Asked) -> None:
    """Run all stages."""
    rows, spans = _spans(asked)
    _see_kept(rows, asked.keep)
    seen = run.stage("shrink-survey", survey_job(asked)).open()
    schema, columns = _types(rows.schema, seen, asked)
    lossy = tuple(
        name for name, each in columns.items() if asked.compat != "none" or each["why"].startswith(_LOSSY)
    )
    shrunk = run.stage(
        "shrunk",
        penstock.Job(
            source=spans, function=Cast(schema, lossy), threads=1,
            into=penstock.sinks.Parquet(schema=schema, grain=1, one_file=True),
        ),
    )  # fmt: skip
    summary = run.step(
        "shrink-summary", _summarise, threads=1,
        inputs={"shrunk": shrunk, "columns": columns, "before": sum(each["bytes"] for each in seen.values())},
    )  # fmt: skip
    run.publish(summary)
    _tell(columns, summary.facts)


def _spans(asked: Asked) -> tuple[penstock.sources.ParquetRows, Spans]:
    rows = opened("TABLE", asked.table)
    if not len(rows):
        raise BadInput("has no rows", file=next(iter(rows.fingerprint_by("stat"))))
    each = max(sum(rows.sizes(0, 1)), 1)
    return rows, Spans.of(rows, max(min(_ROWS, _BYTES // each), 1))


def _see_kept(rows: penstock.sources.ParquetRows, keep: Sequence[str]) -> None:
    names = rows.schema.names
    for pattern in keep:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadInput(
                f"no column matches --keep {foreign.line(pattern)}; there are: {', '.join(names)}",
                file=next(iter(rows.fingerprint_by("stat"))),
            )


def _types(schema: pa.Schema, seen: Mapping[str, Any], asked: Asked) -> tuple[pa.Schema, dict[str, Any]]:
    import pyarrow as pa

    fields, columns = [], {}
    for field in schema:
        if any(fnmatchcase(field.name, each) for each in asked.keep):
            kind, why = field.type, "kept as it is"
        elif asked.compat == "upstream":
            kind, why = upstream(field.type, seen[field.name])
        else:
            key = field.name == "id" or field.name.endswith("_id")
            kind, why = narrowest(field.type, seen[field.name], lossy=asked.lossy_float32, key=key)
        fields.append(pa.field(field.name, kind))
        columns[field.name] = {
            "before": str(field.type), "after": str(kind), "why": why, "nulls": seen[field.name]["nulls"],
        }  # fmt: skip
    return pa.schema(fields), columns


def _summarise(folder: Path, *, shrunk: Any, columns: Mapping[str, Any], before: int) -> dict[str, Any]:
    """shrink.json: types, and bytes in memory before and after."""
    after = 0
    rows = 0
    for batch in shrunk.to_batches(
        batch_size=_ROWS, batch_readahead=0, fragment_readahead=0, use_threads=False
    ):
        after += sum(_bytes_of(column) for column in batch.columns)
        rows += batch.num_rows
    summary = {
        "schema": 1,
        "rows": rows,
        "columns": dict(columns),
        "bytes": {"before": before, "after": after},
    }
    (folder / "shrink.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return {"rows": rows, "bytes": summary["bytes"]}


def _bytes_of(values: Any) -> int:
    """Of the values alone, whatever their buffers hold besides."""
    import pyarrow as pa

    from penstock.sinks.rows import row_bytes

    return int(np.sum(row_bytes(pa.table([values], names=["values"]))))


def _tell(columns: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    before, after = (facts["bytes"][name] / 1e6 for name in ("before", "after"))
    less = 100 * (1 - after / before) if before else 0.0
    changed = sum(each["before"] != each["after"] for each in columns.values())
    click.echo(
        f"memory: {before:,.1f} MB -> {after:,.1f} MB ({less:.1f} % less), {changed} of {len(columns)} "
        f"columns narrower, {facts['rows']:,} rows",
        err=True,
    )
    for name, each in columns.items():
        if each["why"].startswith(_LOSSY):
            foreign.warn(f"{foreign.line(name)} loses digits as a float32, as asked for")
