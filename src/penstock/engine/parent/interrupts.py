"""Ctrl-C and SIGTERM as requests to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt(BaseException):
    """Ctrl-C or SIGTERM: the run was left resumable.

    No Exception, as the second one is raised wherever we are, and that may be somebody's code which goes on
    after any.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupts:
    """Ctrl-C and SIGTERM: the first asks for a graceful stop, the second stops now."""

    def __init__(self) -> None:
        self.number = 0
        """The first signal; 0 while there was none."""
        self.count = 0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Install the handlers, if this is the main thread.

        Ctrl-C stays ignored where it is: a shell starts a job in the background of a script so, and the
        Ctrl-C that ends the script's foreground job is not meant for that one. SIGTERM names its process.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if number == signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._take)

    def restore(self) -> None:
        """Restore the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        self.count += 1
        if self.count > 1:
            raise Interrupt(self.number)
