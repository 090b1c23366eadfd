"""Codon usage of genomes, all frames and both strands, from FASTA or Parquet of any size.

A design for 32,240 organelle genomes sorted them into batches by *count* of records, ran out of
memory on four machines, and in its repaired form silently dropped most rows. Here the files are
blocks of bytes. A worker counts a block without ever holding a record (``kernel``); what a block can
say about codons, with its borders in the middle of anything, is a vector of 10 KB (``summary``), and
two neighbours' vectors are put together exactly. So memory does not grow with records, files or their
sizes, and the answer does not depend on blocks, batches, workers or interruptions.

    FASTA, .gz, .bgz, .zst ... -> blocks -\\
                                            CountCodons -> JoinSummaries -> codons.parquet, summary.json
    Parquet (sequence)   -> runs of rows -/

Rules: case does not matter, U is T, blanks and line ends are dropped, every other letter holds a
position; a codon with a letter that is not A, C, G or T counts as ambiguous; the 0 to 2 bases after a
record's last codon are partial; each record is read from its own frame, and on strand "-" from the
end of its reverse complement. The ledger balances, for each strand and frame:
``3 x codons + partial + skipped = bases``, where ``codons`` includes the ambiguous.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penstock
from penstock import foreign
from penstock.errors import BadInput, MissingExtra, UsageError
from penstock.workloads.codons import genetic_codes
from penstock.workloads.codons.tables import Row, codon_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.codons.inputs import Inputs

_STRANDS = {"forward": "+", "both": "+-"}
_GAPS = 0.01
"""Share of gap letters above which the input looks aligned."""
_STOPS = 0.005
"""Share of codons that are stops inside records above which a frame is not coding."""


def _known_code(context: click.Context, param: click.Parameter, number: int) -> int:
    genetic_codes.translation(number)
    return number


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(), metavar="INPUT...")
@click.option(
    "--genetic-code", type=int, default=1, show_default=True, callback=_known_code, metavar="N",
    help="NCBI number of the genetic code: 1 standard, 2 vertebrate mitochondria, 11 bacteria and plastids.",
)  # fmt: skip
@click.option(
    "--frame", type=click.Choice(["0", "1", "2", "all"]), default="0", show_default=True,
    help="Bases to skip at the start of each record.",
)  # fmt: skip
@click.option(
    "--strand", type=click.Choice(list(_STRANDS)), default="forward", show_default=True,
    help="Also the reverse complement of each record?",
)  # fmt: skip
@click.option(
    "--drop-start", is_flag=True,
    help="Leave out the first codon of each record (its bases 1 to 3), which reads M whatever it is "
    "(GTG, TTG, ATA); of --frame 0 and --strand forward alone.",
)  # fmt: skip
@click.option("--skip-stops", is_flag=True, help="Leave stop codons out of the table.")
@click.option(
    "--min-count", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
    help="Leave codons out that were counted less often.",
)  # fmt: skip
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N",
    help="Count exactly N records, chosen at random by --seed.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --sample.")
def _command(**options: Any) -> None:
    """Count codons in FASTA files (plain, gzip, bgzip, zstd, bzip2, xz) or Parquet files.

    Parquet files have the sequences in a column called sequence. Patterns such as 'genomes/*.fa.gz' may
    be quoted. Writes codons.parquet (strand, frame, codon, aa, family, dual, count, freq, per_1000,
    rscu) and summary.json into the run folder.
    """


class Codons:
    """The workload ``codons``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Count, and write ``codons.parquet`` and ``summary.json`` into the run folder.

        Args:
            run: an open run.
            inputs: files or patterns.
            genetic_code: NCBI number.
            frame: ``"0"``, ``"1"``, ``"2"`` or ``"all"``.
            strand: ``"forward"`` or ``"both"``.
            drop_start: leave each record's first codon out; of frame 0 and strand forward alone.
            skip_stops, min_count: rows to leave out; see ``tables``.
            sample, seed: exactly so many records, or None for all.

        Raises:
            BadInput: an input that is not what it should be, naming file and line.
            UsageError: an unknown genetic code; the first codons left out of another frame or strand.
            MissingExtra: a package is not installed.
        """
        asked = _asked(options)
        meaning = genetic_codes.translation(asked["genetic_code"])
        inputs = _open(asked["inputs"])
        limit = _choose(run, inputs, asked["sample"], asked["seed"]) if asked["sample"] else None
        summary = run.stage("count", _counting(inputs, asked["seed"], limit)).open()
        _check(summary, inputs.fasta)
        rows, told = _results(summary, meaning, asked)
        _write(run, rows, told)

    def plan(self, budget: str | int, **options: Any) -> list[Any]:
        """The plan of the stage that counts; those of a sample are like it."""
        asked = _asked(options)
        inputs, wishes = _open(asked["inputs"]), {name: options.get(name) for name in ("workers", "call")}
        return [_counting(inputs, asked["seed"], None).plan(budget=budget, **wishes)]


def _asked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options and the defaults of the others."""
    asked = {
        "genetic_code": 1, "frame": "0", "strand": "forward", "drop_start": False, "skip_stops": False,
        "min_count": 0, "sample": None, "seed": 0, **options,
    }  # fmt: skip
    if asked["drop_start"] and (asked["frame"], asked["strand"]) != ("0", "forward"):
        raise UsageError(
            "--drop-start leaves out the start codon, which is the first three bases of a coding sequence: "
            "it goes with --frame 0 and --strand forward alone, and "
            f"--frame {asked['frame']} --strand {asked['strand']} was asked for"
        )
    return asked


