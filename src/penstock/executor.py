"""A ``concurrent.futures`` executor inside a memory budget.

Covers :class:`Executor`: calls as items of the engine's loop, results that do not pile up in this
process, futures that fail alone. What the engine does with memory, kills and retries is the same
as in a run; nothing is journaled, so nothing resumes.
"""

from __future__ import annotations

import itertools
import os
import pickle
import reprlib
import shutil
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import Executor as AbstractExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from penstock import registry
from penstock.abc import Observer, SetAside
from penstock.budget import parse_size
from penstock.engine import discover, journal
from penstock.engine.estimate import Wishes
from penstock.engine.loop import Loop, Options
from penstock.engine.process import THREAD_VARIABLES
from penstock.engine.verdicts import exception_of
from penstock.engine.worker import Setup
from penstock.errors import PenstockBug, UsageError
from penstock.sharing import share
from penstock.sinks.collect import Collect

_P = ParamSpec("_P")
_T = TypeVar("_T")

SPOOLED = 64 << 10
"""A result larger than this, pickled, waits in a file until it is asked for."""
AHEAD = 1024
"""Calls that ``map`` has under way or waiting at most, beyond the one that is consumed."""
_BATCH_SECONDS = 0.05
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40
_WAITING_BYTES = 64 << 20
"""Bytes of arguments that ``map`` lets wait."""


