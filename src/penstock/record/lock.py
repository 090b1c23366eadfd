"""One owner of a run folder at a time: a lock with heartbeat, safe against dead and suspended holders.

The file holds a random token and a counter that a thread moves every few seconds. It is made by one link, so
it is never half there, and only written over through the descriptor it was made with: an owner that was
taken over moves nobody else's counter. ``penstock.record.holding`` decides who is dead.

Who owned the folder last, and with which number, stands in ``owner`` beside it, also when it is free.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from penstock import layout
from penstock.errors import PenstockError, RunLocked, RunTakenOver
from penstock.identity import started
from penstock.record import holding, lock_file
from penstock.record.holding import LockEntry, LockSilence, ThisMachine, life_of
from penstock.record.lock_file import FoundLock, Holder, holder_in

_BEAT = 5.0
_SLEPT = 3.0
"""Seconds without a sign of ourselves after which we may have been taken for dead."""
_LOOK = 0.5
"""Seconds between two looks at the lock of somebody who cannot be seen."""


@dataclass(frozen=True, slots=True)
class Edge:
    """The lock's interface to clocks and the rest of the world."""

    here: Callable[[], ThisMachine]
    started: Callable[[int], str]
    """When a process began; empty when there is none."""
    clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    """Seconds of a clock of ours that never jumps, and goes on while the machine sleeps."""
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
    beats: bool = True
    """Whether a thread moves the counter."""


_GUARD_SECONDS = 30.0
"""In which another process on this machine has judged the lock."""
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})
"""What a file system says that has no links."""


