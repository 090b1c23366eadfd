"""Whether this process can still do its part of the work, whatever a function did to it.

A function may use up what a process has, or take away what is not its own: descriptors, the size that files
may have, its user. It does so unseen, and what fails then is ours, or the next item: so what failed is tried
again in another process, where each item is looked at when it was worked, until the one is found.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from contextlib import suppress

from penstock import foreign
from penstock import worker_note as note
from penstock.budget import format_size
from penstock.engine.worker.exceptions import out_of_memory
from penstock.engine.worker.process import set_fence

_NEEDED = 4
"""Descriptors that our part takes at once, of a draft, what it is proven by and its folder."""
_SPARE = 8
"""A worker is replaced once it has used all but this part of its descriptors."""
_USED_UP = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)


class Unfit(BaseException):
    """This process cannot continue and must be replaced; the message quotes nothing of the function's.

    Args:
        why: completes "its worker ...".
        item: whose doing it is, where that is known.
    """

    def __init__(self, why: str, item: int = -1) -> None:
        super().__init__(why)
        self.item = item


class Fitness:
    """What the engine's work needs of this process.

    Args:
        descriptors: those that are ours; none may be closed, or made another file's.
        own_process: whether this process is the worker's alone. Where it is somebody's, all is left to him.
    """

    def __init__(self, descriptors: Iterable[int], *, own_process: bool) -> None:
        self._own_process = own_process
        self._ours = {number: _identity(number) for number in descriptors if number >= 0}
        self._largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        self._user = _user()
        self._mask = self._their_mask = _mask()
        self._memory = _memory_limits()
        self._began_narrow = False
        self.wary = False
        """Whether each item is looked at when it was worked."""

    def prepared(self) -> None:
        """What memory this process may have now is what the job itself wants it to have."""
        self._memory = _memory_limits()

    def begin(self) -> None:
        """A batch begins: what limit of memory its items find is what it can be made again."""
        if self._own_process:
            set_fence(0)
        self._began_narrow = self.is_narrow()

    def is_narrow(self) -> bool:
        """Whether a function has lowered what memory this process may have."""
        return self._own_process and any(map(_less, _memory_limits(), self._memory))

    def excuse(self, error: BaseException, *, first: bool) -> BaseException:
        """Do not blame an item for a limit of memory that an earlier one has set.

        Args:
            error: why the batch failed.
            first: whether it failed with its first call.

        Returns:
            The error; or instead that this process cannot continue, whoever's doing it is: a function may set
            such a limit with each item, and none of them is wrong.
        """
        if not out_of_memory(error) or not self.is_narrow() or (first and not self._began_narrow):
            return error
        return Unfit(note.NARROWED)

    def ours(self) -> None:
        """Files are ours from now on: the function's umask does not apply to them."""
        if self._own_process:
            self._their_mask = os.umask(self._mask)

    def theirs(self) -> None:
        """Files are the function's from now on."""
        if self._own_process:
            os.umask(self._their_mask)

    def worn(self) -> bool:
        """Whether descriptors are almost used up: they are allocated from the lowest on."""
        if not self._own_process or not self._ours:
            return False
        try:
            lowest = os.dup(next(iter(self._ours)))
        except OSError:
            return True
        os.close(lowest)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return most != resource.RLIM_INFINITY and lowest >= most - most // _SPARE

    def lacks(self) -> str:
        """What is missing; empty if nothing is."""
        if not self._own_process:
            return ""
        if self.is_mute():
            return note.MUTED
        if not _can_open(_NEEDED):
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"has no file descriptor left (at most {most:,} may be open: ulimit -n)"
        if _less(largest := resource.getrlimit(resource.RLIMIT_FSIZE)[0], self._largest):
            return f"may write files of {format_size(largest)} at most now (RLIMIT_FSIZE)"
        if _user() != self._user:
            return "is another user's now, or looks at another root folder"
        return ""

    def why(self, error: BaseException) -> str:
        """Why this process cannot continue, which failed with this error; completes "its worker ..."."""
        if foreign.is_a(error, Unfit):
            return str(error)
        return self.lacks() or f"failed in our part of the work ({foreign.kind_of(error)})"

    def check(self, item: int = -1) -> None:
        """Check, once per so many items.

        Raises:
            Unfit: something is missing, now that this item was worked.
        """
        if self.wary and (why := self.lacks()):
            raise Unfit(why, item)

    def is_mute(self) -> bool:
        """Whether a descriptor of ours was closed: then the parent cannot be reached through it."""
        return any(_identity(number) != was for number, was in self._ours.items())

    def blame(self, error: BaseException, item: int, *, fresh: bool) -> None:
        """Do not blame an item for what earlier ones may have done to the process.

        Args:
            error: what the function raised.
            item: that it was called with.
            fresh: whether this process had worked nothing before.

        Raises:
            Unfit: something is missing, or the error tells that something is used up.
        """
        if fresh or not self._own_process:
            return
        if foreign.is_a(error, OSError) and not self.wary and (why := self.lacks()):
            raise Unfit(why)
        if foreign.is_a(error, OSError) and foreign.number_of(error) == errno.ENOMEM and self.is_narrow():
            raise Unfit(note.NARROWED)
        if is_used_up(error):
            raise Unfit(
                f"has used up what one process may have ({foreign.kind_of(error)}: {_why(error)})", item
            )


def is_used_up(error: BaseException) -> bool:
    """Whether an error means that descriptors, threads or processes are exhausted."""
    if foreign.is_a(error, OSError):
        return foreign.number_of(error) in _USED_UP
    return foreign.is_a(error, RuntimeError) and "can't start new thread" in foreign.told(error)


def _why(error: BaseException) -> str:
    return os.strerror(foreign.number_of(error)) if foreign.is_a(error, OSError) else "no new thread"


def _identity(number: int) -> tuple[int, int]:
    with suppress(OSError):
        status = os.fstat(number)
        return status.st_dev, status.st_ino
    return -1, -1


def _can_open(many: int) -> bool:
    opened = []
    try:
        for _ in range(many):
            opened.append(os.open("/", os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - those before are closed
    except OSError as error:
        return error.errno not in _USED_UP
    finally:
        for number in opened:
            os.close(number)
    return True


def _less(limit: int, before: int) -> bool:
    return (
        limit != before
        and limit != resource.RLIM_INFINITY
        and (before == resource.RLIM_INFINITY or limit < before)
    )


def _memory_limits() -> tuple[int, int]:
    """Of RLIMIT_DATA the hard one: the other is our fence."""
    return resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_DATA)[1]


def _user() -> tuple[int, int, int, int]:
    root = os.stat("/")  # noqa: PTH116
    return os.geteuid(), os.getegid(), root.st_dev, root.st_ino


def _mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
