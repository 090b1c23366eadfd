"""A fake machine for tests: the files of ``/proc`` and ``/sys`` that limits read, in a folder.

Every :class:`penstock.abc.Limit` takes ``root`` and ``environ``::

    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/kubepods/pod7/app")
    machine.group("/kubepods/pod7", limit=4 * GiB, anonymous=1 * GiB)
    Cgroup(machine.root, machine.environ).read()

Files are changed in place, as the kernel's are, so a limit that keeps them open sees the change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from penstock.budget import GiB

_PAGE = 4096
_V1_UNLIMITED = (1 << 63) - _PAGE


@dataclass(frozen=True)
class _Group:
    """What is set in, and held by, one group; bytes include the groups below it."""

    limit: int | None = None
    throttle: int | None = None
    anonymous: int = 0
    shared: int = 0
    cache: int = 0
    kills: int = 0
    kills_group: bool = False
    cpus: float | None = None


class FakeMachine:
    """A Linux machine in a folder.

    Args:
        folder: an empty folder; it becomes the ``root``.
        version: of the control groups: 1, 2, or ``"hybrid"`` (memory and cpu in v1, beside an empty v2).
        container: the path of the group whose container the process is in: only it and what is below
            it can be seen, at the mount point.
        namespace: whether that container hides the group's path on the host in ``/proc/self/cgroup``
            too, as containers with a cgroup namespace do.
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: Literal[1, 2, "hybrid"] = 2,
        container: str = "/",
        namespace: bool = False,
    ) -> None:
        self.root = Path(folder)
        self.environ: dict[str, str] = {}
        self._version = 2 if version == 2 else 1
        self._container = "/" + container.strip("/")
        self._namespace = namespace
        self._groups: dict[str, _Group] = {}
        self._own = self._container
        self._mounts = [
            "20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
            "21 20 0:20 / /proc rw - proc proc rw",
        ]
        for folder_name in ("proc/self", "dev/shm", "sys/fs/cgroup"):
            (self.root / folder_name).mkdir(parents=True, exist_ok=True)
        seen = "/" if namespace else self._container
        if version == 2:
            self._points = {"memory": "/sys/fs/cgroup", "cpu": "/sys/fs/cgroup"}
            self.mount("/sys/fs/cgroup", "cgroup2", root=seen)
        else:
            self._points = {name: f"/sys/fs/cgroup/{name}" for name in ("memory", "cpu")}
            self.mount("/sys/fs/cgroup", "tmpfs")
            for name, point in self._points.items():
                self.mount(point, "cgroup", root=seen, options=name)
        if version == "hybrid":
            self.mount("/sys/fs/cgroup/unified", "cgroup2")
        self._hybrid = version == "hybrid"
        self.memory()
        self.process()
        self.enter(self._container)

    # ------------------------------------------------------------------ the machine and the process

    def memory(self, total: int = 16 * GiB, available: int | None = None, kills: int = 0) -> None:
        """Set the machine's memory, how much of it is available (default: all), and kernel kills so far."""
        available = total if available is None else available
        lines = (
            f"MemTotal: {total >> 10} kB\nMemFree: {available >> 11} kB\nMemAvailable: {available >> 10} kB\n"
        )
        self._write("/proc/meminfo", lines)
        self._write("/proc/vmstat", f"nr_free_pages {available // _PAGE}\noom_kill {kills}\n")

    def process(self, address_space: int | None = None, data: int | None = None) -> None:
        """Set this process's resource limits, in bytes; None for none."""
        rows = [("Max cpu time", None, "seconds"), ("Max data size", data, "bytes")]
        rows.append(("Max address space", address_space, "bytes"))
        text = f"{'Limit':<26}{'Soft Limit':<21}{'Hard Limit':<21}Units\n"
        for name, value, unit in rows:
            soft = "unlimited" if value is None else str(value)
            text += f"{name:<26}{soft:<21}{'unlimited':<21}{unit}\n"
        self._write("/proc/self/limits", text)
        self._write("/proc/self/status", "Name:\tpython\nVmSize:\t  204800 kB\nVmData:\t   51200 kB\n")

    def mount(self, point: str, kind: str, *, root: str = "/", options: str = "rw") -> None:
        """Mount a file system: a line in ``/proc/self/mountinfo``, and the folder."""
        number = 20 + len(self._mounts)
        escaped = point.replace("\\", r"\134").replace(" ", r"\040")
        self._mounts.append(f"{number} 20 0:{number} {root} {escaped} rw,relatime - {kind} {kind} {options}")
        (self.root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self._write("/proc/self/mountinfo", "\n".join(self._mounts) + "\n")

    # ------------------------------------------------------------------ control groups

    def enter(self, path: str) -> None:
        """Move this process into a group, given by its path on the host."""
        self._own = "/" + path.strip("/")
        self.group(path)
        named = self._below(self._own) if self._namespace else self._own
        named = "/" + named.strip("/")
        if self._version == 2:
            lines = [f"0::{named}"]
        else:
            lines = [f"{i}:{name}:{named}" for i, name in enumerate(self._points, start=3)]
            lines += ["0::/"] if self._hybrid else []
        self._write("/proc/self/cgroup", "\n".join(lines) + "\n")

    def group(self, path: str, **values: Any) -> None:
        """Make a group, and its ancestors, or change one.

        Args:
            path: on the host.
            values: ``limit``, ``throttle`` (v2), ``anonymous``, ``shared``, ``cache`` in bytes,
                ``kills`` (so far), ``kills_group`` (v2), ``cpus`` (a quota).
        """
        path = "/" + path.strip("/")
        for ancestor in (path, *map(str, Path(path).parents)):
            self._groups.setdefault(ancestor, _Group())
        self._groups[path] = replace(self._groups[path], **values)
        for each in self._groups:  # a limit shows in the groups below it
            if self._is_visible(each):
                self._write_group(each)

    def folder(self, path: str, controller: str = "memory") -> Path:
        """The folder of a visible group's files on this machine."""
        return self.root / (self._points[controller] + self._below("/" + path.strip("/"))).strip("/")

    def _is_visible(self, path: str) -> bool:
        return path == self._container or path.startswith(self._container.rstrip("/") + "/")

    def _below(self, path: str) -> str:
        return path[len(self._container.rstrip("/")) :].rstrip("/")

    def _write_group(self, path: str) -> None:
        group = self._groups[path]
        write = self._write_v2 if self._version == 2 else self._write_v1
        for name, text in write(path, group).items():
            folder = self.folder(path, name.partition(".")[0])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    def _write_v1(self, path: str, group: _Group) -> dict[str, str]:
        limits = [self._groups[str(each)].limit for each in (Path(path), *Path(path).parents)]
        lowest = min((limit for limit in limits if limit is not None), default=_V1_UNLIMITED)
        file = group.cache + group.shared
        return {
            "memory.limit_in_bytes": f"{_V1_UNLIMITED if group.limit is None else group.limit}\n",
            "memory.usage_in_bytes": f"{group.anonymous + file}\n",
            "memory.oom_control": f"oom_kill_disable 0\nunder_oom 0\noom_kill {group.kills}\n",
            "memory.stat": f"cache {file}\nrss {group.anonymous}\nshmem {group.shared}\n"
            f"hierarchical_memory_limit {lowest}\ntotal_cache {file}\n"
            f"total_rss {group.anonymous}\ntotal_shmem {group.shared}\n",
            "cpu.cfs_quota_us": f"{-1 if group.cpus is None else int(group.cpus * 100_000)}\n",
            "cpu.cfs_period_us": "100000\n",
        }

    def _write_v2(self, path: str, group: _Group) -> dict[str, str]:
        stat = f"anon {group.anonymous}\nfile {group.cache + group.shared}\nshmem {group.shared}\n"
        if path == "/":  # the host's outermost group can hold no limit
            return {"memory.stat": stat}
        events = f"low 0\nhigh 0\nmax 0\noom {group.kills}\noom_kill {group.kills}\noom_group_kill 0\n"
        quota = "max" if group.cpus is None else str(int(group.cpus * 100_000))
        return {
            "memory.max": f"{'max' if group.limit is None else group.limit}\n",
            "memory.high": f"{'max' if group.throttle is None else group.throttle}\n",
            "memory.current": f"{group.anonymous + group.shared + group.cache}\n",
            "memory.stat": stat,
            "memory.events": events,
            "memory.oom.group": f"{int(group.kills_group)}\n",
            "cpu.max": f"{quota} 100000\n",
        }

    def _write(self, path: str, text: str) -> None:
        (self.root / path.lstrip("/")).write_text(text)
