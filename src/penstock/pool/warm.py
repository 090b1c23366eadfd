"""Warm executors: their workers, with all imports, outlive the ``Parallel`` that used them.

scikit-learn makes one ``Parallel`` after another: to start a Python and its workers for each takes longer
than many of them run. One executor waits for the next at a time; after a while without one it ends, and
gives its memory back. When this process is killed its workers end with the fork server, which sees that.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pickle import PicklingError
from typing import Any, ClassVar

from penstock import discover, handing
from penstock.pool.executor import Executor, new_backend
from penstock.pool.service import thread_variables


@dataclass(eq=False)
class Warm:
    """An executor, what its workers are forked from, and its options."""

    executor: Executor
    forker: Any
    key: Any
    """None for one that nobody else may use."""
    until: float = 0.0
    """While it waits: when it ends."""


class Shelf:
    """Holds one idle executor for reuse.

    Args:
        make: (backend, options) -> an executor.
        clock: in seconds.
    """

    def __init__(
        self,
        make: Callable[[Any, Mapping[str, Any]], Executor],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._clock = clock
        self._lock = threading.RLock()  # a finalizer may give back in the midst of it
        self._waiting: Warm | None = None
        self._timer: threading.Timer | None = None
        self._rings = 0.0

    def take(self, options: Mapping[str, Any]) -> Warm:
        """An executor with these options: the waiting one, if its options are the same."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        key = _key(options)
        if waiting is not None and key is not None and waiting.key == key and waiting.executor.renew():
            waiting.executor.most_workers = options["workers"]
            return waiting
        if waiting is not None:
            waiting.executor.shutdown(wait=True, cancel_futures=True)
        forker = new_backend() if waiting is None else waiting.forker
        try:
            return Warm(self._make(forker, options), forker, key)
        except BaseException:
            forker.close()
            raise

    def give_back(self, warm: Warm, seconds: float) -> None:
        """Return an executor, to wait so long for its next user."""
        if warm.key is None or not warm.executor.idle:
            warm.executor.shutdown(wait=True, cancel_futures=True)
        else:
            warm.executor.rest()
        warm.until = self._clock() + seconds
        with self._lock:
            before, self._waiting = self._waiting, warm
            if self._timer is None or warm.until < self._rings:
                self._ring(seconds)
        if before is not None:
            _end(before)

    def tidy(self) -> None:
        """End the executor that has waited long enough; schedule the next look."""
        with self._lock:
            self._timer = None
            waiting = self._waiting
            if waiting is None:
                return
            left = waiting.until - self._clock()
            if left > 0:
                self._ring(left)
                return
            self._waiting = None
        _end(waiting)

    def clear(self) -> None:
        """End the waiting executor now."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if waiting is not None:
            _end(waiting)

    def forget(self) -> None:
        """In a fork of this process: the waiting executor is the parent's."""
        self._lock = threading.RLock()
        self._waiting = self._timer = None

    def _ring(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = self._clock() + seconds
        self._timer = threading.Timer(max(seconds, 0.0), self.tidy)
        self._timer.daemon = True
        self._timer.start()


def _key(options: Mapping[str, Any]) -> Any:
    """Equal where the same workers do; None where each ``Parallel`` must have its own.

    What an initializer has set, another ``Parallel`` need not want: the same one with the same arguments,
    by what is sent of them, is wanted again.
    """
    rest = {
        name: value for name, value in options.items() if name not in ("workers", "initializer", "initargs")
    }
    environment = [os.environ.get(name) for name in (discover.VARIABLE, discover.WORKERS_VARIABLE)]
    begin = b""
    if options["initializer"] is not None:
        try:
            begin = _digest((options["initializer"], options.get("initargs")))
        except Exception:  # whoever sends it says so
            return None
    return rest, environment, thread_variables(), begin


def _digest(value: Any) -> bytes:
    import cloudpickle

    with handing.spawning():
        return hashlib.blake2b(cloudpickle.dumps(value, protocol=5)).digest()


def _end(warm: Warm) -> None:
    warm.executor.shutdown(wait=True, cancel_futures=True)
    warm.forker.close()


class _WarmPool(Executor):
    """Says as loky does that a call cannot be sent."""

    _said_of_unsent: ClassVar[Any] = staticmethod(lambda error: _unsent(error))


def _unsent(error: Exception) -> PicklingError:
    said = PicklingError(f"Could not pickle the task to send to the workers: {error}")
    said.__cause__ = error
    return said


def _make(forker: Any, options: Mapping[str, Any]) -> Executor:
    return _WarmPool(backend=forker, modules=("joblib", "penstock.in_joblib"), **options)


_shelf = Shelf(_make)
take, give_back, clear = _shelf.take, _shelf.give_back, _shelf.clear
# Before the interpreter's end, where Python has such a moment: an executor would wait for it.
getattr(threading, "_register_atexit", atexit.register)(clear)
os.register_at_fork(after_in_child=_shelf.forget)
