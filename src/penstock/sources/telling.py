"""How a source's files are fingerprinted: by their content, or by size and mtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from penstock import files
from penstock.budget import MiB
from penstock.errors import BadInput, UsageError

Fingerprint = Literal["auto", "content", "stat"]
"""``"content"``: every byte counts, and a copy is the same file. ``"stat"``: size and time of writing, which
costs nothing. ``"auto"``: by content up to 1,000 files and 64 MiB in all, else by size and time."""

MOST_FILES = 1000
_MOST_BYTES = 64 * MiB
_READABLE = 0o444
"""Readable by everybody; of other files the system is asked."""
_HOW = {"content": files.fingerprint_content, "stat": files.fingerprint_stat, "sample": files.fingerprint}
"""``"sample"`` is how a folder of an earlier version tells its files: by parts of them."""


class Telling:
    """Fingerprints the files of a source.

    Args:
        paths: the files.
        how: as the user wishes it.
        who: the source, for the message.

    Raises:
        UsageError: another ``how``.
    """

    def __init__(self, paths: Sequence[str], how: Fingerprint, who: str) -> None:
        if how not in ("auto", "content", "stat"):
            raise UsageError(f"{who}(fingerprint={how!r}): it is 'auto', 'content' or 'stat'")
        self._paths = paths
        self._how = how

    def choose(self) -> str:
        """The kind of fingerprint: ``"content"`` or ``"stat"``.

        Raises:
            BadInput: a file is gone.
        """
        if self._how != "auto":
            return self._how
        if len(self._paths) > MOST_FILES:
            return "stat"
        try:
            total = sum(os.stat(path).st_size for path in self._paths)  # noqa: PTH116 - 10^5 of them
        except OSError as error:
            raise _gone(error) from error
        return "content" if total <= _MOST_BYTES else "stat"

    def tell(self, how: str = "") -> dict[str, str]:
        """Each file's fingerprint, by path.

        Raises:
            BadInput: a file is gone, or no longer readable.
        """
        how = how if how in _HOW else self.choose()
        print_of = _HOW[how]
        try:
            if how == "stat":
                return self._by_stat()
            return {path: print_of(path) for path in self._paths}
        except OSError as error:
            raise _gone(error) from error

    def _by_stat(self) -> dict[str, str]:
        """The same; one look at each file tells too whether it can be read."""
        told = {}
        stat, stat_told = os.stat, files.stat_told
        for path in self._paths:  # 10^5 of them
            status = stat(path)
            if status.st_mode & _READABLE != _READABLE:
                files.check_readable(path)
            told[path] = stat_told(status)
        return told


def _gone(error: OSError) -> BadInput:
    return BadInput(f"was there, and cannot be read now: {error.strerror}", file=error.filename)
