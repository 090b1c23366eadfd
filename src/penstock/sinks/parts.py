"""Names and proofs of parts: the files that sinks write, one for each grain."""

from __future__ import annotations

from pathlib import Path

from penstock.abc import Batch, Part
from penstock.files import digest


def part_name(batch: Batch, suffix: str) -> str:
    """``"part-000000000-000000999.parquet"``: first and last item, padded so that ``ls`` sorts them."""
    return f"part-{batch.start:09d}-{batch.stop - 1:09d}{suffix}"


def kept(path: Path, folder: Path) -> Part:
    """The proof that a file is kept: its name in the folder, its bytes, its digest."""
    return Part(path.relative_to(folder).as_posix(), path.stat().st_size, digest(path))
