"""Classes that stand in for the pools of the standard library, over :class:`penstock.Executor`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, as_completed
from typing import Any

from penstock.executor import Executor


class ProcessPool(Executor):
    """In place of ``concurrent.futures.ProcessPoolExecutor``; takes what that takes."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        super().__init__(workers=max_workers, initializer=initializer, initargs=initargs)


class Pool:
    """In place of ``multiprocessing.Pool``: the map family, ``apply`` and their asynchronous forms."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        self._processes = processes or os.cpu_count() or 1
        self._executor = Executor(workers=self._processes, initializer=initializer, initargs=initargs)

    def apply(self, func: Callable[..., Any], args: Any = (), kwds: Any = None) -> Any:
        """Call in a worker and wait."""
        return self._executor.submit(func, *args, **(kwds or {})).result()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Any = (),
        kwds: Any = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Result:
        """Call in a worker."""
        future = self._executor.submit(func, *args, **(kwds or {}))
        return Result([future], callback, error_callback, single=True)

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call with every item; a list."""
        return list(self._executor.map(func, iterable))

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Result:
        """Call with every item; a list, later."""
        return Result([self._executor.submit(func, item) for item in iterable], callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call with every item as arguments; a list."""
        return list(self._executor.map(Starred(func), iterable))

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Any = None,
        error_callback: Any = None,
    ) -> Result:
        """Call with every item as arguments; a list, later."""
        return Result([self._executor.submit(func, *item) for item in iterable], callback, error_callback)

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        """Call with every item; results in order, as they are asked for."""
        return self._executor.map(func, iterable)

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        """Call with every item; results as they come."""
        items = iter(iterable)
        waiting: set[Future[Any]] = set()
        while True:
            while len(waiting) < 4 * self._processes:
                try:
                    waiting.add(self._executor.submit(func, next(items)))
                except StopIteration:
                    break
            if not waiting:
                return
            future = next(as_completed(waiting))
            waiting.remove(future)
            yield future.result()

    def close(self) -> None:
        """Take no more."""
        self._executor.shutdown(wait=False)

    def terminate(self) -> None:
        """End at once."""
        self._executor.abandon()

    def join(self) -> None:
        """Wait for the workers to end, after ``close`` or ``terminate``."""
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()


class Starred:
    """A function of several arguments as one of a tuple."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self._func = func
        self.__module__ = getattr(func, "__module__", __name__)

    def __call__(self, arguments: Iterable[Any]) -> Any:
        return self._func(*arguments)


class Result:
    """In place of ``multiprocessing.pool.AsyncResult``."""

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
        self._lock = threading.Lock()
        if not futures:
            self._tell()
        for future in futures:
            future.add_done_callback(self._one_done)

    def _one_done(self, _: Future[Any]) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._tell()

    def _tell(self) -> None:
        callback, error_callback = self._callbacks
        error = next((future.exception() for future in self._futures if future.exception()), None)
        if error is not None and error_callback is not None:
            error_callback(error)
        elif error is None and callback is not None:
            callback(self._value())

    def _value(self) -> Any:
        values = [future.result() for future in self._futures]
        return values[0] if self._single else values

    def ready(self) -> bool:
        """Whether all is done."""
        return all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Whether nothing raised."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return all(future.exception() is None for future in self._futures)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all is done, at most so long."""
        from concurrent.futures import wait

        wait(self._futures, timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The value; raises what a call raised, or ``multiprocessing.TimeoutError``."""
        self.wait(timeout)
        if not self.ready():
            from multiprocessing import TimeoutError as PoolTimeoutError

            raise PoolTimeoutError
        return self._value()
