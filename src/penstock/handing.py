"""Hands file descriptors from the parent to a worker that asks for them.

What multiprocessing hands to a child while it is being started (a queue's pipe, the memory of a ``Value``) is
lent here under a number; a worker that unpickles it asks for it at its door, a socket that it has from birth.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import context, reduction
from typing import Any

from penstock import relinked

_ANSWER_SECONDS = 60.0
_CTYPES = "multiprocessing.sharedctypes"
_OWNERS = frozenset((_CTYPES, "multiprocessing.connection", "multiprocessing.heap"))
TRACKER = b"tracker"
"""Asked for the resource tracker's."""

_context: Any = context
_registered: Mapping[Any, Any] = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]

door: socket.socket | None = None
"""Of a worker: where it asks."""
_lent: dict[int, _Loan] = {}
_known: dict[_Key, int] = {}
"""The numbers of what is lent, by what it is: many calls that need it share one descriptor."""
_numbers = itertools.count(1)
_lock = threading.RLock()


def ask(word: bytes) -> int:
    """Get a descriptor from the process that this one works for.

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
    """Answer a request for a descriptor that was lent."""
    loan = _lent.get(int(word)) if word.isdigit() else None
    if loan is not None:
        socket.send_fds(asking, [b"here"], [loan.descriptor])


_Key = tuple[int, int, int, int]


@dataclass
class _Loan:
    descriptor: int
    key: _Key
    lenders: int = 0


class Lender:
    """Stands in for the child that multiprocessing believes it is spawning; owns what is lent."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self.kept: list[Any] = []
        """What must live as long: a lock's name in the system goes with the lock."""

    @property
    def lends(self) -> bool:
        """Whether anything was lent."""
        return bool(self._numbers or self.kept)

    def duplicate_for_child(self, descriptor: int) -> int:
        """Lend a descriptor; returns its number."""
        status = os.fstat(descriptor)
        # One that was closed and opened anew since is not taken for it: the file of a loan stays open.
        key = descriptor, status.st_dev, status.st_ino, fcntl.fcntl(descriptor, fcntl.F_GETFL)
        with _lock:
            number = _known.get(key, 0)
            if not number:
                number = _known[key] = next(_numbers)
                _lent[number] = _Loan(os.dup(descriptor), key)
            if not self._numbers:
                weakref.finalize(self, _take_back, self._numbers).atexit = False
            if number not in self._numbers:
                self._numbers.append(number)
                _lent[number].lenders += 1
            return number

    @staticmethod
    def DupFd(number: int) -> Lent:
        """The object that is pickled in a descriptor's place."""
        return Lent(number)


class Lent:
    """A descriptor in transit."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return Lent, (self._number,)

    def detach(self) -> int:
        """The descriptor, in a worker."""
        return ask(str(self._number).encode())


def _take_back(numbers: list[int]) -> None:
    for number in numbers:
        with _lock:
            loan = _lent[number]
            loan.lenders -= 1
            if loan.lenders:
                continue
            del _lent[number], _known[loan.key]
        with suppress(OSError):
            os.close(loan.descriptor)


class spawning:
    """Allow pickling of what may only go to a child being spawned: locks, queues, shared values."""

    __slots__ = ("_before", "lender")

    def __enter__(self) -> Lender:
        self.lender = Lender()
        self._before = _context.get_spawning_popen()
        _context.set_spawning_popen(self.lender)
        return self.lender

    def __exit__(self, *_: object) -> None:
        _context.set_spawning_popen(self._before)


def reducers() -> Mapping[Any, Any]:
    """multiprocessing's reducers for such a child; the same object while they are unchanged."""
    modules = sys.modules
    loaded = [modules.get(name) for name in relinked.MODULES]
    key = (*loaded, relinked.kinds_of_values(loaded[-1]), len(_registered))
    if _made.get("key") != key:
        _made.update(key=key, reducers={**relinked.reducers(_keep), **_theirs()})
    found: Mapping[Any, Any] = _made["reducers"]
    return found


_made: dict[str, Any] = {}


def _keep(value: Any) -> None:
    if (lender := lender_now()) is not None:
        lender.kept.append(value)


def lender_now() -> Lender | None:
    """The lender of what is being pickled on this thread."""
    popen = _context.get_spawning_popen()
    return popen if isinstance(popen, Lender) else None


def _theirs() -> Mapping[Any, Any]:
    """Of multiprocessing's own kinds only: other packages have better ways than to share what they have."""
    found = {}
    for kind, reduce in list(_registered.items()):
        if reduce.__module__ in _OWNERS or kind is socket.socket:
            found[kind] = _shared_ctype(reduce) if reduce.__module__ == _CTYPES else reduce
    return found


def refusals() -> Mapping[Any, Any]:
    """In a worker: reducers that refuse what can be handed over only on the way here."""
    return dict.fromkeys(_theirs(), _refuse)


def _refuse(value: Any) -> Any:
    raise TypeError(f"a worker cannot give back a {type(value).__name__}: make it where it is used")


def _shared_ctype(reduce: Any) -> Any:
    """Of a ctypes object that is no shared one, multiprocessing knows nothing."""

    def reduce_shared(value: Any) -> Any:
        if not hasattr(value, "_wrapper"):
            return value.__reduce_ex__(2)
        _keep(value)  # its place in the shared memory is given to others when it goes
        return reduce(value)

    return reduce_shared
