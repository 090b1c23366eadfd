"""One run at a time in a folder: a lock file that a dead holder cannot keep.

The file names host, boot, process and its start time, and is touched every few seconds. On the
same host a holder is dead when its process is gone (or its number belongs to another process
now); on another host when the file has not been touched for a minute.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock.errors import RunLocked

_SILENT = 60.0
_NAME = "lock"


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
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._take()

    def _take(self) -> None:
        for _ in range(10):
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                self._clear_dead()
                continue
            with open(descriptor, "w") as file:
                json.dump(self._mine, file)
            return
        raise RunLocked(
            f"{self._path.parent.parent} is being taken over by several processes at once; try again"
        )

    def _clear_dead(self) -> None:
        """Move a dead holder's file away; only one of several who try succeeds."""
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
        if holder and self._alive(holder, age):
            raise RunLocked(
                f"{self._path.parent.parent} is in use: process {holder.get('pid')} on {holder.get('host')} has been "
                f"running there since {holder.get('since')} (last sign of life {age:.0f} s ago). Wait for it, end it, "
                "or choose another folder."
            )
        stale = self._path.with_name(f"lock.dead.{os.getpid()}")
        with suppress(FileNotFoundError):
            os.rename(self._path, stale)
            stale.unlink()

    def _alive(self, holder: dict[str, Any], age: float) -> bool:
        if holder.get("host") != self._mine["host"]:
            return age < _SILENT
        if holder.get("boot") != self._mine["boot"]:
            return False
        pid = int(holder.get("pid", 0))
        return pid > 0 and _started(pid) == holder.get("started") != ""

    def beat(self) -> None:
        """A sign of life."""
        with suppress(OSError):
            os.utime(self._path)

    def release(self) -> None:
        """Give the folder free, if the lock is still ours."""
        with suppress(OSError, ValueError):
            if json.loads(self._path.read_text()) == self._mine:
                self._path.unlink()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
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
