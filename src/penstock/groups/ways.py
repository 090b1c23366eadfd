"""Where and how groups of our own can be made here, and why not in the other ways.

    v1        below the group of this process: a v1 group may hold processes and groups
    v2        the same where that group was handed over to us alone: this process then steps aside into a
              group of its own, since a v2 group that hands memory on must not hold processes
    systemd   in a scope that systemd makes for us: in a login, on a desktop, for root (``systemd``)
    none      memory is added up process by process

The first of them that works is taken. A way is tried by doing it: folders are made and a child enters
one. Any refusal undoes what was done, and its words are kept for ``penstock limits``.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from penstock import proc
from penstock.errors import UsageError
from penstock.groups import systemd
from penstock.groups.files import PATIENCE, GroupFiles, pids
from penstock.groups.member import Member
from penstock.groups.run import SERVER, RunGroup, name, sweep, until

VARIABLE = "PENSTOCK_GROUPS"
"""Environment variable that says whether to make groups: ``auto`` (or empty), or ``none``."""

Way = Literal["v1", "v2", "systemd", "none"]


@dataclass
class Found:
    """The groups of a run, or why there are none."""

    way: Way
    run: RunGroup | None = None
    server: Member | None = None
    """The group of the fork server."""
    refused: list[str] = field(default_factory=list)
    """Why each way that was tried before does not work here."""
    command: Callable[[list[str]], list[str]] = list
    """What to start for a command that is to run in the server's group from its first byte on."""


def wanted(environ: Mapping[str, str] | None = None) -> bool:
    """Whether groups may be made at all.

    Raises:
        UsageError: the variable holds something else.
    """
    word = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    if word not in ("", "auto", "none"):
        raise UsageError(f"the environment variable {VARIABLE} is {word!r}: auto or none was expected")
    return word != "none"


class Undo:
    """A stack of clean-up actions, run if an attempt ends in a refusal."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def add(self, step: Callable[[], object]) -> None:
        """Push an action."""
        self._steps.append(step)

    def all(self) -> list[str]:
        """Run all actions, the last first; returns the error messages of those that failed."""
        left = []
        while self._steps:
            try:
                self._steps.pop()()
            except OSError as error:
                left.append(words(error))
        return left


def words(error: OSError) -> str:
    """The system's error message, and what it is about."""
    return f"{error.strerror or error} ({error.filename})" if error.filename else str(error.strerror or error)


def home(files: GroupFiles, root: Path = proc.SYSTEM) -> tuple[Literal[1, 2], Path]:
    """The group of this process in the hierarchy that accounts memory.

    Raises:
        OSError: there is none, or it cannot be told.
    """
    found = proc.hierarchies("memory", root)
    for hierarchy in sorted(found, key=lambda each: each.version):
        folder = hierarchy.folders[0]
        if hierarchy.version == 2 and "memory" not in files.read(folder / "cgroup.controllers").split():
            continue
        # A container may see the groups of its host, and not know its own by name.
        if os.getpid() not in pids(files.read(folder / "cgroup.procs")):
            raise OSError(
                errno.ENOENT, "this process is not found in the group that should hold it", str(folder)
            )
        return hierarchy.version, folder
    why = "no control group with the memory controller"
    raise OSError(errno.ENOENT, f"{why}: threaded, or not handed on" if found else why)


def find(
    environ: Mapping[str, str] | None = None, files: GroupFiles | None = None, root: Path = proc.SYSTEM
) -> Found:
    """Make the groups of a run in the first way that works here.

    Raises:
        UsageError: ``PENSTOCK_GROUPS`` cannot be understood.
    """
    files = files or GroupFiles()
    environ = os.environ if environ is None else environ
    if not wanted(environ):
        return Found("none", refused=[f"{VARIABLE}=none"])
    try:
        version, folder = home(files, root)
    except OSError as error:
        return Found("none", refused=[words(error)])
    ways: dict[Way, Callable[[Undo], Found]] = {"v1": lambda undo: _v1(folder, files, root, undo)}
    if version == 2:
        ways = {
            "v2": lambda undo: _v2(folder, files, root, undo),
            "systemd": lambda undo: _scope(folder, environ, files, root, undo),
        }
    refused: list[str] = []
    for way, make in ways.items():
        undo = Undo()
        try:
            found = make(undo)
        except OSError as error:
            refused += [f"{way}: {words(error)}", *(f"not undone: {each}" for each in undo.all())]
        else:
            found.refused = refused
            return found
    return Found("none", refused=refused)


def _v1(folder: Path, files: GroupFiles, root: Path, undo: Undo) -> Found:
    if files.read(folder / "memory.use_hierarchy").strip() == "0":
        raise OSError(errno.EINVAL, "groups below it would not count for its limits", str(folder))
    sweep(folder, 1, files, root)
    return _made("v1", RunGroup(_new(folder, files, root, undo), 1, files), files, undo)


def _new(folder: Path, files: GroupFiles, root: Path, undo: Undo) -> Path:
    made = folder / name(root)
    files.make(made)
    undo.add(lambda: files.remove(made))
    return made


