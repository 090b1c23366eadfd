"""A systemd scope of our own, where the group of this process is not ours: a laptop, a login, root.

    SCOPE/holder            a shell that ends when this process does, so that the scope stays until then
    SCOPE/penstock-...      the run, as everywhere

A user's process may not move from its login (``session-3.scope``) to what its manager makes: what is above
both is root's. The manager may, so the fork server is moved by it (``AttachProcessesToUnit``) before its
first byte of memory; this process stays where it is. No limit is escaped by that. One on our group that
would not hold for the scope is a reason to refuse; of the number of processes, which systemd limits for
every unit, the run is given what is left. And the limits above the scope count for the budget
(:func:`beside`).
"""

from __future__ import annotations

import errno
import os
import re
import selectors
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from penstock import foreign, proc
from penstock.groups.files import GroupFiles
from penstock.groups.run import CLEARING_SECONDS, SERVER

PATIENCE = 2.0
"""Seconds in which a manager must have made a scope."""
_END = 2.0
"""Seconds that the holder may take to end."""
_JOBS = (
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "FLUX_JOB_ID",
    "OAR_JOB_ID",
    "SGE_TASK_ID",
    "_CONDOR_JOB_AD",
)
"""Variables of batch systems, whose groups must hold whatever they say of limits."""
_MANAGER = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]


# --------------------------------------------------------------------------- whether it may be


def check(folder: Path, environ: Mapping[str, str], root: Path = proc.SYSTEM) -> None:
    """Refuse if there is no such manager, or if somebody placed this process where it is on purpose.

    Args:
        folder: the group of this process.
        environ: its environment.
        root: where ``/proc``, ``/run`` and ``/sys`` lie.

    Raises:
        OSError: why.
    """
    if job := next((each for each in _JOBS if environ.get(each)), None):
        number = foreign.line(environ[job], 60)
        raise OSError(errno.EPERM, f"a batch system's job stays in its group ({job}={number})")
    if proc.text(root / "proc/1/comm").strip() != "systemd":
        raise OSError(errno.ENOSYS, "the first process is not systemd: a container, or another system")
    if not folder.name.endswith((".scope", ".service")):
        raise OSError(errno.EPERM, "the group is within a unit of systemd's: somebody made it", str(folder))
    user = _me()
    if user == 0:
        socket = root / "run/systemd/private"
    else:
        if not re.search(rf"/session-[^/]+\.scope$|/user@{user}\.service(/|$)", str(folder)):
            raise OSError(
                errno.EPERM, "it is neither in a login's group nor below its user's manager", str(folder)
            )
        if not (runtime := environ.get("XDG_RUNTIME_DIR")):
            raise OSError(errno.ENOENT, "there is no user manager: XDG_RUNTIME_DIR is not set")
        socket = root / runtime.lstrip("/") / "systemd/private"
    try:
        owner = _owner(socket)
    except OSError as error:
        raise OSError(error.errno, f"there is no manager ({error.strerror})", str(socket)) from None
    if owner != user:
        raise OSError(errno.EPERM, f"the manager is another user's ({owner})", str(socket))


def _me() -> int:
    return os.geteuid()


def _owner(file: Path) -> int:
    return file.stat().st_uid


def limits(folder: Path) -> list[str]:
    """The limits on a v2 group itself, except on its number of processes; ``memory.max 1073741824``."""
    found = []
    for file in sorted((*folder.glob("*.max"), *folder.glob("*.high"), *folder.glob("cpuset.[cm]*s"))):
        words = proc.text(file).split()
        if file.name == "cpu.max":
            words = words[:1]  # the second number is a period
        is_set = file.name.startswith("cpuset.") or any(word.rpartition("=")[2].isdigit() for word in words)
        if words and is_set and file.name != "pids.max":
            found.append(f"{file.name} {' '.join(words)}")
    return found


def processes_left(folders: Iterable[Path]) -> int | None:
    """How many more processes all these v2 groups allow; None for no limit."""
    left = None
    for folder in folders:
        most, now = (proc.text(folder / f"pids.{name}").strip() for name in ("max", "current"))
        if most.isdigit():
            here = max(int(most) - int(now or 0), 0)
            left = here if left is None else min(left, here)
    return left


# --------------------------------------------------------------------------- the scope


