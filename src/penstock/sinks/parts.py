"""Names and proofs of parts, the files that sinks write, and the removal of what is none."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from penstock.abc import Batch, Part
from penstock.files import discard, proof


def part_name(batch: Batch, suffix: str) -> str:
    """``"part-000000000-000000999.parquet"``: first and last item, padded so that ``ls`` sorts them."""
    return f"part-{batch.start:09d}-{batch.stop - 1:09d}{suffix}"


def kept(path: Path, folder: Path) -> Part:
    """The proof that a file or folder is kept: its name in the run folder, its bytes, its digest."""
    return Part(path.relative_to(folder).as_posix(), *proof(path))


def sweep(folder: Path, pattern: str, names: Container[str] | None = None) -> None:
    """Remove what killed runs left: drafts of names like ``pattern``, and finals not in ``names``.

    Only at close, when nobody writes any more. ``glob`` and ``tar`` do not read our journal. A close may
    be killed too, so what it writes is swept as well, before it is written.
    """
    for draft in folder.glob(f".{pattern}.*.tmp"):
        discard(draft)
    if names is not None:
        for path in folder.glob(pattern):
            if path.name not in names:
                discard(path)
