"""What a worker inherits of the parent's identity, as a child of multiprocessing does.

The key that managers ask for, a name, a parent, and the process that cleans up behind shared memory and
semaphores (the resource tracker). That one is started only when somebody in a worker needs it: a tracker of a
worker's own would remove, at the worker's end, shared memory that others still use.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import process, resource_tracker
from typing import Any

from penstock import handing

Likeness = tuple[bytes, str, int]
"""The key, name and number of a process."""


def of_this_process() -> Likeness:
    """The identity of this process for its workers to take over."""
    mine: Any = process.current_process()
    return bytes(mine.authkey), str(mine.name), os.getpid()


# --------------------------------------------------------------------------- where workers are forked from


def take(likeness: Likeness, ask: int) -> None:
    """Take over the identity of the process that started this one.

    Args:
        likeness: of that process.
        ask: the descriptor of a socket to it; see :func:`answer`.
    """
    key, name, pid = likeness
    mine: Any = process.current_process()
    mine.authkey = key
    with suppress(OSError):  # it is gone, and so shall we be
        parent: Any = process
        parent._parent_process = parent._ParentProcess(name, pid, os.pidfd_open(pid))
    tracker: Any = resource_tracker._resource_tracker
    if type(tracker) is resource_tracker.ResourceTracker:
        tracker.__class__ = _Asking
    handing.door = socket.socket(fileno=ask)


def number_of(living: Iterable[int]) -> int:
    """The lowest number from 1 on that no living worker has."""
    taken = set(living)
    return next(number for number in range(1, len(taken) + 2) if number not in taken)


def be_worker(number: int) -> None:
    """Name a worker that was just forked."""
    mine: Any = process.current_process()
    mine._name = f"PenstockWorker-{number}"
    mine._identity = (number,)


def leave() -> None:
    """What a child of multiprocessing does last: flush its queues and run finalizers."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._exit_function()


class _Asking(resource_tracker.ResourceTracker):
    """A process's tracker that is its starter's, asked for when it is needed."""

    _mine: int | None = None
    _asked = False

    @property
    def _fd(self) -> int | None:
        if self._mine is None and not self._asked:
            self._asked = True
            with suppress(OSError, IndexError):
                self._mine = handing.ask(handing.TRACKER)
        return self._mine

    @_fd.setter
    def _fd(self, descriptor: int | None) -> None:
        self._mine = descriptor


# --------------------------------------------------------------------------- in the process they work for


def door() -> tuple[socket.socket, socket.socket]:
    """A pair of sockets: one to answer at, one to ask at."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def answer(at: socket.socket) -> bool:
    """Answer a request for this process's resource tracker or a lent descriptor; False at end of file."""
    try:
        said, descriptors, _, _ = socket.recv_fds(at, 64, 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if not said:
        return False
    for descriptor in descriptors:
        with socket.socket(fileno=descriptor) as asking, suppress(OSError, ValueError):
            if said != handing.TRACKER:
                handing.give(asking, said)
                continue
            resource_tracker.ensure_running()
            tracker: Any = resource_tracker
            socket.send_fds(asking, [b"here"], [tracker.getfd()])
    return True


def take_closed_streams() -> None:
    """Open nothing under the numbers of stdin, stdout and stderr where this process has none (cron, daemons).

    What a library prints there would be written into it, and a process that we start has its own there.

    Raises:
        OSError: no descriptor is left.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def readable(*ears: socket.socket | int, milliseconds: int) -> set[int]:
    """The descriptors that can be read from within a timeout."""
    poll = select.poll()  # select() takes no descriptor over 1,023
    for each in ears:
        poll.register(each, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(milliseconds)}
