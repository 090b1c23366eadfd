"""Converts sequences to rows: FASTA, FASTQ or Parquet of any size into Parquet shards cut by bytes.

A row is a record (seq_id, description, length, sequence, source), in the order of the files. A shard has the
records that begin in so many bytes of the files, never a number of records: 50,000 genomes may be 4 GB. What
shards are is fixed by the files and ``--shard``, so that budget and workers do not change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import penstock
from penstock.budget import parse_size
from penstock.errors import BadInput, UsageError
from penstock.sequences import short
from penstock.sequences.options import open_asked, sample_of, warnings_of, with_inputs
from penstock.workload_options import read_options

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.sequences.inputs import Inputs, Rows
    from penstock.sources.fasta import Block

_PER_SHARD = 16
"""Items that make a shard."""


@click.command()
@with_inputs
@click.option(
    "--shard", default="64MiB", show_default=True, metavar="SIZE",
    help="Bytes of the files whose records make a shard.",
)  # fmt: skip
@click.option(
    "--source-name", metavar="NAME",
    help="What the column source says; without it the name of the file that a record is from.",
)  # fmt: skip
@click.option(
    "--compression", type=click.Choice(["zstd", "snappy", "gzip", "none"]), default="zstd", show_default=True,
    help="Of the shards.",
)  # fmt: skip
@click.option(
    "--plot", is_flag=True,
    help="Draw GC and lengths of records, as PNG, SVG and PDF (needs matplotlib).",
)  # fmt: skip
def _command(**options: Any) -> None:
    """Write sequences into Parquet files, one row a record: seq_id, description, length, sequence, source.

    Takes FASTA and FASTQ files (plain, gzip, bgzip, zstd, bzip2, xz), Parquet files, and '-' for standard
    input. The shards are in the folder sequences/shards of the run folder; codons and kmers read them:
    penstock run kmers 'RUN/sequences/shards/*.parquet'.
    """


class Sequences:
    """The workload ``sequences``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Write the shards and ``summary.json``.

        Args:
            run: an open run.
            inputs: files or patterns.
            shard: bytes of the files whose records make a shard.
            source_name: what the column ``source`` says, or None for the file's name.
            compression: of the shards.
            input_format: ``"fasta"`` or ``"fastq"``.
            column: of the sequences in Parquet files.
            plot: draw ``records``, ``.png``, ``.svg`` and ``.pdf``.
            sample, seed: exactly so many records, or None for all.

        Raises:
            BadInput: an input that is not what it should be, naming file and line.
            UsageError: a shard without a byte.
            MissingExtra: a package is not installed.
        """
        from penstock.sequences.given import kept_streams
        from penstock.sequences.pictures import need_matplotlib
        from penstock.sequences.plots import draw
        from penstock.sequences.sampling import choose

        asked = _asked(options)
        if asked["plot"]:
            need_matplotlib()
        asked["inputs"] = kept_streams(run.folder, asked["inputs"])
        limit = None
        if asked["sample"]:
            limit = choose(run, open_asked(asked).source, asked["sample"], asked["seed"])
        stored = run.stage("sequences", _job(_open(asked), asked, limit))
        _write(run, asked, stored.open("facts"))
        if asked["plot"]:
            draw(run, _open(asked).source, seed=asked["seed"], limit=limit)

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the only stage; that of a sample is similar."""
        asked = _asked(options)
        return [_job(_open(asked), asked, None).plan(budget=budget, workers=workers, call=call)]


def _asked(options: Mapping[str, Any]) -> dict[str, Any]:
    asked = read_options(_command, options)
    if parse_size(asked["shard"]) < _PER_SHARD:
        raise UsageError(f"--shard {asked['shard']}: it has at least {_PER_SHARD} bytes")
    return asked


