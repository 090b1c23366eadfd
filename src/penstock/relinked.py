"""Re-creates semaphores that were made for forked children, so that workers can open them.

``multiprocessing`` unlinks a semaphore of a ``fork`` context at once: only who is forked from its maker has
it, and workers are forked from another process. So when such a lock is handed over, a semaphore with a name
takes its place in the very same object, with the same value. That is right as long as nobody else has the old
one: a child, a thread that holds it or waits, a queue's feeder. Then multiprocessing's own error stands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

_SYNCHRONIZE = "multiprocessing.synchronize"
_QUEUES = "multiprocessing.queues"
_SHARED = "multiprocessing.sharedctypes"
MODULES = _SYNCHRONIZE, _QUEUES, _SHARED
"""Whose objects these are."""


class InUse(RuntimeError):
    """The old semaphore is held by somebody."""


def reducers(keep: Callable[[Any], None] = lambda _: None) -> Mapping[Any, Callable[[Any], Any]]:
    """Reducers for each kind of object that holds such locks, for the modules that are loaded.

    Args:
        keep: is told of each object that is pickled: it must live as long as whoever is sent it.
    """
    found: dict[Any, Callable[[Any], None]] = {}
    if (module := _loaded(_SYNCHRONIZE)) is not None:
        found.update(dict.fromkeys((module.Lock, module.RLock, module.Semaphore), _lock))
        found.update({module.BoundedSemaphore: _lock, module.Condition: _condition, module.Event: _event})
    if (module := _loaded(_QUEUES)) is not None:
        found.update({module.Queue: _queue, module.JoinableQueue: _queue, module.SimpleQueue: _simple_queue})
    if (module := _loaded(_SHARED)) is not None:
        kinds = (module.Synchronized, module.SynchronizedArray, module.SynchronizedString)
        found.update(dict.fromkeys((*kinds, *module.class_cache.values()), _shared))
    return {kind: _Reduce(prepare, keep) for kind, prepare in found.items()}


def kinds_of_values(module: Any) -> int:
    """How many kinds of shared values exist by now: each ctype has its own."""
    return 0 if module is None else len(module.class_cache)


def _loaded(name: str) -> Any:
    return sys.modules.get(name)


class _Reduce:
    """Prepares an object, and then has it pickled as it is."""

    def __init__(self, prepare: Callable[[Any], None], keep: Callable[[Any], None]) -> None:
        self._prepare = prepare
        self._keep = keep

    def __call__(self, value: Any) -> Any:
        from multiprocessing import active_children

        self._keep(value)
        try:
            if not active_children():  # they may have been forked with it
                self._prepare(value)
            return value.__reduce_ex__(2)
        except RuntimeError as error:
            raise InUse(
                f"a {type(value).__name__} that was created in a fork context cannot be handed to workers: "
                "it is held, waited for or was put into, or children live that may have it. Make it in "
                f"another one: multiprocessing.get_context('spawn').{type(value).__name__}()"
            ) from error


def _link(lock: Any, *, may_be_zero: bool = False) -> None:
    """Put a semaphore with a name in the place of one without; not where somebody holds it or may wait."""
    from multiprocessing import get_context
    from multiprocessing.synchronize import SemLock

    old: Any = lock._semlock
    if old.name is not None or (old._is_zero() and not may_be_zero):
        return
    named: Any = SemLock(old.kind, old._get_value(), old.maxvalue, ctx=get_context("spawn"))
    lock._semlock, lock._is_fork_ctx = named._semlock, False
    lock._make_methods()
    lock._named = named  # the semaphore goes with it


def _lock(lock: Any) -> None:
    _link(lock)


def _condition(condition: Any) -> None:
    if condition._sleeping_count._semlock._is_zero():
        _lock_or_other(condition._lock)
        for each in (condition._sleeping_count, condition._woken_count, condition._wait_semaphore):
            _link(each, may_be_zero=True)
        condition._make_methods()


def _lock_or_other(lock: Any) -> None:
    if hasattr(lock, "_semlock"):
        _link(lock)


def _event(event: Any) -> None:
    _condition(event._cond)
    if event._cond._lock._semlock.name is not None:
        _link(event._flag, may_be_zero=True)


def _queue(queue: Any) -> None:
    if queue._thread is not None:  # it has been told the old ones
        if queue._wlock._semlock.name is None:
            queue._wlock.__getstate__()  # raises
        return
    if (unfinished := getattr(queue, "_unfinished_tasks", None)) is not None:
        _link(unfinished, may_be_zero=True)


def _simple_queue(queue: Any) -> None:
    for each in (queue._rlock, queue._wlock):
        _lock_or_other(each)


def _shared(value: Any) -> None:
    _lock_or_other(value._lock)
    value.acquire, value.release = value._lock.acquire, value._lock.release
