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

What is asked of each record or file, or depends on the records' names, is counted from whole records instead
(``records``, ``usage``): a row for each, or sums by genetic code.

Rules: case does not matter, U is T, blanks and line ends are dropped, every other letter holds a
position; a codon with a letter that is not A, C, G or T counts as ambiguous; the 0 to 2 bases after a
record's last codon are partial; each record is read from its own frame, and on strand "-" from the
end of its reverse complement. The ledger balances, for each strand and frame:
``3 x codons + partial + skipped = bases``, where ``codons`` includes the ambiguous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

import penstock
from penstock.errors import BadInput, MissingExtra, UsageError
from penstock.plurals import plural
from penstock.sequences.options import DEFAULTS, open_asked, with_inputs
from penstock.workload_options import read_options
from penstock.workloads.codons import code_map
from penstock.workloads.codons.asking import asked_of, reads_records

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.sequences.inputs import Inputs

_STRANDS = ("forward", "both")


def _codes(context: click.Context, param: click.Parameter, value: str) -> str:
    code_map.parse(value)
    return value


@click.command()
@with_inputs
@click.option(
    "--genetic-code", default="1", show_default=True, callback=_codes, metavar="N|MAP",
    help="NCBI number of the genetic code: 1 standard, 2 vertebrate mitochondria, 11 bacteria and plastids; "
    "or a file of lines with an id or pattern, a tab and a number: the first line that fits a record counts, "
    "and results come by code.",
)  # fmt: skip
@click.option(
    "--frame", type=click.Choice(["0", "1", "2", "all"]), default="0", show_default=True,
    help="Bases to skip at the start of each record.",
)  # fmt: skip
@click.option(
    "--strand", type=click.Choice(_STRANDS), default="forward", show_default=True,
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
    "--cds", is_flag=True,
    help="Count coding sequences: of GenBank files (there it is the default), or of FASTA files by GFF3 "
    "files that are named beside them. The genetic code is that of transl_table, else --genetic-code.",
)  # fmt: skip
@click.option(
    "--per-record", is_flag=True,
    help="Also a table of all records, usage/records/*.parquet: id, length, GC, 64 counts, Nc ...",
)  # fmt: skip
@click.option("--per-file", is_flag=True, help="Also a table of all files, files.parquet.")
@click.option(
    "--reference", type=click.Path(), metavar="FILE",
    help="Coding sequences of highly expressed genes, from which the CAI is computed.",
)  # fmt: skip
@click.option(
    "--format", type=click.Choice(["cusp", "codonw"]),
    help="Also as text: a table as EMBOSS cusp's or as codonW's pooled one, codons.cusp or codons.codonw.",
)  # fmt: skip
@click.option(
    "--compat", type=click.Choice(["biopython", "upstream"]),
    help="biopython: CAI as its CodonAdaptationIndex, where stops count as codons. upstream: codon.parquet "
    "and its rules, with the four options that follow.",
)  # fmt: skip
@click.option(
    "--skip-n/--no-skip-n", default=True, show_default=True,
    help="With --compat upstream: leave out triplets with a letter that is not A, C, G or T.",
)  # fmt: skip
@click.option("--rscu", is_flag=True, help="With --compat upstream: also codon_rscu.parquet.")
@click.option(
    "--top", type=click.IntRange(min=0), default=30, show_default=True, metavar="N",
    help="With --compat upstream: print so many codons.",
)  # fmt: skip
@click.option(
    "--plot", is_flag=True,
    help="Draw codon usage by amino acid with RSCU as colours, GC and lengths of records, as PNG, SVG and "
    "PDF (needs matplotlib).",
)  # fmt: skip
@click.option(
    "--compare", type=click.Path(), metavar="RUN",
    help="Also comparison.parquet: the frequencies beside those of the run in this folder, with the error "
    "that a sample has.",
)  # fmt: skip
def _command(**options: Any) -> None:
    """Count codons in FASTA files (plain, gzip, bgzip, zstd, bzip2, xz) or Parquet files.

    Parquet files have the sequences in a column called sequence; '-' is standard input. Patterns such
    as 'genomes/*.fa.gz' may be quoted. Writes codons.parquet (strand, frame, codon, aa, family, dual,
    count, freq, per_1000, fraction, rscu) and summary.json into the run folder.
    """


