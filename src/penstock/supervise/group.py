"""The innermost control group of this process: one counter for the whole tree, if it holds nothing else.

Covers both versions. Whether it is ours alone is looked at again and again: a shell that waits for us
may be in it (a batch script), anything else makes it somebody else's too.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from penstock.groups import GroupReader
from penstock.limits.cgroup import V1Kills
from penstock.proc import SYSTEM, KernelFile, hierarchies, text
from penstock.supervise.tree import ancestors, has_ended

_MOST = 100_000


class Group:
    """The group's counters.

    Args:
        root: where ``/proc`` and ``/sys`` lie.
    """

    def __init__(self, root: Path = SYSTEM) -> None:
        found = [each for each in hierarchies("memory", root) if (each.folders[0] / "memory.stat").exists()]
        # On a hybrid machine memory is counted in one of the two hierarchies only.
        self.folder = found[0].folders[0] if found else None
        own = found[0].folders[0] if found else root / "none"
        self._version = found[0].version if found else 2
        kills = "memory.oom_control" if self._version == 1 else "memory.events"
        self._memory = GroupReader(own, self._version)
        self._kills = KernelFile(own / kills)
        # On v1 a kill counts in the victim's own group, which may be one that a run of ours makes.
        self._below = V1Kills([own]) if kills == "memory.oom_control" else None
        self._above = {os.getpid(), *ancestors(os.getpid())}

    def _is_new(self, pid: int) -> bool:
        """Whether a process that nobody knows yet is our descendant, or gone again."""
        return os.getpid() in ancestors(pid) or has_ended(pid)

    def used(self) -> int | None:
        """Anonymous + shared bytes of the group and those below it; None if unknown.

        With pipe buffers where these are told: on v1 the kernel's memory for a command that looks at very
        many files cannot be told from them, and is none that the command holds.
        """
        held = self._memory.held()
        if held is None:
            return None
        return held.memory + (0 if self._version == 1 else held.pipes)

    def kernel_kills(self) -> int | None:
        """Processes of the group, and of those below it, that the kernel has killed for memory so far.

        None where that is not counted.
        """
        if self._below is not None:
            return self._below.read()[0]
        return self._kills.value(b"oom_kill ")

    def is_ours(self, tree: Collection[int]) -> bool:
        """Whether it holds all of ``tree``, and besides only this process and those waiting for it."""
        if self.folder is None or self._memory.held() is None:
            return False
        outside = set(tree)
        count = 0
        for folder, _, _ in os.walk(self.folder):
            for pid in map(int, text(Path(folder, "cgroup.procs")).split()):
                count += 1
                outside.discard(pid)
                # 0: a process outside of this container.
                if count > _MOST or pid == 0:
                    return False
                if pid not in self._above and pid not in tree and not self._is_new(pid):
                    return False
        # Of those that are not in it: has it ended meanwhile, or gone to a group of its own?
        return count > 0 and all(has_ended(pid) for pid in outside)
