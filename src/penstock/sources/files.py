"""Files, one per item."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path

from penstock.sources.paths import AnyPath, find_files
from penstock.sources.telling import MOST_FILES, Fingerprint, Telling


class Files:
    """Files, one per item: the function gets its ``Path``.

    Args:
        paths: one or more paths or glob patterns (``*``, ``?``, ``[...]``, ``**``). Files come in
            the order given, those of one pattern sorted by name.

        fingerprint: how a changed file is told: ``"content"``, ``"stat"`` (size and time of writing), or
            ``"auto"``: by content up to 1,000 files and 64 MiB in all, else by size and time.

    Raises:
        BadInput: a file that is missing, unreadable, a folder or given twice; a pattern without a
            match; nothing given at all.
        UsageError: another ``fingerprint``.
    """

    def __init__(self, paths: AnyPath | Iterable[AnyPath], *, fingerprint: Fingerprint = "auto") -> None:
        # Of more files, which are told by a look at each, it is found when they are looked at.
        self._paths = find_files(
            paths, may_be_unreadable=MOST_FILES if fingerprint in ("auto", "stat") else None
        )
        self._telling = Telling(self._paths, fingerprint, "Files")
        self._sizes: array[int] | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"Files({len(self._paths)} files)"

    def read(self, start: int, stop: int) -> list[Path]:
        """The paths of one call; the function opens them."""
        return [Path(path) for path in self._paths[start:stop]]

    def sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of each file, as of the first request; 0 for one that is gone."""
        if self._sizes is None:
            self._sizes = array("q", map(_size, self._paths))
        return self._sizes[start:stop].tolist()

    def name(self, item: int) -> str:
        """The path as it was given."""
        return self._paths[item]

    def fingerprint(self) -> Mapping[str, str]:
        """Each file's fingerprint, by path.

        Raises:
            BadInput: a file is gone, or no longer readable.
        """
        return self._telling.tell()

    def fingerprint_kind(self) -> str:
        """``"content"`` or ``"stat"``."""
        return self._telling.choose()

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint of this kind."""
        return self._telling.tell(kind)

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """Each file is one item."""
        return {path: (item, item + 1) for item, path in enumerate(self._paths)}


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - there may be 10^5 of them
    except OSError:  # told to whoever reads it
        return 0