def _open(paths: Sequence[str]) -> Inputs:
    from penstock.workloads.codons.inputs import open_inputs

    # The same files have the same names wherever the run is resumed from.
    return open_inputs([str(Path(path).absolute()) for path in paths])


def _counting(inputs: Inputs, seed: int, limit: int | None) -> penstock.Job:
    from importlib.util import find_spec

    from penstock.workloads.codons.job import CountCodons, JoinSummaries

    if not inputs.small and find_spec("numba") is None:
        raise MissingExtra("counting the codons of so much text", "numba", "codons")
    chosen = {} if limit is None else {"seed": seed, "limit": limit}
    function = CountCodons(**chosen, rows=bool(inputs.parquet), compiled=not inputs.small)
    return penstock.Job(source=inputs.source, function=function, into=JoinSummaries())


def _choose(run: penstock.Run, inputs: Inputs, wanted: int, seed: int) -> int:
    """The limit under which exactly ``wanted`` records have their numbers; passes over the headers."""
    from penstock.workloads.codons.sampling import AddNumbers, Bracket, CountNumbers, narrow

    bracket: Bracket | None = Bracket()
    limit = passes = 0
    while bracket is not None:
        passes += 1
        function = CountNumbers(seed, bracket.low, bracket.width)
        job = penstock.Job(source=inputs.source, function=function, into=AddNumbers())
        bins = run.stage(f"sample-{passes}", job).open()
        bracket, limit = narrow(bracket, bins, wanted)
        wanted = limit
    return limit


def _check(summary: NDArray[Any], fasta: Sequence[str]) -> None:
    """What could not be known of one block alone.

    Raises:
        BadInput: see :mod:`penstock.workloads.codons.job`.
    """
    from penstock.workloads.codons import job
    from penstock.workloads.codons import summary as s

    if summary[s.BAD]:
        raise job.bad_byte(fasta[int(summary[s.BAD_FILE])], summary)
    if job.is_protein(*s.protein(summary)):
        raise job.protein_error(*s.protein(summary), file=None)
    if not summary[s.RECORDS]:
        raise BadInput("no sequences in any of the files: there is no line that begins with '>'")


