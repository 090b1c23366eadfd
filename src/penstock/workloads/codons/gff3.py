"""Reader of the CDS lines of GFF3, and of their coding sequences in FASTA: beside it, or inside."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from penstock.errors import BadInput
from penstock.sequences import wrong
from penstock.workloads.codons.annotated import LONGEST_LINE, Coding, Pieces, lines_of, shown
from penstock.workloads.codons.features import Cds, NoLocation, of_gff
from penstock.workloads.codons.gather import Gatherer

LINES, PLACES = "cds.gff", "cds.json"
_PLAIN = re.compile(rb"[^\t]+\t[^\t]*\tCDS\t([1-9]\d{0,14})\t([1-9]\d{0,14})\t[^\t]*\t[-+.?]\t[012.]\t[^\t]*")
"""A CDS line whose columns are in order."""


def keep_lines(folder: Path, *, texts: Iterable[tuple[str, Pieces]]) -> dict[str, Any]:
    """Copy the CDS lines of GFF3 files into a folder, with an index by sequence.

    Args:
        folder: gets ``cds.gff``, and ``cds.json``: path -> id -> list of (start, stop) in bytes.
        texts: path and text of each file.

    Returns how many ``sequences`` and ``bytes`` there are, and the files ``without`` sequences inside.

    Raises:
        BadInput: a line that is none of GFF3, by file and line.
    """
    places: dict[str, dict[str, list[list[int]]]] = {}
    without = []
    at = 0
    with open(folder / LINES, "wb") as out:
        for path, pieces in texts:
            own = places.setdefault(path, {})
            last: bytes | None = None
            inside = False
            for number, (_, line) in enumerate(lines_of(pieces, path), 1):
                if inside := line.startswith((b"##FASTA", b">")):
                    break
                if not _is_cds(line, path, number):
                    continue
                name = line.partition(b"\t")[0]
                size = out.write(line + b"\n")
                runs = own.setdefault(name.decode("utf-8", "surrogateescape"), [])
                if name == last:
                    runs[-1][1] += size
                else:
                    runs.append([at, at + size])
                at, last = at + size, name
            if not inside:
                without.append(path)
    with open(folder / PLACES, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(places, file)
    return {"sequences": sum(map(len, places.values())), "bytes": at, "without": without}


def _is_cds(line: bytes, path: str, number: int) -> bool:
    if line.startswith(b"#") or not line.strip():
        return False
    columns = line.split(b"\t", 3)
    if len(columns) < 4:
        raise BadInput(
            f"{shown(line)} is no line of GFF3, which has nine columns with tabs between them",
            file=path, place=f"line {number}",
        )  # fmt: skip
    if columns[2] != b"CDS":
        return False
    plain = _PLAIN.match(line)
    if not plain or int(plain[1]) > int(plain[2]) or b"transl_" in line:
        _check(line, path, number)
    return True


def _check(line: bytes, path: str, number: int) -> None:
    """See that a line can be read, while its place is known."""
    try:
        of_gff([line.decode("utf-8", "replace")])
    except NoLocation as error:
        raise BadInput(
            f"a CDS line of GFF3 that cannot be read: {shown(error)}", file=path, place=f"line {number}"
        ) from None


Places = Mapping[str, Mapping[str, Sequence[Sequence[int]]]]
"""What ``cds.json`` holds."""


class Annotated:
    """Coding sequences of FASTA records, from the lines that ``keep_lines`` copied.

    Args:
        path: the file of the sequences. Of a GFF3 file with sequences inside only its own lines count.
        folder: of the lines.
        told: as for :class:`~penstock.workloads.codons.annotated.GenBank`.
        places: of the lines of each sequence in it.

    ``met`` gets, for each record and GFF3 file that has such lines, where the first of them begins: it stands
    for the id in this file.
    """

    def __init__(self, path: str, folder: Path, told: Counter[str], places: Places) -> None:
        self._path = path
        self._folder = folder
        self._told = told
        self._inside = path in places
        self._places = [places[path]] if self._inside else list(places.values())
        self.met: list[int] = []

    def read(self, pieces: Pieces) -> Coding:
        """Yield each coding sequence and its letters as it ends."""
        gatherer: Gatherer | None = None
        with open(self._folder / LINES, "rb") as lines:
            for header, letters in _fasta(pieces, self._path):
                if header is not None:
                    self._end(gatherer)
                    gatherer = Gatherer(self._features(header, lines))
                elif gatherer is not None:
                    yield from gatherer.feed(letters)
                elif letters and not self._inside:  # there it is the annotation
                    raise wrong.bad_byte(self._path, 0, wrong.BAD_TEXT)
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
        """Those of a record, of each GFF3 file by itself: an id means one thing in one file alone."""
        name = (header.split(None, 1) or [b""])[0].decode("utf-8", "surrogateescape")
        found: list[Cds] = []
        for places in self._places:
            runs = places.get(name, ())
            own = features_of(lines, runs)
            if found:
                before = {(cds.name, cds.parts) for cds in found}
                own = [
                    replace(cds, reason=cds.reason or "annotated twice")
                    if (cds.name, cds.parts) in before
                    else cds
                    for cds in own
                ]
            found += own
            if tell:
                self.met += [start for start, _ in runs[:1]]
        if tell:
            self._told["features"] += len(found)
            self._told.update(cds.reason for cds in found if cds.reason)
        return found

    def _end(self, gatherer: Gatherer | None) -> None:
        self._told["outside"] += len(gatherer.beyond()) if gatherer else 0


def features_of(lines: IO[bytes], runs: Iterable[Sequence[int]]) -> list[Cds]:
    """The coding sequences of one sequence in one file, from the lines that ``keep_lines`` copied.

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
        raise BadInput(f"a CDS line of GFF3 that cannot be read: {shown(error)}") from None


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
