"""Counts of all k-mers of sequences of any size, exact, from FASTA or Parquet.

Up to k = 12 there is room for the counts of all words: each item gives its own, and they are added up.
Beyond that the words themselves are put apart by ranges, packed in blocks (the sink ``Partitions``), and each
partition is sorted and counted by itself.

    FASTA, .gz, .zst ... -> whole records -\\             up to 12: Dense -------------\\
                                             CountWords                                 kmers.parquet
    Parquet (sequence)   -> runs of rows --/              beyond: Partitions -> JoinBlocks /

Rules: case does not matter, U is T, blanks and line ends are dropped, every other letter holds a position; a
word is of A, C, G and T alone and never reaches over the end of its record. The ledger balances:
``counted + ambiguous = windows``, the places where a record has k letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penstock
from penstock.errors import BadInput
from penstock.sequences import short
from penstock.sequences.options import open_asked, sample_of, warnings_of, with_inputs
from penstock.workload_options import read_options

if TYPE_CHECKING:
    from penstock.sequences.inputs import Inputs
    from penstock.workloads.kmers.packing import Blocks

_LONGEST = 31


@click.command()
@with_inputs
@click.option("--k", type=click.IntRange(1, _LONGEST), default=6, show_default=True, help="Bases of a word.")
@click.option(
    "--canonical", is_flag=True,
    help="Count a word and its reverse complement as one, under the name of the smaller: for sequences "
    "whose strand means nothing.",
)  # fmt: skip
@click.option(
    "--min-count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
    help="Leave words out that are there less often.",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(0, 10_000), default=20, show_default=True, metavar="N",
    help="How many of the most frequent words summary.json names.",
)  # fmt: skip
@click.option(
    "--plot", is_flag=True,
    help="Draw the most frequent words, GC and lengths of records, as PNG, SVG and PDF (needs matplotlib).",
)  # fmt: skip
def _command(**options: Any) -> None:
    """Count k-mers in FASTA files (plain, gzip, bgzip, zstd, bzip2, xz) or Parquet files.

    Parquet files have the sequences in a column called sequence; '-' is standard input. Patterns such
    as 'genomes/*.fa.gz' may be quoted. Writes kmers.parquet (kmer, count), in alphabetical order, and
    summary.json into the run folder; beyond k = 12 kmers.parquet is a folder of Parquet files.
    """


class Kmers:
    """The workload ``kmers``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Count, and write ``kmers.parquet`` and ``summary.json`` into the run folder.

        Args:
            run: an open run.
            inputs: files or patterns.
            k: 1 to 31.
            canonical: count a word and its reverse complement as one.
            min_count: words that are there less often are left out.
            top: how many of the most frequent words ``summary.json`` names.
            input_format: ``"fasta"`` or ``"fastq"``, of files that are no Parquet.
            column: of the sequences in Parquet files.
            plot: draw ``kmers`` and ``records``, ``.png``, ``.svg`` and ``.pdf``.
            sample, seed: exactly so many records, or None for all.

        Raises:
            BadInput: an input that is not what it should be, naming file and line.
            MissingExtra: a package is not installed.
        """
        from penstock.sequences.given import kept_streams
        from penstock.sequences.pictures import need_matplotlib
        from penstock.sequences.plots import draw
        from penstock.workloads.kmers.dense import DENSE_K

        asked = read_options(_command, options)
        if asked["plot"]:
            need_matplotlib()
        asked["inputs"] = kept_streams(run.folder, asked["inputs"])
        inputs = open_asked(asked, records=True)
        limit = _choose(run, asked) if asked["sample"] else None
        counted = run.stage("count", _counting(inputs, asked, limit))
        told = _of_records(counted, asked)
        if asked["k"] <= DENSE_K:
            run.publish(counted, "counts/kmers.parquet")
            words, room = counted, "counts"
        else:
            blocks = _blocks(inputs, asked["k"])
            words, room = run.stage("kmers.parquet", _joining(counted, asked, blocks)), ""
        step = run.step(
            short.STEP, _Summarise(asked["top"], room), inputs={"words": words, "told": told}, threads=1
        )
        run.publish(step, "summary.json")
        summary = step.facts
        short.warn(summary)
        if asked["plot"]:
            top = {name: summary[name] for name in ("k", "counted", "mean")} | {"top": summary["top"][:40]}
            draw(run, inputs.source, seed=asked["seed"], limit=limit, top=top)

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the stage that counts."""
        asked = read_options(_command, options)
        inputs = open_asked(asked, records=True)
        return [_counting(inputs, asked, None).plan(budget=budget, workers=workers, call=call)]


