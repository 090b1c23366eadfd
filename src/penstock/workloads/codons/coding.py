"""Coding sequences of annotated files: which files, the job, and what is told of what was left out."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import penstock
from penstock.errors import BadInput, UsageError
from penstock.sequences.given import check_files
from penstock.sequences.inputs import Inputs, block_of, text_of
from penstock.sequences.stretches import Records, Stretch
from penstock.sources import Fasta
from penstock.sources.paths import find_files
from penstock.workloads.codons import genetic_codes
from penstock.workloads.codons.annotated import PLACES, Annotated, GenBank, keep_lines
from penstock.workloads.codons.features import REASONS
from penstock.workloads.codons.usage import Counted, Ints
from penstock.workloads.codons.usage_job import Bad, CountRecords

TOLD = ("features", "read", "partial", "excepted", *REASONS)
"""Coding sequences that were found, read, and read though they are partial; codons that are read otherwise;
then those left out, by reason."""


@dataclass(frozen=True)
class Files:
    """Annotated files.

    Attributes:
        genbank: GenBank.
        fasta: FASTA that GFF3 files tell of.
        gff: these.
    """

    genbank: list[str] = field(default_factory=list)
    fasta: list[str] = field(default_factory=list)
    gff: list[str] = field(default_factory=list)


def find(paths: Sequence[str], *, wanted: bool) -> Files | None:
    """The annotated files among these; None where all are to be read as they are.

    Args:
        paths: files or patterns.
        wanted: coding sequences were asked for; of GenBank they are the default.

    Raises:
        BadInput: sequences without an annotation, or the other way round.
    """
    found = Files()
    for path in find_files(paths):
        head = _head(path)
        if head.startswith(b"LOCUS "):
            found.genbank.append(path)
        elif head.startswith((b"##gff-version 3", b"##gff-version\t3")):
            found.gff.append(path)
        else:
            found.fasta.append(path)
    if not (wanted or found.genbank or found.gff):
        return None
    check_files([*found.genbank, *found.fasta], genbank=True)
    if found.genbank and (found.fasta or found.gff):
        raise BadInput(
            f"{len(found.genbank)} files are GenBank, of which the coding sequences are counted, and "
            f"{len(found.fasta) + len(found.gff)} are not: count them in runs apart",
            file=found.genbank[0],
        )
    if found.gff and not found.fasta:
        raise BadInput("GFF3 without its sequences: name the FASTA file too", file=found.gff[0])
    if found.fasta and not found.gff:
        raise BadInput(
            "--cds needs to know where the coding sequences are: name GenBank files, or FASTA and GFF3 files "
            "(which begin with ##gff-version 3)",
            file=found.fasta[0],
        )
    return found


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(32)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from error
    if head[:1] in (b">", b"@", b"L", b"#") or head.startswith(b"PAR1") or not head:
        return head
    block = next(Fasta([path], block=4096).read(0, 1))
    return bytes(next(iter(block), b""))[:32]


@dataclass(frozen=True)
class CountFeatures:
    """How many coding sequences an item has."""

    genbank: bool

    def __call__(self, item: Stretch, annotation: Any = None) -> int:
        """Count them."""
        reader = _reader(self.genbank, item.path, Counter(), annotation)
        return int(reader.count(item))


@dataclass(frozen=True)
class CountCoding(CountRecords):
    """Count the codons of the coding sequences of an item; see :class:`CountRecords`.

    Args:
        genbank: the items are of GenBank, else of FASTA.

    Its result has ``told`` too, int64, as ``TOLD`` names it.
    """

    genbank: bool = True

    def __call__(self, item: Any, firsts: NDArray[np.int64], annotation: Any = None) -> dict[str, Any]:
        """Count."""
        told: Counter[str] = Counter()
        codes: deque[int] = deque()
        reader = _reader(self.genbank, item.path, told, annotation)
        found = self.count(item, firsts, self._texts(item, reader, told, codes), _bad(item), codes)
        return found | {"told": np.array([told[name] for name in TOLD], np.int64)}

    def _texts(
        self, item: Stretch, reader: Any, told: Counter[str], codes: deque[int]
    ) -> Iterator[tuple[int, bytes]]:
        """The coding sequences as FASTA."""
        for cds, letters in reader.read(item):
            code = cds.code or self.codes.default
            try:
                genetic_codes.translation(code)
            except UsageError as error:
                raise BadInput(f"transl_table of {cds.name!r}: {error}", file=item.path) from None
            told["read"] += 1
            told["partial"] += cds.partial
            told["excepted"] += len(cds.excepted)
            codes.append(code)
            name = "_".join(cds.name.split()) or "unnamed"
            sequence = letters.replace(b">", b"!").replace(b";", b"!")
            yield 0, b">" + name.encode() + (b" partial" if cds.partial else b"") + b"\n" + sequence + b"\n"

    def codes_of(self, counted: Counted, names: Sequence[tuple[str, str]], given: Any) -> Ints:
        """As their features tell."""
        return np.array([given.popleft() for _ in range(len(counted))], np.int64)

    def numbers(self) -> list[int]:
        """All codes."""
        return genetic_codes.numbers()


def _bad(item: Stretch) -> Bad:
    """Names the file; a place in a coding sequence is none in it."""
    return lambda at, kind, text: BadInput(
        f"the byte {text[:1]!r} in a coding sequence: only letters, '-', '.', '*' and blanks are expected",
        file=item.path,
    )


def _reader(genbank: bool, path: str, told: Counter[str], annotation: Any) -> Any:
    if genbank:
        return GenBank(path, told)
    return Annotated(path, Path(annotation), told, _places(str(annotation)))


_PLACES: dict[str, Any] = {}


def _places(folder: str) -> Mapping[str, Any]:
    """Read once a process."""
    if folder not in _PLACES:
        _PLACES.clear()
        with open(Path(folder) / PLACES, encoding="utf-8", errors="surrogateescape") as file:
            _PLACES[folder] = json.load(file)
    found: Mapping[str, Any] = _PLACES[folder]
    return found


# ------------------------------------------------------------------ in the parent


def inputs_of(files: Files) -> Inputs:
    """A source of whole records."""
    paths = files.genbank or files.fasta
    source = Records(paths, block=block_of(paths), mark=b"LOCUS " if files.genbank else b">")
    return Inputs(source, paths, [], sum(map(text_of, paths)), 0)


def annotation_of(run: penstock.Run, files: Files) -> dict[str, Any]:
    """The input that tells where coding sequences are: a folder with the CDS lines of the GFF3 files."""
    if not files.gff:
        return {}
    # As paths, whose contents are in the key of the step: a changed annotation is refused.
    stored = run.step("annotation", keep, inputs={"paths": [Path(path) for path in files.gff]})
    return {"annotation": stored}


def keep(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """The step that keeps these lines."""

    def pieces(path: str) -> Iterator[tuple[int, bytes]]:
        source = Fasta([path])
        for block in source.read(0, len(source)):
            at = block.offset
            for piece in block:
                yield at, bytes(piece)
                at += len(piece)

    return keep_lines(folder, texts=((path, pieces(path)) for path in map(str, paths)))


def told_of(told: NDArray[np.int64]) -> dict[str, Any]:
    """What ``summary.json`` says of coding sequences."""
    by_name = dict(zip(TOLD, told.tolist(), strict=True))
    left_out = {name: by_name[name] for name in REASONS if by_name[name]}
    return {**{name: by_name[name] for name in TOLD[:4]}, "left_out": left_out}


def warnings_of(told: Mapping[str, Any]) -> list[str]:
    """What is to be said of what was left out."""
    if not told["left_out"]:
        return []
    reasons = ", ".join(f"{count} ({reason})" for reason, count in told["left_out"].items())
    return [
        f"of {told['features']} coding sequences {sum(told['left_out'].values())} were left out: {reasons}"
    ]
