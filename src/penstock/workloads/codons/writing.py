"""The files that a run of codons writes beside its stages; in the parent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

import penstock
from penstock import foreign


def as_upstream(run: penstock.Run, counts: Mapping[str, int], asked: Mapping[str, Any]) -> None:
    """Write ``codon.parquet``, and ``codon_rscu.parquet`` where asked for; print what the original prints."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from penstock.workloads.codons import upstream

    found = upstream.table(counts, min_count=asked["min_count"], skip_stops=asked["skip_stops"])
    tables = {"codon": found} | ({"codon_rscu": upstream.with_rscu(found)} if asked["rscu"] else {})
    for name, rows in tables.items():
        schema = upstream.schema(rscu=name == "codon_rscu")
        with penstock.atomic(run.folder / f"{name}.parquet") as draft:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), draft)
    for line in upstream.shown(found, asked["top"]):
        click.echo(foreign.line(line))


def texts(run: penstock.Run, readings: Sequence[Any], form: str) -> None:
    """Each reading as text; where there are several, the file's name says which it is."""
    from penstock.workloads.codons import formats

    for reading in readings:
        if form == "cusp":
            text = formats.cusp(reading.counts, reading.code, reading.records)
        else:
            text = formats.codonw(reading.counts, reading.code)
        strand = "forward" if reading.strand == "+" else "reverse"
        which = f"-code{reading.code}-{strand}-frame{reading.frame}" if len(readings) > 1 else ""
        with penstock.atomic(run.folder / f"codons{which}.{form}") as draft:
            draft.write_text(text, encoding="utf-8")


def tables(run: penstock.Run, rows: list[Any], told: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            *([("code", pa.int16())] if rows and "code" in rows[0] else []),
            ("strand", pa.string()),
            ("frame", pa.int8()),
            ("codon", pa.string()),
            ("aa", pa.string()),
            ("family", pa.int8()),
            ("dual", pa.bool_()),
            ("count", pa.int64()),
            ("freq", pa.float64()),
            ("per_1000", pa.float64()),
            ("fraction", pa.float64()),
            ("rscu", pa.float64()),
        ]
    )
    with penstock.atomic(run.folder / "codons.parquet") as draft:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), draft)
    with penstock.atomic(run.folder / "summary.json") as draft:
        draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for warning in told["warnings"]:
        foreign.warn(str(warning))
