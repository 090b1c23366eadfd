"""A single live line at the bottom of a terminal that a command uses too.

The last row is taken out of the scrolling region, so that what the command prints never meets it. A
program that takes the whole screen, edits lines or asks for a password has put the terminal into another
mode: meanwhile nothing is drawn, and before the first second nothing at all.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from penstock import foreign

_FIRST, _EVERY = 1.0, 0.25
_SMALLEST = 5


class StatusLine:
    """The line; silent unless ``descriptor`` is a terminal that can show it.

    Args:
        descriptor: where to draw, stderr by default.
        quiet: never draw.
    """

    def __init__(self, descriptor: int = 2, *, quiet: bool = False) -> None:
        self._descriptor = descriptor
        self.live = not quiet and os.isatty(descriptor) and os.environ.get("TERM", "dumb") != "dumb"
        self._next = time.monotonic() + _FIRST
        self._rows = 0

    def is_due(self) -> bool:
        """Whether it is time to redraw."""
        return self.live and time.monotonic() >= self._next

    def draw(self, text: str) -> None:
        """Show a line, if the terminal is in text mode and we are in its foreground."""
        self._next = time.monotonic() + _EVERY
        if not self._is_plain():
            self._rows = 0  # whoever has the screen sets it up anew
            return
        columns, rows = os.get_terminal_size(self._descriptor)
        if rows < _SMALLEST:
            return
        begin = ""
        if rows != self._rows:
            # Make room for the row, then leave it out of what scrolls; the cursor stays where it was.
            begin = f"\n\0337\033[1;{rows - 1}r\0338\033[1A"
            self._rows = rows
        line = foreign.line(text)[: columns - 1]
        self._write(f"{begin}\0337\033[{rows};1H\033[7m{line:<{columns - 1}}\033[0m\0338")

    def clear(self) -> None:
        """Release the row."""
        if self._rows:
            self._write(f"\0337\033[{self._rows};1H\033[2K\033[1;{self._rows}r\0338")
            self._rows = 0

    def _is_plain(self) -> bool:
        import termios

        with suppress(termios.error, OSError):
            modes = termios.tcgetattr(self._descriptor)[3]
            plain = termios.ICANON | termios.ECHO
            return modes & plain == plain and os.tcgetpgrp(self._descriptor) == os.getpgrp()
        return False

    def _write(self, text: str) -> None:
        with suppress(OSError):  # the terminal is gone
            os.write(self._descriptor, text.encode())
