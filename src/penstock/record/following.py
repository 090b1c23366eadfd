"""Follows a run folder's events as they are written, from outside the run.

Nothing is asked of the run: it may be on another machine, or not begun yet. A run that takes the folder over
puts a copy of the file in its place (``files.renew``), which is gone on with where the old one was left.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

from penstock import event_lines, foreign, layout
from penstock import events as ev
from penstock.record.holding import SILENT, LockSilence
from penstock.record.lock_file import Holder, holder_of

_CHUNK = 1 << 20
_LONGEST = 4 << 20
"""Bytes of a line; a longer one is no event."""


Now = Literal["nothing", "running", "interrupted", "died", "ended"]
"""How a run stands: not begun, at work, stopped or dead so that it can be resumed, done or failed."""


class Follower:
    """Reads the new events of a run folder on each request.

    Args:
        folder: the run folder; it may not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / layout.STATE / layout.EVENTS
        self._file: BinaryIO | None = None
        self._place = 0
        """Bytes that were read."""
        self._rest = b""
        self._skips = False
        """Whether the line that is being read is too long, or was begun in the middle."""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def new(self) -> Iterator[ev.Event]:
        """The whole lines written since the last call; none if there is no file."""
        self._open()
        if self._file is None:
            return
        while data := self._read():
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                skips, self._skips = self._skips, False
                event = None if skips else event_lines.from_line(line.decode(errors="replace"))
                if event is not None:
                    yield event
            if len(self._rest) > _LONGEST:
                self._rest, self._skips = b"", True

    def _read(self) -> bytes:
        try:
            data = self._file.read(_CHUNK) if self._file is not None else b""
        except OSError:  # a network's file whose copy took its place: opened anew the next time
            self.close()
            return b""
        self._place += len(data)
        return data

    def _open(self) -> None:
        """Have the file open that is there now, at the place where the last one was left."""
        try:
            now = self._path.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):  # what comes there is another run
                self._begin_at(0)
            self.close()
            return
        if now.st_size < self._place:
            self._begin_at(0)
        elif self._file is not None:
            old = os.fstat(self._file.fileno())
            if (old.st_dev, old.st_ino) == (now.st_dev, now.st_ino):
                return
        self.close()
        with suppress(OSError):
            self._file = foreign.opened(self._path, buffering=0)
            self._begin_at(self._place - len(self._rest))

    def _begin_at(self, place: int) -> None:
        """Go on from there; in the middle of a line, what is left of it is no event."""
        self._place, self._rest, self._skips = place, b"", False
        if self._file is not None and place:
            self._file.seek(place - 1)
            self._skips = self._file.read(1) != b"\n"


class RunLife:
    """The beginning and end of a run, from its events."""

    def __init__(self) -> None:
        self._last: ev.Event | None = None

    def take(self, event: ev.Event) -> None:
        """Take the next event."""
        if isinstance(event, ev.RunDied | ev.Looking | ev.TakenBack):
            return  # of a run that has not begun with anything, and may be refused
        self._last = event

    @property
    def code(self) -> int | None:
        """The exit code of the run that ended last; None if unknown."""
        code = self._last.code if isinstance(self._last, ev.StageEnded) else None
        return code if code is not None and 0 <= code <= 255 else None

    def now(self, held: bool) -> Now:
        """The run's state, given whether somebody holds the folder."""
        if held:
            return "running"
        if self._last is None:
            return "nothing"
        if not isinstance(self._last, ev.StageEnded):
            return "died"
        return "interrupted" if self._last.outcome == "interrupted" else "ended"


class LockWatch:
    """Whether a folder is in use, judged from its lock alone.

    Args:
        folder: the run folder.
        holder: who holds it; asked anew each time.
        clock: seconds, of a clock of ours that does not jump.
    """

    def __init__(
        self,
        folder: Path,
        *,
        holder: Callable[[Path], Holder | None] = holder_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = folder / layout.STATE
        self._holder, self._clock = holder, clock
        self._silence: LockSilence | None = None

    def is_held(self) -> bool:
        """Whether its holder lives; for one elsewhere, whether its lock moved in the last minute."""
        holder = self._holder(self._state)
        if holder is None or holder.known:
            return holder is not None and holder.alive
        mark, now = (holder.host, holder.pid, holder.seen), self._clock()
        if self._silence is None or not self._silence.look(mark, now):
            self._silence = LockSilence(mark, now)
        return self._silence.seconds < SILENT
