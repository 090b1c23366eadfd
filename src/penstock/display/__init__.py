"""What a run shows in the Python process that started it: progress, workers' output, log records."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from penstock.abc import Event, Observer
from penstock.errors import UsageError
from penstock.foreign import shown

Progress = bool | Callable[[Any], object] | None
"""Whether progress is shown: None where somebody sees it; or who is told how it stands."""
Output = Literal["show", "log"]


def check(progress: object, output: object) -> None:
    """Refuse invalid values before anything is made.

    Raises:
        UsageError: it does.
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise UsageError(
            f"progress is True, False, None or something to be called, not {shown(progress, 100)}"
        )
    if not isinstance(output, str) or output not in ("show", "log"):
        raise UsageError(f"output is 'show' or 'log', not {shown(output, 100)}")


class Display:
    """An observer that shows a run as asked; called with every event, closed at the end.

    Args:
        progress: True, False, None for where somebody sees it (a terminal, a notebook), or what is called
            with how the run stands.
        output: ``"show"`` what workers print, or leave it in the ``"log"``.
        log: the file that workers print to.
        stays: whether that file is there after the run.
    """

    known_as = "the progress display"
    """What is said of it where it fails."""

    def __init__(self, progress: Progress, output: Output, log: Path, *, stays: bool) -> None:
        self._asked, self._output, self._log, self._stays = progress, output, log, stays
        self._shown: list[Observer] | None = None
        self._closed = ExitStack()

    def __call__(self, event: Event) -> None:
        """Show an event. Displays are created at the first one: a finished run shows nothing."""
        if self._shown is None:
            self._shown = self._observers()
        for observer in self._shown:
            observer(event)

    def close(self) -> None:
        """Show what is left, and erase the live line."""
        self._closed.close()

    def _observers(self) -> list[Observer]:
        seen: list[Observer] = []
        clear: Callable[[], None] = lambda: None  # noqa: E731
        progress = self._progress()
        if progress is not None:
            seen.append(progress)
            clear = getattr(progress, "close", clear)
            self._closed.callback(clear)
        if self._output == "show":
            from penstock.display.output import WorkerOutput

            output = WorkerOutput(self._log, clear=clear, stays=self._stays)
            seen.append(output)
            self._closed.callback(output.close)
        if "logging" in sys.modules:  # nobody listens where it was never imported
            from penstock.display.records import log_event

            seen.append(log_event)
        return seen

    def _progress(self) -> Observer | None:
        if callable(self._asked):
            from penstock.display.called import Called

            return Called(self._asked)
        if self._asked is False:
            return None
        from penstock.display import notebook

        if notebook.is_one():
            return notebook.NotebookProgress()
        if self._asked or _is_seen():
            from penstock.display.progress import Progress as Line

            return Line()
        return None


def _is_seen() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # none, or closed
        return False
