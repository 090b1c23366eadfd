"""Names and proofs of parts, the files that sinks write, and removal of leftovers."""

from __future__ import annotations

import os
from collections.abc import Container
from fnmatch import fnmatch
from pathlib import Path

from penstock.abc import Batch, Part
from penstock.files import discard, proof, prove


def part_name(batch: Batch, suffix: str) -> str:
    """``"part-000000000-000000999.parquet"``: first and last item, padded so that ``ls`` sorts them."""
    return f"part-{batch.start:09d}-{batch.stop - 1:09d}{suffix}"


def kept(path: Path, folder: Path) -> Part:
    """The proof of a file or folder: its name in the run folder, its size, its digest."""
    return Part(path.relative_to(folder).as_posix(), *proof(path))


def check(part: Part, folder: Path) -> Path:
    """The path of a part about to be read, once its digest matches its receipt.

    Raises:
        ResultsDamaged: it is not, or the part is gone.
    """
    path = folder / part.name
    prove(path, part.bytes, part.digest)
    return path


def another(folder: Path, pattern: str, name: str) -> Path | None:
    """Some existing part other than ``name``; found without listing a folder that may hold 10^5 of them."""
    with os.scandir(folder) as entries:
        found = (entry.name for entry in entries if entry.name != name and fnmatch(entry.name, pattern))
        return next((folder / each for each in found), None)


def sweep(folder: Path, pattern: str, names: Container[str] | None = None) -> None:
    """Remove leftovers of killed runs: drafts of names like ``pattern``, and finals not in ``names``.

    Only at close, when nobody writes any more. ``glob`` and ``tar`` do not read our journal. A close may
    be killed too, so what it writes is swept as well, before it is written.
    """
    for draft in folder.glob(f".{pattern}.*.tmp"):
        discard(draft)
    if names is not None:
        for path in folder.glob(pattern):
            if path.name not in names:
                discard(path)
