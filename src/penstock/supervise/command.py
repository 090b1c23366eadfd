"""Starts a command as a shell would, forwards signals, ends a whole process tree.

The command stays in this process's group: so the terminal, its Ctrl-C and Ctrl-Z, and pipelines work
as they do without us. What the terminal sends reaches the command by itself and is not passed on.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

from penstock.backends import lineage
from penstock.identity import after_command
from penstock.supervise.tree import Tree

NOT_FOUND, NOT_EXECUTABLE = 127, 126
_WORSE = 100
"""How much sooner than us the kernel takes the command (thousandths of the limit): we must tell it."""


class CannotStart(Exception):
    """The command does not exist, or cannot be executed.

    Args:
        message: one sentence.
        code: the exit code that a shell would give.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def adopt_orphans() -> None:
    """Become a subreaper of what the tree's processes leave behind, so that nothing escapes."""
    lineage.adopt_orphans()


def start(argv: list[str], mask: Iterable[int]) -> int:
    """Start a command; returns its pid.

    Args:
        argv: the command and its arguments.
        mask: the signals that were blocked before we blocked ours.

    Raises:
        CannotStart: it is not there or cannot be executed.
    """
    parent = os.getpid()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(argv, mask, parent, tell)
    os.close(tell)
    with open(told, "rb") as pipe:
        failed = pipe.read()  # closed by a successful exec
    if not failed:
        return pid
    os.waitpid(pid, 0)
    number = int(failed)
    if number in (errno.ENOENT, errno.ENOTDIR):
        where = "" if "/" in argv[0] else "; looked in every folder of PATH"
        raise CannotStart(f"{argv[0]}: not found{where}", NOT_FOUND)
    raise CannotStart(f"{argv[0]}: cannot be executed: {os.strerror(number)}", NOT_EXECUTABLE)


def _become(argv: list[str], mask: Iterable[int], parent: int, tell: int) -> None:
    """In the child: run the command, or say why not; never returns."""
    try:
        lineage.die_with_parent(parent)
        lineage.offer_to_kernel(min(_score() + _WORSE, 1000))
        # Python ignores these two from its start; the command must not inherit that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            os.execvp(argv[0], argv)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without its first line: a shell would read it itself.
            os.execv("/bin/sh", ["/bin/sh", shutil.which(argv[0]) or argv[0], *argv[1:]])
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(NOT_FOUND)


def _score() -> int:
    try:
        with open("/proc/self/oom_score_adj") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def send(pid: int, number: int) -> None:
    """Signal a process; one that is gone, or another user's, is skipped."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped (Ctrl-Z)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return False
    return after_command(stat)[:1] == b"T"


def end(tree: Tree, seconds: float = 10.0) -> None:
    """Kill every process of the tree; returns when only zombies are left, or after ``seconds``."""
    deadline = time.monotonic() + seconds
    # Stopped, it starts no further children: a fork storm cannot outrun this.
    for _ in range(3):
        tree.read(time.time())
        for pid in tree.processes:
            send(pid, signal.SIGSTOP)
    while time.monotonic() < deadline:
        for pid in tree.processes:
            send(pid, signal.SIGKILL)
        time.sleep(0.005)
        tree.read(time.time())
        if not tree.processes:
            return
