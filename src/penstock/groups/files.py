"""Operations on the files and folders of control groups, in one place, so that tests can fake them."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from penstock import foreign
from penstock.identity import send

_SHELL = "/bin/sh"
_ENTER = 'echo 0 >"$1" && shift && { [ $# = 0 ] || exec "$@"; }'
_ENTER_PYTHON = (
    "import os, sys; _, procs, *command = sys.argv; open(procs, 'r+b', 0).write(b'0'); "
    "command and os.execvp(command[0], command)"
)
_MOVE = ' "$$" >/dev/null && exec "$@"'
_MOVE_PYTHON = (
    "import os, subprocess, sys; _, n, *words = sys.argv; move, command = words[: int(n)], words[int(n) :]; "
    "subprocess.run([*move, str(os.getpid())], check=True, stdout=subprocess.DEVNULL); "
    "os.execvp(command[0], command)"
)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PATIENCE = 10.0
"""Seconds that a shell may take to enter a group."""


class GroupFiles:
    """The real file system."""

    def make(self, folder: Path) -> None:
        """Make a group."""
        folder.mkdir(0o755)

    def remove(self, folder: Path) -> None:
        """Remove a group. Raises OSError (EBUSY) while it holds processes or groups."""
        folder.rmdir()

    def groups(self, folder: Path) -> list[Path]:
        """The groups directly below; none if the group is gone."""
        with suppress(OSError), os.scandir(folder) as entries:
            return [folder / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return []

    def inside(self, folder: Path) -> list[int]:
        """The processes in a group and below it; 0 for each that is not visible from here."""
        found, todo = [], [folder]
        while todo:
            folder = todo.pop()
            found += pids(self.read(folder / "cgroup.procs"))
            todo += self.groups(folder)
        return found

    def read(self, file: Path) -> str:
        """The content; empty if the file does not exist or may not be read."""
        try:
            return file.read_text(errors="replace")
        except OSError:
            return ""

    def write(self, file: Path, text: str) -> None:
        """Write in a single call; never creates the file."""
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def may_write(self, file: Path) -> bool:
        """Whether this process may write a file."""
        return os.access(file, os.W_OK)

    def entered_by(self, procs: Path, command: Sequence[str], move: Sequence[str] = ()) -> list[str]:
        """A command that enters a group before its first byte of memory, keeping its pid.

        A shell does it in a millisecond, but drops variables with names such as ``BASH_FUNC_module%%``.

        Args:
            procs: of the group.
            command: what is to run there.
            move: a command that lacks a process id, for whoever cannot enter before it has moved him.
        """
        shell = os.access(_SHELL, os.X_OK) and all(map(_PLAIN.fullmatch, os.environ))
        python = [sys.executable, "-I", "-S", "-c"]
        enter = [_SHELL, "-c", _ENTER, "sh"] if shell else [*python, _ENTER_PYTHON]
        entering = [*enter, str(procs), *command]
        if not move:
            return entering
        if shell:
            return [_SHELL, "-c", shlex.join(move) + _MOVE, "sh", *entering]
        return [*python, _MOVE_PYTHON, str(len(move)), *move, *entering]

    def visit(self, procs: Path, move: Sequence[str] = (), patience: float = PATIENCE) -> None:
        """Have a child enter a group and exit there; the arguments are those of :meth:`entered_by`.

        Args:
            patience: seconds that it may take.

        Raises:
            OSError: it could not; its last words tell why.
        """
        with subprocess.Popen(
            self.entered_by(procs, [], move),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as child:
            try:
                _, told = child.communicate(timeout=max(patience, 0.0))
            except BaseException as error:
                os.killpg(child.pid, signal.SIGKILL)  # with what it has called to be moved
                if isinstance(error, subprocess.TimeoutExpired):
                    why = os.strerror(errno.ETIMEDOUT)
                    raise OSError(errno.ETIMEDOUT, why, str(procs)) from None
                raise
        if child.returncode:
            why = foreign.line(told.strip().rpartition("\n")[2], 300)
            why = why if move else why.rpartition(": ")[2]
            raise OSError(errno.EACCES, why or f"exit code {child.returncode}", str(procs))

    def signal(self, pid: int, number: signal.Signals, is_inside: Callable[[int], bool]) -> None:
        """Signal a process that is still inside; one that is gone or not ours is skipped."""
        send(pid, number, is_inside)


def pids(content: str) -> list[int]:
    """The pids listed in a ``cgroup.procs``; 0 for each that is not visible from here."""
    return [int(word) for word in content.split() if word.isdigit()]
