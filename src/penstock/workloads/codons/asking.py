"""The options of a count, checked, and how they combine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock import foreign
from penstock.errors import UsageError
from penstock.workloads.codons import code_map, genetic_codes

if TYPE_CHECKING:
    from penstock.workloads.codons.files import Files


def asked_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """All options, and what follows from their combination.

    Raises:
        UsageError: options that do not go together.
    """
    asked = dict(options)
    codes = code_map.parse(str(asked["genetic_code"]))
    files = _annotated(asked, codes)
    numbers = genetic_codes.numbers() if files else codes.codes
    asked |= {"codes": codes, "by_code": bool(codes.lines or files), "files": files, "numbers": numbers}
    _check(asked)
    return asked


def _check(asked: Mapping[str, Any]) -> None:
    """Raise UsageError where options do not go together."""
    for name in ("reference", "compare", "column"):
        if asked[name] is not None and not str(asked[name]).strip():
            raise UsageError(f"--{name} is empty: name what it is to be, or leave it out")
    reading = (asked["frame"], asked["strand"])
    if asked["drop_start"] and reading != ("0", "forward"):
        raise UsageError(
            "--drop-start leaves out the start codon, which is the first three bases of a coding sequence: "
            "it goes with --frame 0 and --strand forward alone, and "
            f"--frame {asked['frame']} --strand {asked['strand']} was asked for"
        )
    several = reading[0] == "all" or reading[1] != "forward"
    if several and (reads_records(asked) or asked["compat"] == "upstream"):
        raise UsageError(
            "--per-record, --per-file, --compare, --cds (the default for GenBank), --compat upstream and a "
            "table of genetic codes read each record once: give one --frame, and --strand forward"
        )
    if asked["files"] and (asked["sample"] or asked["compat"] == "upstream"):
        raise UsageError(
            "--sample and --compat upstream choose and read whole records, not their coding sequences: write "
            "these to FASTA first"
        )
    if asked["plot"] and (asked["files"] or asked["compat"] == "upstream"):
        raise UsageError(
            "--plot draws whole records: it goes neither with coding sequences nor with --compat upstream"
        )
    if asked["compat"] == "biopython" and not asked["reference"]:
        raise UsageError("--compat biopython is about the CAI, which needs --reference")
    if asked["compat"] != "upstream" and (asked["rscu"] or not asked["skip_n"] or asked["top"] != 30):
        raise UsageError(
            "--rscu, --top and --no-skip-n go with --compat upstream; codons.parquet has RSCU anyway"
        )
    if asked["sample"] and not asked["skip_n"]:
        raise UsageError("--no-skip-n counts every record's triplets: it does not go with --sample")


def _annotated(asked: Mapping[str, Any], codes: code_map.CodeMap) -> Files | None:
    """The annotated files, where coding sequences are to be counted; else None."""
    from penstock.workloads.codons.files import find

    paths = [str(Path(path).absolute()) for path in asked["inputs"]]
    files = find(paths, wanted=asked["cds"])
    if files and files.gff and not asked["cds"]:
        foreign.warn(
            "a GFF3 file is among the inputs: its coding sequences (CDS) are counted, as with --cds; to "
            "count all of the sequences, name FASTA files alone"
        )
    if files and codes.lines:
        raise UsageError(
            "--genetic-code takes a number for coding sequences, the code of those without a transl_table"
        )
    return files


def reads_records(asked: Mapping[str, Any]) -> bool:
    """Whether records must be told apart: results are per record, or depend on names."""
    return bool(asked["per_record"] or asked["per_file"] or asked["compare"] or asked["by_code"])
