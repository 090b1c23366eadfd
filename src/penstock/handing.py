"""Descriptors that a worker gets from the process it works for, when it asks for them.

What multiprocessing hands to a child while it is being started (a queue's pipe, the memory of a ``Value``) is
lent here under a number; a worker that unpickles it asks for it at its door, a socket that it has from birth.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from penstock import relinked

_ANSWER_SECONDS = 60.0
TRACKER = b"tracker"
"""Asked for the resource tracker's."""

door: socket.socket | None = None
"""Of a worker: where it asks."""
_lent: dict[int, int] = {}
_numbers = itertools.count(1)


def ask(word: bytes) -> int:
    """A descriptor of the process that this one works for.

    Raises:
        OSError: there is none.
    """
    if door is None:
        raise OSError("this process works for no other")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            socket.send_fds(door, [word], [theirs.fileno()])
        ours.settimeout(_ANSWER_SECONDS)
        descriptors = socket.recv_fds(ours, 16, 1)[1]
    if not descriptors:
        raise OSError("what was handed to this worker is gone where it came from")
    return descriptors[0]


def give(asking: socket.socket, word: bytes) -> None:
    """Answer one who asked for what was lent."""
    descriptor = _lent.get(int(word)) if word.isdigit() else None
    if descriptor is not None:
        socket.send_fds(asking, [b"here"], [descriptor])


class Lender:
    """Stands for the child that multiprocessing thinks is being started; what is lent goes with this."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        weakref.finalize(self, _take_back, self._numbers).atexit = False

    def duplicate_for_child(self, descriptor: int) -> int:
        """Lend a descriptor; its number."""
        number = next(_numbers)
        _lent[number] = os.dup(descriptor)
        self._numbers.append(number)
        return number

    @staticmethod
    def DupFd(number: int) -> Lent:
        """What travels in its place."""
        return Lent(number)


class Lent:
    """A descriptor on its way."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return Lent, (self._number,)

    def detach(self) -> int:
        """The descriptor; in a worker."""
        return ask(str(self._number).encode())


def _take_back(numbers: list[int]) -> None:
    for number in numbers:
        with suppress(OSError):
            os.close(_lent.pop(number))


@contextmanager
def spawning() -> Iterator[Lender]:
    """Pickle what may be handed only to a child that is being started: locks, queues, shared values."""
    from multiprocessing import context

    lender = Lender()
    of_context: Any = context
    before = of_context.get_spawning_popen()
    of_context.set_spawning_popen(lender)
    try:
        yield lender
    finally:
        of_context.set_spawning_popen(before)


def reducers() -> Mapping[Any, Any]:
    """How multiprocessing pickles for such a child; nothing while none is being started."""
    context: Any = sys.modules.get("multiprocessing.context")
    if context is None or not isinstance(context.get_spawning_popen(), Lender):
        return {}
    from multiprocessing.reduction import ForkingPickler

    found: Mapping[Any, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    return {**relinked.reducers(), **found}