class Codons:
    """The workload ``codons``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Count, and write ``codons.parquet`` and ``summary.json`` into the run folder.

        Args:
            run: an open run.
            inputs: files or patterns.
            genetic_code: NCBI number, or the path of a table of ids and numbers; see ``code_map``.
            frame: ``"0"``, ``"1"``, ``"2"`` or ``"all"``.
            strand: ``"forward"`` or ``"both"``.
            drop_start: leave each record's first codon out; of frame 0 and strand forward alone.
            skip_stops, min_count: rows to leave out; see ``tables``.
            cds: count coding sequences; see ``coding``.
            format: ``"cusp"`` or ``"codonw"``, also as such text.
            per_record, per_file: also these tables, ``usage/records/*.parquet`` and ``files.parquet``.
            input_format: ``"fasta"`` or ``"fastq"``, of files that are no Parquet.
            column: of the sequences in Parquet files.
            reference: file of the sequences that the CAI refers to.
            compat: ``"biopython"`` for its CAI, ``"upstream"`` for the original's tables.
            skip_n, rscu, top: of ``"upstream"``.
            plot: draw ``codons`` and ``records``, ``.png``, ``.svg`` and ``.pdf``.
            sample, seed: exactly so many records, or None for all.
            compare: folder of another run, whose frequencies are set beside these.

        Raises:
            BadInput: an input that is not what it should be, naming file and line.
            UsageError: an unknown genetic code; options that do not go together.
            MissingExtra: a package is not installed.
        """
        from penstock.sequences.given import kept_streams
        from penstock.workloads.codons import results, writing

        given = read_options(_command, options)
        asked = asked_of({**given, "inputs": kept_streams(run.folder, given["inputs"])})
        if asked["plot"]:
            from penstock.sequences.pictures import need_matplotlib

            need_matplotlib()
        if asked["compat"] == "upstream":
            _count_as_upstream(run, asked)
            return
        reference = _reference(run, asked["reference"]) if asked["reference"] else None
        inputs = _inputs(asked)
        limit = _choose(run, inputs, asked) if asked["sample"] else None
        unmatched: list[str] = []
        more: dict[str, Any] = {}
        tables: dict[str, Any] = {}
        if reads_records(asked):
            unmatched, sums, more, tables = _count_records(run, asked, limit, reference)
            readings, totals = results.of_sums(sums, asked["numbers"], int(asked["frame"]))
        else:
            summary = run.stage("count", _counting(inputs, asked["seed"], limit)).open()
            _check(summary, inputs.fasta, fastq=asked["input_format"] == "fastq")
            readings, totals = results.of_summary(summary, asked)
        if not totals.records:
            raise _nothing(asked, more)
        rows, content = results.told(readings, totals, asked, reference)
        if unmatched:
            content["unmatched"] = {"records": int(sums[0, 64]), "first": unmatched}
            content["warnings"].append(_without_code(content["unmatched"], asked))
        content["warnings"] += more.pop("warnings", [])
        texts = writing.texts_of(readings, asked["format"]) if asked["format"] else {}
        writing.results(run, rows, content | more, texts, **tables)
        if asked["plot"]:
            from penstock.sequences.plots import draw

            source = open_asked(asked, records=True).source
            draw(run, source, seed=asked["seed"], limit=limit, usage=rows)

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the stage that counts; those of a sample are like it."""
        import numpy as np

        from penstock.workloads.codons import by_record

        asked = asked_of(read_options(_command, options))
        inputs = _inputs(asked)
        if asked["files"] and asked["files"].gff:
            raise UsageError("no plan can be made before the GFF3 files are read, which the run does first")
        if asked["compat"] == "upstream":
            from penstock.workloads.codons import upstream

            job = upstream.job(open_asked(asked, named=True), asked, None)
        elif asked["by_code"]:
            firsts = np.zeros(len(inputs.source) + 1, np.int64)
            job = by_record.job(inputs, asked | {"compare": None}, None, None, {"firsts": firsts})
        else:
            job = _counting(inputs, asked["seed"], None)
        return [job.plan(budget=budget, workers=workers, call=call)]


def _inputs(asked: Mapping[str, Any]) -> Inputs:
    if asked["files"]:
        from penstock.workloads.codons import files

        return files.inputs_of(asked["files"])
    return open_asked(asked, named=asked["by_code"])


def _nothing(asked: Mapping[str, Any], told: Mapping[str, Any]) -> BadInput:
    """The error where nothing was found to count."""
    if not asked["files"]:
        return BadInput("no sequences in any of the files: there is no line that begins with '>'")
    found = told["coding_sequences"]
    if asked["files"].gff and found["left_out"].get("no such sequence", 0) == found["features"]:
        return BadInput(
            "no sequence of the FASTA files has a CDS line in the GFF3 files: their first columns must be "
            "the ids, the first words of the header lines",
            file=asked["files"].gff[0],
        )
    return BadInput(f"no coding sequence to count; of {found['features']}, left out: {found['left_out']}")


def _counting(inputs: Inputs, seed: int, limit: int | None) -> penstock.Job:
    from importlib.util import find_spec

    from penstock.workloads.codons.job import CountCodons, JoinSummaries

    numba = find_spec("numba") is not None
    if inputs.large and not numba:
        raise MissingExtra("counting the codons of so much text", "numba", "codons")
    chosen = {} if limit is None else {"seed": seed, "limit": limit}
    function = CountCodons(**chosen, rows=bool(inputs.parquet), compiled=numba and not inputs.small)
    return penstock.Job(source=inputs.source, function=function, into=JoinSummaries(), threads=1)


def _reference(run: penstock.Run, path: str) -> NDArray[Any]:
    """The counts of the reference set of the CAI."""
    from penstock.workloads.codons import summary as s

    inputs = open_asked(DEFAULTS, [path])
    summary = run.stage("reference", _counting(inputs, 0, None)).open()
    _check(summary, inputs.fasta)
    counts: NDArray[Any] = s.frames(summary, "+")[0]
    if not counts.sum():
        raise BadInput("no codon in it to refer to", file=path)
    return counts


def _choose(run: penstock.Run, inputs: Inputs, asked: Mapping[str, Any]) -> int:
    """The limit under which exactly ``sample`` records have their numbers; passes over the headers."""
    from penstock.sequences.sampling import choose

    blocks = open_asked(asked) if asked["by_code"] or asked["compat"] == "upstream" else inputs
    return choose(run, blocks.source, int(asked["sample"]), asked["seed"])


def _count_records(
    run: penstock.Run, asked: Mapping[str, Any], limit: int | None, reference: NDArray[Any] | None
) -> tuple[list[str], NDArray[Any], dict[str, Any], dict[str, Any]]:
    """Count record by record: the first ids without a code, sums by code, what more is told, tables."""
    from penstock.workloads.codons import by_record, coding

    inputs = _inputs(asked) if asked["files"] else open_asked(asked, named=True)
    annotation = coding.annotation_of(run, asked["files"]) if asked["files"] else {}
    stored = by_record.count(run, inputs, asked, limit, reference, annotation)
    sums = stored.open("sums")
    more: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    if asked["files"]:
        more["coding_sequences"] = told = coding.told_of(run, asked["files"], annotation, stored)
        more["warnings"] = coding.warnings_of(told)
    if asked["per_file"]:
        of_cai = None if reference is None else reference.tolist()
        tables |= {"usage": stored, "reference": of_cai, "compat": asked["compat"] == "biopython"}
    if asked["per_record"] and not asked["files"]:
        count, names = by_record.duplicates(stored.folder / "records", int(sums[:, 64].sum()))
        if count:
            more["duplicate_ids"] = {"records": count, "first": names}
            more["warnings"] = [
                f"{plural(count, 'record')} {'has' if count == 1 else 'have'} the id of an earlier one "
                f"({', '.join(names)}{' ...' if count > len(names) else ''}): rows are kept apart by "
                "ordinal and file"
            ]
    if asked["compare"]:
        tables["comparison"], more["comparison"] = by_record.compare(stored.open("moments"), sums, asked)
    return stored.open("unmatched"), sums, more, tables


def _without_code(unmatched: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    records, first = unmatched["records"], unmatched["first"]
    more = " and others" if records > len(first) else ""
    return (
        f"{plural(records, 'record')} {'fits' if records == 1 else 'fit'} no line of {asked['genetic_code']} "
        f"and {'is' if records == 1 else 'are'} in no table of codons: "
        f"{', '.join(first)}{more}. A last line with * and a number takes all the others"
    )


def _check(summary: NDArray[Any], fasta: Sequence[str], *, fastq: bool = False) -> None:
    """What could not be known of one block alone.

    Raises:
        BadInput: see :mod:`penstock.workloads.codons.job`.
    """
    from penstock.sequences import wrong
    from penstock.workloads.codons import job
    from penstock.workloads.codons import summary as s

    if summary[s.BAD]:
        raise job.bad_byte(fasta[int(summary[s.BAD_FILE])], summary, fastq=fastq)
    if wrong.is_protein(*s.protein(summary)):
        raise wrong.protein_error(*s.protein(summary), file=None)


def _count_as_upstream(run: penstock.Run, asked: Mapping[str, Any]) -> None:
    from penstock.workloads.codons import upstream, writing

    inputs = open_asked(asked, named=True)
    limit = _choose(run, inputs, asked) if asked["sample"] else None
    writing.as_upstream(run, run.stage("triplets", upstream.job(inputs, asked, limit)).open(), asked)
