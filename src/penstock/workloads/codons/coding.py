"""Coding sequences of annotated files: the job, and the report of what was left out."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

import penstock
from penstock.errors import BadInput, UsageError
from penstock.plurals import plural
from penstock.sources import Fasta
from penstock.sources.fasta import Block
from penstock.workloads.codons import genetic_codes
from penstock.workloads.codons.annotated import GenBank
from penstock.workloads.codons.features import REASONS
from penstock.workloads.codons.files import Files
from penstock.workloads.codons.gff3 import LINES, PLACES, Annotated, Places, features_of, keep_lines
from penstock.workloads.codons.usage import Counted, Ints
from penstock.workloads.codons.usage_job import Bad, CountRecords

TOLD = ("features", "read", "partial", "excepted", *REASONS)
"""Coding sequences that were found, read, and read though they are partial; codons that are read otherwise;
then those left out, by reason."""
ABSENT = "no such sequence"
"""The reason of coding sequences whose sequence is in none of the FASTA files."""
_NAMED = 5
"""Ids that are named."""


@dataclass(frozen=True)
class CountFeatures:
    """Counts the coding sequences of an item."""

    genbank: bool

    def __call__(self, item: Block, annotation: Any = None) -> int:
        """Count them."""
        reader = _reader(self.genbank, item.path, Counter(), annotation)
        return int(reader.count(item.placed()))


@dataclass(frozen=True)
class CountCoding(CountRecords):
    """Count the codons of the coding sequences of an item; see :class:`CountRecords`.

    Args:
        genbank: the items are of GenBank, else of FASTA.

    Its result has ``told`` too, int64, as ``TOLD`` names it; and of FASTA ``met``, see :class:`Annotated`.
    """

    genbank: bool = True

    def __call__(self, item: Any, firsts: NDArray[np.int64], annotation: Any = None) -> dict[str, Any]:
        """Count."""
        told: Counter[str] = Counter()
        codes: deque[int] = deque()
        reader = _reader(self.genbank, item.path, told, annotation)
        found = self.count(item, firsts, self._texts(item, reader, told, codes), _bad(item), codes)
        found["told"] = np.array([told[name] for name in TOLD], np.int64)
        return found if self.genbank else found | {"met": np.array(reader.met, np.int64)}

    def _texts(
        self, item: Block, reader: Any, told: Counter[str], codes: deque[int]
    ) -> Iterator[tuple[int, bytes]]:
        """The coding sequences as FASTA."""
        for cds, letters in reader.read(item.placed()):
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
        """The codes in their features."""
        return np.array([given.popleft() for _ in range(len(counted))], np.int64)

    def numbers(self) -> list[int]:
        """All codes."""
        return genetic_codes.numbers()


@dataclass(frozen=True)
class Met:
    """Which annotated sequences were found in FASTA, ascending; twice those found twice or more."""

    unit: ClassVar[str] = "item"
    order: Literal["any"] = "any"
    grain: None = None

    def start(self) -> Ints:
        """None found."""
        return np.zeros(0, np.int64)

    def step(self, state: Ints, result: Ints) -> Ints:
        """Add those of the next item."""
        return self.merge(state, result)

    def merge(self, left: Ints, right: Ints) -> Ints:
        """Merge two states."""
        both = np.sort(np.concatenate((left, right)))
        kept = np.ones(len(both), bool)
        kept[2:] = both[2:] != both[:-2]
        found: Ints = both[kept]
        return found

    def finish(self, states: Iterator[Ints]) -> Ints:
        """Merge all states."""
        total = self.start()
        for state in states:
            total = self.merge(total, state)
        return total


def _bad(item: Block) -> Bad:
    """Names the file; a place in a coding sequence is none in it."""
    return lambda at, kind, text: BadInput(
        f"the byte {text[:1]!r} in a coding sequence: only letters, '-', '.', '*' and blanks are expected",
        file=item.path,
    )


def _reader(genbank: bool, path: str, told: Counter[str], annotation: Any) -> Any:
    if genbank:
        return GenBank(path, told)
    return Annotated(path, Path(annotation), told, _places(str(annotation)))


_PLACES: dict[tuple[str, int, int, int], Any] = {}


def _places(folder: str) -> Places:
    """Read once a process, unless another run has come into the folder's place."""
    path = Path(folder) / PLACES
    status = path.stat()
    key = folder, status.st_ino, status.st_size, status.st_mtime_ns
    if key not in _PLACES:
        _PLACES.clear()
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            _PLACES[key] = json.load(file)
    found: Places = _PLACES[key]
    return found


