"""The options shared by all commands that read sequences: files, how to read them, which records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.errors import MissingExtra
from penstock.plurals import plural

if TYPE_CHECKING:
    from penstock.sequences.inputs import Inputs

_OPTIONS = (
    click.argument("inputs", nargs=-1, required=True, type=click.Path(), metavar="INPUT..."),
    click.option(
        "--input-format", type=click.Choice(["fasta", "fastq"]), default="fasta", show_default=True,
        help="What files that are no Parquet are.",
    ),
    click.option(
        "--column", default="sequence", show_default=True, metavar="NAME",
        help="The column of sequences in Parquet files.",
    ),
    click.option(
        "--sample", type=click.IntRange(min=1), metavar="N",
        help="Read exactly N records, chosen at random by --seed.",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of --sample."),
)  # fmt: skip
DEFAULTS: Mapping[str, Any] = {"input_format": "fasta", "column": "sequence", "sample": None, "seed": 0}
"""Of these options."""


def with_inputs(command: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that adds the argument INPUT... and the options above to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_asked(
    asked: Mapping[str, Any], paths: Sequence[str] | None = None, *, records: bool = False,
    named: bool = False, block: int | None = None,
) -> Inputs:  # fmt: skip
    """The source of the given files; see :func:`~penstock.sequences.inputs.open_inputs`.

    Args:
        asked: the options by name.
        paths: other files instead.
        records, named, block: as there.

    Raises:
        BadInput: a file that cannot be used.
        MissingExtra: a package is not installed.
    """
    if find_spec("pyarrow") is None:
        raise MissingExtra("reading and writing tables of sequences", "pyarrow", "codons")
    from penstock.sequences.inputs import open_inputs

    # The same files have the same names wherever the run is resumed from.
    found = [str(Path(path).absolute()) for path in (asked["inputs"] if paths is None else paths)]
    fastq = asked["input_format"] == "fastq"
    return open_inputs(found, column=asked["column"], records=records, named=named, fastq=fastq, block=block)


def sample_of(asked: Mapping[str, Any]) -> dict[str, int] | None:
    """The sample's entry in ``summary.json``."""
    return {"records": asked["sample"], "seed": asked["seed"]} if asked["sample"] else None


def warnings_of(asked: Mapping[str, Any], *, records: int, letters: int, protein: int) -> list[str]:
    """Warnings about the records that were read.

    Args:
        asked: the options by name.
        records: how many they are.
        letters: how many these have.
        protein: of the letters, those that no nucleotide code has.
    """
    warnings = []
    if protein:
        warnings.append(
            f"{protein:,} of {plural(letters, 'letter')} {'is' if protein == 1 else 'are'} of proteins alone "
            "(E, F, I, L, P, Q ...), which no codon and no k-mer has. Is there protein in the input?"
        )
    if asked["sample"] and records < asked["sample"]:
        warnings.append(
            f"there {'is' if records == 1 else 'are'} only {plural(records, 'record')}: the sample of "
            f"{asked['sample']:,} is all of them"
        )
    return warnings
