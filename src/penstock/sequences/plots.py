"""The pictures of a run, as stages: records are measured by streaming, and drawn in a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import penstock
from penstock.plurals import plural
from penstock.sequences.histograms import BASES, RECORDS, CountRecords
from penstock.sequences.sampling import EVERY

NAME = "pictures"


def draw(
    run: penstock.Run, source: Any, *, seed: int, limit: int | None,
    usage: Sequence[Mapping[str, Any]] = (), top: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Draw GC and lengths of all records, and any other pictures; the files are in the run folder.

    Args:
        run: an open run.
        source: whole records, as :func:`penstock.sequences.inputs.open_inputs` gives them.
        seed, limit: of the sample; limit None for all records.
        usage: rows of ``codons.parquet``.
        top: ``k``, ``top``, ``counted`` and ``mean``, as ``summary.json`` of kmers has them.
    """
    function = CountRecords(seed, EVERY if limit is None else limit)
    job = penstock.Job(source=source, function=function, into=penstock.reducers.Sum(), threads=1)
    measured = run.stage("records", job)
    inputs = {"records": measured, "usage": list(usage), "top": top}
    run.publish(run.step(NAME, DrawAll(), inputs=inputs, threads=1))


@dataclass(frozen=True)
class DrawAll:
    """Draw ``records``, and ``codons`` and ``kmers`` if there are any, each as PNG, SVG and PDF."""

    def __call__(self, folder: Path, records: Any, usage: list[Any], top: Any) -> None:
        """Draw."""
        from penstock.sequences import pictures

        count, bases = int(records[RECORDS]), int(records[BASES])
        caption = f"{plural(count, 'record')}, {plural(bases, 'letter')}"
        pictures.save(partial(pictures.of_records, records, caption), folder, "records")
        for name, rows in _readings(usage).items():
            codons = plural(sum(row["count"] for row in rows), "codon")
            title = f"Codon usage: {codons} of {plural(count, 'record')}"
            where = f"strand {rows[0]['strand']}, frame {rows[0]['frame']}"
            where += f", genetic code {rows[0]['code']}" if "code" in rows[0] else ""
            pictures.save(partial(pictures.codon_usage, rows, f"{title} ({where})"), folder, name)
        if top is not None:
            title = f"The most frequent of {top['counted']:,} {top['k']}-mers"
            figure = partial(pictures.top_words, top["top"], top["counted"], top["mean"], title)
            pictures.save(figure, folder, "kmers")


def _readings(usage: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each table, by the name of its picture."""
    tables: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in usage:
        tables.setdefault((row.get("code", 0), row["strand"], row["frame"]), []).append(row)
    if len(tables) <= 1:
        return dict(zip(["codons"], tables.values(), strict=False))
    words = {"+": "forward", "-": "reverse"}
    return {
        "-".join(["codons", *([f"code{code}"] if code else []), words[strand], str(frame)]): rows
        for (code, strand, frame), rows in tables.items()
    }
