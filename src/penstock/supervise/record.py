"""What a supervised command leaves in a run folder: events as it goes, a page and the facts at the end.

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

from penstock import events as ev
from penstock.engine.lock import RunLock
from penstock.errors import UsageError
from penstock.files import atomic

MACHINERY = ".penstock"
FACTS = "exec.json"
SCHEMA = 1


class Record:
    """The run folder of a command; an observer of its events. Entered before the command starts.

    Raises:
        UsageError: the folder is a job's.
        RunLocked: another process uses it.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._machinery = folder / MACHINERY
        self._events = -1
        self._lock: RunLock | None = None

    def __enter__(self) -> Record:
        if self._machinery.exists() and not (self._machinery / FACTS).exists():
            raise UsageError(f"{self.folder} is the run folder of a job; choose another for the command")
        self._machinery.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(self._machinery)
        self.facts({"outcome": "interrupted"})  # until there are better ones
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._events = os.open(self._machinery / "events.jsonl", flags, 0o666)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events >= 0:
            os.close(self._events)
            self._events = -1
        if self._lock is not None:
            self._lock.release()

    def __call__(self, event: ev.Event) -> None:
        """Write one event."""
        os.write(self._events, ev.to_line(event).encode(errors="replace") + b"\n")
        if self._lock is not None and isinstance(event, ev.MemoryRead):
            self._lock.beat()

    def facts(self, values: Mapping[str, Any]) -> None:
        """Write what is known at the end, as JSON."""
        with atomic(self._machinery / FACTS, durable=False) as draft:
            draft.write_text(json.dumps({"schema": SCHEMA, **values}, indent=1) + "\n", errors="replace")

    def draw(self) -> Path:
        """Draw ``report.html``.

        Raises:
            OSError: it cannot be written.
        """
        from penstock.engine.page import write_page

        return write_page(self.folder, ev.read(self._machinery / "events.jsonl"))
