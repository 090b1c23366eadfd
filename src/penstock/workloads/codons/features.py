"""Coding sequences from annotations: the location of their parts, and their attributes. Pure.

Covers the locations of INSDC feature tables (GenBank) and CDS lines of GFF3. Positions are counted from 0,
and a part is ``start <= position < stop``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

REASONS = ("pseudo", "order", "no strand", "annotated twice", "remote", "outside", "no sequence")
"""Why a coding sequence is left out: a pseudogene; parts whose joining or border is not told (``order``,
``a^b``, ``(a.b)..c``; a line of GFF3 that comes twice); no strand; told by a GFF3 file before already; a part
in another record; a part beyond the sequence's end; a record without its sequence."""

_PHASES = {"0": 0, "1": 1, "2": 2, ".": 0}
_STRANDS = ("+", "-", ".", "?")
_DEEPEST = 8
"""Locations in locations; those of INSDC are three deep."""
_TOKEN = re.compile(r"\s*([A-Za-z_]+\(|[(),]|[^(),\s]+)")
_RANGE = re.compile(r"(?:([^:]+):)?([<>]?)(\d{1,15})(?:\.\.([<>]?)(\d{1,15}))?(>?)$")
_VAGUE = re.compile(r"\(\d+\.\d+\)|one-of\([\d,<>\s]*\)")
"""A border that is somewhere between two places, or one of some."""
_EXCEPT = re.compile(r"pos:((?:complement|join)?\(?[^a-z]*\)*),aa:([A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a record; if ``reverse``, its reverse complement."""

    start: int
    stop: int
    reverse: bool


@dataclass(frozen=True, slots=True)
class Cds:
    """A coding sequence.

    Attributes:
        name: of its gene, or another that it has.
        parts: in the order in which they are read.
        offset: letters before its first whole codon.
        code: number of its genetic code, or None where that is not told.
        excepted: parts whose codons are not read by the code.
        partial: its beginning or end is beyond the record.
        reason: why it is left out; "" where it is not.
    """

    name: str
    parts: tuple[Part, ...]
    offset: int = 0
    code: int | None = None
    excepted: tuple[Part, ...] = ()
    partial: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    """A CDS line of GFF3."""

    part: Part
    phase: int
    told: dict[str, str]
    has_strand: bool


class NoLocation(ValueError):
    """A text that is not a valid location."""


@dataclass(slots=True)
class _Found:
    parts: list[Part] = field(default_factory=list)
    reason: str = ""
    partial: bool = False


def location(text: str) -> tuple[tuple[Part, ...], bool, str]:
    """Parse a feature table's location: its parts, whether it is partial, and why it cannot be read.

    Raises:
        NoLocation: it is none.
    """
    text = _VAGUE.sub("?", text)
    tokens = [token.strip() for token in _TOKEN.findall(text)]
    found = _Found()
    found.parts = _parse(tokens, found, 0)
    if tokens or not (found.parts or found.reason):
        raise NoLocation(text)
    return tuple(found.parts), found.partial, found.reason


def _parse(tokens: list[str], found: _Found, depth: int) -> list[Part]:
    """One location from the front of the tokens."""
    if not tokens or depth > _DEEPEST:
        raise NoLocation("".join(tokens))
    token = tokens.pop(0)
    if token in ("join(", "order("):
        if token == "order(":
            found.reason = found.reason or "order"
        parts = _parse(tokens, found, depth + 1)
        while tokens and tokens[0] == ",":
            tokens.pop(0)
            parts += _parse(tokens, found, depth + 1)
        _close(tokens, token)
        return parts
    if token == "complement(":
        parts = _parse(tokens, found, depth + 1)
        _close(tokens, token)
        return [Part(part.start, part.stop, not part.reverse) for part in reversed(parts)]
    match = _RANGE.match(token)
    if match is None:
        if re.fullmatch(
            r"(?:[^:]+:)?(?:\d+(?:\^|\.)\d+|(?=.*\?)[<>]?(?:\d+|\?)(?:\.\.[<>]?(?:\d+|\?))?)", token
        ):
            found.reason = found.reason or "order"
            return []
        raise NoLocation(token)
    remote, before, start, beyond, stop, after = match.groups()
    if remote:
        found.reason = found.reason or "remote"
    found.partial |= bool(before or beyond or after)
    low, high = int(start) - 1, int(stop or start)
    if low < 0 or high <= low:
        raise NoLocation(token)
    return [Part(low, high, False)]


def _close(tokens: list[str], token: str) -> None:
    if not tokens or tokens.pop(0) != ")":
        raise NoLocation(f"{token} without an end")


def of_qualifiers(text: str, told: Mapping[str, list[str]]) -> Cds:
    """The coding sequence of a feature table's feature.

    Args:
        text: its location.
        told: its qualifiers; those without a value have "".

    Raises:
        NoLocation: the location is none, or a number is none.
    """
    parts, partial, reason = location(text)
    name = next((told[key][0] for key in ("gene", "locus_tag", "protein_id", "product") if told.get(key)), "")
    if "pseudo" in told or "pseudogene" in told:
        reason = "pseudo"
    return Cds(
        name, parts, _number(told, "codon_start", 1) - 1, _number(told, "transl_table", 0) or None,
        _excepted(told.get("transl_except", ())), partial, reason,
    )  # fmt: skip


def _number(told: Mapping[str, list[str]], name: str, otherwise: int) -> int:
    values = told.get(name)
    if not values:
        return otherwise
    value = values[0].strip()
    if not re.fullmatch("[0-9]{1,9}", value) or (name == "codon_start" and value not in ("1", "2", "3")):
        raise NoLocation(f"/{name}={value}")
    return int(value)


def _excepted(values: Iterable[str]) -> tuple[Part, ...]:
    found: list[Part] = []
    for value in values:
        match = _EXCEPT.search(value.replace(" ", ""))
        if match is None:
            raise NoLocation(f"/transl_except={value}")
        if match[2].upper() != "TERM":  # a stop that the tail completes is no codon of the sequence
            found += location(match[1])[0]
    return tuple(found)


def of_gff(lines: Iterable[str]) -> list[Cds]:
    """The coding sequences of the CDS lines of one sequence, in the order of their first lines.

    Lines of one ID (else of one Parent) are the parts of one. They are read in the order of their places on
    the strand, or, where strands differ or the exception is trans-splicing, in that of the file.

    Raises:
        NoLocation: a line that is none, whole.
    """
    groups: dict[str, list[_Line]] = {}
    for number, line in enumerate(lines):
        columns = line.rstrip("\r\n").split("\t")
        try:
            start, stop, phase = int(columns[3]) - 1, int(columns[4]), columns[7]
            if start < 0 or stop <= start or columns[6] not in _STRANDS or phase not in _PHASES:
                raise ValueError
            attributes = _attributes(columns[8])
        except (ValueError, IndexError):
            raise NoLocation(line[:200]) from None
        key = attributes.get("ID") or attributes.get("Parent") or f"\t{number}"
        part = Part(start, stop, columns[6] == "-")
        groups.setdefault(key, []).append(_Line(part, _PHASES[phase], attributes, columns[6] in "+-"))
    return [_of_lines(each) for each in groups.values()]


def _of_lines(lines: list[_Line]) -> Cds:
    told = lines[0].told
    strands = {line.part.reverse for line in lines}
    if len(strands) == 1 and "trans-splicing" not in told.get("exception", "").replace("trans_", "trans-"):
        lines = sorted(lines, key=lambda line: line.part.start, reverse=strands == {True})
    names = ("gene", "locus_tag", "Name", "protein_id", "ID", "Parent")
    partial = told.get("partial") == "true" or any("_range" in key for key in told)
    values = {"transl_table": [told["transl_table"]]} if "transl_table" in told else {}
    reason = "order" if len({line.part for line in lines}) < len(lines) else ""
    if not all(line.has_strand for line in lines):
        reason = "no strand"
    if told.get("pseudo") == "true" or "pseudogene" in told:
        reason = "pseudo"
    exceptions = re.findall(r"\(.*?aa:[A-Za-z]+\)", told.get("transl_except", ""))
    return Cds(
        next((told[name] for name in names if told.get(name)), ""),
        tuple(line.part for line in lines),
        lines[0].phase,
        _number(values, "transl_table", 0) or None,
        _excepted(exceptions),
        partial,
        reason,
    )


def _attributes(text: str) -> dict[str, str]:
    pairs = (each.partition("=") for each in text.strip().strip(";").split(";"))
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in pairs}
