"""Files, each an item."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path

from penstock import files
from penstock.errors import BadInput
from penstock.sources.paths import AnyPath, find_files


class Files:
    """Files, each an item: the function gets its ``Path``.

    Args:
        paths: one or more paths or glob patterns (``*``, ``?``, ``[...]``, ``**``). Files come in
            the order given, those of one pattern sorted by name.

    Raises:
        BadInput: a file that is missing, unreadable, a folder or given twice; a pattern without a
            match; nothing given at all.
    """

    def __init__(self, paths: AnyPath | Iterable[AnyPath]) -> None:
        self._paths = find_files(paths)
        self._sizes = array("q", (Path(path).stat().st_size for path in self._paths))

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"Files({len(self._paths)} files)"

    def read(self, start: int, stop: int) -> list[Path]:
        """The paths of one call; the function opens them."""
        return [Path(path) for path in self._paths[start:stop]]

    def sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of each file, as they were when the source was made."""
        return self._sizes[start:stop].tolist()

    def name(self, item: int) -> str:
        """The path as it was given."""
        return self._paths[item]

    def fingerprint(self) -> Mapping[str, str]:
        """Size, time, first and last 64 KiB of each file, by path.

        Raises:
            BadInput: a file is gone, or no longer readable.
        """
        return fingerprints(self._paths)

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """Each file is one item."""
        return {path: (item, item + 1) for item, path in enumerate(self._paths)}


def fingerprints(paths: Iterable[str]) -> dict[str, str]:
    """The fingerprint of each file, by path.

    Raises:
        BadInput: a file is gone, or no longer readable.
    """
    found = {}
    for path in paths:
        try:
            found[path] = files.fingerprint(path)
        except OSError as error:
            raise BadInput(f"was there, and cannot be read now: {error.strerror}", file=path) from error
    return found
