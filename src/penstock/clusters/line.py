"""A node's end of the line to whoever started it."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from typing import Any

from penstock.backends.frames import Unpacker, head, packed
from penstock.clusters.far import Beat

_BEAT_SECONDS = 5.0
_UNBORN_SECONDS = 0.5


class Line:
    """The two descriptors to the parent; several threads may write."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._in, self._out = incoming, outgoing
        self._lock = threading.Lock()
        self._unpacker = Unpacker()

    def say(self, message: Any) -> None:
        """Send a message; dropped if the parent is gone."""
        body = packed(message)
        with self._lock, suppress(OSError):
            for part in (head(body), body):  # by themselves: put together they would be there twice
                view = memoryview(part)
                while view:
                    view = view[os.write(self._out, view) :]

    def hear(self) -> list[Any]:
        """Wait for messages.

        Raises:
            EOFError: nobody is there.
        """
        data = os.read(self._in, 1 << 20)
        if not data:
            raise EOFError
        return list(self._unpacker.feed(data))

    def is_cut(self) -> bool:
        """Whether nobody is there any more; told without reading."""
        poll = select.poll()
        poll.register(self._in, 0)
        return bool(poll.poll(0))


def leave_unborn(line: Line, born: threading.Event) -> None:
    """End this process if its parent is gone before the engine can hear that."""
    while not born.wait(_UNBORN_SECONDS):
        if line.is_cut():
            os._exit(0)


def beat(line: Line) -> None:
    """Send heartbeats as long as this process lives."""
    while True:
        time.sleep(_BEAT_SECONDS)
        line.say(Beat())