def _ids(folder: str) -> Iterator[tuple[str, Sequence[Sequence[int]]]]:
    """The ids of each GFF3 file, and where their lines are."""
    return (each for places in _places(folder).values() for each in places.items())


# ------------------------------------------------------------------ in the parent


def annotation_of(run: penstock.Run, files: Files) -> dict[str, penstock.Stored]:
    """The input with the places of coding sequences: a folder with the CDS lines of the GFF3 files.

    Raises:
        BadInput: a GFF3 file whose sequences are neither beside it nor in it.
    """
    if not files.gff:
        return {}
    # As paths, whose contents are in the key of the step: a changed annotation is refused.
    stored = run.step("annotation", keep, inputs={"paths": [Path(path) for path in files.gff]}, threads=1)
    if stored.facts["without"] and not files.fasta:
        raise BadInput(
            "GFF3 without its sequences: name the FASTA file too (there is no line ##FASTA in it)",
            file=stored.facts["without"][0],
        )
    return {"annotation": stored}


def keep(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """The step that stores these lines."""

    def pieces(path: str) -> Iterator[tuple[int, bytes]]:
        source = Fasta([path])
        for block in source.read(0, len(source)):
            at = block.offset
            for piece in block:
                yield at, bytes(piece)
                at += len(piece)

    return keep_lines(folder, texts=((path, pieces(path)) for path in map(str, paths)))


def count_absent(folder: Path, annotation: Path, usage: Mapping[str, Any]) -> dict[str, Any]:
    """The step that counts the annotation of sequences that are in no FASTA file."""
    met = set(usage["met"].tolist())
    absent = [(name, runs) for name, runs in _ids(str(annotation)) if runs[0][0] not in met]
    with open(annotation / LINES, "rb") as lines:
        features = sum(len(features_of(lines, runs)) for _, runs in absent)
    names = [name.encode("utf-8", "replace").decode() for name, _ in absent[:_NAMED]]
    return {"features": features, "sequences": len(absent), "first": names}


def told_of(
    run: penstock.Run, files: Files, annotation: Mapping[str, penstock.Stored], usage: penstock.Stored
) -> dict[str, Any]:
    """The coding sequences' entry in ``summary.json``.

    Raises:
        BadInput: records of one id, of which the annotation means only one.
    """
    by_name = dict(zip(TOLD, usage.open("told").tolist(), strict=True))
    told: dict[str, Any] = {name: by_name[name] for name in TOLD[:4]}
    told["left_out"] = {name: by_name[name] for name in REASONS if by_name[name]}
    for stored in annotation.values():
        met = usage.open("met")
        _refuse_twice(met, stored, files)
        if len(met) < stored.facts["sequences"]:
            inputs = {"annotation": stored, "usage": usage}
            absent = run.step("absent", count_absent, inputs=inputs, threads=1).facts
            told["features"] += absent["features"]
            told["left_out"][ABSENT] = absent["features"]
            told["absent"] = {"sequences": absent["sequences"], "first": absent["first"]}
    return told


def _refuse_twice(met: Ints, annotation: penstock.Stored, files: Files) -> None:
    twice = set(met[1:][met[1:] == met[:-1]].tolist())
    if not twice:
        return
    names = (name for name, runs in _ids(str(annotation.folder)) if runs[0][0] in twice)
    raise BadInput(
        f"{plural(len(twice), 'id')} named in CDS lines {'belongs' if len(twice) == 1 else 'belong each'} to "
        f"several FASTA records ({_list(names, len(twice))}): nothing says which one is meant, and all would "
        "be counted. Give each id once",
        file=(files.fasta or files.gff)[0] if len(files.fasta or files.gff) == 1 else None,
    )


def _list(names: Iterable[str], total: int) -> str:
    shown = ", ".join(repr(name)[:100] for name in islice(names, _NAMED))
    return shown + (f" and {total - _NAMED} more" if total > _NAMED else "")


def warnings_of(told: Mapping[str, Any]) -> list[str]:
    """Warnings about what was left out."""
    if not told["left_out"]:
        return []
    reasons = ", ".join(f"{count:,} ({reason})" for reason, count in told["left_out"].items())
    left_out = sum(told["left_out"].values())
    said = [
        f"{left_out:,} of {plural(told['features'], 'coding sequence')} {'was' if left_out == 1 else 'were'} "
        f"left out: {reasons}"
    ]
    if "absent" in told:
        count = told["absent"]["sequences"]
        said.append(
            f"{plural(count, 'sequence')} named in CDS lines {'is' if count == 1 else 'are'} in no FASTA "
            f"record that was read: {_list(told['absent']['first'], count)}. The first column of GFF3 must "
            "be the first word of a FASTA header"
        )
    return said
