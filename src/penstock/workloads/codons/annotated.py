"""Reader of GenBank records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from penstock.errors import BadInput
from penstock.sources.fasta import line_of
from penstock.workloads.codons.features import Cds, NoLocation, of_qualifiers
from penstock.workloads.codons.gather import Gatherer

Pieces = Iterable[tuple[int, bytes]]
Coding = Iterator[tuple[Cds, bytes]]

LONGEST_LINE = 16 << 20
"""Bytes of a line of an annotation."""
_TOGETHER = 64 << 10
_KEPT = frozenset(
    (
        "gene", "locus_tag", "protein_id", "product", "codon_start", "transl_table", "transl_except",
        "pseudo", "pseudogene",
    )
)  # fmt: skip
_LENGTH = re.compile(rb"\s(\d{1,18})\s+bp\b", re.IGNORECASE)
"""The length in a line LOCUS."""


class GenBank:
    """Coding sequences of GenBank records.

    Args:
        path: the file, for errors.
        told: is given what happens, by word: ``features`` and the reasons of ``features.REASONS``.
    """

    def __init__(self, path: str, told: Counter[str]) -> None:
        self._path = path
        self._told = told
        self._line = 0

    def read(self, pieces: Pieces) -> Coding:
        """Yield each coding sequence and its letters as it ends.

        Raises:
            BadInput: a feature that cannot be read, a record without an end, letters that are missing.
        """
        lines = lines_of(pieces, self._path)
        for at, line in lines:
            if line.startswith(b"LOCUS"):
                yield from self._record(at, line, lines)
            elif line.strip() and not line.startswith(b"//"):
                raise self._bad(at, f"{shown(line)} outside a record: GenBank begins with a line LOCUS")

    def count(self, pieces: Pieces) -> int:
        """How many coding sequences there are."""
        return sum(line.startswith(b"     CDS   ") for _, line in lines_of(pieces, self._path))

    def _record(self, at: int, locus: bytes, lines: Iterator[tuple[int, bytes]]) -> Coding:
        sequences: list[Cds] = []
        feature: list[tuple[int, bytes]] = []
        in_features = False
        for place, line in lines:
            if line.startswith(b"FEATURES"):
                in_features = True
            elif line.startswith(b"ORIGIN"):
                sequences += self._closed(feature)
                yield from self._letters(at, locus, sequences, lines)
                return
            elif line.startswith(b"//"):
                sequences += self._closed(feature)
                self._told["no sequence"] += sum(not cds.reason for cds in sequences)
                self._tell(sequences)
                return
            elif in_features and line[:1] == b" ":
                if line[5:6].strip():
                    sequences += self._closed(feature)
                    feature = [(place, line)] if line[5:21].strip() == b"CDS" else []
                elif feature:
                    feature.append((place, line))
            else:
                in_features = False
        raise self._cut(at, locus)

    def _letters(
        self, at: int, locus: bytes, sequences: Sequence[Cds], lines: Iterator[tuple[int, bytes]]
    ) -> Coding:
        self._tell(sequences)
        gatherer = Gatherer(sequences)
        held: list[bytes] = []
        size = read = 0
        for place, line in lines:
            if line.startswith(b"//"):
                yield from gatherer.feed(b"".join(held))
                self._told["outside" if read else "no sequence"] += len(gatherer.beyond())
                self._check_length(at, locus, read)
                return
            number, _, letters = line.strip().partition(b" ")
            if not number.isdigit():
                raise self._bad(place, f"{shown(line)} where a line of sequence was expected")
            if number.lstrip(b"0") != b"%d" % (read + 1):
                raise self._bad(
                    place,
                    f"a line of sequence of the record {shown(locus)} has the number {shown(number)}, and "
                    f"{read + 1} follows the {read} letters before it: letters are missing or too many",
                )
            held.append(letters.translate(None, b" \t"))
            size += len(held[-1])
            read += len(held[-1])
            if size > _TOGETHER:
                yield from gatherer.feed(b"".join(held))
                held, size = [], 0
        raise self._cut(at, locus)

    def _check_length(self, at: int, locus: bytes, read: int) -> None:
        """See that a record has the letters that its first line tells, or none."""
        told = _LENGTH.search(locus)
        if told and read and int(told[1]) != read:
            raise self._bad(
                at,
                f"the record {shown(locus)} has {read} letters, and its line LOCUS says {int(told[1])} bp: "
                "letters are missing or too many",
            )

    def _closed(self, lines: list[tuple[int, bytes]]) -> list[Cds]:
        """The feature that these lines told, if it was one."""
        if not lines:
            return []
        location, told = _feature([line for _, line in lines])
        place = lines[0][0]
        lines.clear()
        try:
            return [of_qualifiers(location, told)]
        except NoLocation as error:
            raise self._bad(place, f"a CDS whose place or qualifier cannot be read: {shown(error)}") from None

    def _tell(self, sequences: Sequence[Cds]) -> None:
        self._told["features"] += len(sequences)
        self._told.update(cds.reason for cds in sequences if cds.reason)

    def _cut(self, at: int, locus: bytes) -> BadInput:
        return self._bad(at, f"the record {shown(locus)} has no end (a line //): the file is cut off")

    def _bad(self, at: int, what: str) -> BadInput:
        line = line_of(self._path, at)
        place = f"byte {at} of the text" if line is None else f"line {line}"
        return BadInput(what, file=self._path, place=place)


def _feature(lines: Sequence[bytes]) -> tuple[str, dict[str, list[str]]]:
    """Location and qualifiers of a feature, of which only those that are used are kept."""
    texts = [line[21:].decode("latin-1").strip() for line in lines]
    location = texts[0]
    told: dict[str, list[str]] = {}
    at = 1
    while at < len(texts) and not texts[at].startswith("/"):
        location += texts[at]
        at += 1
    while at < len(texts):
        name, equals, value = texts[at][1:].partition("=")
        at += 1
        quoted = value.startswith('"')
        while at < len(texts) and (
            (quoted and (value == '"' or not value.endswith('"'))) or not texts[at].startswith("/")
        ):
            if name in _KEPT:
                value += f" {texts[at]}"
            elif texts[at].endswith('"'):
                value = '""'
            at += 1
        if name in _KEPT:
            told.setdefault(name, []).append(value.strip('"') if equals else "")
    return location, told


def lines_of(pieces: Pieces, path: str) -> Iterator[tuple[int, bytes]]:
    """Lines without line ends, and the offset of each."""
    held, at = b"", 0
    for offset, piece in pieces:
        at = offset - len(held)
        parts = (held + piece).split(b"\n")
        held = parts.pop()
        for line in parts:
            yield at, line.rstrip(b"\r")
            at += len(line) + 1
        if len(held) > LONGEST_LINE:
            raise BadInput(f"a line of over {LONGEST_LINE} bytes", file=path, place=f"byte {at} of the text")
    if held:
        yield at, held.rstrip(b"\r")


def shown(text: object) -> str:
    """Input text, as an error quotes it."""
    return repr(text.decode("latin-1") if isinstance(text, bytes) else str(text))[:100]
