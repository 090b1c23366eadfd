"""Workers' output where the run was started: prefixed, in whole lines, and bounded."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from penstock import events as ev
from penstock import foreign

_EVERY = 0.1
_LINES, _BYTES = 1_000, 256 << 10
"""The most of a run that is shown."""
_LONGEST = 2_000
"""Letters of a line."""
PREFIX = "worker: "


class WorkerOutput:
    """An observer that shows the lines in the workers' log; it starts no thread.

    Args:
        log: the file; what is in it already is of an earlier run.
        clear: called before something is shown, to take a live line away.
        stays: whether the file is there after the run.
        stream: where to; the stdout of the moment by default, so that a notebook's cell gets it.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        log: Path,
        *,
        clear: Callable[[], None] = lambda: None,
        stays: bool = True,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._clear, self._stays = log, clear, stays
        self._stream, self._clock = stream, clock
        self._place = log.stat().st_size if log.exists() else 0
        self._rest = b""
        self._lines, self._bytes = _LINES, _BYTES
        self._due = clock()

    def __call__(self, event: ev.Event) -> None:
        """Look for new output."""
        now = self._clock()
        if now >= self._due or isinstance(event, ev.StageEnded):
            self._due = now + _EVERY
            self._look()

    def close(self) -> None:
        """Show what is left, including an unfinished line."""
        self._look()
        if self._rest:
            self._show([self._rest])
            self._rest = b""

    def _look(self) -> None:
        if self._lines <= 0:
            return
        try:
            with foreign.opened(self._log) as file:
                file.seek(self._place)
                new = file.read(self._bytes + 1)
        except OSError:  # nothing was printed
            return
        self._place += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        if len(self._rest) > 4 * _LONGEST:
            lines, self._rest = [*lines, self._rest], b""
        if lines:
            self._show(lines)

    def _show(self, lines: list[bytes]) -> None:
        self._bytes -= sum(map(len, lines))
        shown = [
            PREFIX + foreign.line(line.decode(errors="replace"), _LONGEST) for line in lines[: self._lines]
        ]
        self._lines -= len(lines)
        if self._lines <= 0 or self._bytes <= 0:
            self._lines = 0
            where = f"the rest is in {self._log}" if self._stays else "a run with a folder keeps the rest"
            shown.append(f"{PREFIX}... no more is shown; {where}")
        self._clear()
        stream = self._stream if self._stream is not None else sys.stdout
        with suppress(OSError, ValueError, AttributeError):  # closed, or none: it is in the log
            stream.write("".join(f"{line}\n" for line in shown))
            stream.flush()
