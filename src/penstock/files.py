"""Atomic files (whole or absent), and fingerprints that tell whether a file has changed.

Covers atomic writing, digests and fingerprints. A sink writes through :func:`atomic` only.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from penstock import drafts, foreign, forks
from penstock.errors import BadInput, ResultsDamaged, RunTakenOver

_SAMPLE = 64 << 10
_WHOLE = 8 << 20


@contextmanager
def atomic(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path on the same disk; rename it to ``path`` when the block succeeds.

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
            _put(draft, final)
    except BaseException as error:
        here.stay(error)
        if type(error) is OSError and foreign.number_of(error) == errno.ENOSPC and error.filename is None:
            error.filename = os.fspath(final)  # with the draft goes the proof of which disk is full
        with suppress(OSError):
            drafts.remove(draft)
        raise
    if durable:
        _sync(final.parent)


def _put(draft: Path, final: Path) -> None:
    try:
        os.replace(draft, final)
    except IsADirectoryError as error:
        error.filename, error.filename2 = os.fspath(final), None  # the draft is of no interest to anybody
        raise


def renew(path: Path) -> None:
    """Replace a file, if it exists, by a copy: who still has it open appends to an unlinked file.

    Raises:
        OSError: there is no room for the copy.
    """
    if path.exists():
        with atomic(path) as draft:
            shutil.copyfile(path, draft)


def discard(path: str | os.PathLike[str]) -> None:
    """Remove a file or folder that has its final name, if it exists.

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


def put_aside(path: Path, target: Path) -> None:
    """Move a file or folder with a final name to another place on the same disk, via the drafts.

    Raises:
        OSError: it cannot be moved.
        RunTakenOver: another run has taken the run folder over; nothing was moved.
    """
    place = drafts.place_for(path)
    if place is not None:
        with _owned(place):
            path = path.rename(place / drafts.new_name())
    path.rename(target)


@contextmanager
def _owned(place: Path | None) -> Iterator[None]:
    """Tell an error that comes from the fence as what it is."""
    try:
        yield
    except OSError as error:
        if place is None or place.is_dir():
            raise
        raise RunTakenOver(
            f"{place}, where this run prepares what it keeps, is gone: another run has taken the run folder "
            "over, or somebody has removed it. This run writes nothing more: what it had kept is kept, and "
            "the same command goes on from there."
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: str | os.PathLike[str]) -> str:
    """BLAKE2b-128 of a whole file, as hex, read in blocks of 1 MiB; of a folder, over everything in it.

    Raises:
        OSError: it is not there or not readable.
    """
    return proof(path)[1]


