"""Spools large arguments and results to private files, removed with the object that owns them.

The files are pickles, but private: written and read by one process and the workers that it forked, in
a folder that only its user can enter.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from penstock import temporary

SPOOLED = 64 << 10
"""What takes more bytes than this, pickled, waits in a file."""
_FRAME = 128 << 10
"""Names stand in frames of at most 64 KiB; what a pickler writes in larger pieces is data."""


class Folder:
    """A private folder that exists as long as anybody holds this object.

    Args:
        where: the folder to make it in.
    """

    def __init__(self, where: str | os.PathLike[str]) -> None:
        self.path = temporary.make("penstock-calls-", where)
        self.files: weakref.WeakSet[File] = weakref.WeakSet()
        """Those in it that somebody holds."""
        weakref.finalize(self, _remove, self.path, os.getpid())

    def leave(self) -> None:
        """Remove the folder for a while, if nobody holds anything in it."""
        if not self.files:
            _remove(self.path, os.getpid())

    def come_back(self) -> bool:
        """Make the folder again; False if that fails."""
        if self.path.exists() and temporary.is_own(self.path):
            return True
        try:
            self.path.mkdir(0o700)
        except OSError:  # somebody else has taken the name, or the disk is gone
            return False
        temporary.own(self.path)
        return True


class File:
    """A file with one pickled object. A pickled copy of this does not own the file; see :meth:`own`."""

    def __init__(self, name: str, size: int, failed: bool = False) -> None:
        self.name = name
        self.size = size
        """Bytes."""
        self.failed = failed
        """Whether it holds an exception."""
        self._folder: Folder | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return File, (self.name, self.size, self.failed)

    def own(self, folder: Folder) -> File:
        """Remove the file with this object, and keep the folder as long."""
        self._folder = folder
        folder.files.add(self)
        weakref.finalize(self, _unlink, self.name, os.getpid()).atexit = False
        return self

    def load(self) -> Any:
        """Unpickle the object."""
        with open(self.name, "rb") as file:
            return pickle.load(file)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of it
        temporary.remove(folder)


def _unlink(name: str, owner: int) -> None:
    if os.getpid() == owner:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - pathlib may be gone when this runs last


class Spool:
    """A pickler's output: in memory while it is small, then in a file.

    Args:
        folder: for the file; made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pieces: list[bytes] = []
        self._file: BinaryIO | None = None
        self._name = ""
        self.size = 0
        self.names_main = False
        """Whether something of ``__main__`` was named in what was written."""

    def write(self, data: Any) -> int:
        """Write bytes or a buffer; returns how many."""
        size = len(data) if type(data) is bytes else memoryview(data).nbytes
        if size <= _FRAME and b"__main__" in bytes(data):
            self.names_main = True
        self.size += size
        if self._file is None and self.size > SPOOLED:
            self._folder.mkdir(exist_ok=True)
            descriptor, self._name = tempfile.mkstemp(dir=self._folder)
            self._file = open(descriptor, "wb")  # noqa: SIM115 - closed by close() or drop()
            self._file.writelines(self._pieces)
            self._pieces.clear()
        if self._file is None:
            self._pieces.append(bytes(data))
        else:
            self._file.write(data)
        return size

    def close(self) -> bytes | File:
        """Finish; returns what was written."""
        if self._file is None:
            return b"".join(self._pieces)
        self._file.close()
        return File(self._name, self.size)

    def drop(self) -> None:
        """Remove what was written."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                Path(self._name).unlink()


def load(packed: bytes | File) -> Any:
    """Unpickle an object that was packed."""
    return pickle.loads(packed) if isinstance(packed, bytes) else packed.load()
