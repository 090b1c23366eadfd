"""Process identity: pids are reused, after a reboot and within one boot too.

What tells a process from every other: the boot, the namespaces its number and its clock count in, and when
it began. Who signals a process that is not its own child looks once more whose it is, while nobody else can
get its number.
Covers Linux; elsewhere nothing is told, and nothing raises.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SYSTEM = Path("/")
_FIRST_TIMES = 0xEFFF_FFFA
"""The number that Linux gives to the first time namespace."""
UNSEEN = "unseen"
"""Instead of a start time: there is a process of that number, and ``/proc`` does not show it to us."""


@functools.cache
def boot() -> str:
    """A text that differs from boot to boot; empty if unknown."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def namespace(root: Path = SYSTEM) -> str:
    """Whose processes are visible from here, by numbers and start times that mean the same; empty if unknown.

    The PID namespace; and the time namespace where it is not the first one: in another one the same process
    is told to have started at another time, so that a living one would be taken for one that is gone. Where
    ``/proc`` is that of other namespaces (``unshare --pid`` alone), its numbers are not those used here.
    """
    with suppress(OSError):
        if not is_own_proc(root):
            return ""
        processes = str((root / "proc/self/ns/pid").readlink())
        times = time_namespace(root)
        return f"{processes} time:[{times}]" if times else processes
    return ""


def is_own_proc(root: Path = SYSTEM) -> bool:
    """Whether ``/proc`` has the numbers that this process uses; always for one that a test made up."""
    return root != SYSTEM or (root / "proc/self").readlink().name == str(os.getpid())


def time_namespace(root: Path = SYSTEM) -> int:
    """The number of the time namespace; 0 for the first one, which most processes are in, and if unknown."""
    with suppress(OSError):
        number = (root / "proc/self/ns/time").stat().st_ino
        return 0 if number == _FIRST_TIMES else number
    return 0


def started(pid: int | str, root: Path = SYSTEM) -> str:
    """When a process started, in clock ticks since boot; empty when it is gone or a zombie.

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


def began(pid: int) -> str:
    """The same, for zombies too; empty if it cannot be read."""
    try:
        return after_command(Path(f"/proc/{pid}/stat").read_bytes()).split()[19].decode()
    except OSError:
        return ""


def send(pid: int, number: int, is_ours: Callable[[int], bool]) -> bool:
    """Signal a process only if it is still the one that was found: pids are reused.

    Args:
        pid: its number.
        number: the signal.
        is_ours: looks at the process once more; what it sees is of the process that is signalled.

    Returns:
        Whether it was there, ours, and could be signalled.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE) and is_ours(pid):  # rather a small risk than no end
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                return True
        return False
    try:
        if not is_ours(pid):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def reap(pid: int, since: str) -> None:
    """Wait for an adopted child, if it has ended; never for another child.

    Args:
        pid: its number.
        since: when it began.
    """
    with suppress(OSError):  # ChildProcessError: it is somebody else's to reap
        descriptor = os.pidfd_open(pid)
        try:
            if since and began(pid) == since:
                os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
        finally:
            os.close(descriptor)


def after_command(stat: bytes) -> bytes:
    """The fields of ``/proc/PID/stat`` from the state on.

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