def digest_of(data: bytes) -> str:
    """The same digest of bytes in memory."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def proof(path: str | os.PathLike[str], *, pulse: Callable[[], None] | None = None) -> tuple[int, str]:
    """Size and digest of a file; of a folder, the sum of its sizes and a digest of names and digests.

    Args:
        path: the file or folder.
        pulse: called for each MiB that was read.

    Raises:
        OSError: it is not there or not readable.
    """
    state = hashlib.blake2b(digest_size=16)
    size = 0
    if Path(path).is_dir():
        for inner in walk(Path(path)):
            name = inner.relative_to(path).as_posix()
            if _leads_out(inner, Path(path)):
                # Where it leads is not kept here, and may be anything: a device, or somebody's secret.
                state.update(f"{name} -> {inner.readlink()}\n".encode(errors="surrogateescape"))
            elif inner.is_file():
                more, told = proof(inner, pulse=pulse)
                size += more
                state.update(f"{name} {told}\n".encode(errors="surrogateescape"))
        return size, state.hexdigest()
    with foreign.opened(path, buffering=0) as file:
        while block := file.read(1 << 20):
            size += len(block)
            state.update(block)
            if pulse is not None:
                pulse()
    return size, state.hexdigest()


def differs(
    path: str | os.PathLike[str],
    size: int,
    digest: str,
    *,
    since: float | None = None,
    pulse: Callable[[], None] | None = None,
) -> tuple[str, str] | None:
    """How a file or folder differs from what was kept: (expected, found); None where it does not.

    Args:
        path: the file or folder. A link, a pipe or a device is neither.
        size: its bytes as they were kept.
        digest: as :func:`proof` tells it.
        since: a time in ns of its own file system. It is read only if it was touched later than that.
        pulse: called for each MiB that was read.

    Raises:
        ResultsDamaged: it cannot be read now, so that it cannot be told.
    """
    kept = f"{size:,} bytes, as kept"
    try:
        there, touched = _seen(path)
        if there is None:
            return kept, "no regular file"
        if there != size:
            return kept, f"{there:,} bytes"
        if since is not None and touched <= since:
            return None
        found = proof(path, pulse=pulse)[1]
    except (FileNotFoundError, NotADirectoryError):
        return kept, "no such file"
    except OSError as error:
        if error.errno == errno.EINVAL:  # of ours: there is something, and it is no file of this folder
            return kept, str(error.strerror)
        raise ResultsDamaged(
            f"{path} cannot be read ({error.strerror}), so whether it is what was kept cannot be told. See "
            "to the disk and to its permissions, then run the same command again.",
            file=path,
        ) from error
    return None if found == digest else (f"the digest {digest}, as kept", f"{found} in as many bytes")


def prove(path: str | os.PathLike[str], size: int, digest: str, *, since: float | None = None) -> None:
    """Verify that a part is what was kept, before it is used.

    Args:
        path: the file or folder.
        size: its bytes.
        digest: as :func:`proof` tells it.
        since: a time in ns of its own file system. It is read only if it was touched later than that.

    Raises:
        ResultsDamaged: it is not, or cannot be read.
    """
    odd = differs(path, size, digest, since=since)
    if odd is not None:
        raise ResultsDamaged(f"{path}: expected {odd[0]}, found {odd[1]}", file=path)


def last_touched(path: str | os.PathLike[str]) -> int:
    """The latest mtime or ctime of a file, or of anything in a folder, in ns.

    Raises:
        OSError: it is not there.
    """
    return _seen(path)[1]


def _seen(path: str | os.PathLike[str]) -> tuple[int | None, int]:
    """Bytes of a file or of the files in a folder, None for anything else; and when it was last touched."""
    status = os.lstat(path)
    touched = max(status.st_mtime_ns, status.st_ctime_ns)  # a tool may set the first, and not the second
    if stat.S_ISREG(status.st_mode):
        return status.st_size, touched
    if not stat.S_ISDIR(status.st_mode):
        return None, touched
    size = 0
    for inner in walk(Path(path)):
        status = inner.lstat()
        touched = max(touched, status.st_mtime_ns, status.st_ctime_ns)
        if inner.is_file() and not _leads_out(inner, Path(path)):
            size += inner.stat().st_size
    return size, touched


def _leads_out(path: Path, folder: Path) -> bool:
    return path.is_symlink() and not foreign.is_inside(path, folder)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file exists; False for names that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises where a name is too long


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a folder exists; see :func:`is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder, ordered by name, folders after their content."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from walk(path)
        yield path


def settle(folder: Path) -> None:
    """Make a folder that a function wrote ready to be moved elsewhere, and to survive a power cut.

    Links hold behind the move as they did before: one to something in the folder becomes relative, and a
    relative one out of it absolute. Pipes and devices, which would be waited for, are left alone.
    """
    for path in walk(folder):
        if path.is_symlink():
            _settle_link(path, folder)
        elif path.is_file() or path.is_dir():
            _sync(path)


def _settle_link(link: Path, folder: Path) -> None:
    given = link.readlink()
    target = Path(os.path.normpath(link.parent / given))
    home = next((home for home in (folder, folder.resolve()) if target.is_relative_to(home)), None)
    if home is None and not given.is_absolute():
        new = str(target)
    elif home is not None and given.is_absolute():
        new = os.path.relpath(target, home / link.parent.relative_to(folder))
    else:
        return
    link.unlink()
    link.symlink_to(new)


def fingerprint(path: str | os.PathLike[str]) -> str:
    """A cheap fingerprint that tells whether a file has changed: ``size:time:digest``.

    Up to 8 MiB the whole content counts and the time does not, so that a copy is the same file. Of
    a larger file its first and last 64 KiB count, and the time for what lies between.

    Raises:
        OSError: the file is not there or not readable.
    """
    return _fingerprint(path, _WHOLE)


def fingerprint_content(path: str | os.PathLike[str]) -> str:
    """A fingerprint of the whole content, however large: a copy is the same file.

    Raises:
        OSError: the file is not there or not readable.
    """
    return _fingerprint(path, None)


def fingerprint_stat(path: str | os.PathLike[str]) -> str:
    """A fingerprint of size and mtime alone; a copy that keeps its mtime is the same file.

    Raises:
        OSError: the file is not there.
    """
    status = os.stat(path)  # noqa: PTH116 - there may be 10^5 of them
    return stat_told(status)


def check_readable(path: str) -> None:
    """Refuse a file that this user may not read.

    Raises:
        BadInput: it is one.
    """
    if not os.access(path, os.R_OK):
        raise BadInput("not readable by this user: change its permissions (chmod +r)", file=path)


def stat_told(status: os.stat_result) -> str:
    """The same, from a stat result."""
    return f"{status.st_size}:{status.st_mtime_ns}:-"


def _fingerprint(path: str | os.PathLike[str], most: int | None) -> str:
    state = hashlib.blake2b(digest_size=12)
    with open(path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if most is None or status.st_size <= most:
            while block := file.read(1 << 20):
                state.update(block)
            return f"{status.st_size}:-:{state.hexdigest()}"
        state.update(file.read(_SAMPLE))
        file.seek(status.st_size - _SAMPLE)
        state.update(file.read(_SAMPLE))
    return f"{status.st_size}:{status.st_mtime_ns}:{state.hexdigest()}"