def _guarded(file: IO[bytes]) -> bool:
    """Whether the kernel's lock on a file is ours now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class RunLock:
    """The lock of a run folder, from construction to :meth:`release`.

    Args:
        state_dir: the folder ``.penstock`` of the run.
        edge: clocks and the like; those of this machine.

    Attributes:
        token: random, as no other owner has it.
        number: higher than that of every owner before.
        taken: whether it was taken from somebody who did not give it back.
        dead: who that was; None where the lock could not be read.

    Raises:
        RunLocked: another process runs there; the message names it.
    """

    def __init__(self, state_dir: Path, edge: Edge | None = None) -> None:
        self._path = state_dir / layout.LOCK
        self._edge = edge or Edge(lock_file.here, started)
        self._mutex = threading.Lock()
        self._lost: RunTakenOver | None = None
        self._ended = threading.Event()
        self.token = os.urandom(16).hex()
        self.number = 0
        self.taken = False
        self.dead: Holder | None = None
        self._before = 0
        self._file = self._take()
        self._turned = self._edge.clock()
        lock_file.write_owner(self._path.with_name(layout.OWNER), self._mine)
        if self._edge.beats:
            self._start_beating()

    # ------------------------------------------------------------------ taking it

    def _take(self) -> int:
        silence: LockSilence | None = None
        for _ in range(20):
            made = self._make()
            if made is not None:
                return made
            self._see_that_it_may_be_one()
            while (found := lock_file.look(self._path)) is not None:
                first = silence is None
                silence = silence or LockSilence(found.mark, self._edge.clock())
                if not silence.look(found.mark, self._edge.clock()):
                    raise self._refusal(found)
                life = life_of(found.entry, self._edge.here(), self._edge.started, silence.seconds)
                if life == "alive":
                    raise self._refusal(found)
                if life == "dead":
                    self._clear(found)
                    silence = None
                    break
                if first:
                    self._edge.say(self._waiting(found))
                self._edge.sleep(_LOOK)
        raise RunLocked(f"{self._folder} is being taken over by several processes at once; try again")

    def _see_that_it_may_be_one(self) -> None:
        with suppress(OSError):
            if not stat.S_ISREG(self._path.lstat().st_mode):
                raise RunLocked(
                    f"{self._path} is no regular file, so no run made it and nobody can say who is at work "
                    "there. Remove it, or choose another folder."
                )

    def _make(self) -> int | None:
        """Make the lock, whole or not at all; its descriptor, or None where there is one."""
        last = lock_file.read_owner(self._path.parent)
        self.number = max(last.number if last else 0, self._before) + 1
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        pid = os.getpid()
        self._mine = LockEntry(
            self._edge.here(), pid, self._edge.started(pid), since, self.token, self.number, 0, time.time()
        )
        self._line = self._mine.to_bytes()
        new = self._path.with_name(f"{layout.LOCK}.{self.token}")
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, self._line)
            os.fsync(descriptor)
            try:
                os.link(new, self._path)
            except FileExistsError:
                if os.fstat(descriptor).st_nlink != 2:  # not our own, of which a file server told too late
                    os.close(descriptor)
                    return None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                os.close(descriptor)
                return self._make_without_links()
        finally:
            new.unlink()
        return descriptor

    def _make_without_links(self) -> int | None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            return None
        os.write(descriptor, self._line)
        os.fsync(descriptor)
        return descriptor

    def _clear(self, dead: FoundLock) -> None:
        """Take a dead holder's lock away, and no other that has come in its place meanwhile."""
        with self._guard():
            now = lock_file.read(self._path)
            if now is None or now.mark != dead.mark:
                return
            if self._take_away(lambda moved: moved.mark == dead.mark):
                self.taken = True
                if dead.entry is not None:
                    self._before = max(self._before, dead.entry.number)
                    self.dead = holder_in(dead, self._edge.here(), "dead")

    def _take_away(self, is_meant: Callable[[FoundLock], bool]) -> bool:
        """Remove the lock where it is the one that is meant; another, that came meanwhile, is put back."""
        away = self._path.with_name(f"{layout.LOCK}.{self.token}.away")
        try:
            self._path.rename(away)
        except FileNotFoundError:
            return False
        moved = lock_file.read(away)
        meant = moved is None or is_meant(moved)
        if not meant:
            with suppress(OSError):
                os.link(away, self._path)
        away.unlink()
        return meant

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Nobody else on this machine judges the lock meanwhile; given back when this process dies."""
        # Without waiting, should it be a pipe that nobody reads.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path.with_name(layout.GUARD), flags, 0o666)
        with open(descriptor, "rb+", buffering=0) as file:
            until = self._edge.clock() + _GUARD_SECONDS
            with suppress(OSError):  # a file system without such locks
                while not _guarded(file):
                    if self._edge.clock() > until:  # it was stopped in the midst of that
                        raise RunLocked(
                            f"another process has been taking {self._folder} over for {_GUARD_SECONDS:.0f} s "
                            "and does not get on: it may be stopped. End it or let it go on, then try again."
                        )
                    self._edge.sleep(0.02)
            yield

    @property
    def _folder(self) -> Path:
        return self._path.parents[1]

    def _waiting(self, found: FoundLock) -> str:
        who = "somebody whose lock cannot be read"
        if found.entry is not None:
            who = f"{found.entry}, there since {found.entry.since}"
        return (
            f"penstock: {self._folder} is held by {who}. Whether that lives cannot be seen from here: "
            f"waiting up to {holding.SILENT:.0f} s for a sign of life"
        )

    def _refusal(self, found: FoundLock) -> RunLocked:
        who = "another process runs there"
        if found.entry is not None:
            who = f"{found.entry} has been running there since {found.entry.since}"
        return RunLocked(
            f"{self._folder} is in use: {who}. Wait for it, end it (one that is suspended runs too), or "
            "choose another folder."
        )

    # ------------------------------------------------------------------ having it

    def prove(self) -> None:
        """Make sure that we still own the folder.

        Raises:
            RunTakenOver: it is not; names who has it.
            OSError: that cannot be told now.
        """
        with self._mutex:
            self._prove()

    def _prove(self) -> None:
        if self._lost is not None:
            raise self._lost
        if lock_file.says(self._path, self._line):  # as we wrote it: nearly always
            self._turned = self._edge.clock()
            return
        found, failed = None, None
        for attempt in range(3):
            if attempt:
                self._edge.sleep(0.1)
            try:
                found, failed = lock_file.look(self._path), None
            except OSError as error:  # no more files may be opened, or the disk fails: nobody has taken it
                failed = error
            if found is not None and found.entry is not None:
                break
        if failed is not None:
            raise failed
        entry = found.entry if found is not None else None
        ours = entry is not None and entry.token == self.token
        # Where the last beat failed, its line may be there or not.
        if not (ours and entry is not None and 0 <= entry.count - self._mine.count <= 1):
            self._lost = self._taken_over_by(entry)
            raise self._lost
        self._turned = self._edge.clock()

    def _taken_over_by(self, entry: LockEntry | None) -> RunTakenOver:
        if entry is None or entry.token == self.token:
            last = lock_file.read_owner(self._path.parent)
            entry = last if last is not None and last.token != self.token else None
            if last is None and self._path.parent.is_dir():
                return RunTakenOver(
                    f"the lock of {self._folder}, {self._path.name} in {self._path.parent}, was removed or "
                    "overwritten while this run was at work in it, and nobody has left a name there. Another "
                    "run may have the folder by now, so this one has ended and wrote nothing more: what it "
                    "had kept is kept, and the same command goes on from there."
                )
            if entry is None and last is None:
                return RunTakenOver(
                    f"{self._folder} was moved or removed while this run was at work in it. This run has "
                    "ended and wrote nothing more: what it had kept is where the folder is now, and the same "
                    "command goes on from there."
                )
        who = "somebody, who left no name,"
        if entry is not None:
            who = f"{entry} ({entry.since})"
        return RunTakenOver(
            f"{self._folder} was taken over by {who} while this run gave no sign of life or its lock was "
            "removed. This run has ended and wrote nothing more: what it had kept is kept, and the other one "
            "goes on from there."
        )

    @property
    def lost(self) -> bool:
        """Whether the folder was seen to be no longer ours."""
        return self._lost is not None

    def awake(self) -> None:
        """Called often; proves the lock after each pause of more than a few seconds.

        Raises:
            RunTakenOver: the folder is ours no more.
        """
        if self._lost is not None:
            raise self._lost
        now = self._edge.clock()
        if now - self._turned <= _SLEPT:
            self._turned = now
            return
        # Where it cannot be told now it is asked again with the next call, and before each commit.
        with suppress(OSError):
            self.prove()

    def beat(self) -> None:
        """Heartbeat; none if the folder is no longer ours."""
        with self._mutex:
            self._prove()
            beaten = self._mine.beaten(time.time())
            line = beaten.to_bytes()
            os.pwrite(self._file, line, 0)
            self._mine, self._line = beaten, line
            os.fsync(self._file)

    def _start_beating(self) -> None:
        """Without signals from its first moment on: whoever blocks them to wait for them gets them then.

        A signal for a process goes to any thread that does not block it.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            threading.Thread(target=self._keep_beating, name="penstock-lock", daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _keep_beating(self) -> None:
        while not self._ended.wait(_BEAT):
            with suppress(PenstockError, OSError):  # the run will see for itself
                self.beat()

    def outnumber(self, number: int) -> None:
        """Take a number higher than this one too: the last owner's note was lost."""
        with self._mutex:
            self._prove()
            if number > self.number:  # one that is equal is ours
                self.number = number + 1
                self._mine = replace(self._mine, number=self.number)
                lock_file.write_owner(self._path.with_name(layout.OWNER), self._mine)

    def release(self) -> None:
        """Release the folder, if it is still ours."""
        self._ended.set()
        with self._mutex:
            with suppress(PenstockError, OSError):
                self._prove()
                self._take_away(lambda moved: moved.entry is not None and moved.entry.token == self.token)
            self._lost = self._lost or RunTakenOver(f"{self._folder} was given back by this run")
            if self._file >= 0:
                os.close(self._file)
            self._file = -1
