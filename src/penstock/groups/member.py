"""One control group: its memory, its peak, its kernel kills, and how to pause or kill it."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from penstock.groups.files import GroupFiles
from penstock.groups.memory import NOTHING, GroupMemory, bound, highest
from penstock.groups.reader import GroupReader
from penstock.proc import KernelFile, tracks_resources


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
        below: the groups directly below it, where nobody else makes any, kept up to date by who makes them.
    """

    def __init__(
        self,
        folder: Path,
        version: Literal[1, 2],
        files: GroupFiles | None = None,
        below: Sequence[GroupReader] | None = None,
    ) -> None:
        self.folder = folder
        self.version = version
        self._files = files or GroupFiles()
        self.procs = folder / "cgroup.procs"
        self.memory = GroupReader(folder, version, self._files, below, pipes=True)
        v1 = version == 1
        # A group's own victims: on v2 the other file counts those of the groups below as well.
        self._kills = KernelFile(folder / ("memory.oom_control" if v1 else "memory.events"))
        self._mark = _HighWater(folder / ("memory.max_usage_in_bytes" if v1 else "memory.peak"), version)
        self._before = NOTHING

    def held(self) -> GroupMemory | None:
        """Bytes that it holds now; None when it is gone."""
        return self.memory.held()

    def read(self) -> Told | None:
        """Bytes that it holds now and its peak since the last call; None when it is gone."""
        mark, most = self._mark.take()
        held = self.memory.read_for_sum()
        if held is None:
            return None
        before, self._before = self._before, held
        return Told(held, highest(mark, before, held), bound(most, before, held), before.memory)

    def kernel_kills(self) -> int | None:
        """Its processes that the kernel has killed for memory so far; None if not counted here."""
        return self._kills.value(b"oom_kill ")

    def entrance(self) -> int:
        """A descriptor through which a child enters (it writes ``0``); the caller closes it.

        Raises:
            OSError: the group is gone, or not ours.
        """
        return os.open(self.procs, os.O_WRONLY | os.O_CLOEXEC)

    def fence(self, most: int) -> None:
        """Have the kernel kill its processes rather than let them hold more, page cache excluded."""
        with suppress(OSError):  # less than is held now and cannot be taken back
            self._files.write(
                self.folder / ("memory.limit_in_bytes" if self.version == 1 else "memory.max"), str(most)
            )

    # ------------------------------------------------------------------ acts

    def pids(self) -> list[int]:
        """The processes in it and below; 0 for each that is not visible from here."""
        return self._files.inside(self.folder)

    def pause(self) -> None:
        """Stop all its processes."""
        if not self._write("cgroup.freeze", "1"):
            self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue all its processes."""
        if not self._write("cgroup.freeze", "0"):
            self.signal(signal.SIGCONT)

    def kill(self, *, trackers: bool = True) -> None:
        """Kill all its processes at once; on v1, the next call catches those that forked meanwhile.

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
        """Signal all its processes except this one and those to be spared."""
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
        """Kill everything in it and below, and remove it; returns whether it is gone. Call again if not.

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
