"""The replacement for ``multiprocessing.Pool``: the map family, ``apply`` and their asynchronous forms."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback  # type: ignore[attr-defined]
from multiprocessing.pool import Pool as _StandardPool
from typing import Any

from penstock.patience import slices
from penstock.pool.calls import UNSENT
from penstock.pool.executor import Executor
from penstock.rescue.process_pool import Begin, least, like_worker
from penstock.rescue.unchanged import tell

_Original: Any = _StandardPool
_RUN, _CLOSE, _TERMINATE = "RUN", "CLOSE", "TERMINATE"


class _Replaces(type):
    """Who looks for the original's instances finds ours too; who derives from ours gets the original.

    A class derived from ``multiprocessing.pool.Pool`` replaces inner parts (its processes, its queues)
    that ours does not have.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **more: Any) -> Any:
        if not any(isinstance(base, _Replaces) for base in bases):
            return super().__new__(mcs, name, bases, namespace, **more)
        bases = tuple(_Original if isinstance(base, _Replaces) else base for base in bases)
        return type(_Original)(name, bases, namespace, **more)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _Original)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Original)


class _Pool:
    """The methods of a pool, over an executor.

    ``chunksize`` is taken and needed only to count tasks for ``maxtasksperchild``, as the original does:
    a chunk is one. ``PENSTOCK_WORKERS`` bounds the processes that are asked for. Where ours cannot be
    made, this becomes the original.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        arguments = processes, initializer, initargs, maxtasksperchild, context
        if type(self) is not Pool:  # a ThreadPool begins like this
            _Original.__init__(self, *arguments)
            return
        self._state = _CLOSE
        try:
            if processes is not None and processes < 1:
                raise ValueError("Number of processes must be at least 1")
            self._processes = processes or os.cpu_count() or 1
            # The context is always there, the default one too: it says nothing of what is wanted.
            self._executor = Executor(
                least(self._processes),
                initializer=Begin(initializer, initargs, like_worker(context, "PoolWorker", daemon=True)),
                max_tasks_per_child=maxtasksperchild,
            )
            self._tasks = maxtasksperchild
        except Exception as error:
            self.__class__ = _Original
            self.__init__(*arguments)  # type: ignore[misc]
            tell("a multiprocessing.Pool", error)
            return
        self._executor.end_with_interpreter()
        self._executor.tell_tracebacks_as(RemoteTraceback)
        self._pool: list[Any] = []
        self._state = _RUN

    def __del__(self) -> None:
        if self._state == _RUN and hasattr(self, "_executor"):
            self._executor.shutdown(wait=False, cancel_futures=True)

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _check_running(self) -> None:
        if self._state != _RUN:
            raise ValueError("Pool not running")

    def _count_tasks(self, chunksize: int) -> None:
        """A worker takes so many calls as one task from now on."""
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        if self._tasks is not None:
            self._executor.max_tasks_per_child = self._tasks * chunksize

    def _count_chunks(self, iterable: Iterable[Any], chunksize: int | None) -> Iterable[Any]:
        """The same for calls with these items, which the original cuts in four for each process."""
        self._check_running()
        if self._tasks is not None and chunksize is None:
            iterable = iterable if isinstance(iterable, Sized) else list(iterable)
            chunksize = max(-(-len(iterable) // (4 * self._processes)), 1)
        self._count_tasks(1 if chunksize is None else chunksize)
        return iterable

    def apply(self, func: Callable[..., Any], args: Any = (), kwds: Any = None) -> Any:
        """Call in a worker and wait."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Any = (),
        kwds: Any = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Result:
        """Call in a worker."""
        self._count_tasks(1)
        future = self._executor.submit(func, *args, **(kwds or {}))
        return Result([future], callback, error_callback, single=True)

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call with every item; a list."""
        iterable = self._count_chunks(iterable, chunksize)
        return list(Results(self._executor, func, ((item,) for item in iterable)))

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Result:
        """Call with every item; a list, later."""
        iterable = self._count_chunks(iterable, chunksize)
        return self._all(func, ((item,) for item in iterable), callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call with every item as arguments; a list."""
        iterable = self._count_chunks(iterable, chunksize)
        return list(Results(self._executor, func, (tuple(item) for item in iterable)))

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Result:
        """Call with every item as arguments; a list, later."""
        iterable = self._count_chunks(iterable, chunksize)
        return self._all(func, (tuple(item) for item in iterable), callback, error_callback)

    def _all(
        self, func: Any, arguments: Iterator[tuple[Any, ...]], callback: Any, error_callback: Any
    ) -> Result:
        ahead = self._executor.ahead(func, arguments)
        ahead.read_all()
        return Result(list(iter(ahead.first, None)), callback, error_callback)

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1) -> Results:
        """Call with every item; results in order, as they are asked for."""
        self._count_tasks(chunksize)
        return Results(self._executor, func, ((item,) for item in iterable))

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> Results:
        """Call with every item; results as they come."""
        self._count_tasks(chunksize)
        return Unordered(self._executor, func, ((item,) for item in iterable))

    def close(self) -> None:
        """Take no more."""
        if self._state == _RUN:
            self._state = _CLOSE
            self._executor.shutdown(wait=False)

    def terminate(self) -> None:
        """End at once."""
        self._state = _TERMINATE
        self._executor.abandon()

    def join(self) -> None:
        """Wait for the workers to end, after ``close`` or ``terminate``."""
        if self._state == _RUN:
            raise ValueError("Pool is still running")
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Any:
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __repr__(self) -> str:
        kind = type(self)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={self._processes}>"


