"""The groups of one run, and the leftovers of dead runs.

The name of a run's folder says which process made it, when that process began, and in which process id
namespace it counts; so the next run knows, without asking anybody, what may be removed.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from penstock import proc
from penstock.groups.files import GroupFiles
from penstock.groups.member import Member
from penstock.groups.reader import GroupReader
from penstock.identity import UNSEEN, after_command, is_own_proc, started, time_namespace

_NAME = re.compile(r"penstock-(\d+)-(\d+)-(\d+)-\d+")
_PATIENCE = 1.0
"""Seconds that the dead may take to leave a group, where it is waited for."""
CLEARING_SECONDS = proc.TRACKER_SECONDS + 5.0
"""Seconds that a dead run's fork server and resource trackers may take to remove what else it left."""
_SAID_AFTER = 2.0
"""Seconds after which somebody who waits for them is told so."""
_SHOWN = 1.0
"""Seconds that a group stays in which the kernel took somebody."""
SERVER = "server"
"""The name of the fork server's group in its run's."""
_numbers = itertools.count()


def namespace(root: Path = proc.SYSTEM) -> int:
    """The namespaces in which our pids and their start times count, as one number; 0 if unknown."""
    with suppress(OSError):
        if not is_own_proc(root):
            return 0
        return (root / "proc/self/ns/pid").stat().st_ino | time_namespace(root) << 32
    return 0


def name(root: Path = proc.SYSTEM) -> str:
    """A unique name for a run's group."""
    return f"penstock-{os.getpid()}-{started('self', root) or 0}-{namespace(root)}-{next(_numbers)}"


def is_left(folder: Path, root: Path = proc.SYSTEM) -> bool:
    """Whether a group was made by a run of ours whose process is gone."""
    match = _NAME.fullmatch(folder.name)
    if match is None:
        return False
    pid, start, where = map(int, match.groups())
    try:
        ours = folder.stat().st_uid == os.geteuid()
    except OSError:
        return False
    # In another namespace that number is somebody else's.
    return ours and where == namespace(root) != 0 and started(pid, root) not in (str(start), UNSEEN)


def sweep(
    home: Path, version: Literal[1, 2], files: GroupFiles | None = None, root: Path = proc.SYSTEM
) -> list[str]:
    """Kill and remove what dead runs left in a group; returns the names of what is gone.

    Their workers go at once. Their fork servers end by themselves, as resource trackers do, and remove what
    else the run left (temporary folders, shared memory): killed, they cannot.
    """
    files = files or GroupFiles()
    left = [Member(folder, version, files) for folder in files.groups(home) if is_left(folder, root)]
    for run in left:
        for folder in files.groups(run.folder):
            if folder.name != SERVER:
                Member(folder, version, files).kill(trackers=False)
    _await_clearing([run.folder for run in left], files, root)
    return [run.folder.name for run in left if until(run.end)]


def _await_clearing(runs: Sequence[Path], files: GroupFiles, root: Path) -> None:
    """Wait for those who end by themselves, and say so where they take long."""

    def cleared() -> bool:
        return not any(_clears_up(run, files, root) for run in runs)

    if runs and not until(cleared, _SAID_AFTER):
        print(
            f"penstock: waiting, {CLEARING_SECONDS:.0f} s at most, until what killed runs left here is "
            "removed",
            file=sys.stderr,
        )
        until(cleared, CLEARING_SECONDS, pause=0.05)


def _clears_up(run: Path, files: GroupFiles, root: Path) -> bool:
    """Whether somebody in a dead run's group ends by himself, having removed what the run left.

    Not who is stopped: of him nothing is to be expected.
    """
    served = any(pid and _goes_on(pid, root) for pid in files.inside(run / SERVER))
    return served or any(pid and proc.tracks_resources(pid) for pid in files.inside(run))


def _goes_on(pid: int, root: Path) -> bool:
    stat = proc.text(root / f"proc/{pid}/stat").encode()
    return not stat or after_command(stat)[:1] not in (b"T", b"t", b"Z", b"X")


def until(done: Callable[[], bool], patience: float = _PATIENCE, *, pause: float = 0.002) -> bool:
    """Retry for so many seconds, with such a pause; returns whether it succeeded."""
    deadline = time.monotonic() + patience
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


class RunGroup:
    """The groups of one run.

    Args:
        folder: of the run, which is there.
        version: of the control groups.
        at_end: called when the groups are gone.
    """

    def __init__(
        self,
        folder: Path,
        version: Literal[1, 2],
        files: GroupFiles | None = None,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self.folder = folder
        self.version = version
        self._files = files or GroupFiles()
        self._at_end = at_end
        self._below: list[GroupReader] = []
        self.all = Member(folder, version, files, self._below)
        """Everybody in the run."""
        self._leaving: list[tuple[Member, float, float]] = []
        """Groups to be removed, when at the earliest, and when their resource trackers end at the latest."""
        self._closed = False

    def member(self, name: str) -> Member:
        """Make a new group in it.

        Raises:
            OSError: it cannot be made.
        """
        folder = self.folder / name
        self._files.make(folder)
        member = Member(folder, self.version, self._files)
        self._below.append(member.memory)
        return member

    def drop(self, member: Member) -> None:
        """Kill whatever is left in a group, which is removed now or by :meth:`tidy`."""
        now = time.monotonic()
        if member.kernel_kills():
            # On v1 only the victim's own group tells of it: who counts kills in groups further out must
            # find it there.
            member.kill(trackers=False)
            self._leaving.append((member, now + _SHOWN, now + proc.TRACKER_SECONDS))
        else:
            self._leaving.append((member, 0.0, now + proc.TRACKER_SECONDS))
        self.tidy()

    def tidy(self) -> None:
        """Remove dropped groups that are empty by now; never blocks."""
        if self._leaving:
            now = time.monotonic()
            self._leaving = [
                (each, at, until)
                for each, at, until in self._leaving
                if now < at or not self._remove(each, trackers=now >= until)
            ]

    def _remove(self, member: Member, *, trackers: bool) -> bool:
        """End and remove one of the groups; whether it is gone."""
        last = member.held()
        if not member.end(trackers=trackers):
            return False
        # First added, then left out: a moment in which it counts twice is better than one in which it is not.
        self.all.memory.left(last)
        if member.memory in self._below:
            self._below.remove(member.memory)
        return True

    def _has_trackers(self) -> bool:
        return any(pid and proc.tracks_resources(pid) for pid in self.all.pids())

    def close(self, patience: float = _PATIENCE) -> bool:
        """Kill everything and remove the groups; returns whether all are gone.

        Args:
            patience: seconds that the dead may take to leave; resource trackers have their time before.
        """
        if self._closed:
            return True
        until(lambda: self.all.end(trackers=False) or not self._has_trackers(), proc.TRACKER_SECONDS)
        self._closed = until(self.all.end, patience)
        self._leaving = []
        if self._at_end is not None:
            at_end, self._at_end = self._at_end, None
            at_end()
        return self._closed
