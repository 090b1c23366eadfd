"""Files that are whole or absent, and how to tell whether one is still the same.

Covers atomic writing, digests and fingerprints. A sink writes through :func:`atomic` only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SAMPLE = 64 << 10
_WHOLE = 8 << 20


@contextmanager
def atomic(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it to ``path`` when the block succeeds.

    Readers see the whole file or none. With ``durable`` the file and its folder are
    synchronised to disk first. If the block raises, nothing is left behind.

    Raises:
        OSError: the folder is not there, not writable, or full.
    """
    final = Path(path)
    # The process id keeps two writers apart; a stale one is overwritten by its successor.
    draft = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        yield draft
        if durable:
            _sync(draft)
        os.replace(draft, final)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    if durable:
        _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: str | os.PathLike[str]) -> str:
    """BLAKE2b-128 of a whole file, as hex, read in blocks of 1 MiB; of a folder, over all in it.

    Raises:
        OSError: it is not there or not readable.
    """
    return proof(path)[1]


def proof(path: str | os.PathLike[str]) -> tuple[int, str]:
    """Bytes and digest of a file; of a folder, the bytes of its files and a digest of names and digests.

    Raises:
        OSError: it is not there or not readable.
    """
    state = hashlib.blake2b(digest_size=16)
    size = 0
    if Path(path).is_dir():
        for inner in walk(Path(path)):
            if inner.is_file():
                more, told = proof(inner)
                size += more
                state.update(
                    f"{inner.relative_to(path).as_posix()} {told}\n".encode(errors="surrogateescape")
                )
        return size, state.hexdigest()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            size += len(block)
            state.update(block)
    return size, state.hexdigest()


def walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder, in the order of names, the folders after what is in them."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from walk(path)
        yield path


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Tell cheaply whether a file is still the one it was: ``size:time:digest``.

    Up to 8 MiB the whole content counts and the time does not, so that a copy is the same file. Of
    a larger file its first and last 64 KiB count, and the time for what lies between.

    Raises:
        OSError: the file is not there or not readable.
    """
    state = hashlib.blake2b(digest_size=12)
    with open(path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if status.st_size <= _WHOLE:
            while block := file.read(1 << 20):
                state.update(block)
            return f"{status.st_size}:-:{state.hexdigest()}"
        state.update(file.read(_SAMPLE))
        file.seek(status.st_size - _SAMPLE)
        state.update(file.read(_SAMPLE))
    return f"{status.st_size}:{status.st_mtime_ns}:{state.hexdigest()}"
