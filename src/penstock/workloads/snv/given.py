"""Samples to exclude and contigs, as the user names them in options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from penstock import foreign
from penstock.errors import BadInput, UsageError
from penstock.files import is_file


@dataclass(frozen=True)
class Excluded:
    """The samples to exclude.

    Attributes:
        names: of samples, also of such as the table does not have.
        carriers: the number of positions from which on a carrier of second alleles was left out.
    """

    names: frozenset[str]
    carriers: int | None = None


def check_lists(exclude: object, contigs: object) -> None:
    """Check values that only Python can pass in place of a text.

    Raises:
        UsageError: neither None nor a text, and no number or names to exclude, or no lengths of contigs.
    """
    if isinstance(exclude, int):
        usable = foreign.is_count(exclude) and exclude >= 0
    else:
        usable = isinstance(exclude, Sequence) and all(isinstance(each, str) for each in exclude)
    if not (exclude is None or usable):
        raise UsageError(
            f"--exclude {foreign.told(exclude, 100)}: names of samples, the file of them, or a number of "
            "carriers was expected"
        )
    lengths = isinstance(contigs, str) or (
        isinstance(contigs, Sequence) and all(foreign.is_count(each) and each > 0 for each in contigs)
    )
    if not (contigs is None or lengths):
        raise UsageError(
            f"--contigs {foreign.told(contigs, 100)}: lengths in bases, each above 0, or a file was expected"
        )


def asked_to_exclude(
    given: str | int | Sequence[str] | None, carriers: int | None, known: Sequence[str]
) -> tuple[frozenset[str], int | None]:
    """The names to exclude, and the number of second alleles from which a sample is excluded.

    Args:
        given: names, a file of names, or a number. What is the name of a sample is that sample.
        carriers: the number, where it was given as such.
        known: the table's samples.

    Raises:
        UsageError: the number is given twice.
        BadInput: the file cannot be read as text.
    """
    number = _number(given, known)
    if number is None:
        return frozenset(_names(given, known)), carriers
    if carriers is not None:
        raise UsageError(
            f"no sample is called {given!r}, and --carriers {carriers} is given too: say one of them"
        )
    click.echo(
        f"no sample is called {number}: --exclude {number} leaves out samples with the second allele at "
        f"{number} positions or more, as --carriers {number} does",
        err=True,
    )
    return frozenset(), number


def _number(given: str | int | Sequence[str] | None, known: Sequence[str]) -> int | None:
    if isinstance(given, int):
        return given
    if not isinstance(given, str) or given.strip() in known:
        return None
    # isdecimal alone takes digits of other scripts, which int() reads too.
    return int(given) if given.strip().isdecimal() else None


def _names(given: str | int | Sequence[str] | None, known: Sequence[str]) -> list[str]:
    if not isinstance(given, str):
        return list(given) if isinstance(given, Sequence) else []
    if given.strip() in known:
        return [given.strip()]
    path = Path(given)
    if is_file(path):
        if path.name in known:
            click.echo(
                f"--exclude: {foreign.line(given)} is a file, and names are read from it. For the "
                f"sample of this name, write {foreign.line(path.name)},",
                err=True,
            )
        given = _text(path).replace("\n", ",")
    return [name.strip() for name in given.split(",") if name.strip()]


def contig_lengths(given: str | Sequence[int] | None) -> list[int]:
    """Lengths of contigs in order; empty if none were given.

    Args:
        given: the lengths, or a file with a name and a length a line, more columns allowed.

    Raises:
        BadInput: a line without a length, naming it.
        UsageError: there is no such file.
    """
    if not isinstance(given, str):
        return [int(length) for length in given or ()]
    path = Path(given)
    if not is_file(path):
        raise UsageError(f"--contigs {given}: there is no such file")
    lengths = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if len(words) < 2 or not words[1].isascii() or not words[1].isdecimal() or not int(words[1]):
            raise BadInput(
                f"line {number}: a contig's name and its length in bases were expected, as in a .fai file",
                file=given,
            )
        lengths.append(int(words[1]))
    if not lengths:
        raise BadInput("has no contig", file=given)
    return lengths


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read as text: {error}", file=str(path)) from error
