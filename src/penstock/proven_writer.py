"""Writes files whose size and digest are known once they are written."""

from __future__ import annotations

import hashlib
import os
from types import TracebackType
from typing import Self

_AT_ONCE = 1 << 20
"""Bytes that are handed over at once: pieces are small, and each call costs."""
_PIECES = 512
"""So many pieces at once at most; systems take 1,024."""


class ProvenWriter:
    """Writes a file from front to back and digests it meanwhile, so that its proof costs no reading.

    Pieces are handed to the kernel as they are, many at once, without being copied together. They must not
    change before they are written.

    Args:
        path: of the file; what it held is dropped.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._state = hashlib.blake2b(digest_size=16)
        self._pieces: list[bytes | memoryview] = []
        self._waiting = 0
        self.size = 0
        """Bytes that were given so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._flush()

    def write(self, *pieces: bytes | memoryview) -> None:
        """Append these.

        Args:
            pieces: bytes, or views of bytes.
        """
        for piece in pieces:
            self._pieces.append(piece)
            self._waiting += len(piece)
            self.size += len(piece)
            if self._waiting >= _AT_ONCE or len(self._pieces) >= _PIECES:
                self._flush()

    def proof(self) -> tuple[int, str]:
        """Size and digest of what was given, as ``penstock.files.proof`` tells them of the file."""
        self._flush()
        return self.size, self._state.hexdigest()

    def _flush(self) -> None:
        for piece in self._pieces:
            self._state.update(piece)
        done = os.writev(self._file.fileno(), self._pieces) if self._pieces else 0
        if done < self._waiting:  # there was room for a part alone: the rest tells why
            rest = memoryview(b"".join(self._pieces))[done:]
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        self._pieces, self._waiting = [], 0
