"""Writes journal lines and events; an event about a result waits until the journal has the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from penstock import storage
from penstock.abc import Event
from penstock.engine.parent.clock import Clock


class Book(Protocol):
    """Where lines are written: a journal, or nothing if the work is not resumable."""

    def write(self, *entries: Mapping[str, Any]) -> None:
        """Append and commit. Atomic: after an OSError nothing was written, and it may be called again."""
        ...


class Ledger:
    """The journal and the events of one stage.

    Args:
        book: the journal to write to.
        emit: takes every event.
        name: the stage's.
        folder: for the message when it cannot be written.
        clock: tells when an event was.
    """

    def __init__(
        self,
        book: Book,
        emit: Callable[[Event], None],
        name: str,
        folder: Path,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._book = book
        self._emit = emit
        self._name = name
        self._folder = folder
        self._lines: list[Mapping[str, Any]] = []
        self._events: list[Event] = []

    def say(self, kind: type[Event], **values: Any) -> None:
        """Emit an event at once."""
        self._emit(kind(at=self._clock.wall(), stage=self._name, **values))

    def write(self, line: Mapping[str, Any]) -> None:
        """Journal a line at once.

        Raises:
            StorageFailed: the journal cannot be written.
        """
        storage.insist(lambda: self._book.write(line), self._folder, self._clock.sleep)

    def keep(self, line: Mapping[str, Any]) -> None:
        """Journal a line with the next :meth:`commit`."""
        self._lines.append(line)

    def say_when_kept(self, kind: type[Event], **values: Any) -> None:
        """Emit an event once the lines before it are journaled: what was reported is never lost."""
        self._events.append(kind(at=self._clock.wall(), stage=self._name, **values))

    def pass_on_when_kept(self, event: Event, **changes: Any) -> None:
        """The same for an event that came from a node."""
        self._events.append(replace(event, stage=self._name, **changes))

    def commit(self) -> None:
        """Write the pending lines; only then emit the pending events.

        Raises:
            StorageFailed: the journal cannot be written.
        """
        if self._lines:
            storage.insist(lambda: self._book.write(*self._lines), self._folder, self._clock.sleep)
            self._lines.clear()
        for event in self._events:
            self._emit(event)
        self._events.clear()
