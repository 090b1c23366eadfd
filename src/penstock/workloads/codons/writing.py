"""The files of a run: written by a step, so that resume and verify know their content, and published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penstock
from penstock import foreign
from penstock.sequences import short

if TYPE_CHECKING:
    import pyarrow as pa

_STEP = "tables"


def results(
    run: penstock.Run, rows: list[Any], told: Mapping[str, Any], texts: Mapping[str, str], **more: Any
) -> None:
    """Publish ``codons.parquet``, ``summary.json`` and other requested files; print the warnings.

    Args:
        run: an open run.
        rows: of ``codons.parquet``.
        told: the content of ``summary.json``.
        texts: other texts, by the names of their files.
        more: for other tables, by the names that ``_write`` has for it.
    """
    texts = {"summary.json": short.text_of(told), **texts}
    _publish(run, _write, {"rows": rows, "texts": texts, **more})
    short.warn(told)


def as_upstream(run: penstock.Run, counts: Mapping[str, int], asked: Mapping[str, Any]) -> None:
    """Publish ``codon.parquet``, on request ``codon_rscu.parquet``; print what the original prints."""
    from penstock.workloads.codons import upstream

    found = upstream.table(counts, min_count=asked["min_count"], skip_stops=asked["skip_stops"])
    tables = {"codon": found} | ({"codon_rscu": upstream.with_rscu(found)} if asked["rscu"] else {})
    _publish(run, _write_upstream, {"tables": tables})
    for line in upstream.shown(found, asked["top"]):
        click.echo(foreign.line(line))


def texts_of(readings: Sequence[Any], form: str) -> dict[str, str]:
    """Each reading as text, by file name, which tells several readings apart."""
    from penstock.workloads.codons import formats

    found = {}
    for reading in readings:
        if form == "cusp":
            text = formats.cusp(reading.counts, reading.code, reading.records)
        else:
            text = formats.codonw(reading.counts, reading.code)
        strand = "forward" if reading.strand == "+" else "reverse"
        which = f"-code{reading.code}-{strand}-frame{reading.frame}" if len(readings) > 1 else ""
        found[f"codons{which}.{form}"] = text
    return found


def _publish(run: penstock.Run, write: Any, inputs: Mapping[str, Any]) -> None:
    run.publish(run.step(_STEP, write, inputs=inputs, threads=1))


def _write(
    folder: Path, rows: list[Any], texts: Mapping[str, str],
    comparison: Mapping[str, list[Any]] | None = None, usage: Mapping[str, Any] | None = None,
    reference: list[int] | None = None, compat: bool = False,
) -> None:  # fmt: skip
    """Write the files; ``usage`` is the stage of that name, whose sums of files are to be a table too."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _schema(by_code=bool(rows) and "code" in rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=columns), folder / "codons.parquet")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    if comparison is not None:
        pq.write_table(pa.table(dict(comparison)), folder / "comparison.parquet")
    if usage is not None:
        from penstock.workloads.codons import by_record

        by_record.write_files(folder / "files.parquet", usage["files"], reference, compat=compat)


def _write_upstream(folder: Path, tables: Mapping[str, list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from penstock.workloads.codons import upstream

    for name, rows in tables.items():
        schema = upstream.schema(rscu=name == "codon_rscu")
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.parquet")


def _schema(*, by_code: bool) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            *([("code", pa.int16())] if by_code else []),
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
