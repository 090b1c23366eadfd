"""One control group: what it holds, what it held at most, whom the kernel took, and how to stop or end it.

Page cache is never counted: the kernel gives it back. Pipe buffers are counted where a counter tells them,
among the memory that the kernel itself holds for the group; what it holds for other reasons is some megabytes
at most, so only what is above that counts.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from penstock.budget import MiB
from penstock.groups.files import GroupFiles, pids
from penstock.proc import KernelFile, find, tracks_resources

_KERNELS_OWN = 8 * MiB
"""So much kernel memory is not taken for pipe buffers."""


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """What a group and those below it hold at one moment, in bytes."""

    memory: int
    """Anonymous + shared memory, each page once."""
    shared: int
    """The shared part of it: shared mappings, and files that are memory."""
    cache: int
    """Pages of files on disks: the group is charged for them, and they can be taken back."""
    kernel: int
    """What the kernel holds for the group, pipe buffers included."""
    pipes: int
    """Pipe buffers, as far as they are told from other kernel memory."""


NOTHING = GroupMemory(0, 0, 0, 0, 0)


def of_v1(stat: bytes, kernel: int) -> GroupMemory:
    """From ``memory.stat`` and ``memory.kmem.usage_in_bytes``."""
    shared = find(stat, b"total_shmem ") or 0
    cache = max((find(stat, b"total_cache ") or 0) - shared, 0)
    pipes = kernel if kernel > _KERNELS_OWN else 0
    return GroupMemory((find(stat, b"total_rss ") or 0) + shared, shared, cache, kernel, pipes)


def of_v2(stat: bytes) -> GroupMemory:
    """From ``memory.stat``; pipe buffers are told since Linux 5.18."""

    def value(*names: bytes) -> int:
        return sum(find(stat, name) or 0 for name in names)

    shared = value(b"shmem ")
    parts = value(b"slab ", b"kernel_stack ", b"pagetables ", b"sec_pagetables ", b"percpu ", b"vmalloc ")
    kernel = max(value(b"kernel "), parts)
    pipes = kernel - parts if kernel - parts > _KERNELS_OWN else 0
    cache = max(value(b"file ") - shared, 0)
    return GroupMemory(value(b"anon ") + shared, shared, cache, kernel + value(b"sock "), pipes)


def highest(mark: int, before: GroupMemory, after: GroupMemory) -> int:
    """The most anonymous + shared bytes between two readings, by the high-water mark of all that is charged.

    What was cached at that moment is not told: the most that either reading saw is taken off. So the answer
    may be too low, and is too high only by files that came and went in between.
    """
    other = max(before.cache, after.cache) + max(before.kernel, after.kernel)
    return max(before.memory, after.memory, mark - other)


def bound(mark: float, before: GroupMemory, after: GroupMemory) -> float:
    """What the anonymous + shared bytes between two readings were never above, by the same mark."""
    other = min(before.cache, after.cache) + min(before.kernel, after.kernel)
    return max(before.memory, after.memory, mark - other)


class Told(NamedTuple):
    """A reading of a group."""

    held: GroupMemory
    top: int
    """The most of ``held.memory`` since the last reading: never too high."""
    bound: float
    """It was never above that; infinite where no mark tells."""
    before: int
    """``held.memory`` at the last reading."""


class Member:
    """One group, made by us.

    Args:
        folder: of the group, which is there.
        version: of the control groups.
    """

    def __init__(self, folder: Path, version: Literal[1, 2], files: GroupFiles | None = None) -> None:
        self.folder = folder
        self.version = version
        self._files = files or GroupFiles()
        self.procs = folder / "cgroup.procs"
        self._stat = KernelFile(folder / "memory.stat")
        v1 = version == 1
        self._kernel = KernelFile(folder / "memory.kmem.usage_in_bytes") if v1 else None
        # A group's own victims: on v2 the other file counts those of the groups below as well.
        self._kills = KernelFile(folder / ("memory.oom_control" if v1 else "memory.events"))
        self._mark = _HighWater(folder / ("memory.max_usage_in_bytes" if v1 else "memory.peak"), version)
        self._before = NOTHING

    def held(self) -> GroupMemory | None:
        """What it holds now; None when it is gone."""
        stat = self._stat.read()
        if not stat:
            return None
        if self._kernel is None:
            return of_v2(stat)
        text = self._kernel.read().strip()
        return of_v1(stat, int(text) if text.isdigit() else 0)

    def read(self) -> Told | None:
        """What it holds now, and held since the last call; None when it is gone."""
        mark, most = self._mark.take()
        held = self.held()
        if held is None:
            return None
        before, self._before = self._before, held
        return Told(held, highest(mark, before, held), bound(most, before, held), before.memory)

    def kernel_kills(self) -> int | None:
        """Processes of it that the kernel has killed for memory so far; None where that is not told."""
        return self._kills.value(b"oom_kill ")

    def entrance(self) -> int:
        """A descriptor through which a child enters (it writes ``0``); to be closed by the caller.

        Raises:
            OSError: the group is gone, or not ours.
        """
        return os.open(self.procs, os.O_WRONLY | os.O_CLOEXEC)

    def fence(self, most: int) -> None:
        """Have the kernel end what is in it rather than let it hold more, page cache not counted."""
        with suppress(OSError):  # less than is held now and cannot be taken back
            self._files.write(
                self.folder / ("memory.limit_in_bytes" if self.version == 1 else "memory.max"), str(most)
            )

    # ------------------------------------------------------------------ acts

    def pids(self) -> list[int]:
        """The processes in it and below; 0 stands for one that cannot be seen from here."""
        found, todo = [], [self.folder]
        while todo:
            folder = todo.pop()
            found += pids(self._files.read(folder / "cgroup.procs"))
            todo += self._files.groups(folder)
        return found

    def pause(self) -> None:
        """Stop everybody in it."""
        if not self._write("cgroup.freeze", "1"):
            self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let everybody run on."""
        if not self._write("cgroup.freeze", "0"):
            self.signal(signal.SIGCONT)

    def kill(self, *, trackers: bool = True) -> None:
        """End everybody in it at once; who forks meanwhile on v1 is met by the next call.

        Args:
            trackers: also resource trackers, which end by themselves when the others have.
        """
        spared = [] if trackers else [pid for pid in self.pids() if pid and tracks_resources(pid)]
        if spared:
            self.signal(signal.SIGKILL, spared)
            self.resume()
        elif not self._write("cgroup.kill", "1"):
            self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals, spared: Collection[int] = ()) -> None:
        """Signal everybody in it but this process and those who are spared."""
        me = os.getpid()
        for pid in self.pids():
            if pid not in (0, me) and pid not in spared:
                self._files.signal(pid, number, lambda pid: pid in self.pids())

    def _write(self, name: str, text: str) -> bool:
        """Whether that could be written; v1 has no such files, nor have old kernels."""
        if self.version == 1:
            return False
        try:
            self._files.write(self.folder / name, text)
        except OSError:
            return False
        return True

    def end(self, *, trackers: bool = True) -> bool:
        """Kill what is in it and below, and remove it; whether it is gone. Call again when it is not.

        Args:
            trackers: kill resource trackers too, which end by themselves when the others have.
        """
        self.kill(trackers=trackers)
        folders, todo = [], [self.folder]
        while todo:
            folders.append(todo.pop())
            todo += self._files.groups(folders[-1])
        for folder in reversed(folders):
            try:
                self._files.remove(folder)
            except FileNotFoundError:
                continue
            except OSError:  # EBUSY: the dead have not left it yet
                return False
        return True


class _HighWater:
    """The high-water mark of all that is charged to a group, begun anew at each look where the kernel can.

    v1 always can; v2 since Linux 6.12, for each descriptor apart. Elsewhere a mark tells something only
    when it is higher than the last.
    """

    def __init__(self, file: Path, version: int) -> None:
        self._file: KernelFile | None = None
        self._descriptor = -1
        self._reset = b"0" if version == 1 else b"reset"
        self._last = 0
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
            # Tried, not guessed from the version: root may open what the kernel then does not let it write.
            os.pwrite(self._descriptor, self._reset, 0)
        except OSError:
            self._close()
            self._file = KernelFile(file)

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def take(self) -> tuple[int, float]:
        """(where it was for sure since the last call, or 0; what was never exceeded, or infinite)."""
        if self._file is not None:
            text = self._file.read().strip()
            if not text.isdigit():
                return 0, math.inf
            mark, last = int(text), self._last
            self._last = mark
            return (mark if mark > last else 0), mark
        try:
            text = os.pread(self._descriptor, 64, 0).strip()
            os.pwrite(self._descriptor, self._reset, 0)
        except OSError:  # the group is gone
            return 0, math.inf
        return (int(text), int(text)) if text.isdigit() else (0, math.inf)
