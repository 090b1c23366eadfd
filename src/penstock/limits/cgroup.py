"""The memory limits of every control group that holds this process, v1, v2 and both at once.

Covers all visible ancestors, and on v1 the hidden ones as well. ``used`` is anonymous + shared
memory only: the groups' own usage figures count page cache, which the kernel gives back. The groups that
hold this process have groups below them, often ours: see :mod:`penstock.groups.reader`.

Read every 10 to 20 ms by the governor, so the files are found once and stay open; they are looked
for again when this process was moved to another group.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.budget import Ceiling
from penstock.groups import GroupReader, systemd
from penstock.proc import SYSTEM, KernelFile, hierarchies

# v1 writes "no limit" as the largest multiple of the page size in 63 bits.
_UNLIMITED = 1 << 62


class Cgroup:
    """Ceilings of the control groups, innermost first.

    Args:
        root: where ``/proc`` and ``/sys`` lie.
        environ: not used; every limit takes it.
    """

    def __init__(self, root: Path = SYSTEM, environ: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._membership = KernelFile(root / "proc/self/cgroup")
        self._seen: bytes | None = None
        self._chains: list[_V1 | _V2] = []
        self._beside: tuple[Path, ...] = ()

    def read(self) -> Sequence[Ceiling]:
        """The current ceilings; about 25 us per limit. Never raises."""
        membership = self._membership.read()
        beside = systemd.beside()
        if membership != self._seen or beside is not self._beside:
            self._seen, self._beside = membership, beside
            self._chains = [
                _V1(found.folders) if found.version == 1 else _V2(found.folders)
                for found in hierarchies("memory", self._root)
            ]
            # A scope in which our workers are may lie under limits that this process is not under.
            self._chains += [_V2(beside)] * bool(beside)
        return [ceiling for chain in self._chains for ceiling in chain.read()]


def _limit(file: KernelFile) -> int | None:
    """The number in a file; None for "no limit" in either version's spelling."""
    content = file.read().strip()
    if not content.isdigit():
        return None
    value = int(content)
    return value if value < _UNLIMITED else None


def _used(group: GroupReader) -> int:
    held = group.held()
    return 0 if held is None else held.memory


class _V1:
    """One process's groups in a v1 hierarchy, innermost first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._limits = [KernelFile(folder / "memory.limit_in_bytes") for folder in folders]
        self._own = KernelFile(folders[0] / "memory.stat")
        self._memory = [GroupReader(folder, 1) for folder in folders]
        self._kills = V1Kills(folders)

    def read(self) -> list[Ceiling]:
        found = [
            (level, bytes_, f"cgroup memory limit ({file.path})")
            for level, file in enumerate(self._limits)
            if (bytes_ := _limit(file)) is not None
        ]
        effective = self._own.value(b"hierarchical_memory_limit ") or _UNLIMITED
        if effective < min((bytes_ for _, bytes_, _ in found), default=_UNLIMITED):
            # Set in a group that cannot be seen from here; what the outermost visible group holds
            # is the least that one holds.
            origin = f"cgroup memory limit of an outer group (hierarchical_memory_limit in {self._own.path})"
            found.append((len(self._memory) - 1, effective, origin))
        if not found:
            return []
        kills = self._kills.read()
        return [
            Ceiling(bytes_, "tree", origin, _used(self._memory[level]), kernel_kills=kills[level])
            for level, bytes_, origin in found
        ]


class V1Kills:
    """Counts kernel kills on v1, where each is counted in the victim's own group, not where the limit is.

    Our workers are victims in this process's group or in groups below it, so a ceiling's count is
    the sum over the groups from there up to it. Counts of groups that are gone are kept.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._own = folders[0]
        self._chain = [KernelFile(folder / "memory.oom_control") for folder in folders]
        self._below: dict[Path, tuple[KernelFile, int]] = {}
        self._links = 0
        self._gone = 0

    def read(self) -> list[int | None]:
        """One sum per group of the chain; None where the kernel does not count (before 4.13)."""
        below = self._read_below()
        sums: list[int | None] = []
        total = 0
        for file in self._chain:
            kills = file.value(b"oom_kill ")
            total += kills or 0
            sums.append(None if kills is None else total + below)
        return sums

    def _read_below(self) -> int:
        try:
            links = self._own.stat().st_nlink  # counts the groups directly below
        except OSError:
            links = self._links
        if links != self._links:
            self._links = links
            self._list()
        for folder, (file, _) in list(self._below.items()):
            kills = file.value(b"oom_kill ")
            if kills is not None:
                self._below[folder] = (file, kills)
        return self._gone + sum(kills for _, kills in self._below.values())

    def _list(self) -> None:
        present = {Path(folder) for folder, _, _ in os.walk(self._own)} - {self._own}
        for folder in self._below.keys() - present:
            self._gone += self._below.pop(folder)[1]
        for folder in present - self._below.keys():
            self._below[folder] = (KernelFile(folder / "memory.oom_control"), 0)


class _V2:
    """One process's groups in the v2 hierarchy, innermost first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._groups = [
            (
                KernelFile(folder / "memory.max"),
                KernelFile(folder / "memory.high"),
                GroupReader(folder, 2),
                KernelFile(folder / "memory.events"),
                KernelFile(folder / "memory.oom.group"),
            )
            for folder in folders
        ]

    def read(self) -> list[Ceiling]:
        ceilings = []
        kills_group = False
        for maximum, high, memory, events, group in self._groups:
            # Over a limit the kernel ends the outermost such group between the victim and the limit.
            kills_group = kills_group or group.read().strip() == b"1"
            hard, soft = _limit(maximum), _limit(high)
            if hard is None and soft is None:
                continue
            used = _used(memory)
            kills = events.value(b"oom_kill ")
            if hard is not None:
                origin = f"cgroup memory limit ({maximum.path})"
                ceilings.append(Ceiling(hard, "tree", origin, used, kills_group, kills))
            if soft is not None and (hard is None or soft < hard):
                # Over it nobody is killed, but everybody is slowed down to a crawl.
                origin = f"cgroup memory throttle ({high.path})"
                ceilings.append(Ceiling(soft, "tree", origin, used, False, kills))
        return ceilings