def _open(asked: Mapping[str, Any]) -> Inputs:
    return open_asked(asked, records=True, block=parse_size(asked["shard"]) // _PER_SHARD)


def _job(inputs: Inputs, asked: Mapping[str, Any], limit: int | None) -> penstock.Job:
    from penstock.sequences.sampling import EVERY
    from penstock.sinks import Parquet

    compression = None if asked["compression"] == "none" else asked["compression"]
    shards = Parquet(
        grain=_PER_SHARD, schema=_schema(), compression=compression, statistics=["length", "seq_id"],
        encoding={"sequence": "plain", "description": "plain", "seq_id": "plain"},
    )  # fmt: skip
    return penstock.Job(
        source=inputs.source,
        function=TakeRecords(asked["source_name"], asked["seed"], EVERY if limit is None else limit),
        into={"shards": shards, "facts": penstock.reducers.Sum()},
        threads=1,
    )


def _schema() -> pa.Schema:
    import pyarrow as pa

    # A chromosome may have more letters than the offsets of a plain string can count.
    return pa.schema(
        [
            ("seq_id", pa.string()),
            ("description", pa.string()),
            ("length", pa.int64()),
            ("sequence", pa.large_string()),
            ("source", pa.string()),
        ]
    )


@dataclass(frozen=True)
class TakeRecords:
    """The rows of an item's records.

    Args:
        source_name: what the column ``source`` says; None for the file's name.
        seed: of the sample.
        limit: records whose number is above it are left out; see ``sampling``.

    Returns ``shards``, a table; and ``facts``, int64: records, letters, and those of proteins alone.
    """

    source_name: str | None
    seed: int
    limit: int

    def __call__(self, item: Block | Rows) -> dict[str, Any]:
        """Take them.

        Raises:
            BadInput: a byte that cannot be in a sequence, naming file and line.
        """
        import pyarrow as pa

        from penstock.sequences.inputs import Rows
        from penstock.sequences.letters import protein_letters

        source = self.source_name or Path(item.path).name
        rows = self._rows(item) if isinstance(item, Rows) else self._records(item)
        columns: list[list[Any]] = [[], [], [], []]
        for row in rows:
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        names, descriptions, lengths, sequences = columns
        table = pa.table(
            [names, descriptions, lengths, pa.array(sequences, pa.large_binary()).cast(pa.large_string()),
             [source] * len(names)],
            schema=_schema(),
        )  # fmt: skip
        protein = sum(map(protein_letters, sequences))
        return {"shards": table, "facts": np.array([len(names), sum(lengths), protein], np.int64)}

    def _records(self, block: Block) -> Any:
        from penstock.sequences.records import is_chosen, records
        from penstock.sequences.sampling import EVERY, salt_of

        salt = salt_of(self.seed, block.file)
        for record in records(block):
            if self.limit == EVERY or is_chosen(record.offset, salt, self.limit):
                yield record.name, record.description, len(record.sequence), record.sequence

    def _rows(self, rows: Rows) -> Any:
        from penstock.sequences.inputs import bad_row, sequences
        from penstock.sequences.letters import BLANKS, is_sequence
        from penstock.sequences.records import is_chosen
        from penstock.sequences.sampling import EVERY, salt_of

        salt, number = salt_of(self.seed, None), rows.first
        for text, places in sequences(rows):
            whole = text.tobytes()
            for row in range(len(places) - 1):
                sequence = whole[places[row] : places[row + 1]].translate(None, BLANKS)
                if not is_sequence(sequence):
                    raise bad_row(rows, number - rows.first)
                if self.limit == EVERY or is_chosen(number, salt, self.limit):
                    name = f"row {rows.row + number - rows.first}"
                    yield name, name, len(sequence), sequence
                number += 1


def _write(run: penstock.Run, asked: Mapping[str, Any], facts: Any) -> None:
    records, bases, protein = (int(n) for n in facts) if np.ndim(facts) else (0, 0, 0)
    if not records:
        raise BadInput("no sequences in any of the files: there is no line that begins with '>'")
    warnings = warnings_of(asked, records=records, letters=bases, protein=protein)
    summary = {
        "schema": 1, "records": records, "bases": bases, "protein": protein, "sample": sample_of(asked),
        "warnings": warnings,
    }  # fmt: skip
    short.publish(run, summary)
