"""Progress in a notebook: one display of plain HTML, updated in place, without widgets or scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from penstock import events as ev
from penstock.foreign import in_html
from penstock.report.live import LiveState

_EVERY = 0.25


def is_one() -> bool:
    """Whether this process is a notebook kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class NotebookProgress:
    """An observer that draws the state of a run below the cell that started it.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state = LiveState(clock())
        self._handle: Any = None
        self._due = clock()

    def __call__(self, event: ev.Event) -> None:
        """Take the next event."""
        now = self._clock()
        self._state.take(event, now)
        if now >= self._due or isinstance(event, ev.StageStarted | ev.StageEnded):
            self._due = now + _EVERY
            self._draw(now)

    def _draw(self, now: float) -> None:
        shown = import_module("IPython.display")
        drawn = shown.HTML(as_html(self._state, now))
        if self._handle is None:
            self._handle = shown.display(drawn, display_id=True)
        else:
            self._handle.update(drawn)


def as_html(state: LiveState, now: float) -> str:
    """A bar and a line of text.

    Args:
        state: how the run stands.
        now: of the clock that the state was told.
    """
    name = f"{state.stage}: " if state.stage else ""
    words = in_html(name + ", ".join(state.parts(now)) if state.began else state.doing)
    last = f"<br>{in_html(state.failures[-1][1], 300)}" if state.failures else ""
    # An element that draws itself in light and dark, and needs no style of ours.
    bar = f'<progress value="{max(0, state.done)}" max="{max(1, state.items)}" style="width:16em"></progress>'
    return f'<div style="font-variant-numeric:tabular-nums">{bar} {words}{last}</div>'
