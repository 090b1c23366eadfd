"""The run folder in use: locking, the event log and the final report."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from penstock import discover, drafts, event_lines, foreign, forks, layout, temporary
from penstock.abc import Event
from penstock.errors import CannotResume, JournalDamaged, PenstockError, RunTakenOver, UsageError
from penstock.files import atomic, renew
from penstock.plurals import plural
from penstock.record import journal, postmortem, state_folder
from penstock.record.lock import Edge, RunLock
from penstock.report.report import Report
from penstock.warned import warn

_OLD_DRAFT = re.compile(r"\..+\.(\d+)\.tmp")
"""Names that ``penstock.atomic`` gave when a draft lay beside its final name, with its process's number."""
_TOKEN = re.compile(r"[0-9a-f]{32}")


class RunFolder:
    """A folder that one run owns from :meth:`enter` to :meth:`leave`.

    Args:
        folder: where; None for a temporary one, which goes at the end.
        private: nobody else may read what is written while it is ours.
        edge: clocks and the like for its lock; those of this machine.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None, *, private: bool = False, edge: Edge | None = None
    ) -> None:
        self._here = forks.Here()
        self._private = private
        self._edge = edge
        self._umask: int | None = None
        """The umask to go back to."""
        self.temporary = folder is None
        self.path = _absolute(temporary.make("penstock-") if folder is None else folder)
        self.state_dir = self.path / layout.STATE
        self.died: postmortem.PostMortem | None = None
        """What became of the run before, where it died."""
        self.drafts: Path | None = None
        """Where drafts are made, from :meth:`enter` to :meth:`leave`."""
        self._lock: RunLock | None = None
        self._events: IO[str] | None = None

    @property
    def lasting_path(self) -> Path | None:
        """The folder's path for reports; None for a temporary one, which is soon gone."""
        return None if self.temporary else self.path

    @property
    def entered(self) -> bool:
        """Whether the folder is in use."""
        return self._events is not None

    def enter(self) -> None:
        """Take ownership.

        Raises:
            RunLocked: another process runs in it.
            CannotResume: it holds something that is no run.
            UsageError: nobody may write in it, or it cannot be kept private.
        """
        if self._private:
            self._umask = os.umask(0o077)
        try:
            self._enter()
        except BaseException:
            self._restore_umask()
            raise

    def _enter(self) -> None:
        if not self.temporary:
            self._check()
        self.state_dir.mkdir(parents=True, exist_ok=True)
        state_folder.check(self.state_dir)
        try:
            self._take()
            if told := discover.in_memory(self.path):
                warn(told, stacklevel=5)  # where Run is entered
            self._events = _appended(self.state_dir / layout.EVENTS)
            self.prove()  # behind the opening: by name it may be a successor's
        except BaseException:
            self.leave()
            raise

    def _take(self) -> None:
        """Become its one owner; whoever was it before and lives can write nothing more."""
        if self.temporary:
            self._make_drafts(os.urandom(16).hex())
            return
        self._lock = lock = RunLock(self.state_dir, self._edge)
        left = self._make_drafts(lock.token)
        if left or lock.taken:
            for path in layout.journals(self.state_dir):
                with suppress(JournalDamaged):  # told to whoever reads it
                    journal.take_over(path, lock)
            renew(self.state_dir / layout.EVENTS)
        lock.prove()
        for scratch in self.state_dir.glob(f"*/{layout.SCRATCH}"):  # of runs that were killed, as the drafts
            shutil.rmtree(scratch, ignore_errors=True)
        self._clear_old_drafts()
        self.died = postmortem.of_dead(self.path, lock.dead)

    def _make_drafts(self, token: str) -> bool:
        """Make our folder for drafts, and fence everybody who had one: they own the run no more.

        Returns:
            Whether there was anybody.
        """
        place = self.state_dir / layout.DRAFTS / token
        place.mkdir(parents=True)
        self.drafts = place
        others = [path for path in place.parent.iterdir() if path != place and _TOKEN.fullmatch(path.name)]
        for other in others:
            self.prove()  # or it is we who slept, and the other is our successor
            drafts.fence(other, place)
        drafts.make_in(place)
        return bool(others)

    def _clear_old_drafts(self) -> None:
        """Remove what a killed run of an earlier version left, where its process is gone."""
        for draft in self.path.glob(".*.tmp"):
            told = _OLD_DRAFT.fullmatch(draft.name)
            if told and not Path(f"/proc/{told[1]}").exists():
                drafts.remove(draft)

    def _check(self) -> None:
        try:
            _check_is_none_or_folder(self.path)
            known = self.state_dir.is_dir()
            strangers = [] if known or not self.path.is_dir() else [each.name for each in self.path.iterdir()]
            self.path.mkdir(parents=True, exist_ok=True)
        except PermissionError as error:
            raise UsageError(f"no permission to write in {error.filename}: choose another folder") from error
        except (OSError, ValueError, RecursionError) as error:  # below a file, no name at all, too deep
            raise UsageError(
                f"{foreign.line(str(self.path), 200)} cannot be the folder of a run: "
                f"{_why_none(error)}. Choose another"
            ) from error
        if strangers:
            some = ", ".join(foreign.line(name, 200) for name in sorted(strangers)[:3])
            more = " ..." if len(strangers) > 3 else ""
            raise CannotResume(
                f"{foreign.line(str(self.path), 200)} holds {plural(len(strangers), 'file')} ({some}{more}) "
                "but no run: choose an empty or new folder, so that nothing of yours is written over"
            )
        if not os.access(self.path, os.W_OK):
            raise UsageError(f"no permission to write in {self.path}: choose another folder")
        if self._private:
            self._close_to_others()

    def _close_to_others(self) -> None:
        """One made before, perhaps by a run that was not private, is closed to others too."""
        mode = self.path.stat().st_mode
        if mode & 0o077:
            try:
                self.path.chmod(mode & 0o700)
            except PermissionError as error:
                raise UsageError(
                    f"{self.path} is another user's, and others may read it: choose another folder for a "
                    "private run"
                ) from error

    def _restore_umask(self) -> None:
        if self._umask is not None:
            os.umask(self._umask)
            self._umask = None

    # ------------------------------------------------------------------ whose it is

    @property
    def owner(self) -> RunLock | None:
        """The owner, for the journal; None for a temporary folder, which nobody else can find."""
        return self._lock

    @property
    def owned(self) -> bool:
        """Whether we still own it, as far as was seen."""
        return self._lock is None or not self._lock.lost

    def prove(self) -> None:
        """Make sure that we still own it.

        Raises:
            RunTakenOver: it is not.
        """
        if self._lock is not None:
            self._lock.prove()

    def awake(self) -> None:
        """Called often; proves ownership after each pause of more than a few seconds.

        Raises:
            RunTakenOver: it is another's now.
        """
        if self._lock is not None:
            self._lock.awake()

    def reason(self, error: BaseException) -> BaseException:
        """The cause of an error: a run that has lost its folder may fail in any way."""
        if isinstance(error, PenstockError | OSError):
            try:
                self.prove()
            except RunTakenOver as reason:
                return reason
        return error

    # ------------------------------------------------------------------ what is said in it

    def write(self, event: Event) -> None:
        """Append an event to the event log.

        Raises:
            RunTakenOver: the run is seen to be another's now; told once.
        """
        if self._events is not None and self.owned and not self._here.left():
            self.awake()
            with suppress(OSError):  # the disk is full: the journal will say so
                self._events.write(event_lines.to_line(event) + "\n")
                self._events.flush()

    def beat(self) -> None:
        """Heartbeat: flush the last events, for a later post-mortem."""
        if self._lock is not None and self._events is not None:
            with suppress(OSError):
                os.fdatasync(self._events.fileno())

    def write_report(self, whole: Report, stages: Sequence[Report]) -> None:
        """Write ``report.json`` and the page for people.

        Args:
            whole: all stages together.
            stages: each.
        """
        from penstock.report.page import write_page

        if self._here.left():
            return
        self.prove()
        with suppress(OSError):  # a full disk must not hide what the run raised
            with atomic(self.path / layout.REPORT, durable=False) as draft:
                draft.write_text(whole.to_json())
            write_page(self.path, event_lines.read(self.state_dir / layout.EVENTS), stages)

    def close(self) -> None:
        """End the event log and remove scratch files."""
        if self._here.left():  # a child that the caller forked leaves the run to its parent
            return
        if self._events is not None:
            with suppress(OSError):  # what it could not write was no more than told
                self._events.close()
        self._clear_scratch()

    def leave(self) -> None:
        """Release the folder; a temporary one is removed."""
        if self._here.left():
            return
        if self.drafts is not None:
            drafts.forget(self.drafts)
            shutil.rmtree(self.drafts, ignore_errors=True)
            with suppress(OSError):
                self.drafts.parent.rmdir()
            self.drafts = None
        if self._lock is not None:
            self._lock.release()
        if self.temporary:
            temporary.remove(self.path)
        self._restore_umask()

    def _clear_scratch(self) -> None:
        """Remove our own, and nobody else's."""
        if self.drafts is None:
            return
        for scratch in self.state_dir.glob(f"*/{layout.SCRATCH}"):
            shutil.rmtree(scratch / self.drafts.name, ignore_errors=True)
            with suppress(OSError):
                scratch.rmdir()


