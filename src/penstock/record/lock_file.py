"""Reads and writes the lock file and the owner's note of a run folder.

Who is dead is :mod:`penstock.record.holding`'s to say, taking and keeping the lock
:mod:`penstock.record.lock`'s.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from penstock import foreign, layout
from penstock.identity import boot, namespace, started
from penstock.record import holding
from penstock.record.holding import LockEntry, ThisMachine, life_of, read_entry

_NONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ELOOP, errno.ENXIO})
"""What is said where there is no file; the third by us, of what is none."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a run folder, or held it and died."""

    pid: int
    host: str
    since: str
    """When it began, as people write it."""
    seen: float
    """Its last sign of life by its own clock, in seconds since the epoch."""
    alive: bool
    """False where it is known to be dead."""
    rebooted: bool = False
    """Whether its machine, this one, was started again since."""
    known: bool = True
    """Whether that can be told from here: elsewhere it may be dead, or not."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def at_it(self) -> str:
        """A phrase that says it is running."""
        unseen = "" if self.known else " (whether it lives cannot be seen from here)"
        return f"{self} has been at it since {self.since}{unseen}"


@dataclass(frozen=True, slots=True)
class FoundLock:
    """A lock as read from disk."""

    entry: LockEntry | None
    mark: Hashable
    """Moves while the holder lives."""
    changed: float
    """When the file was written, by its server's clock; only ever told to people."""


def holder_of(state_dir: Path) -> Holder | None:
    """The holder of the folder ``.penstock`` of a run, living or dead; None if there is none."""
    found = read(state_dir / layout.LOCK)
    if found is None or found.entry is None:
        return None
    machine = here()
    return holder_in(found, machine, life_of(found.entry, machine, started))


def holder_in(found: FoundLock, machine: ThisMachine, life: holding.Life) -> Holder:
    """The holder named in a lock, given whether that process is alive."""
    assert found.entry is not None
    entry, where = found.entry, found.entry.where
    rebooted = life != "alive" and where.host == machine.host and where.boot != machine.boot
    seen = entry.at or found.changed
    alive, known = life != "dead", life != "unknown"
    return Holder(entry.pid, where.host, entry.since, seen, alive, rebooted, known)


def says(path: Path, line: bytes) -> bool:
    """Whether the lock is exactly this line."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.read(descriptor, len(line) + 1) == line
    except OSError:
        return False
    finally:
        os.close(descriptor)


def read(path: Path) -> FoundLock | None:
    """Read a lock; None if there is none, or none that is valid."""
    try:
        return look(path)
    except OSError:
        return None


def look(path: Path) -> FoundLock | None:
    """Read a lock; None if there is none.

    Raises:
        OSError: whether there is one cannot be told now.
    """
    try:
        with foreign.opened(path) as file:
            data, status = file.read(1 << 16), os.fstat(file.fileno())
    except OSError as error:
        if error.errno not in _NONE:
            error.filename = error.filename or str(path)
            raise
        return None
    entry = read_entry(data)
    mark: Hashable = data
    if entry is None or not entry.token:  # an earlier version only touches it: compared with itself alone
        mark = (data, status.st_mtime_ns)
    return FoundLock(entry, mark, status.st_mtime)


def read_owner(state_dir: Path) -> LockEntry | None:
    """The last owner of the folder."""
    found = read(state_dir / layout.OWNER)
    return None if found is None else found.entry


def write_owner(path: Path, entry: LockEntry) -> None:
    """Record the present owner of the folder, atomically."""
    draft = path.with_name(f"{layout.OWNER}.{entry.token}")
    with open(draft, "wb") as file:
        file.write(entry.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def here() -> ThisMachine:
    """This machine, as identified in a lock."""
    return ThisMachine(socket.gethostname(), boot(), namespace())