class Scope:
    """A scope of our own, as long as this process lives and it is not closed.

    Args:
        name: of its unit, without ``.scope``; no other has or had it.
        home: the group of this process.
        environ: with which systemd's programs are called.
        root: where ``/proc`` and ``/sys`` lie.

    Raises:
        OSError: systemd says no, or nothing in time; or a limit of ``home`` would not hold there. Nothing
            is left then.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        environ: Mapping[str, str],
        files: GroupFiles | None = None,
        root: Path = proc.SYSTEM,
    ) -> None:
        self._files = files or GroupFiles()
        self._unit = f"{name}.scope"
        self._environ = dict(environ)
        self._deadline = time.monotonic() + PATIENCE
        run = self._program("systemd-run")
        manager = [] if _me() == 0 else ["--user"]
        self._holder = subprocess.Popen(
            [run, *manager, "--scope", "--quiet", "--collect", "--no-ask-password", f"--unit={self._unit}",
             "--description=Penstock run", "--property=Delegate=yes", "--", "/bin/sh"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self._environ, start_new_session=True,
        )  # fmt: skip
        try:
            self._await()
            self._settle(home, root)
        except BaseException:
            self.close()
            raise

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=self._environ.get("PATH"))
        if found is None:
            raise OSError(errno.ENOENT, f"there is no {name}")
        return found

    def _tell(self, text: str) -> None:
        assert self._holder.stdin is not None
        self._holder.stdin.write(text.encode())
        self._holder.stdin.flush()

    def _await(self) -> None:
        """Wait until the holder is in the scope: before, it is systemd-run."""
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        with suppress(BrokenPipeError):  # it has ended, and said why
            self._tell("echo\n")
        with selectors.DefaultSelector() as ready:
            ready.register(self._holder.stdout, selectors.EVENT_READ)
            if not ready.select(max(self.patience, 0.0)):
                raise OSError(errno.ETIMEDOUT, f"systemd-run did not answer within {PATIENCE:.0f} s")
        if not os.read(self._holder.stdout.fileno(), 1):
            self._holder.kill()  # who closes its output and lives on
            words = self._holder.stderr.read(1 << 16).decode(errors="replace").strip()
            raise OSError(
                errno.EPERM, foreign.line(f"systemd-run: {words or 'it ended without a word'}", 300)
            )

    def _settle(self, home: Path, root: Path) -> None:
        chains = [
            next((each.folders for each in proc.hierarchies("memory", root, of) if each.version == 2), ())
            for of in ("self", self._holder.pid)
        ]
        ours, its = chains
        common = next((folder for folder in ours if folder in its), None)
        if common is None or its[0].name != self._unit or ours[0] != home:
            raise OSError(errno.ENOENT, "the scope that systemd made cannot be seen here", self._unit)
        self.folder = its[0]
        """Of the scope."""
        self.beside = its[: its.index(common)]
        """The groups that hold the scope and not this process, innermost first, the scope included."""
        left = ours[: ours.index(common)]
        for folder in left:
            if found := limits(folder):
                raise OSError(errno.EPERM, f"a limit would not hold in the scope ({found[0]})", str(folder))
        self.most_processes = processes_left(left)
        """How many processes the run may have; None where that is not limited."""
        self.is_open_to_us = self._files.may_write(common / "cgroup.procs")
        """Whether our own processes may enter by themselves."""
        holder = self.folder / "holder"
        self._files.make(holder)
        self._files.write(holder / "cgroup.procs", str(self._holder.pid))
        # When this process ends, however it does: nothing that it left in the scope shall go on. Its fork
        # server ends by itself, and removes what else is left; who closes this has ended it before.
        rest = f"cat {shlex.quote(str(self.folder))}/*/{SERVER}/cgroup.procs | read -r pid"
        wait = f"n=0; while [ $n -lt {CLEARING_SECONDS * 10:.0f} ] && {rest}; do sleep 0.1; n=$((n+1)); done"
        self._tell(f"exec >/dev/null 2>&1\ntrap {shlex.quote(f'{wait}; {self._kill}')} EXIT\n")
        _note(self, there=True)

    @property
    def _kill(self) -> str:
        """What a shell does to kill everybody in the scope."""
        return f"echo 1 >{shlex.quote(str(self.folder / 'cgroup.kill'))}"

    @property
    def patience(self) -> float:
        """Seconds that are left for the attempt."""
        return self._deadline - time.monotonic()

    def moved_by(self, group: Path) -> list[str]:
        """A command that lacks only a pid, and has systemd move that process into a group of the scope."""
        inside = f"/{group.relative_to(self.folder)}"
        busctl = [self._program("busctl"), "--user", f"--timeout={PATIENCE:.0f}", "call", *_MANAGER]
        return [*busctl, "AttachProcessesToUnit", "ssau", self._unit, inside, "1"]

    def close(self) -> None:
        """End the holder, and with it the scope and what is left in it; idempotent."""
        _note(self, there=False)
        if hasattr(self, "folder"):
            with suppress(OSError, ValueError):
                self._tell(f"trap {shlex.quote(self._kill)} EXIT\n")
        for stream in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            self._holder.wait(_END if hasattr(self, "folder") else 0.0)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()


_lock = threading.Lock()
_open: list[Scope] = []
_beside: tuple[Path, ...] = ()


def beside() -> tuple[Path, ...]:
    """The v2 groups of this process's runs that do not contain it: their limits count as well."""
    return _beside


def _note(scope: Scope, *, there: bool) -> None:
    global _beside
    with _lock:
        _open[:] = [each for each in _open if each is not scope] + [scope] * there
        _beside = tuple(dict.fromkeys(folder for each in _open for folder in each.beside))