def _check_is_none_or_folder(path: Path) -> None:
    """Refuse as the folder of a run what is there and is none.

    Raises:
        CannotResume: it is a file, a pipe, a device.
        OSError: it cannot be looked at.
    """
    with suppress(FileNotFoundError):
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind != stat.S_IFDIR:
            name = foreign.line(str(path), 200)
            raise CannotResume(f"{name} is a {_KINDS.get(kind, 'device')}; a run needs a folder")


def _why_none(error: Exception) -> str:
    """Why there can be no folder: in a loop of links, below a file, with such a name."""
    if isinstance(error, FileExistsError):
        link = Path(error.filename)
        target = foreign.line(str(link.readlink()), 200)
        return f"{foreign.line(str(link), 200)} is a link to {target}, which is not there"
    if isinstance(error, RecursionError):
        return os.strerror(errno.ENAMETOOLONG)
    return str(error.strerror if isinstance(error, OSError) else error)


_KINDS = {stat.S_IFREG: "file", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}


def _appended(path: Path) -> IO[str]:
    """A file of lines to go on with; a torn last line is ended, so that no line is lost with it."""
    file = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by the run
    if file.tell():
        with open(path, "rb") as whole:
            whole.seek(-1, os.SEEK_END)
            if whole.read() != b"\n":
                file.write("\n")
    return file


def _absolute(folder: str | os.PathLike[str]) -> Path:
    """Where a folder lies from the root on; every later look means the same one.

    Raises:
        UsageError: it cannot be told.
    """
    try:
        return Path(folder).absolute()
    except FileNotFoundError as error:
        raise UsageError(
            f"{foreign.line(os.fspath(folder))} cannot be the folder of a run: it is named from the working "
            "directory, which was removed. Change to another, or name it from / on"
        ) from error
    except TypeError as error:
        raise UsageError(
            f"a {foreign.kind_of(folder)} cannot be the folder of a run: a path was expected"
        ) from error
