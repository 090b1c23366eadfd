"""What ``/proc`` tells about a process: mounts, control groups, memory.

Covers Linux. Where a file is not there (macOS), answers are empty or zero, and nothing raises.
Every function takes the ``root`` under which ``/proc`` and ``/sys`` lie, so that tests can put a
made-up machine there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

SYSTEM = Path("/")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system."""

    root: str
    """The folder of that file system which is seen at the mount point."""
    point: str
    """Where it is mounted."""
    type: str
    """``"ext4"``, ``"tmpfs"``, ``"cgroup2"``."""
    options: tuple[str, ...]
    """Options of the file system; for a v1 group hierarchy they name its controllers."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The control groups of this process in one hierarchy, as far as they are visible."""

    version: Literal[1, 2]
    folders: tuple[Path, ...]
    """The innermost group's folder first, then its ancestors up to the mount point."""


def text(path: Path) -> str:
    """Read a file of ``/proc`` or ``/sys``; empty if it does not exist or is not readable."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def fields(content: str) -> dict[str, int]:
    """Parse lines such as ``MemTotal:  16384 kB`` or ``anon 4096`` into bytes and counts by name."""
    values = {}
    for line in content.splitlines():
        words = line.replace(":", " ", 1).split()
        if len(words) >= 2 and words[1].isdigit():
            values[words[0]] = int(words[1]) * (1024 if words[2:] == ["kB"] else 1)
    return values


class KernelFile:
    """A small file of ``/proc`` or ``/sys``, kept open and reread from its beginning.

    Some five times as fast as opening it each time: for what is read every few milliseconds.
    """

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def __del__(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)

    def read(self) -> bytes:
        """The current content; empty if the file, or its control group, is gone."""
        if self._descriptor < 0:
            return b""
        try:
            return os.pread(self._descriptor, 1 << 16, 0)
        except OSError:  # the group was removed
            return b""

    def value(self, start: bytes) -> int | None:
        """The number on the line that begins with ``start``; None if there is no such line."""
        return find(self.read(), start)


def find(content: bytes, start: bytes) -> int | None:
    """The number after ``start`` at the beginning of a line; faster than :func:`fields` for one line.

    ``start`` includes what ends the name (``b"anon "``, ``b"VmSize:"``), as names begin alike.
    """
    if content.startswith(start):
        at = 0
    else:
        at = content.find(b"\n" + start) + 1
        if at == 0:
            return None
    words = content[at + len(start) : at + len(start) + 64].split(None, 1)
    return int(words[0]) if words and words[0].isdigit() else None


def mounts(root: Path = SYSTEM) -> list[Mount]:
    """Every visible mount; where several lie on the same point, only the topmost."""
    visible: dict[str, Mount] = {}
    for line in text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) < 6 or len(right) < 3:
            continue
        point = _plain(left[4])
        visible.pop(point, None)  # the kernel lists the upper mount later
        visible[point] = Mount(_plain(left[3]), point, right[0], tuple(right[2].split(",")))
    return list(visible.values())


def _plain(name: str) -> str:
    """Undo the kernel's octal escapes of blanks and backslashes."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), name)


