"""Files that are whole or absent, and how to tell whether one is still the same.

Covers atomic writing, digests and fingerprints. A sink writes through :func:`atomic` only.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from penstock import drafts, foreign, forks
from penstock.errors import RunTakenOver

_SAMPLE = 64 << 10
_WHOLE = 8 << 20


@contextmanager
def atomic(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name on the same disk; rename it to ``path`` when the block succeeds.

    Readers see the whole file or none. With ``durable`` the file and its folder are
    synchronised to disk first. If the block raises, nothing is left behind. Inside a run folder in
    use the draft lies in its owner's folder for drafts, elsewhere beside ``path``.

    Raises:
        OSError: the folder is not there, not writable, or full.
        RunTakenOver: another run has taken the run folder over; nothing was written.
    """
    here = forks.Here()
    final = Path(path)
    place = drafts.place_for(final)
    with _owned(place):
        beside = place is None or final.parent.stat().st_dev != place.stat().st_dev
    if place is None or beside:
        draft = final.with_name(f".{final.name}.{drafts.new_name()}")
    else:
        draft = place / drafts.new_name()
    try:
        with _owned(place):
            yield draft
            here.stay()  # a child that was forked meanwhile has no part in it
            if durable:
                _sync(draft)
            if place is not None and beside:
                place.stat()  # no fence there: the best that can be asked for
            os.replace(draft, final)
    except BaseException as error:
        here.stay(error)
        with suppress(OSError):
            drafts.remove(draft)
        raise
    if durable:
        _sync(final.parent)


def discard(path: str | os.PathLike[str]) -> None:
    """Remove a file or folder that has a final name, or nothing where there is none.

    Inside a run folder in use it is moved among the drafts first: a process whose run was taken over
    cannot do that, so it never removes what its successor has kept.

    Raises:
        OSError: it cannot be removed.
        RunTakenOver: another run has taken the run folder over; nothing was removed.
    """
    given = Path(path)
    place = drafts.place_for(given)
    if place is not None:
        with _owned(place):
            gone = place / drafts.new_name()
            try:
                given.rename(gone)
            except FileNotFoundError:
                place.stat()
                return
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                place.stat()
            else:
                given = gone
    drafts.remove(given)


@contextmanager
def _owned(place: Path | None) -> Iterator[None]:
    """Tell an error that comes from the fence as what it is."""
    try:
        yield
    except OSError as error:
        if place is None or place.is_dir():
            raise
        raise RunTakenOver(
            f"{place} is gone: another run has taken the run folder over, so this one writes nothing more"
        ) from error


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
            name = inner.relative_to(path).as_posix()
            if inner.is_symlink() and not inner.resolve().is_relative_to(Path(path).resolve()):
                # Where it leads is not kept here, and may be anything: a device, or somebody's secret.
                state.update(f"{name} -> {inner.readlink()}\n".encode(errors="surrogateescape"))
            elif inner.is_file():
                more, told = proof(inner)
                size += more
                state.update(f"{name} {told}\n".encode(errors="surrogateescape"))
        return size, state.hexdigest()
    with foreign.opened(path, buffering=0) as file:
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