def _results(
    summary: NDArray[Any], meaning: Mapping[str, str], asked: Mapping[str, Any]
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of ``codons.parquet`` and the content of ``summary.json``."""
    from penstock.workloads.codons import summary as s

    frames = range(3) if asked["frame"] == "all" else [int(asked["frame"])]
    dual = genetic_codes.dual(asked["genetic_code"])
    records = int(summary[s.RECORDS])
    rows: list[Row] = []
    ledgers: list[dict[str, Any]] = []
    for strand in _STRANDS[asked["strand"]]:
        by_frame = s.frames(summary, strand)
        for frame in frames:
            in_frame = by_frame[frame] - s.starts(summary) if asked["drop_start"] else by_frame[frame]
            counts = dict(zip(s.CODONS, in_frame.tolist(), strict=True))
            kept = codon_rows(
                counts, meaning, strand=strand, frame=frame, skip_stops=asked["skip_stops"],
                min_count=asked["min_count"], dual=dual,
            )  # fmt: skip
            ledger = s.ledger(summary, strand, frame, drop_start=asked["drop_start"])
            in_rows = sum(row["count"] for row in kept)
            stops = sum(count for codon, count in counts.items() if meaning[codon] == "*")
            ledgers.append(
                {
                    "strand": strand, "frame": frame, **ledger, "counted": in_rows, "stops": stops,
                    "internal_stops": max(stops - records, 0),
                }
            )  # fmt: skip
            rows += kept
    letters = s.letters(summary)
    bases = int(summary[s.BASES])
    totals = {
        key: sum(each[key] for each in ledgers)
        for key in ("codons", "ambiguous", "partial", "skipped", "dropped")
    }
    told = {
        "schema": 1,
        "records": records,
        "bases": bases,
        **totals,
        "tables": ledgers,
        "letters": letters,
        "genetic_code": {"number": asked["genetic_code"], "name": genetic_codes.name(asked["genetic_code"])},
        "sample": {"records": asked["sample"], "seed": asked["seed"]} if asked["sample"] else None,
        "warnings": [
            *_warnings(letters, bases, records, asked["sample"]),
            *_of_reading(ledgers, dual, asked),
        ],
    }
    return rows, told


def _warnings(letters: Mapping[str, int], bases: int, records: int, sample: int | None) -> list[str]:
    told = []
    if letters["gap"] > _GAPS * bases:
        told.append(
            f"{letters['gap']} of {bases} letters are gaps or stops ('-', '.', '*'): the input looks "
            "aligned. They hold their positions; remove them to count codons across them"
        )
    if sample and records < sample:
        told.append(f"there are only {records} records, so that the sample of {sample} is all of them")
    return told


def _of_reading(
    ledgers: Sequence[Mapping[str, Any]], dual: frozenset[str], asked: Mapping[str, Any]
) -> list[str]:
    """Warnings of what codons mean: no frame asked for is coding, or a stop is an amino acid too."""
    told = []
    best = min(ledgers, key=lambda each: each["internal_stops"] / max(each["codons"], 1))
    if best["internal_stops"] > _STOPS * best["codons"]:
        share = best["internal_stops"] / best["codons"]
        told.append(
            f"{best['internal_stops']} of {best['codons']} codons ({share:.1%}) are stops inside records "
            f"(strand {best['strand']}, frame {best['frame']}): this is not coding sequence in this frame, "
            "so neither counts nor RSCU are codon usage. Give coding sequences, or read them as counts of "
            "triplets"
        )
    if dual:
        skipped = "; --skip-stops leaves none of them out" if asked["skip_stops"] else ""
        told.append(
            f"in genetic code {asked['genetic_code']} {', '.join(sorted(dual))} are stops and amino acids; "
            f"they are counted as amino acids (column dual){skipped}"
        )
    return told


def _write(run: penstock.Run, rows: list[Row], told: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("strand", pa.string()),
            ("frame", pa.int8()),
            ("codon", pa.string()),
            ("aa", pa.string()),
            ("family", pa.int8()),
            ("dual", pa.bool_()),
            ("count", pa.int64()),
            ("freq", pa.float64()),
            ("per_1000", pa.float64()),
            ("rscu", pa.float64()),
        ]
    )
    with penstock.atomic(run.folder / "codons.parquet") as draft:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), draft)
    with penstock.atomic(run.folder / "summary.json") as draft:
        draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for warning in told["warnings"]:
        click.echo(f"warning: {foreign.line(str(warning))}", err=True)
