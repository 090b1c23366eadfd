"""A hard memory group for one run, and what it measures. Needs root, and cgroup v1 or v2.

Two views of the same limit:

- ``container``: the group is mounted where the process expects the top of the hierarchy (a mount
  namespace of its own, a bind mount), as in a container;
- ``slurm``: the process is in a step below the group that has the limit, and nothing is mounted:
  the limit is seen only by joining ``/proc/self/cgroup`` with the mounts.

The measure of memory is anonymous + shared of the group. Its usage figure would count page cache.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock.proc import Hierarchy, fields, hierarchies

VIEWS = ("container", "slurm")


@dataclass(frozen=True)
class _Names:
    """What the files of one version are called."""

    limit: str
    swap: tuple[str, str]
    """File, and what to write so that nothing swaps."""
    kills: str
    resident: tuple[str, str]


_V1 = _Names(
    "memory.limit_in_bytes", ("memory.swappiness", "0"), "memory.oom_control", ("total_rss", "total_shmem")
)
_V2 = _Names("memory.max", ("memory.swap.max", "0"), "memory.events", ("anon", "shmem"))


class Group:
    """Made for one run, and removed by :meth:`end` with every process in it.

    Args:
        limit: bytes that all its processes may use.
        view: one of ``VIEWS``.

    Raises:
        SystemExit: this process may not make groups here; says what is missing.
    """

    def __init__(self, limit: int, view: str) -> None:
        memory = _hierarchy("memory")
        self._names = _V1 if memory.version == 1 else _V2
        name = f"penstock-benchmark-{os.getpid()}-{time.monotonic_ns()}"
        self._top = memory.folders[-1]
        self._container = view == "container"
        self.folder = _parent(memory) / name
        self._entrances = [self.folder if self._container else self.folder / "step_0"]
        self._made = [self.folder, *(folder for folder in self._entrances if folder != self.folder)]
        if memory.version == 1:
            self._cpu = _hierarchy("cpuacct").folders[0] / name
            self._entrances.append(self._cpu)
            self._made.append(self._cpu)
        else:
            self._cpu = self.folder
        self._kills: dict[Path, int] = {}
        self.peak = 0
        """Highest anonymous + shared bytes seen by :meth:`look`."""
        self.byte_seconds = 0.0
        """Bytes that were held, over time."""
        self._looked = time.monotonic()
        try:
            for folder in self._made:
                folder.mkdir()
            (self.folder / self._names.limit).write_text(str(limit))
            if memory.version == 2 and not self._container:  # as a batch system does for its steps
                (self.folder / "cgroup.subtree_control").write_text("+memory")
        except OSError as error:
            self.end()
            message = f"cannot make a memory group ({error}): run as root, where groups are writable"
            raise SystemExit(message) from error
        with suppress(OSError):
            file, value = self._names.swap
            (self.folder / file).write_text(value)

    def command(self, command: Sequence[str]) -> list[str]:
        """The command, wrapped so that it is inside from its first byte on."""
        enter = [f"echo $$ > '{folder}/cgroup.procs'" for folder in self._entrances]
        if self._container:
            enter.append(f"mount --bind '{self.folder}' '{self._top}'")
        shell = ["sh", "-c", " && ".join([*enter, 'exec "$@"']), "sh", *command]
        return ["unshare", "--mount", *shell] if self._container else shell

    def look(self) -> None:
        """Take a reading; to be called every 20 ms or so."""
        stat = fields((self.folder / "memory.stat").read_text())
        held, now = sum(stat[name] for name in self._names.resident), time.monotonic()
        self.peak = max(self.peak, held)
        self.byte_seconds += held * (now - self._looked)
        self._looked = now
        # On v1 a kill counts in the victim's own group only, and that group may go.
        folders = [self.folder] if self._names is _V2 else _tree(self.folder)
        for folder in folders:
            with suppress(OSError):
                self._kills[folder] = fields((folder / self._names.kills).read_text()).get("oom_kill", 0)

    @property
    def kills(self) -> int:
        """Processes that the kernel has killed for want of memory."""
        return sum(self._kills.values())

    @property
    def cpu(self) -> float:
        """CPU seconds of every process that was ever in the group."""
        if self._names is _V2:
            return fields((self._cpu / "cpu.stat").read_text())["usage_usec"] / 1e6
        return int((self._cpu / "cpuacct.usage").read_text()) / 1e9

    def processes(self) -> set[int]:
        """Who is in it."""
        found: set[int] = set()
        for folder in _tree(self.folder):
            with suppress(OSError):
                found.update(map(int, (folder / "cgroup.procs").read_text().split()))
        return found

    def end(self) -> None:
        """Kill who is left, and remove the group."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        for folder in reversed([*_tree(self.folder), self._cpu]):
            for _ in range(50):
                with suppress(OSError):
                    folder.rmdir()
                if not folder.exists():
                    break
                time.sleep(0.02)


def _hierarchy(controller: str) -> Hierarchy:
    found = hierarchies(controller)
    if not found:
        raise SystemExit(f"there is no {controller} control group here")
    return min(found, key=lambda each: each.version)


def _parent(memory: Hierarchy) -> Path:
    """Where a group may be made: on v2 only below one that hands the memory controller down."""
    if memory.version == 1:
        return memory.folders[0]
    for folder in memory.folders:
        if "memory" in (folder / "cgroup.subtree_control").read_text().split():
            return folder
    raise SystemExit(
        f"no group of {memory.folders[0]} and above hands the memory controller down: "
        f"echo +memory > {memory.folders[-1]}/cgroup.subtree_control"
    )


def _tree(folder: Path) -> list[Path]:
    return [Path(root) for root, _, _ in os.walk(folder)]