def _choose(run: penstock.Run, asked: Mapping[str, Any]) -> int:
    from penstock.sequences.sampling import choose

    return choose(run, open_asked(asked).source, asked["sample"], asked["seed"])


def _compiled(inputs: Inputs) -> bool:
    return not inputs.small and find_spec("numba") is not None


def _blocks(inputs: Inputs, k: int) -> Blocks:
    """How words beyond k = 12 are packed: in partitions of one to two million words, were they even."""
    from penstock.workloads.kmers.packing import Blocks

    bits = (inputs.text >> 21).bit_length()
    return Blocks(k, min(max(bits, 1), 10), compiled=_compiled(inputs))


def _counting(inputs: Inputs, asked: Mapping[str, Any], limit: int | None) -> penstock.Job:
    from penstock.budget import MiB
    from penstock.sinks import Partitions
    from penstock.workloads.kmers.counting import TABLE_K, CountWords
    from penstock.workloads.kmers.dense import DENSE_K, Dense

    k, canonical = asked["k"], asked["canonical"]
    how: dict[str, Any] = {"compiled": _compiled(inputs)}
    if limit is not None:
        how |= {"seed": asked["seed"], "limit": limit}
    counts: Any
    if k <= DENSE_K:
        counts = Dense(k, fold=canonical and k <= TABLE_K, min_count=asked["min_count"])
    else:
        how["blocks"] = blocks = _blocks(inputs, k)
        # Row groups are rounds times parts: a small file may have many rounds, of a large one they are few.
        at_once = min(max(inputs.text // 8, 8 * MiB), 64 * MiB)
        counts = Partitions(
            by="part", parts=2**blocks.bits, bits=blocks.bits, compression=None, schema=blocks.schema(),
            at_once=at_once,
        )  # fmt: skip
    return penstock.Job(
        source=inputs.source,
        function=CountWords(k, canonical, **how),
        into={"counts": counts, "ledger": penstock.reducers.Sum()},
        threads=1,
    )


def _joining(counted: penstock.Stored, asked: Mapping[str, Any], blocks: Blocks) -> penstock.Job:
    from penstock.sinks import Parquet
    from penstock.workloads.kmers.joining import JoinBlocks
    from penstock.workloads.kmers.packing import ROWS
    from penstock.workloads.kmers.table import STATISTICS, schema

    return penstock.Job(
        source=penstock.sources.Partitions(counted, "counts"),
        function=JoinBlocks(blocks, asked["min_count"]),
        into=Parquet(
            grain=1, rows=ROWS, compression="snappy", schema=schema(), encoding={"*": "plain"},
            statistics=STATISTICS,
        ),
        threads=1,
    )  # fmt: skip


class _Summarise:
    """Write ``summary.json``: what is told of the records, and of the words by ``table.in_short``.

    Args:
        top: how many of the most frequent words.
        room: of the stage, where it has several.
    """

    def __init__(self, top: int, room: str) -> None:
        self.top = top
        self.room = room

    def __call__(self, folder: Path, words: Any, told: Mapping[str, Any]) -> dict[str, Any]:
        """Read the counts; return the content."""
        from penstock.workloads.kmers.table import files_of, in_short

        found = in_short(files_of(words[self.room] if self.room else words), self.top)
        summary = {**told, **found}
        warnings = summary.pop("warnings")  # which come last
        if told["windows"] and not found["distinct"]:
            nothing = (
                f"nothing is left: none of the words is there {told['min_count']:,} times or more "
                "(--min-count); the table is empty"
            )
            warnings = [nothing, *warnings]
        summary["warnings"] = warnings
        short.write(folder, summary)
        return summary


def _of_records(counted: penstock.Stored, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What ``summary.json`` tells of the records."""
    from penstock.workloads.kmers import reading

    ledger = counted.open("ledger")
    records, bases, windows, short_records = (int(n) for n in ledger[: reading.LETTERS])
    if not records:
        raise BadInput("no sequences in any of the files: there is no line that begins with '>'")
    letters = dict(zip(("n", "iupac", "gap", "protein"), map(int, ledger[reading.LETTERS :]), strict=True))
    return {
        "schema": 1,
        "k": asked["k"],
        "canonical": asked["canonical"],
        "min_count": asked["min_count"],
        "records": records,
        "bases": bases,
        "shorter_than_k": short_records,
        "windows": windows,
        "letters": letters,
        "sample": sample_of(asked),
        "warnings": warnings_of(asked, records=records, letters=bases, protein=letters["protein"]),
    }