def _made(
    way: Way, run: RunGroup, files: GroupFiles, undo: Undo, scope: systemd.Scope | None = None
) -> Found:
    """Prove that a child can enter, and that its memory is told."""
    server = run.member(SERVER)
    undo.add(lambda: until(server.end))
    move = [] if scope is None or scope.is_open_to_us else scope.moved_by(server.folder)
    files.visit(server.procs, move, PATIENCE if scope is None else scope.patience)
    for member in (run.all, server):
        if member.held() is None:
            raise OSError(errno.EIO, "memory is not told", str(member.folder / "memory.stat"))
    return Found(way, run, server, command=lambda command: files.entered_by(server.procs, command, move))


# --------------------------------------------------------------------------- v2, handed over


class _Aside:
    """This process, stepped aside from its group into one of its own, while runs need that.

    One for a process, however many runs it has: the first run's start steps aside, the last run's end
    goes back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self.home: Path | None = None
        self._undo = Undo()

    def enter(self, files: GroupFiles, root: Path) -> Path:
        """Step aside if that is not done; the group that may hold groups now.

        Raises:
            OSError: it is not ours alone, or refused. Nothing is changed then.
        """
        with self._lock:
            if self._users == 0:
                self._step_aside(files, root)
            self._users += 1
            assert self.home is not None
            return self.home

    def leave(self) -> None:
        """Go back if nobody needs it any more."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._undo.all()
                self.home = None

    def _step_aside(self, files: GroupFiles, root: Path) -> None:
        _, folder = home(files, root)
        check_ours(folder, files, root)
        sweep(folder, 2, files, root)
        aside = folder / f"{name(root)}"
        undo = Undo()
        try:
            files.make(aside)
            undo.add(lambda: files.remove(aside))
            undo.add(lambda: _move(files, aside, folder))
            for _ in range(3):
                _move(files, folder, aside, {os.getpid(), *proc.descendants(os.getpid(), root)})
                if not pids(files.read(folder / "cgroup.procs")):
                    break  # else a child of ours was born meanwhile
            files.write(folder / "cgroup.subtree_control", "+memory")
            undo.add(lambda: files.write(folder / "cgroup.subtree_control", "-memory"))
        except OSError:
            undo.all()
            raise
        self.home, self._undo = folder, undo


_aside = _Aside()


def _move(files: GroupFiles, source: Path, target: Path, only: Collection[int] | None = None) -> None:
    """Move those that are in a group to another; those alone that are named, where some are."""
    for pid in pids(files.read(source / "cgroup.procs")):
        if only is not None and pid not in only:
            continue  # a stranger, who came since we looked: with him in it the group hands nothing on
        try:
            files.write(target / "cgroup.procs", str(pid))
        except ProcessLookupError:
            continue  # it ended meanwhile


def check_ours(folder: Path, files: GroupFiles, root: Path = proc.SYSTEM) -> None:
    """Refuse a v2 group that was not delegated to us, or that holds other processes.

    Raises:
        OSError: which of it, and the group.
    """
    me = os.getpid()
    others = set(pids(files.read(folder / "cgroup.procs"))) - {me, *proc.descendants(me, root)}
    if others:
        raise OSError(errno.EBUSY, f"other processes are in the group ({_some(others)})", str(folder))
    if proc.text(root / "proc/1/comm").strip() == "systemd" and not _is_delegated(folder):
        raise OSError(errno.EPERM, "systemd has not handed the group over (Delegate=yes)", str(folder))


def _some(numbers: set[int]) -> str:
    first = ", ".join(map(str, sorted(numbers)[:3]))
    return first if len(numbers) <= 3 else f"{first} and {len(numbers) - 3} more"


def _is_delegated(folder: Path) -> bool:
    try:
        if os.getxattr(folder, "user.delegate") == b"1":
            return True
    except (OSError, AttributeError):
        pass
    # A user's own manager marks nothing: what is that user's is handed over.
    try:
        ours = folder.stat().st_uid == os.geteuid() != 0
    except OSError:
        return False
    return ours and os.access(folder / "memory.max", os.W_OK)


def _v2(folder: Path, files: GroupFiles, root: Path, undo: Undo) -> Found:
    top = _aside.enter(files, root)
    undo.add(_aside.leave)
    made = _new(top, files, root, undo)
    control = made / "cgroup.subtree_control"
    files.write(control, "+memory")
    undo.add(lambda: files.write(control, "-memory"))

    def at_end() -> None:
        try:
            files.write(control, "-memory")
        except OSError:
            pass  # it is gone, as it should
        _aside.leave()

    return _made("v2", RunGroup(made, 2, files, at_end), files, undo)


# --------------------------------------------------------------------------- v2, by systemd


def _scope(folder: Path, environ: Mapping[str, str], files: GroupFiles, root: Path, undo: Undo) -> Found:
    systemd.check(folder, environ, root)
    scope = systemd.Scope(name(root), folder, environ, files, root)
    undo.add(scope.close)
    limited = scope.most_processes is not None
    files.write(scope.folder / "cgroup.subtree_control", "+memory +pids" if limited else "+memory")
    made = _new(scope.folder, files, root, undo)
    if limited:
        files.write(made / "pids.max", str(scope.most_processes))
    files.write(made / "cgroup.subtree_control", "+memory")
    return _made("systemd", RunGroup(made, 2, files, scope.close), files, undo, scope)
