"""Which of the given files are annotated, and how they are cut into blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.errors import BadInput
from penstock.plurals import plural
from penstock.sequences.given import check_files
from penstock.sequences.inputs import Inputs, block_of, text_of
from penstock.sources import Fasta, FastaRecords
from penstock.sources.paths import find_files


@dataclass(frozen=True)
class Files:
    """Annotated files.

    Attributes:
        genbank: GenBank.
        fasta: FASTA that GFF3 files tell of; none where these have their sequences inside (``##FASTA``).
        gff: these.
    """

    genbank: list[str] = field(default_factory=list)
    fasta: list[str] = field(default_factory=list)
    gff: list[str] = field(default_factory=list)


def find(paths: Sequence[str], *, wanted: bool) -> Files | None:
    """The annotated files among these; None if all are to be read without annotation.

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
        elif _is_gff(head):
            found.gff.append(path)
        else:
            found.fasta.append(path)
    if not (wanted or found.genbank or found.gff):
        return None
    check_files([*found.genbank, *found.fasta, *found.gff], annotated=True)
    if found.genbank and (found.fasta or found.gff):
        raise BadInput(
            f"{plural(len(found.genbank), 'file')} of GenBank, whose coding sequences are counted, and "
            f"{plural(len(found.fasta) + len(found.gff), 'file')} of another format are given: count them in "
            "runs apart",
            file=found.genbank[0],
        )
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


def _is_gff(head: bytes) -> bool:
    """Whether a text begins as GFF3 does."""
    return re.match(rb"##gff-version\s+3", head) is not None


def inputs_of(files: Files) -> Inputs:
    """A source of whole records."""
    paths = files.genbank or files.fasta or files.gff
    source = FastaRecords(paths, block=block_of(paths), mark="LOCUS " if files.genbank else ">")
    return Inputs(source, paths, [], sum(map(text_of, paths)), 0)
