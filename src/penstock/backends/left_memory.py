"""POSIX shared memory that a killed worker leaves: files in ``/dev/shm`` that its last batch made.

Nobody can free it any more, and it stays in the budget. A System V segment tells who made it (see
``segments``), a file does not. It is taken for left where it was made after the batch was given, a process
of the worker had it open when it was paused or killed, and nobody has it open or maps it once these are
gone. Where a file tells nothing of its birth (tmpfs before Linux 5.18), none is.
"""

from __future__ import annotations

import ctypes
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/dev/shm")
_FIRST, _TRIES = 0.02, 8
"""Seconds until it is looked again whether somebody has it; twice as many each time; how often in all."""
_LEAST = 1 << 20
"""Bytes from which on it matters."""
_TICKS = getattr(time, "CLOCK_REALTIME_COARSE", 5)
"""The clock that the kernel takes file times from."""
_BIRTH = 0x800
_AT, _BIRTH_AT, _STRUCT = -100, 80, 256

Inode = tuple[int, int]


@dataclass(slots=True)
class _Waiting:
    """Files of a worker that is gone."""

    files: dict[Path, Inode]
    due: float = 0.0
    tries: int = 0


class LeftMemory:
    """What the workers of a backend have made in ``/dev/shm``, and what of it they leave.

    Args:
        folder: instead of ``/dev/shm``.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._given: dict[int, float] = {}
        self._seen: dict[int, dict[Path, Inode]] = {}
        self._waiting: list[_Waiting] = []

    def given(self, worker: int) -> None:
        """A worker was given work: what it made before is meant to stay."""
        self._given[worker] = time.clock_gettime(_TICKS)
        self._seen.pop(worker, None)

    def look(self, worker: int, pids: Iterable[int]) -> None:
        """Note what the processes of a worker have open, just before they are stopped or killed."""
        since = self._given.get(worker)
        if since is None:
            return
        for path, inode in _open_in(self._folder, pids):
            birth = born(path)
            if birth is not None and birth >= since and _is(path, inode):
                self._seen.setdefault(worker, {})[path] = inode

    def gone(self, worker: int, *, killed: bool) -> None:
        """A worker is gone; whether it was killed."""
        self._given.pop(worker, None)
        files = self._seen.pop(worker, None)
        if killed and files:
            self._waiting.append(_Waiting(files))

    def tidy(self, *, last: bool = False) -> None:
        """Remove what is left; call it now and then, and a last time at the end."""
        if not self._waiting:
            return
        now, waiting = time.monotonic(), self._waiting
        self._waiting = []
        for each in waiting:
            if now < each.due and not last:
                self._waiting.append(each)
                continue
            each.files = {path: inode for path, inode in each.files.items() if _is(path, inode)}
            held = _held(set(each.files.values()), self._folder) if each.files else set()
            for path, inode in each.files.items():
                if inode not in held:
                    with suppress(OSError):
                        path.unlink()
            each.files = {path: inode for path, inode in each.files.items() if inode in held}
            each.due, each.tries = now + _FIRST * 2**each.tries, each.tries + 1
            if each.files and each.tries < _TRIES:
                self._waiting.append(each)


def born(path: Path) -> float | None:
    """When a file was made, in seconds since the epoch; None where that is not told."""
    statx = getattr(ctypes.CDLL(None), "statx", None)
    if statx is None:
        return None
    told = ctypes.create_string_buffer(_STRUCT)
    if statx(_AT, os.fsencode(path), 0, _BIRTH, told) != 0:
        return None
    if not int.from_bytes(told.raw[:4], "little") & _BIRTH:
        return None
    seconds, nanoseconds = _number(told.raw, _BIRTH_AT, 8), _number(told.raw, _BIRTH_AT + 8, 4)
    return seconds + nanoseconds * 1e-9


def _number(content: bytes, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "little")


def _is(path: Path, inode: Inode) -> bool:
    """Whether a name leads to this file, and it is a file of ours."""
    try:
        status = path.lstat()
    except OSError:
        return False
    here = (status.st_dev, status.st_ino) == inode
    return here and stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _open_in(folder: Path, pids: Iterable[int]) -> Iterator[tuple[Path, Inode]]:
    """(name, inode) of the files of a folder itself that these processes have open."""
    for pid in pids:
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                link = f"/proc/{pid}/fd/{number}"
                with suppress(OSError):
                    path = Path(os.readlink(link))  # noqa: PTH115
                    if path.parent != folder:
                        continue
                    status = os.stat(link)  # noqa: PTH116
                    if status.st_blocks * 512 >= _LEAST:
                        yield path, (status.st_dev, status.st_ino)


def _held(inodes: set[Inode], folder: Path) -> set[Inode]:
    """Those that a process of this user has open or maps, as far as can be seen."""
    held: set[Inode] = set()
    start = f"{folder}/".encode()
    for name in os.listdir("/proc"):
        try:
            if not name.isdigit() or os.stat(f"/proc/{name}").st_uid != os.geteuid():  # noqa: PTH116
                continue
            numbers = os.listdir(f"/proc/{name}/fd")
            maps = Path(f"/proc/{name}/maps").read_bytes()
        except OSError:  # it is gone, or guarded against everybody
            continue
        for number in numbers:
            with suppress(OSError):
                status = os.stat(f"/proc/{name}/fd/{number}")  # noqa: PTH116
                held.add((status.st_dev, status.st_ino))
        if start in maps:
            held.update(_mapped(maps))
    return held & inodes


def _mapped(maps: bytes) -> Iterator[Inode]:
    for line in maps.splitlines():
        words = line.split(None, 5)
        if len(words) == 6:
            major, _, minor = words[3].partition(b":")
            yield os.makedev(int(major, 16), int(minor, 16)), int(words[4])
