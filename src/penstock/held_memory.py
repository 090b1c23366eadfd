"""Shared memory that is ours: inodes that our processes hold, map, made, or were seen to hold.

Never what merely lies in ``/dev/shm``: that may be a browser's, or another run's. Ours is a file on a
memory file system (tmpfs, or the kernel's own, where memfd, SysV and shared anonymous memory lie) that

1. a process of ours has open,
2. a process of ours was seen to have open, as long as its name still leads to it,
3. a process of ours maps without having it open,
4. is a SysV segment that a process of ours made.

Each counts once, with the blocks that it takes. A file that had its name before we began is not ours,
even where a process of ours opens it: its memory is counted with what others hold.

Looking through the descriptors of all processes is dear, so it is done when the machine's shared memory
grew by more than known files explain, and for at most one per cent of a core, unless much grew at once.
What cannot be seen: files that were open for less than two turns and never again (one in ``/dev/shm`` wakes
a look), files on their way through a socket, pipes.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock import proc

_MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "hugetlbfs")
_GRAIN = 1 << 20
"""Growth of shared memory that is worth a look at whose it is."""
_SHARE, _CREDIT = 0.01, 0.05
"""Share of one core that looking may take; CPU seconds that may be saved up for it."""
_MUCH = 16 << 20
"""Growth that is looked at though nothing is left to be spent: files for at most a tenth of a core."""
_MUCH_SHARE = 0.1
_ALL_EVERY = 8
"""At every eighth look known descriptors are looked at as well: they may be others by now."""
_STATS = 256
"""Known files that are looked at again in one turn."""
_FEW = 512
"""Descriptors that are all looked at, as that costs little."""
_MOST = 100_000
"""Files known at a time, and processes remembered."""

Inode = tuple[int, int]
"""(device, number)."""


@dataclass(slots=True)
class _File:
    size: int
    owner: int
    """Whose it is: the key of the process that was first seen to hold it."""
    by: str
    """A path under /proc that leads to it, as long as its process holds it."""
    name: str
    """Its name; empty where it has none."""


@dataclass(frozen=True, slots=True)
class _Mapping:
    size: int
    """Bytes of it when it was looked at, or as many as are mapped, where that is not told."""
    most: int
    """Bytes of it that are mapped, touched or not."""


@dataclass(frozen=True, slots=True)
class Held:
    """Our shared memory in bytes, each page counted once."""

    all: int
    """All of it."""
    beside: int
    """Without what this very process maps, which its own RssShmem tells."""
    by_owner: Mapping[int, int]
    """The part of each owner, of what is open or has a name."""


class Shared:
    """Bytes of shared memory that our processes hold; cheap enough to read every few milliseconds.

    Args:
        root: under which /proc lies.
    """

    def __init__(self, root: Path = proc.SYSTEM) -> None:
        self._proc = str(root / "proc")
        self._devices, self._kernel = _devices(root)
        self._trigger = _Trigger(root)
        self._at = 0
        self._since = time.time() - 1.0  # file times are coarse
        self._files: dict[Inode, _File] = {}
        self._place = self._turn = 0
        self._seen: dict[int, set[str]] = {}
        self._owners: dict[int, int] = {}
        self._segments: dict[int, tuple[int, int]] = {}
        self._mapped: dict[Inode, _Mapping] = {}
        self._own: dict[Inode, int] = {}
        self._resident = 0
        self._credit, self._last = _CREDIT, time.monotonic()
        self._rested = self._last
        """From when on files are looked for again where much grew."""
        self._lock = threading.Lock()
        self.looks = 0
        """How often descriptors were looked through."""

    def read(self, processes: Mapping[int, int], resident: int, own: int, *, short: bool = False) -> Held:
        """Bytes held now.

        Args:
            processes: whose each process is, by its number: all of ours, this one too.
            resident: the sum of what they map of shared memory (RssShmem).
            own: the part of this process.
            short: memory is short: look whatever it costs.
        """
        with self._lock:
            now = time.monotonic()
            self._credit = min(self._credit + _SHARE * (now - self._last), _CREDIT)
            self._last = now
            may = short or self._credit > 0
            self._owners.update(processes)
            if len(self._owners) > _MOST:
                self._owners = dict(processes)
            before = self._size()
            lost = self._look_again()
            there = self._trigger.value()
            # What is not explained by files that we know: new ones of ours, or others'. Little by little too.
            self._at = min(self._at + self._size() - before, there)
            new, mapped = there - self._at, abs(resident - self._resident)
            may_look = may or (new > _MUCH and now > self._rested)
            if (lost or new > _GRAIN) and may_look and self._look(processes, whole=lost or short):
                self._at = there
            if mapped > (_GRAIN if may else _MUCH):  # it is ours for certain, and none of it is known
                self._look_at_maps(processes, resident)
            return self._held(resident, own)

    def hear(self, processes: Mapping[int, int]) -> None:
        """A file appeared in a folder of shared memory: find who has it open before it is closed."""
        with self._lock:
            if self._credit > 0:
                self._look(processes, whole=False)

    def _size(self) -> int:
        return sum(file.size for file in self._files.values())

    # ------------------------------------------------------------------ files

    def _look_again(self) -> bool:
        """What known files take now (of very many, some at a turn); whether one is not where it was."""
        known = list(self._files.items())
        if len(known) > _STATS:
            self._place = (self._place + _STATS) % len(known)
            known = (known[self._place :] + known[: self._place])[:_STATS]
        lost = False
        for inode, file in known:
            status = _leads_to(file.by, inode) or (_leads_to(file.name, inode) if file.name else None)
            if status is not None:
                file.size = status.st_blocks * 512
            else:  # gone, or another of ours has it: looking through all of them tells
                del self._files[inode]
                lost = lost or file.size > _GRAIN
        if self._segments:
            self._look_at_segments(())
        return lost

    def _look(self, processes: Mapping[int, int], *, whole: bool) -> bool:
        """Look through new descriptors, or through all; whether it was all."""
        begin = time.thread_time()
        self._turn += 1
        self.looks += 1
        few = sum(map(len, self._seen.values())) < _FEW
        whole = whole or few or self._turn % _ALL_EVERY == 0
        for pid in self._seen.keys() - processes.keys():
            del self._seen[pid]
        for pid, owner in processes.items():
            folder = f"{self._proc}/{pid}/fd/"
            try:
                numbers = set(os.listdir(folder))
            except OSError:
                self._seen.pop(pid, None)
                continue
            for number in numbers if whole else numbers - self._seen.get(pid, set()):
                self._look_at(folder + number, owner)
            self._seen[pid] = numbers
        self._look_at_segments(processes)
        spent = time.thread_time() - begin
        self._credit -= spent
        self._rested = time.monotonic() + spent / _MUCH_SHARE
        return whole

    def _look_at(self, path: str, owner: int) -> None:
        try:
            status = os.stat(path)  # noqa: PTH116 - a Path costs as much again
        except OSError:
            return
        if status.st_dev not in self._devices or not stat.S_ISREG(status.st_mode):
            return
        inode = (status.st_dev, status.st_ino)
        if inode in self._files:
            self._files[inode].by = path
        elif len(self._files) < _MOST and not self._is_old(status):
            name = ""
            if status.st_nlink:
                with suppress(OSError):
                    name = os.readlink(path)  # noqa: PTH115
            self._files[inode] = _File(status.st_blocks * 512, owner, path, name)

    def _is_old(self, status: os.stat_result) -> bool:
        """Whether it lay there before us, under a name: then it is somebody's who is not ours."""
        return status.st_nlink > 0 and status.st_ctime < self._since

    # ------------------------------------------------------------------ segments and mappings

    def _look_at_segments(self, processes: Collection[int]) -> None:
        """SysV: the segments that a process of ours made, whoever has them attached."""
        try:
            with open(f"{self._proc}/sysvipc/shm", "rb") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            return
        there = {}
        for line in lines:
            words = line.split()
            number, maker = int(words[1]), int(words[4])
            if number in self._segments:
                there[number] = (int(words[14]), self._segments[number][1])
            elif maker in self._owners and int(words[13]) >= self._since:
                there[number] = (int(words[14]), self._owners[maker])
        self._segments = there

    def _look_at_maps(self, processes: Iterable[int], resident: int) -> None:
        """What is mapped and not open: shared anonymous memory, and files closed behind their mapping."""
        begin = time.thread_time()
        spans: dict[Inode, list[tuple[int, int]]] = {}
        own: dict[Inode, list[tuple[int, int]]] = {}
        sizes: dict[Inode, int] = {}
        for pid in processes:
            for where, inode, span in self._mappings(pid):
                spans.setdefault(inode, []).append(span)
                if pid == os.getpid():
                    own.setdefault(inode, []).append(span)
                if inode not in sizes:
                    with suppress(OSError):  # only root may look through a mapping
                        status = os.stat(where)  # noqa: PTH116
                        sizes[inode] = -1 if self._is_old(status) else status.st_blocks * 512
        self._mapped = {
            inode: _Mapping(sizes.get(inode, _union(each)), _union(each))
            for inode, each in spans.items()
            if inode not in self._files and sizes.get(inode) != -1
        }
        self._own = {inode: _union(each) for inode, each in own.items()}
        self._resident = resident
        self._credit -= time.thread_time() - begin

    def _mappings(self, pid: int) -> Iterator[tuple[str, Inode, tuple[int, int]]]:
        """(a path that leads there, inode, part of it) of each mapping of a file that is memory."""
        try:
            with open(f"{self._proc}/{pid}/maps", "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            return
        for line in lines:
            words = line.split(None, 5)
            if len(words) < 5 or words[4] == b"0" or _device(words[3]) not in self._devices:
                continue
            low, high = (int(end, 16) for end in words[0].split(b"-"))
            offset = int(words[2], 16)
            where = f"{self._proc}/{pid}/map_files/{low:x}-{high:x}"
            yield where, (_device(words[3]), int(words[4])), (offset, offset + high - low)

    # ------------------------------------------------------------------ the sum

    def _held(self, resident: int, own: int) -> Held:
        by_owner: dict[int, int] = {}
        sizes = {inode: file.size for inode, file in self._files.items()}
        for file in self._files.values():
            by_owner[file.owner] = by_owner.get(file.owner, 0) + file.size
        for number, (size, owner) in self._segments.items():
            sizes[(self._kernel, number)] = size
            by_owner[owner] = by_owner.get(owner, 0) + size
        total = sum(sizes.values())
        mapped = [each for inode, each in self._mapped.items() if inode not in sizes]
        # What was touched since they were looked at is one of them, whichever.
        grown = max(resident - self._resident, 0)
        most = min(sum(each.most for each in mapped), resident)
        total += min(sum(each.size for each in mapped) + grown, most)
        sizes |= {inode: each.most for inode, each in self._mapped.items()}
        here = sum(min(size, sizes[inode]) for inode, size in self._own.items() if inode in sizes)
        return Held(total, max(total - min(here, own), 0), by_owner)


class _Trigger:
    """How much shared memory there is, of everybody in our control group, else on the machine."""

    def __init__(self, root: Path) -> None:
        self._file, self._start, self._unit = proc.KernelFile(root / "proc/meminfo"), b"Shmem:", 1024
        for hierarchy in proc.hierarchies("memory", root):
            if len(hierarchy.folders) > 1:  # not the root group, which is slow to tell
                start = b"total_shmem " if hierarchy.version == 1 else b"shmem "
                told = proc.KernelFile(hierarchy.folders[0] / "memory.stat")
                if told.value(start) is not None:
                    self._file, self._start, self._unit = told, start, 1
                    return

    def value(self) -> int:
        return (self._file.value(self._start) or 0) * self._unit


def _devices(root: Path) -> tuple[set[int], int]:
    """The devices of all file systems that are memory, and the kernel's own, which is mounted nowhere."""
    found = {
        status.st_dev
        for mount in proc.mounts(root)
        if mount.type in _MEMORY_FILE_SYSTEMS and (status := _status(mount.point)) is not None
    }
    kernel = -1
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            descriptor = os.memfd_create("penstock-probe")
            kernel = os.fstat(descriptor).st_dev
            os.close(descriptor)
            found.add(kernel)
    return found, kernel


def _leads_to(path: str, inode: Inode) -> os.stat_result | None:
    status = _status(path)
    return status if status is not None and (status.st_dev, status.st_ino) == inode else None


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116
    except OSError:
        return None


def _device(text: bytes) -> int:
    major, _, minor = text.partition(b":")
    return os.makedev(int(major, 16), int(minor, 16))


def _union(spans: list[tuple[int, int]]) -> int:
    """Bytes that at least one of the spans covers."""
    total = end = 0
    for low, high in sorted(spans):
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total
