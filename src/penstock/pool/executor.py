"""A ``concurrent.futures`` executor inside a memory budget.

Covers :class:`Executor`: what people see. Its calls are items of the engine's loop
(:mod:`penstock.pool.service`), so what happens about memory, kills and retries is the same as in a run.
Nothing is journaled, so nothing resumes.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor as AbstractExecutor
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, ParamSpec, TypeVar

from penstock import discover, registry, storage
from penstock.abc import Observer
from penstock.budget import parse_size
from penstock.durations import parse_duration
from penstock.engine.decide.estimate import Wishes
from penstock.engine.parent.options import Options
from penstock.pool import asked, inherited
from penstock.pool.ahead import Ahead
from penstock.pool.calls import Call, keep_words
from penstock.pool.futures import CallFuture
from penstock.pool.pickling import Sent, pack, send_once
from penstock.pool.service import PoolOptions, Service

_P = ParamSpec("_P")
_T = TypeVar("_T")

_A_FEW = 4
_BATCH_SECONDS = 0.02
_ADVICE = "See to it, then make the executor again."


class Executor(AbstractExecutor):
    """Runs calls in worker processes whose memory together stays inside a budget.

    A drop-in for ``concurrent.futures.ProcessPoolExecutor``: what that takes stands first, in its order.
    A call that cannot fit fails its own future with ItemTooLarge; one whose worker dies every time with
    WorkerDied; one that takes too long with Stalled; the others go on. Needs no ``__main__`` guard; a main
    script that has one is run once where workers are forked from: they have what it sets at its top.

    Args:
        max_workers: at most so many workers; None lets memory and cores decide.
        mp_context: taken, and without effect: workers are always forked from a process of their own,
            as the method ``forkserver`` does it. Of a ``fork`` context this is said once.
        initializer, initargs: called once in every worker, also in one that replaces another.
        max_tasks_per_child: so many calls does a worker take; then another one replaces it.
        budget: bytes for all processes together, this one included: ``"4GiB"``, ``"80%"``, or
            ``"auto"`` for the smallest limit that holds this process.
        workers: the same as ``max_workers``, as it is called everywhere else here.
        memory: the most that a call takes, stated instead of learnt.
        timeout: how long one call may take: seconds, or ``"30s"``; None for no limit.
        stall: how long a worker may go without CPU and I/O before it counts as hung.
        observers: called with every event of the engine, on its thread.
        backend: ``"local"``, or a backend, which is then left open at the end.
        arrays: how large NumPy arrays among the arguments travel: keywords of
            ``penstock.pool.pickling.Sender``.
        modules: imported once, where workers are forked from, which then share them. The modules of
            the functions that are called are found without this.
        folder: where large arguments and results wait; the one for temporary files by default.

    Raises:
        UsageError: an argument that makes no sense.
        NoBudget: the budget is under the smallest possible.
        ItemTooLarge: ``memory`` is more than one worker may use.
        FunctionRaised: the initializer failed.
        StorageFailed: this process has no file descriptor left, or the folder cannot be written.
    """

    _said_of_calls: ClassVar[Any] = staticmethod(lambda error: error)
    """What stands in for the error of a call that could not be done."""
    _said_of_unsent: ClassVar[Any] = staticmethod(lambda error: error)
    """The same for one that cannot be sent."""

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        budget: str | int = "auto",
        workers: int | None = None,
        memory: str | int | None = None,
        timeout: str | float | None = None,
        stall: str | float = "10min",
        observers: Sequence[Observer] = (),
        backend: str | Any = "local",
        arrays: Mapping[str, Any] | None = None,
        modules: Sequence[str] = (),
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        named = isinstance(asked.backend(backend), str)
        modules, folder = asked.names(modules), asked.folder(folder)
        initargs, arrays = asked.arguments(initargs), asked.keywords(arrays)
        workers = discover.most_workers(asked.most_workers(max_workers, workers))
        asked.look_at_context(mp_context)
        with storage.told(Path(folder or "/tmp"), _ADVICE):
            found = discover.discover(budget)
        options = Options(
            found.budget, found.requested, set_aside=True, cores=discover.cpus(), endless=True,
            wishes=Wishes(workers=workers, memory=None if memory is None else parse_size(memory)),
            stall=parse_duration(stall, "stall"),
            timeout=None if timeout is None else parse_duration(timeout, "timeout"),
            most_batch_seconds=_BATCH_SECONDS, most_items=asked.most_tasks(max_tasks_per_child),
        )  # fmt: skip
        # What dask and others look at, as ``ProcessPoolExecutor`` has it.
        self._max_workers = workers or options.cores
        self._a_few = _A_FEW * self._max_workers
        with storage.told(Path(folder or "/tmp"), _ADVICE):
            self._service = Service(
                options,
                PoolOptions(initializer, initargs, observers, arrays, modules, folder, not named),
                new_backend(backend) if named else backend,
                said_instead=type(self)._said_of_calls,
            )
        self._aheads: weakref.WeakSet[Ahead] = weakref.WeakSet()
        # One that is forgotten finishes what it has and ends, as the standard library's does.
        weakref.finalize(self, self._service.close).atexit = False

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle {type(self).__name__!r} object: its workers belong to the process that made it. "
            "Make one where it is needed"
        )

    @property
    def most_workers(self) -> int:
        """The most workers at once; can be changed at any time."""
        return self._max_workers

    @most_workers.setter
    def most_workers(self, workers: int | None) -> None:
        self._max_workers = workers or discover.cpus()
        self._service.most_workers = self._max_workers

    @property
    def idle(self) -> bool:
        """Whether all submitted calls are done, and more may be submitted."""
        return not self._service.here.left() and self._service.idle

    def renew(self) -> bool:
        """Act like a new executor, with warm workers: arrays and globals are sent again.

        False where it takes no more calls.
        """
        return not self._service.here.left() and self._service.renew()

    def renew_globals(self) -> None:
        """Send the main script's globals again: they may have been mutated."""
        self._service.renew_globals()

    def rest(self) -> None:
        """Leave nothing on disk until :meth:`renew`; only while :attr:`idle`."""
        self._service.rest()

    @property
    def max_tasks_per_child(self) -> int | None:
        """The most calls a worker takes before it is replaced; can be changed at any time."""
        return self._service.most_calls

    @max_tasks_per_child.setter
    def max_tasks_per_child(self, calls: int | None) -> None:
        self._service.most_calls = calls

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Schedule ``fn(*args, **kwargs)`` to run in a worker.

        The call is pickled at once; what has over 64 KiB then waits in a file, and NumPy arrays of
        1 MiB or more are written once and mapped. One that cannot be pickled fails its future.

        Raises:
            RuntimeError: the executor was shut down, or could not go on (``BrokenExecutor``).
        """
        future: Future[_T] = self.submit_as(name_of(fn), module_of(fn), fn, args, kwargs)
        return future

    def submit_as(
        self,
        name: str | Callable[[], str],
        module: str | None,
        fn: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """:meth:`submit` for a function that wraps another, whose name errors should show.

        Args:
            name: what errors call the function; or tells the whole call in a few words.
            module: to be imported where workers are forked from, so that they share it.
            fn, args, kwargs: what is called.
        """
        service = self._service
        service.check_here()
        future = CallFuture(service.budget, service.here)
        try:
            packed = pack((fn, args, kwargs), service.folder.path, service.sent)
        except (MemoryError, OSError):  # of this process, not of the call
            raise
        except Exception as error:
            service.check_open()
            error.add_note(inherited.unsent(fn, lambda each: pack(each, service.folder.path, service.sent)))
            future.set_running_or_notify_cancel()
            future.set_exception(self._said_of_unsent(error))
            return future
        finally:
            files = service.sent.used()
        if isinstance(packed, bytes):
            future.weight = len(packed)
        else:
            future.weight = packed.size
            packed.own(service.folder)
        holds = [fn, *files] if isinstance(fn, Sent) else files
        service.add(Call(name, packed, holds, future, keep_words(args, kwargs)), module)
        return future

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: str | float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[_T]:
        """Call ``fn`` with the items of the iterables; yields the results in order.

        The iterables are read only as results are taken: at most 1,024 calls (or ``buffersize``) are
        under way or waiting, fewer when their arguments or results are large. So neither the input
        nor the output piles up here. ``fn`` is pickled once.

        Args:
            fn: called with one item of each iterable; the shortest decides how many there are.
            timeout: in which, from now on, every result must have come: seconds, or ``"30s"``.
            chunksize: as for ``ProcessPoolExecutor``; not needed, calls are put together by their time.
            buffersize: the most calls whose results have not been taken.

        Raises:
            TimeoutError: from the iterator, when a result has not come in time.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if isinstance(timeout, str):  # a number may be 0 here, as in the standard library
            timeout = parse_duration(timeout, "timeout")
        end = None if timeout is None else time.monotonic() + timeout
        ahead = self.ahead(fn, zip(*iterables, strict=False), buffersize)

        def results() -> Iterator[_T]:
            try:
                while len(ahead):
                    yield ahead.result(end)  # held by nobody here while it is used
            finally:
                ahead.cancel()

        return results()

    def ahead(
        self,
        fn: Any,
        arguments: Iterator[tuple[Any, ...]],
        most: int | None = None,
        on_done: Any = None,
        *,
        in_place: bool = False,
    ) -> Ahead:
        """Calls of ``fn``, which is pickled once, submitted ahead of the consumer of their results.

        Args:
            fn: the function.
            arguments: of each call.
            most: calls whose results have not been taken.
            on_done: called with each future when it is done.
            in_place: whether an error of ``arguments`` comes behind the results of those before it, and
                is not told.
        """
        self._service.check_here()  # before any lock, which another thread may have held at the fork
        name, module, sent = name_of(fn), module_of(fn), fn
        with suppress(Exception):  # its futures tell
            sent = send_once(fn, self._service.folder, self._service.sent)

        def submit(each: tuple[Any, ...]) -> Any:
            future = self.submit_as(name, module, sent, each, {})
            if on_done is not None:
                future.add_done_callback(on_done)
            return future

        def failed(error: Exception) -> Any:
            future = CallFuture(self._service.budget, self._service.here)
            future.set_exception(error)
            return future

        ahead = Ahead(submit, arguments, most, self._a_few, failed if in_place else None)
        self._aheads.add(ahead)
        return ahead

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; end the workers when the submitted ones are done.

        Every ``map`` whose results may still be taken reads the rest of its input now.

        Args:
            wait: return only then.
            cancel_futures: cancel what has not begun.
        """
        if self._service.here.left():  # a child that the caller forked: the calls are its parent's
            return
        if not cancel_futures:
            for ahead in list(self._aheads):
                ahead.read_all()
        self._service.close(cancel=cancel_futures)
        if wait:
            self._service.join()

    def terminate_workers(self) -> None:
        """The same as :meth:`abandon`: ``ProcessPoolExecutor`` has it from Python 3.14 on."""
        self.abandon()

    def kill_workers(self) -> None:
        """The same as :meth:`abandon`."""
        self.abandon()

    def abandon(self) -> None:
        """End at once: pending calls are cancelled, running ones are killed and fail with CancelledError."""
        self._service.abandon()

    def tell_tracebacks_as(self, kind: type[Exception]) -> None:
        """Set the class of a worker's traceback; it is constructed from the text."""
        self._service.remote = kind

    def end_with_interpreter(self) -> None:
        """Abandon calls when the interpreter exits; by default it waits for them."""
        self._service.abandon_at_exit = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.abandon()  # Ctrl-C reaches only this process: nobody else would end the calls
            return None
        if kind is not None:
            self._aheads.clear()  # what was not read need not be
        self.shutdown(wait=True)
        return None


def name_of(fn: Any) -> str:
    """A function's name in errors."""
    return str(getattr(fn, "__qualname__", type(fn).__qualname__))


def module_of(fn: Any) -> str | None:
    """The module that a function is defined in."""
    return getattr(fn, "__module__", None)


def new_backend(name: str = "local") -> Any:
    """A backend that shows its workers' output, as other pools do."""
    backend = registry.make("backend", name)
    if hasattr(backend, "output"):
        backend.output = True
    return backend
