"""Protects the files that a program wrote when the program is run again from its top.

A script that opens its log or its results at the top has written into them by the time its workers are
started. Opened for writing again, they would be emptied, and a folder of work that it makes anew removed.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from penstock.identity import began

_GRACE = 0.02
"""Seconds by which the clock of files may be behind."""
_REMOVING = ("os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")

_forbids: Callable[[str, tuple[Any, ...]], None] | None = None
_hooked = False


@contextmanager
def kept(since: float) -> Iterator[None]:
    """Refuse to truncate or remove files that were written between that time and now.

    What is older was there before the program, as were caches that libraries write; what is newer was made
    within.

    Args:
        since: seconds since the epoch.
    """
    global _forbids, _hooked
    if not _hooked:
        _hooked = True
        sys.addaudithook(lambda event, about: None if _forbids is None else _forbids(event, about))
    until = time.time() - _GRACE

    def forbids(event: str, about: tuple[Any, ...]) -> None:
        if event in _REMOVING:
            what = "removed or cut"
        elif event == "open" and isinstance(about[2], int) and about[2] & os.O_TRUNC:
            what = "emptied"
        else:
            return
        path = about[0]
        if isinstance(path, str | bytes | os.PathLike) and _is_written(path, since, until):
            raise PermissionError(
                errno.EPERM, f"what this program has written would be {what} again", os.fsdecode(path)
            )

    _forbids = forbids
    try:
        yield
    finally:
        _forbids = None


def start_of(pid: int) -> float:
    """When a process started, in seconds since the epoch; infinite where that is unknown."""
    try:
        with open("/proc/uptime", "rb") as file:
            up = float(file.read().split()[0])
        return time.time() - up + int(began(pid)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return math.inf


def _is_written(path: Any, since: float, until: float) -> bool:
    with suppress(OSError, ValueError):
        status = Path(os.fsdecode(path)).stat()
        device = not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))
        return not device and since - _GRACE <= status.st_ctime < until
    return False
