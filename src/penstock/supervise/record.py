"""The run folder of a supervised command: events as it goes, a page and the facts at the end.

Each event is handed to the kernel at once, and a reading is written at least every second: after
anything, also after everything was killed at once, the last second is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from penstock import event_lines, layout
from penstock import events as ev
from penstock.errors import RunTakenOver, UsageError
from penstock.files import atomic, renew
from penstock.record import made_with, state_folder
from penstock.record.lock import RunLock

SCHEMA = 1


class CommandRecord:
    """The run folder of a command; an observer of its events. Entered before the command starts.

    Raises:
        UsageError: the folder is a job's.
        CannotResume: there is a link, a pipe or a device in it.
        RunLocked: another process uses it.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state_dir = folder / layout.STATE
        self._events = -1
        self._lock: RunLock | None = None
        self.taken_over: RunTakenOver | None = None
        """Why nothing is written any more: the command goes on, and its record is another's."""

    def __enter__(self) -> CommandRecord:
        if self._state_dir.exists() and not (self._state_dir / layout.EXEC).exists():
            raise UsageError(f"{self.folder} is the run folder of a job; choose another for the command")
        self._state_dir.mkdir(parents=True, exist_ok=True)
        state_folder.check(self._state_dir)
        self._lock = RunLock(self._state_dir)
        if self._lock.taken:
            renew(self._state_dir / layout.EVENTS)
        self.facts({"outcome": "interrupted"})  # until there are better ones
        made_with.note(self._state_dir, "", {}, None, private=False)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._events = os.open(self._state_dir / layout.EVENTS, flags, 0o666)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events >= 0:
            os.close(self._events)
            self._events = -1
        if self._lock is not None:
            self._lock.release()

    def _lost(self, *, slept: bool = False) -> bool:
        """Whether the folder is another's now; asked only after a pause, with ``slept``."""
        if self._lock is not None and self.taken_over is None:
            try:
                self._lock.awake() if slept else self._lock.prove()
            except RunTakenOver as error:
                self.taken_over = error
        return self.taken_over is not None

    def __call__(self, event: ev.Event) -> None:
        """Write one event."""
        if self._lost(slept=True):
            return
        os.write(self._events, event_lines.to_line(event).encode(errors="replace") + b"\n")

    def facts(self, values: Mapping[str, Any]) -> None:
        """Write the facts known at the end, as JSON."""
        if self._lost():
            return
        with atomic(self._state_dir / layout.EXEC, durable=False) as draft:
            draft.write_text(json.dumps({"schema": SCHEMA, **values}, indent=1) + "\n", errors="replace")

    def draw(self) -> Path | None:
        """Draw ``report.html``.

        Raises:
            OSError: it cannot be written.
        """
        if self._lost():
            return None
        from penstock.report.page import write_page

        return write_page(self.folder, event_lines.read(self._state_dir / layout.EVENTS))