class Pool(_Pool, _Original, metaclass=_Replaces):  # type: ignore[misc]
    """The methods above, before the original's: code that uses private parts of a pool still finds them."""


class Results:
    """Replaces ``IMapIterator``: can raise for one call and continue after it."""

    def __init__(self, executor: Executor, func: Any, arguments: Iterator[tuple[Any, ...]]) -> None:
        self._ahead = executor.ahead(func, arguments, in_place=True)
        self._waited: Any = None

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next result; raises what its call raised, or ``multiprocessing.TimeoutError``."""
        future = self._waited or self._ahead.first()
        if future is None:
            raise StopIteration
        self._waited = None
        if not _done(future, timeout):
            self._waited = future
            raise multiprocessing.TimeoutError
        return _result(future)


class Unordered(Results):
    """The same, in order of completion."""

    def __init__(self, executor: Executor, func: Any, arguments: Iterator[tuple[Any, ...]]) -> None:
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ahead = executor.ahead(func, arguments, on_done=self._done.put, in_place=True)

    def next(self, timeout: float | None = None) -> Any:
        """The next result that is complete."""
        if not len(self._ahead):
            raise StopIteration
        if len(self._ahead) == 1 and self._ahead.broken is not None:
            return _result(self._ahead.first())
        future = self._next_done(timeout)
        self._ahead.take(future)
        return _result(future)

    def _next_done(self, timeout: float | None) -> Any:
        for seconds in slices(timeout):
            with suppress(queue.Empty):
                return self._done.get(timeout=seconds)
        raise multiprocessing.TimeoutError


def _result(future: Future[Any]) -> Any:
    """What a call gave, with the original's words for what cannot be sent back."""
    try:
        return future.result()
    except Exception as error:
        unsent = getattr(error, UNSENT, None)
        if unsent is None:
            raise
        told = MaybeEncodingError(error, None)
        told.value = unsent
        raise told from error


def _done(future: Future[Any], timeout: float | None) -> bool:
    from concurrent.futures import wait

    return any(wait([future], seconds).done for seconds in slices(timeout))


class Result:
    """Replaces ``AsyncResult`` and ``MapResult``."""

    def __init__(
        self,
        futures: list[Future[Any]],
        callback: Any = None,
        error_callback: Any = None,
        *,
        single: bool = False,
    ) -> None:
        self._futures = futures
        self._single = single
        self._callbacks = callback, error_callback
        self._left = len(futures)
        self._told = threading.Event()
        """All is done, and the callback has run: as the original has it, before anybody who waits goes on."""
        self._lock = threading.RLock()
        self._value: Any = None
        self._error: BaseException | None = None
        self._taken = False
        for future in futures:
            future.add_done_callback(self._one_done)
        if not futures:
            self._tell()

    def _one_done(self, _: Future[Any]) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._tell()

    def _tell(self) -> None:
        try:
            self._call_back()
        finally:
            self._told.set()

    def _call_back(self) -> None:
        callback, error_callback = self._callbacks
        if callback is None and error_callback is None:
            return
        try:
            value = self._take()
        except BaseException as error:
            if error_callback is not None:
                error_callback(error)
        else:
            if callback is not None:
                callback(value)

    def _take(self) -> Any:
        """The value, put together once."""
        with self._lock:
            if not self._taken:
                self._taken = True
                try:
                    values = [_result(future) for future in self._futures]
                    self._value = values[0] if self._single else values
                except BaseException as error:
                    self._error = error
                self._futures = []
        if self._error is not None:
            raise self._error
        return self._value

    def ready(self) -> bool:
        """Whether all calls are done."""
        return self._told.is_set()

    def successful(self) -> bool:
        """Whether no call raised."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        if self._taken:
            return self._error is None
        return all(future.exception() is None for future in self._futures)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all calls are done, or until the timeout."""
        any(self._told.wait(seconds) for seconds in slices(timeout))

    def get(self, timeout: float | None = None) -> Any:
        """The value; raises what a call raised, or ``multiprocessing.TimeoutError``."""
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        return self._take()
