"""Readers of annotated sequences: GenBank records, and FASTA beside the CDS lines of GFF3."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from penstock.errors import BadInput
from penstock.workloads.codons.features import Cds, NoLocation, of_gff, of_qualifiers
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
LINES, PLACES = "cds.gff", "cds.json"


# ------------------------------------------------------------------ GenBank


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
        """Each coding sequence and its letters, as they end.

        Raises:
            BadInput: a feature that cannot be read, a record without an end, letters that are missing.
        """
        lines = _lines(pieces, self._path)
        for at, line in lines:
            if line.startswith(b"LOCUS"):
                yield from self._record(at, line, lines)
            elif line.strip() and not line.startswith(b"//"):
                raise self._bad(at, f"{_shown(line)} outside a record: GenBank begins with a line LOCUS")

    def count(self, pieces: Pieces) -> int:
        """How many coding sequences there are."""
        return sum(line.startswith(b"     CDS   ") for _, line in _lines(pieces, self._path))

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
                raise self._bad(place, f"{_shown(line)} where a line of sequence was expected")
            if number.lstrip(b"0") != b"%d" % (read + 1):
                raise self._bad(
                    place,
                    f"a line of sequence of the record {_shown(locus)} has the number {_shown(number)}, and "
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
                f"the record {_shown(locus)} has {read} letters, and its line LOCUS tells {int(told[1])} bp: "
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
            raise self._bad(
                place, f"a CDS whose place or qualifier cannot be read: {_shown(error)}"
            ) from None

    def _tell(self, sequences: Sequence[Cds]) -> None:
        self._told["features"] += len(sequences)
        self._told.update(cds.reason for cds in sequences if cds.reason)

    def _cut(self, at: int, locus: bytes) -> BadInput:
        return self._bad(at, f"the record {_shown(locus)} has no end (a line //): the file is cut off")

    def _bad(self, at: int, what: str) -> BadInput:
        return BadInput(what, file=self._path, place=f"byte {at} of the text")


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


def _lines(pieces: Pieces, path: str) -> Iterator[tuple[int, bytes]]:
    """Lines, without their ends, and where each begins."""
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


def _shown(text: object) -> str:
    return repr(text.decode("latin-1") if isinstance(text, bytes) else str(text))[:100]


# ------------------------------------------------------------------ FASTA and GFF3


def keep_lines(folder: Path, *, texts: Iterable[tuple[str, Pieces]]) -> dict[str, Any]:
    """Write the CDS lines of GFF3 files into a folder, and where those of each sequence are in it.

    Args:
        folder: gets ``cds.gff`` and ``cds.json``, id -> list of (start, stop) in bytes.
        texts: path and text of each file.

    Raises:
        BadInput: a line that is none of GFF3, or no CDS line in any file.
    """
    places: dict[str, list[list[int]]] = {}
    at = 0
    last: bytes | None = None
    with open(folder / LINES, "wb") as out:
        for path, pieces in texts:
            for offset, line in _lines(pieces, path):
                if line.startswith(b"##FASTA"):
                    break
                if line.startswith(b"#") or not line.strip():
                    continue
                columns = line.split(b"\t", 3)
                if len(columns) < 4:
                    raise BadInput(
                        f"{_shown(line)} is no line of GFF3, which has nine columns with tabs between them",
                        file=path, place=f"byte {offset} of the text",
                    )  # fmt: skip
                if columns[2] != b"CDS":
                    continue
                name = columns[0]
                size = out.write(line + b"\n")
                runs = places.setdefault(name.decode("utf-8", "surrogateescape"), [])
                if name == last:
                    runs[-1][1] += size
                else:
                    runs.append([at, at + size])
                at, last = at + size, name
    with open(folder / PLACES, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(places, file)
    return {"sequences": len(places), "bytes": at}


class Annotated:
    """Coding sequences of FASTA records, by the lines that ``keep_lines`` kept.

    Args:
        path: the FASTA file, for errors.
        folder: of the lines.
        told: as for :class:`GenBank`.
        places: of the lines of each sequence in it.

    ``met`` gets, for each record that has such lines, where the first of them begins: it stands for its id.
    """

    def __init__(self, path: str, folder: Path, told: Counter[str], places: Mapping[str, Any]) -> None:
        self._path = path
        self._folder = folder
        self._told = told
        self._places = places
        self.met: list[int] = []

    def read(self, pieces: Pieces) -> Coding:
        """Each coding sequence and its letters, as they end."""
        gatherer: Gatherer | None = None
        with open(self._folder / LINES, "rb") as lines:
            for header, letters in _fasta(pieces, self._path):
                if header is not None:
                    self._end(gatherer)
                    gatherer = Gatherer(self._features(header, lines))
                elif gatherer is not None:
                    yield from gatherer.feed(letters)
                elif letters:
                    raise BadInput("text before the first '>'", file=self._path)
        self._end(gatherer)

    def count(self, pieces: Pieces) -> int:
        """How many coding sequences there are."""
        with open(self._folder / LINES, "rb") as lines:
            return sum(
                len(self._features(header, lines, tell=False))
                for header, _ in _fasta(pieces, self._path)
                if header is not None
            )

    def _features(self, header: bytes, lines: IO[bytes], *, tell: bool = True) -> list[Cds]:
        name = (header.split(None, 1) or [b""])[0].decode("utf-8", "surrogateescape")
        runs = self._places.get(name, ())
        found = features_of(lines, runs)
        if tell:
            self.met += [start for start, _ in runs[:1]]
            self._told["features"] += len(found)
            self._told.update(cds.reason for cds in found if cds.reason)
        return found

    def _end(self, gatherer: Gatherer | None) -> None:
        self._told["outside"] += len(gatherer.beyond()) if gatherer else 0


def features_of(lines: IO[bytes], runs: Iterable[Sequence[int]]) -> list[Cds]:
    """The coding sequences of one sequence, from the lines that ``keep_lines`` kept.

    Args:
        lines: the file of them.
        runs: where those of the sequence begin and end in it.

    Raises:
        BadInput: a line that is none of a CDS.
    """
    texts: list[str] = []
    for start, stop in runs:
        lines.seek(start)
        texts += lines.read(stop - start).decode("utf-8", "replace").splitlines()
    try:
        return of_gff(texts)
    except NoLocation as error:
        raise BadInput(f"a CDS line of GFF3 that cannot be read: {_shown(error)}") from None


def _fasta(pieces: Pieces, path: str) -> Iterator[tuple[bytes | None, bytes]]:
    """Headers, and letters between them without blanks and line ends."""
    held, inside_line = b"", False
    for _, piece in pieces:
        text = held + piece
        cut = text.rfind(b"\n") + 1
        if not cut and (inside_line or text[:1] not in (b">", b";")):
            cut = len(text)
        held, text = text[cut:], text[:cut]
        if len(held) > LONGEST_LINE:
            raise BadInput(f"a header of over {LONGEST_LINE} bytes", file=path)
        yield from _of_lines(text, inside_line)
        inside_line = not text.endswith(b"\n") if text else inside_line
    yield from _of_lines(held, inside_line)


def _of_lines(text: bytes, inside_line: bool) -> Iterator[tuple[bytes | None, bytes]]:
    if b">" not in text and b";" not in text:
        yield None, text.translate(None, b" \t\r\n\v\f")
        return
    for at, line in enumerate(text.split(b"\n")):
        if line.startswith(b">") and not (inside_line and not at):
            yield line[1:].rstrip(b"\r"), b""
        elif not line.startswith(b";") or (inside_line and not at):
            yield None, line.translate(None, b" \t\r\v\f")