class Executor(AbstractExecutor):
    """Runs calls in worker processes whose memory together stays inside a budget.

    A drop-in for ``concurrent.futures.ProcessPoolExecutor``. A call that cannot fit fails its own
    future with ItemTooLarge; one whose worker crashes every time with WorkerDied; the executor
    itself never breaks. Needs no ``__main__`` guard.

    Args:
        budget: bytes for all processes together: ``"4GiB"``, ``"80%"``, or ``"auto"``.
        workers: at most so many; None lets memory and cores decide.
        memory: the most that a call takes, stated instead of learnt.
        timeout: seconds that one call may take; None for no limit.
        stall: seconds without CPU and I/O after which a worker counts as hung.
        initializer, initargs: called once in every worker.
        observers: called with every event of the engine.

    Raises:
        UsageError: an argument that makes no sense.
        NoBudget: the budget is under the smallest possible.
    """

    def __init__(
        self,
        budget: str | int = "auto",
        workers: int | None = None,
        *,
        memory: str | int | None = None,
        timeout: float | None = None,
        stall: float = 600.0,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        observers: Sequence[Observer] = (),
    ) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"workers must be at least 1, not {workers}")
        self._calls = Calls()
        self._observers = list(observers)
        self._futures: dict[int, CallFuture] = {}
        self._came: deque[tuple[CallFuture, bytes]] = deque()
        self._lock = threading.Lock()
        self._waiting = threading.Event()
        self._closed = False
        self._broken: BaseException | None = None
        self._abandoned = _Abandoned()
        self._preloaded: set[str] = set()
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-calls-"))
        self._keeper = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        found = discover.discover(budget)
        options = Options(
            budget=found.budget,
            requested=found.requested,
            wishes=Wishes(workers=workers, memory=None if memory is None else parse_size(memory)),
            set_aside=True,
            stall=stall,
            timeout=timeout,
            cores=discover.cpus(),
            endless=True,
            most_batch_seconds=_BATCH_SECONDS,
        )
        self._backend = registry.load("backend", "local")()
        self._loop = self._start(options, initializer, initargs)
        self._thread = threading.Thread(target=self._serve, name="penstock-executor", daemon=True)
        self._thread.start()

    def _start(
        self, options: Options, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> Loop:
        import cloudpickle

        setup = Setup(
            function=Invoke(initializer, initargs),
            source=self._calls,
            rooms={"": Collect(anything=True)},
            folder=self._folder,
            machinery=self._folder,
            items=0,
            batched=False,
            fixed_call=None,
            durable=False,
        )
        threads = dict.fromkeys((name for name in THREAD_VARIABLES if name not in os.environ), "1")
        self._backend.open(cloudpickle.dumps(setup), threads, None)
        return Loop(
            setup,
            options,
            self._backend,
            discover.Gauge(),
            _NoJournal(),
            journal.Past(opened=True),
            stage="",
            emit=self._emit,
            collect=self._deliver,
            interrupts=self._abandoned,
            beat=lambda: None,
        )

    def _emit(self, event: Any) -> None:
        for observer in self._observers:
            observer(event)

    # ------------------------------------------------------------------ the executor's own methods

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have ``fn(*args, **kwargs)`` called in a worker.

        Raises:
            RuntimeError: the executor was shut down, or could not start.
            UsageError: the function or an argument cannot be pickled.
        """
        packed = pack(fn, args, kwargs)
        future: CallFuture = CallFuture()
        with self._lock:
            if self._broken is not None:
                raise RuntimeError(f"the executor cannot go on: {self._broken}") from self._broken
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._preload(fn)
            self._came.append((future, packed))
        if self._waiting.is_set():
            self._waiting.clear()
            self._backend.wake()
        return future

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[_T]:
        """Call ``fn`` with the items of the iterables, which are read only as results are taken.

        At most some hundred calls are under way or waiting beyond the result that is consumed, and
        large results wait in files, so neither the input nor the output piles up here.
        ``chunksize`` is taken and not needed: calls are put together by their time.
        """
        import time

        end = None if timeout is None else time.monotonic() + timeout
        arguments = zip(*iterables, strict=False)
        window: deque[CallFuture] = deque()

        def fill() -> None:
            waiting = sum(future.weight for future in window) if window else 0
            for each in itertools.islice(arguments, max((buffersize or AHEAD) - len(window), 0)):
                future: Any = self.submit(fn, *each)
                window.append(future)
                waiting += future.weight
                if waiting > _WAITING_BYTES:
                    break

        def results() -> Iterator[_T]:
            try:
                while window:
                    future = window.popleft()
                    yield future.result(None if end is None else max(end - time.monotonic(), 0))
                    if len(window) <= (buffersize or AHEAD) // 2 or buffersize:
                        fill()
            finally:
                for future in window:
                    future.cancel()

        fill()
        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; end the workers when those under way are done."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                for future in [future for future, _ in self._came] + list(self._futures.values()):
                    future.cancel()
        with suppress(OSError, ValueError):
            self._backend.wake()
        if wait and self._thread is not threading.current_thread():
            self._thread.join()

    def abandon(self) -> None:
        """End at once: cancel what waits, kill what runs; the futures under way fail."""
        self._abandoned.number = 1
        self.shutdown(wait=True, cancel_futures=True)

    # ------------------------------------------------------------------ the loop's thread

    def _serve(self) -> None:
        try:
            self._loop.serve(self._take_in)
        except BaseException as error:
            self._broken = error
        finally:
            with self._lock:
                self._closed = True
                left = [future for future, _ in self._came] + list(self._futures.values())
                self._came.clear()
                self._futures.clear()
            reason = self._broken or PenstockBug("a call was lost")
            if self._abandoned.number:
                self._broken = reason = CancelledError("the executor was abandoned")
            for future in left:
                if not future.done():
                    with suppress(Exception):
                        future.set_exception(reason)
            self._backend.close()

    def _take_in(self) -> bool:
        """Hand what has come to the loop; False when no more will come."""
        self._waiting.set()
        if self._came:
            self._waiting.clear()
            while self._came:
                future, packed = self._came.popleft()
                number = self._calls.add(packed, future)
                self._futures[number] = future
            self._loop.extend(len(self._calls))
        return not self._closed or bool(self._came)

    def _deliver(self, first: int, results: list[Any]) -> None:
        """Results of a batch, in order of the calls."""
        for number, result in enumerate(results, first):
            future = self._futures.pop(number, None)
            label = self._calls.name(number) if isinstance(result, SetAside) else ""
            self._calls.drop(number)
            if future is None or future.cancelled():
                if isinstance(result, _File):
                    result.remove()
                continue
            if isinstance(result, SetAside):
                future.set_exception(exception_of(result, label))
                continue
            try:
                _settle(future, result)
            except BaseException as error:  # a result or exception that cannot be loaded here
                with suppress(Exception):
                    future.set_exception(error)

    def _preload(self, fn: Any) -> None:
        """Have the fork server import the function's module, so that workers share it."""
        module = getattr(fn, "__module__", None)
        if (
            isinstance(module, str)
            and module not in self._preloaded
            and module not in ("__main__", "builtins")
        ):
            self._preloaded.add(module)
            self._calls.modules.append(module)


class CallFuture(Future[Any]):
    """A future whose large result is read from its file each time it is asked for."""

    weight = 0

    def result(self, timeout: float | None = None) -> Any:
        """The call's result; raises what the call raised."""
        result = super().result(timeout)
        return result.load() if isinstance(result, _File) else result


class Calls:
    """The calls of an executor as a source that grows: pickled here, carried with their batch."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: dict[int, tuple[bytes, CallFuture]] = {}
        self._first = 0
        self._cargo: list[bytes | None] = []
        self.modules: list[str] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_count": 0, "_waiting": {}, "_first": 0, "_cargo": [], "modules": []}

    def __len__(self) -> int:
        return self._count

    def add(self, packed: bytes, future: CallFuture) -> int:
        """One more call; its number."""
        number = self._count
        future.weight = len(packed)
        self._waiting[number] = packed, future
        self._count += 1
        return number

    def drop(self, number: int) -> None:
        """The call is done."""
        self._waiting.pop(number, None)

    def name(self, number: int) -> str:
        """The call in a few words: ``train(17, ...)``."""
        try:
            fn, args, kwargs = pickle.loads(self._waiting[number][0])
            words = [_short.repr(each) for each in args] + [
                f"{k}={_short.repr(v)}" for k, v in kwargs.items()
            ]
            return f"{getattr(fn, '__qualname__', type(fn).__qualname__)}({', '.join(words)})"
        except Exception:  # a name is never worth a failure
            return f"number {number}"

    def weigh(self, start: int, stop: int) -> int:
        """Bytes of these calls."""
        return sum(len(self._waiting[number][0]) for number in range(start, stop))

    def carry(self, start: int, stop: int) -> list[bytes | None]:
        """The calls of a batch; None for one that was cancelled."""
        carried: list[bytes | None] = []
        for number in range(start, stop):
            packed, future = self._waiting[number]
            going = future.running() or future.set_running_or_notify_cancel()
            carried.append(packed if going else None)
        return carried

    def load(self, start: int, cargo: list[bytes | None]) -> None:
        """Take them, in the worker."""
        self._first, self._cargo = start, cargo

    def read(self, start: int, stop: int) -> list[bytes | None]:
        """Some of those that were carried."""
        return self._cargo[start - self._first : stop - self._first]

    def fingerprint(self) -> Mapping[str, str]:
        """Nothing to resume from."""
        return {}


class Invoke:
    """What a worker does with a call: unpickle, call, pickle; large results go to a file."""

    def __init__(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        self._initializer = initializer
        self._initargs = initargs

    def prepare(self) -> None:
        """Once per worker."""
        if self._initializer is not None:
            self._initializer(*self._initargs)

    def __call__(self, packed: bytes | None) -> bytes | _File | None:
        if packed is None:
            return None
        try:
            fn, args, kwargs = pickle.loads(packed)
            del packed
            outcome = (True, fn(*args, **kwargs))
        except MemoryError:
            raise
        except BaseException as error:
            outcome = (False, _portable(error))
        data = _dumps(outcome)
        if len(data) <= SPOOLED or not outcome[0]:
            return data
        folder = share().scratch
        assert folder is not None
        folder.mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        with open(descriptor, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        return _File(name, os.getpid())


class _File:
    """A pickled outcome in a private file; gone with the future that holds it."""

    def __init__(self, name: str, writer: int) -> None:
        self.name = name
        self._writer = writer

    def own(self) -> None:
        """Remove the file when this object goes."""
        weakref.finalize(self, _unlink, self.name)

    def remove(self) -> None:
        _unlink(self.name)

    def load(self) -> Any:
        with open(self.name, "rb") as file:
            _, value = pickle.load(file)
        return value


def _unlink(name: str) -> None:
    with suppress(OSError):
        Path(name).unlink()


def _settle(future: CallFuture, result: Any) -> None:
    if isinstance(result, _File):
        result.own()
        future.set_result(result)
        return
    succeeded, value = pickle.loads(result)
    if succeeded:
        future.set_result(value)
    else:
        future.set_exception(value)


def pack(fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """A call, pickled; by value where it holds what lives only in the main script.

    Raises:
        UsageError: it cannot be pickled.
    """
    try:
        packed = pickle.dumps((fn, args, kwargs), protocol=5)
        if b"__main__" not in packed:
            return packed
    except Exception:  # a lambda, a closure: by value
        pass
    try:
        import cloudpickle

        by_value: bytes = cloudpickle.dumps((fn, args, kwargs), protocol=5)
    except Exception as error:
        raise UsageError(f"the call cannot be sent to a worker: {error}") from error
    return by_value


def _dumps(outcome: tuple[bool, Any]) -> bytes:
    try:
        data = pickle.dumps(outcome, protocol=5)
        if b"__main__" not in data:
            return data
    except Exception:
        pass
    try:
        import cloudpickle

        by_value: bytes = cloudpickle.dumps(outcome, protocol=5)
    except Exception as error:
        message = f"the result, a {type(outcome[1]).__qualname__}, cannot be pickled: {error}"
        return pickle.dumps((False, TypeError(message)), protocol=5)
    return by_value


def _portable(error: BaseException) -> BaseException:
    """The exception with its traceback as a note: tracebacks do not cross processes."""
    import traceback

    with suppress(Exception):
        error.add_note("".join(traceback.format_exception(error)))
    error.__traceback__ = None
    return error


class _NoJournal:
    def write(self, *entries: Mapping[str, Any]) -> None:
        """Nothing resumes."""


class _Abandoned:
    """Has the loop stop, as a signal would; without the grace that a signal gives."""

    number = 0
    grace = 0.0
