"""Which process a number means: numbers are used again, after a boot and within one too.

What tells a process from every other: the boot, the namespace its number counts in, and when it began.
Covers Linux; elsewhere nothing is told, and nothing raises.
"""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from pathlib import Path

SYSTEM = Path("/")
UNSEEN = "unseen"
"""Instead of a start time: there is a process of that number, and ``/proc`` does not show it to us."""


@functools.cache
def boot() -> str:
    """Differs from boot to boot; empty where that is not told."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def namespace() -> str:
    """Which processes can be seen from here; empty where that is not told."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def started(pid: int | str, root: Path = SYSTEM) -> str:
    """When a process began, in clock ticks since boot; empty when it is gone or only waits to be reaped.

    Args:
        pid: its number, or ``"self"``.
        root: where ``/proc`` lies.
    """
    try:
        stat = (root / f"proc/{pid}/stat").read_bytes()
    except OSError:
        return UNSEEN if root == SYSTEM and isinstance(pid, int) and _is_there(pid) else ""
    fields = after_command(stat).split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def after_command(stat: bytes) -> bytes:
    """The fields of a ``/proc/PID/stat`` from the state on.

    They are counted from the end of the command's name, which may hold anything, blanks and brackets too.
    """
    return stat[stat.rindex(b")") + 2 :]


def _is_there(pid: int) -> bool:
    """Whether a process can be told to be there although it cannot be looked at (``hidepid``)."""
    if not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    # Between the two it may have been reaped, or born; asked again, it is seen.
    return not Path(f"/proc/{pid}").exists() and Path("/proc/self/stat").exists()