def hierarchies(controller: str, root: Path = SYSTEM, pid: int | str = "self") -> list[Hierarchy]:
    """The groups that may hold limits of ``controller`` (``"memory"``, ``"cpu"``) on a process.

    Joins ``/proc/self/cgroup`` with ``/proc/self/mountinfo``: a container sees its own group at
    the mount point while ``/proc/self/cgroup`` may name it by its path on the host, and inside a
    batch system's nesting the limit may lie in any ancestor. Both versions are looked at, since a
    hybrid machine has both.
    """
    seen = mounts(root)
    found = []
    for line in text(root / f"proc/{pid}/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version: Literal[1, 2]
        if number == "0" and not controllers:
            version, at = 2, [mount for mount in seen if mount.type == "cgroup2"]
        elif controller in controllers.split(","):
            version, at = (
                1,
                [mount for mount in seen if mount.type == "cgroup" and controller in mount.options],
            )
        else:
            continue
        # Of several views take the one that shows the group itself, and most of its ancestors.
        views = [_view(path, mount, root) for mount in at]
        if views:
            _, folders = max(views, key=lambda view: (view[0], len(view[1])))
            if folders:
                found.append(Hierarchy(version, folders))
    return found


def _view(path: str, mount: Mount, root: Path) -> tuple[bool, tuple[Path, ...]]:
    """Whether a mount shows the group ``path``, and the existing folders from it up to the mount point."""
    top = root / mount.point.lstrip("/")
    base = mount.root.rstrip("/")
    inside = (path == base or path.startswith(base + "/")) and ".." not in path.split("/")
    # Not below the mount's root: another namespace's view. The mount point is then the best guess.
    below = path[len(base) :].strip("/") if inside else ""
    own = top / below if below else top
    chain = [own, *own.parents][: len(own.parts) - len(top.parts) + 1]
    return inside, tuple(folder for folder in chain if folder.is_dir())


def descendants(pid: int, root: Path = SYSTEM) -> Iterator[int]:
    """All descendants of a process, as they are now."""
    waiting = [pid]
    while waiting:
        folder = root / "proc" / str(waiting.pop()) / "task"
        try:
            threads = list(folder.iterdir())
        except OSError:
            continue
        for thread in threads:
            children = [int(child) for child in text(thread / "children").split()]
            yield from children
            waiting += children


TRACKER_SECONDS = 5.0
"""So long may a resource tracker take to remove what those left whom it was for: a busy machine needs it."""


def tracks_resources(pid: int, root: Path = SYSTEM) -> bool:
    """Whether a process is a resource tracker of multiprocessing or loky, by its command line.

    It ends by itself as soon as nobody is left whom it is for, and then removes what they left: semaphores,
    shared memory, folders. Killed with them, it cannot.
    """
    words = text(root / "proc" / str(pid) / "cmdline").split("\0")
    return any(word.startswith("from ") and "resource_tracker import main" in word for word in words)


def held(pid: int, root: Path = SYSTEM) -> int:
    """Anonymous + shared bytes in a process; 0 when it is gone.

    Pages shared after a fork count in each process that maps them.
    """
    return sum(held_apart(pid, root))


def held_apart(pid: int, root: Path = SYSTEM) -> tuple[int, int]:
    """(anonymous, shared) bytes in a process; zeros when it is gone."""
    try:
        with open(f"{root}/proc/{pid}/status", "rb", buffering=0) as file:
            status = file.read()
    except OSError:
        return 0, 0
    return 1024 * (find(status, b"RssAnon:") or 0), 1024 * (find(status, b"RssShmem:") or 0)


def core_wait(root: Path = SYSTEM) -> float:
    """Seconds that this process's main thread waited for a core each time that it ran, in the mean so far."""
    told = text(root / "proc/self/schedstat").split()
    if len(told) != 3 or not all(each.isdigit() for each in told):
        return 0.0
    return int(told[1]) / max(int(told[2]), 1) / 1e9


def image(pid: int, root: Path = SYSTEM) -> bytes:
    """The location of a process's program: the same in its forks, and in no other process.

    Empty when it is gone, or another user's.
    """
    stat = text(root / "proc" / str(pid) / "stat")
    fields = stat[stat.rfind(")") + 2 :].split()
    places = fields[23:26] + fields[45:49]  # code, stack; arguments, environment
    return " ".join(places).encode() if len(places) == 7 and places[2] != "0" else b""


def share(pid: int, root: Path = SYSTEM) -> tuple[int, int]:
    """(anonymous memory, the proportional share of it) of a process; zeros when it is gone.

    Slow: some 20 ms a GiB.
    """
    values = fields(text(root / "proc" / str(pid) / "smaps_rollup"))
    return values.get("Anonymous", 0), values.get("Pss_Anon", 0)


# --------------------------------------------------------------------------- memory that two processes run in

_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "ppc64le": 354, "s390x": 343}
"""The number of the system call that compares what two processes have."""
_KCMP_VM = 1
_LOOKS = 2
"""A memory may change between the looks at it through one process and through the other."""


def same_memory(pid: int, other: int, root: Path = SYSTEM) -> bool:
    """Whether two processes run in one address space, which is to be counted once.

    A child that was made to run another program (vfork) does so until it runs it, and never again.
    """
    told = _compared(pid, other) if root == SYSTEM else None
    if told is not None:
        return told
    # Where that may not be asked: a forked copy has other pages of files at least, and other tables.
    for _ in range(_LOOKS):
        marks = _marks(pid, root)
        if marks is not None and marks == _marks(other, root):
            return True
    return False


def _compared(pid: int, other: int) -> bool | None:
    """What the kernel says to it; None where it does not: not permitted, or one of them is gone."""
    compare = _kcmp()
    told = -1 if compare is None else compare(pid, other)
    return None if told < 0 else told == 0


@cache
def _kcmp() -> Callable[[int, int], int] | None:
    number = _KCMP.get(os.uname().machine) if sys.platform == "linux" and sys.maxsize > 1 << 32 else None
    if number is None:
        return None
    import ctypes  # only where processes are watched: it takes a while to import

    call = ctypes.CDLL(None).syscall
    call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long] * 6
    return lambda pid, other: int(call(number, pid, other, _KCMP_VM, 0, 0))


def _marks(pid: int, root: Path) -> tuple[bytes | int | None, ...] | None:
    """What is told of a process's memory, the same for all that run in it; None where nothing is."""
    where, values = image(pid, root), fields(text(root / "proc" / str(pid) / "status"))
    if not where or "VmPTE" not in values:
        return None
    return (where, *map(values.get, ("VmPeak", "VmSize", "VmPTE", "RssAnon", "RssFile", "RssShmem")))
