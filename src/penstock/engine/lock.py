"""One run at a time in a folder: a lock file that a dead holder cannot keep.

The file names host, boot, process and its start time, and is touched every few seconds. On the
same host a holder is dead when its process is gone (or its number belongs to another process
now); on another host, or in another container of this one, when the file has not been touched
for a minute. Who looks at the file and takes it away holds a second, kernel's lock meanwhile, so
that of several who find a dead holder none takes away the lock of the first to replace it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.errors import RunLocked

_SILENT = 60.0
_NAME = "lock"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a run folder, or held it and died."""

    pid: int
    host: str
    since: str
    """When it began, as people write it."""
    seen: float
    """Its last sign of life, in seconds since the epoch."""
    alive: bool
    rebooted: bool = False
    """Whether its machine, this one, was started again since."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def holder_of(machinery: Path) -> Holder | None:
    """Who holds the folder ``.penstock`` of a run, living or dead; None when nobody does."""
    try:
        path = machinery / _NAME
        seen = path.stat().st_mtime
        entry: dict[str, Any] = json.loads(path.read_text())
        here = _here()
        rebooted = entry["host"] == here["host"] and entry["boot"] != here["boot"]
        alive = _alive(entry, time.time() - seen, here)
        return Holder(int(entry["pid"]), str(entry["host"]), str(entry["since"]), seen, alive, rebooted)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class RunLock:
    """The lock of a run folder.

    Args:
        machinery: the folder ``.penstock`` of the run.

    Raises:
        RunLocked: another process runs there; the message names it.
    """

    def __init__(self, machinery: Path) -> None:
        self._path = machinery / _NAME
        self._mine = {
            **_here(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._take()

    def _take(self) -> None:
        for _ in range(20):
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                with self._guard() as mine:
                    if mine:
                        self._clear_dead()
                continue
            with open(descriptor, "w") as file:
                json.dump(self._mine, file)
            return
        raise RunLocked(
            f"{self._path.parent.parent} is being taken over by several processes at once; try again"
        )

    @contextmanager
    def _guard(self) -> Iterator[bool]:
        """Whether this process alone may judge the lock now; given back when it dies."""
        with open(self._path.with_name(_NAME + ".guard"), "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
                yield False
                return
            except OSError:  # a file system without such locks
                pass
            yield True

    def _clear_dead(self) -> None:
        """Take a dead holder's file away."""
        try:
            age = time.time() - self._path.stat().st_mtime
            holder: dict[str, Any] = json.loads(self._path.read_text() or "{}")
        except FileNotFoundError:
            return
        except ValueError:
            holder = {}
        if not holder and age < 2.0:  # it is being written right now
            time.sleep(0.2)
            return
        if holder and _alive(holder, age, self._mine):
            raise RunLocked(
                f"{self._path.parent.parent} is in use: process {holder.get('pid')} on {holder.get('host')} "
                f"has been running there since {holder.get('since')} (last sign of life {age:.0f} s ago). "
                "Wait for it, end it, or choose another folder."
            )
        self._path.unlink(missing_ok=True)

    def beat(self) -> None:
        """A sign of life."""
        with suppress(OSError):
            os.utime(self._path)

    def release(self) -> None:
        """Give the folder free, if the lock is still ours."""
        with suppress(OSError, ValueError):
            if json.loads(self._path.read_text()) == self._mine:
                self._path.unlink()


def _here() -> dict[str, Any]:
    """Where this process runs, as far as it matters for who can be seen from here."""
    return {"host": socket.gethostname(), "boot": _boot(), "processes": _namespace()}


def _alive(holder: dict[str, Any], age: float, here: dict[str, Any]) -> bool:
    if holder.get("host") != here["host"]:
        return age < _SILENT
    if holder.get("boot") != here["boot"]:
        return False
    if holder.get("processes") != here["processes"]:
        return age < _SILENT
    pid = int(holder.get("pid", 0))
    return pid > 0 and _started(pid) == holder.get("started") != ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """Which processes can be seen from here: a container has numbers of its own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; "" when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    fields = stat[stat.rindex(b")") + 2 :].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
