"""Errors of disks and file systems: which are ours to report, and which are transient.

Covers which errors are the storage's fault and not an item's, which of them may pass by themselves, trying
again, and the error for people: with the file, the system's own word, and what to do. Does not open files.
"""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from penstock import foreign
from penstock.budget import format_size
from penstock.errors import DiskFull, StorageFailed

_FULL = (errno.ENOSPC, errno.EDQUOT)
_PASSING = {
    errno.EIO: "the disk, or the connection to it, fails",
    errno.ESTALE: "the file server does not know the file any more",
    errno.ETIMEDOUT: "the file server does not answer",
    errno.EHOSTDOWN: "the file server does not answer",
    errno.EHOSTUNREACH: "the file server cannot be reached",
    errno.ENETUNREACH: "the file server cannot be reached",
    errno.ENETDOWN: "the network is down",
    errno.ECONNREFUSED: "the file server does not answer",
    errno.ECONNRESET: "the connection to the file server broke",
    errno.ENOTCONN: "the file system is not connected any more",
    errno.EREMOTEIO: "the disk, or the connection to it, fails",
    errno.EBUSY: "something else uses it",
    errno.EAGAIN: "something else uses it",
    errno.EINTR: "it was interrupted",
    errno.ENOLCK: "the file server gives no locks",
    errno.ENOBUFS: "the system is short of memory for it",
    errno.EMFILE: "too many files are open in this process: ulimit -n says how many may be",
    errno.ENFILE: "too many files are open on this machine",
}
"""May pass by themselves."""
_LASTING = {
    errno.EROFS: "the file system is mounted read-only, as it is after a failure of the disk",
    errno.EACCES: "there is no permission for it any more",
    errno.EPERM: "there is no permission for it any more",
    errno.ENODEV: "the disk is gone",
    errno.ENXIO: "the disk is gone",
}
_GONE = (errno.ENOENT, errno.ENOTDIR)
_LITTLE = 1 << 20
_TRIES = 6
_FIRST_WAIT = 0.1
"""Seconds before the second try; each further wait is twice as long: 3 s in all."""


def is_full(error: BaseException) -> bool:
    """Whether an error means that a disk is full."""
    return foreign.number_of(error) in _FULL


def is_out_of_room(error: BaseException, folder: Path) -> bool:
    """Whether a function got a disk-full error, and the disk of ``folder`` is full.

    Where another disk has none (that of memory files, that of temporary ones), or something else of which
    the system says the same, it is the function's own matter.
    """
    if not is_full(error):
        return False
    place = foreign.file_of(error)
    if place:
        return _disk(Path(place)) in (None, _disk(folder))
    return foreign.number_of(error) == errno.EDQUOT or _has_no_room(folder)


def is_at_fault(error: BaseException, folder: Path) -> bool:
    """Whether an error of writing into ``folder`` is the storage's fault, whatever was written."""
    number = foreign.number_of(error)
    if number in _GONE:
        return not folder.is_dir()
    return number in _FULL or number in _PASSING or number in _LASTING


def may_pass(number: int) -> bool:
    """Whether an operation that failed with this error number may succeed on a retry."""
    return number in _PASSING


def reason(number: int) -> str:
    """The meaning of an error number, in words."""
    why = _why(number)
    return f"{os.strerror(number)}{f': {why}' if why else ''}"


def _why(number: int) -> str | None:
    if number == errno.EMFILE:
        return f"{_PASSING[number]}, {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} now"
    return _PASSING.get(number) or _LASTING.get(number)


_ADVICE = "What is journaled is kept: see to it, then run the same command again."


def failure(number: int, place: str | os.PathLike[str], advice: str = _ADVICE) -> StorageFailed:
    """The error to raise.

    Args:
        number: of the error, as :mod:`errno` has it.
        place: the file or folder that could not be read or written.
        advice: what to do, where the disk is not full.
    """
    named = foreign.line(os.fspath(place))
    if number in _FULL:
        return _full(number, Path(place))
    why = _why(number)
    if number in _GONE:
        why = "the folder was removed, or renamed"
    word = errno.errorcode.get(number, str(number))
    what = f"{os.strerror(number)} ({word}){f': {why}' if why else ''}"
    return StorageFailed(f"{named} cannot be read or written: {what}. {advice}")


def _has_no_room(folder: Path) -> bool:
    """Whether next to nothing is left on the disk of a folder."""
    free = _free(folder)
    return free is None or free < _LITTLE


def _free(folder: Path) -> int | None:
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _disk(place: Path) -> int | None:
    """The number of the disk that a file lies on, or would lie on."""
    with suppress(OSError):
        return _nearest(place).stat().st_dev
    return None


def _nearest(place: Path) -> Path:
    """The folder that something is in, or would be in."""
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def _full(number: int, place: Path) -> DiskFull:
    folder = _nearest(place)
    free = _free(folder)
    left = "" if free is None else f" ({format_size(free)} left)"
    what = "your quota on the disk of" if number == errno.EDQUOT else "the disk of"
    full = "is used up" if number == errno.EDQUOT else "is full"
    return DiskFull(
        f"{what} {foreign.line(os.fspath(folder))} {full}{left}. What is journaled is kept: make room, "
        "then run the same command again."
    )


@contextmanager
def told(folder: Path, advice: str = _ADVICE) -> Iterator[None]:
    """Context in which file errors in a folder become our errors.

    An error of writing names no file: that the disk is full is believed where the folder's own disk is.

    Args:
        folder: the folder.
        advice: what to do, where the disk is not full.

    Raises:
        StorageFailed: in place of the system's error.
    """
    try:
        yield
    except OSError as error:
        name, number = error.filename, foreign.number_of(error)
        if number in (errno.EMFILE, errno.ENFILE):  # wherever it was met
            raise failure(number, name if isinstance(name, str) else folder, advice) from error
        if isinstance(name, str) and number and Path(name).is_relative_to(folder):
            raise failure(number, name, advice) from error
        if name is None and number in _FULL and (number == errno.EDQUOT or _has_no_room(folder)):
            raise failure(number, folder) from error
        raise


def insist(
    do: Callable[[], None], place: str | os.PathLike[str], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Do something with files, with retries where these may help.

    Args:
        do: may be done again when it has failed.
        place: what it writes, for where the error does not say.
        sleep: waits so many seconds.

    Raises:
        StorageFailed: it failed, again and again where the error was one that may pass.
    """
    for attempt in range(_TRIES):
        try:
            do()
            return
        except OSError as error:
            number = error.errno or errno.EIO
            if not may_pass(number) or attempt == _TRIES - 1:
                raise failure(number, error.filename or place) from error
            sleep(_FIRST_WAIT * 2**attempt)
