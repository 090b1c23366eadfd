"""joblib inside a memory budget: ``import penstock.joblib``, then ``parallel_config(backend="penstock")``.

The import registers the backend through joblib's own ``register_parallel_backend``; scikit-learn's
``n_jobs`` then goes through it as well:

    import penstock.joblib
    with joblib.parallel_config(backend="penstock", budget="4GiB"):
        cross_val_score(model, X, y, n_jobs=-1)

A call that cannot fit raises ItemTooLarge out of ``Parallel``, as any exception of a call does.
"""

from __future__ import annotations

import atexit
import copy
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from penstock.calls.work import in_words
from penstock.engine.discover import cpus, most_workers
from penstock.errors import ItemTooLarge, MissingExtra, Stalled, WorkerDied
from penstock.executor import Executor, module_of, name_of, new_backend
from penstock.service import CallFuture

try:
    import joblib
    from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend
except ImportError as error:
    raise MissingExtra("penstock.joblib", "joblib", "joblib") from error

NAME = "penstock"
_MAPPED = 1 << 20
_KEPT_SECONDS = 300.0
"""So long may the process that workers are forked from wait for the next ``Parallel``."""


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """A joblib backend over :class:`penstock.Executor`.

    ``n_jobs`` is the most workers; memory may allow fewer at a time. One job, or ``n_jobs=None``
    where no context says otherwise, runs here, as with joblib's own backends.

    Large NumPy arrays among the arguments are written once and mapped, as joblib does it:
    ``max_nbytes`` says from which size, None for never. Workers may write to them, to a copy of their
    own; of a ``numpy.memmap`` of the caller's, opened for writing, to the file.

    Options of ``parallel_config(backend="penstock", ...)`` or of ``Parallel``: ``budget``, ``memory``,
    ``stall`` and ``timeout_per_call``, the ``timeout`` of the executor; the others as there. What else
    joblib's own process backends take is taken, and ignored where it has no meaning here.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    _executor: Executor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers there are at most."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return max(cpus() + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Make ready for one ``Parallel``."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        options = {**options, **self.backend_kwargs}
        self.parallel = parallel
        self._options: dict[str, Any] = {
            "workers": self.most(n_jobs),
            "budget": options.get("budget", "auto"),
            "memory": options.get("memory"),
            "timeout": options.get("timeout_per_call"),
            "stall": options.get("stall", "10min"),
            "arrays": {
                "least": options.get("max_nbytes", _MAPPED),
                "unchanged": True,
                "files_as_they_are": True,
            },
        }
        self._start()
        return n_jobs

    def most(self, n_jobs: int) -> int:
        """Workers at once, for so many jobs."""
        return n_jobs

    def _start(self) -> None:
        self._forker = _take()
        try:
            self._executor = Executor(backend=self._forker, modules=("joblib",), **self._options)
        except BaseException:
            self._forker.close()
            raise

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Any:
        """Have a worker call ``func``: calls that joblib has put together.

        Where they cannot be done together, each is tried alone: only one that cannot be done fails,
        and is named.
        """
        future = self._send(func)
        if len(getattr(func, "items", ())) > 1:
            together, future = future, Future()
            together.add_done_callback(partial(self._or_each, func, future))
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def _send(self, func: Any) -> Any:
        assert self._executor is not None
        threads = self.inner_max_num_threads
        call: tuple[Any, tuple[Any, ...]] = (
            (func, ()) if threads is None else (_with_threads, (threads, func))
        )
        items = getattr(func, "items", None)  # of joblib's BatchedCalls
        name = partial(_in_words, func) if items else name_of(func)
        module = module_of(_inner(items[0][0]) if items else func)
        return self._executor.submit_as(name, module, *call, {})

    def _or_each(self, batch: Any, whole: Future[Any], together: Any) -> None:
        """Give ``whole`` what came of a batch, or of its calls one by one."""
        try:
            whole.set_result(_results(together))
        except (ItemTooLarge, WorkerDied, Stalled):
            try:
                each = [self._send(_alone(batch, item)) for item in batch.items]
            except BaseException as error:
                whole.set_exception(error)
                return
            left = iter(range(len(each) - 1))

            def done(_: Any) -> None:  # on the executor's thread, one after the other
                if next(left, None) is None:
                    try:
                        for future in each:
                            _results(future)
                        whole.set_result(_Later(*each))
                    except BaseException as error:
                        whole.set_exception(error)

            for future in each:
                future.add_done_callback(done)
        except BaseException as error:
            whole.set_exception(error)

    def retrieve_result_callback(self, future: Any) -> Any:
        """The results of a batch of calls, read from their file only when they are wanted.

        joblib keeps what this gives until its user comes for it.
        """
        return _results(future) if isinstance(future, CallFuture) else future.result()

    def terminate(self) -> None:
        """End the workers; what they are forked from stays for the next ``Parallel``."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None
            _give_back(self._forker)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call failed: drop the others."""
        if self._executor is not None:
            self._executor.abandon()
            self._executor = None
            _give_back(self._forker)
        if ensure_ready:
            self._start()


class Rescuing(Backend):
    """In place of joblib's own in a script that knows nothing of ours: ``PENSTOCK_WORKERS`` bounds it."""

    def most(self, n_jobs: int) -> int:
        """The fewer of what the script and the variable say."""
        return min(n_jobs, most_workers(None) or n_jobs)


def _results(future: CallFuture) -> Any:
    """What a batch gave: a list, or something like it where that waits in a file."""
    if (error := future.exception()) is not None:
        raise error
    return _Later(future) if future.weight else future.result()


class _Later:
    """The items of lists that may be in files."""

    def __init__(self, *futures: CallFuture) -> None:
        self._futures = futures

    def __iter__(self) -> Iterator[Any]:
        for future in self._futures:
            yield from future.result()


def _alone(batch: Any, item: Any) -> Any:
    """A batch of joblib's with one of its calls."""
    single = copy.copy(batch)
    single.items, single._size = [item], 1
    return single


def _in_words(batch: Any) -> str:
    """A batch of calls, shortened: ``train(17, ...) and 3 more``."""
    fn, args, kwargs = batch.items[0]
    more = f" and {len(batch.items) - 1} more" if len(batch.items) > 1 else ""
    return f"{name_of(_inner(fn))}({', '.join(in_words(args, kwargs))}){more}"


def _inner(fn: Any) -> Any:
    """scikit-learn wraps its functions."""
    return getattr(fn, "function", fn)


def _with_threads(threads: int, func: Callable[[], Any]) -> Any:
    import threadpoolctl

    with threadpoolctl.threadpool_limits(threads):
        return func()


# --------------------------------------------------------------------------- what workers are forked from

_spare: list[Any] = []
"""The fork servers that no ``Parallel`` uses; at most one. scikit-learn makes one Parallel after another,
and starting a Python for each takes longer than many of them run."""
_lock = threading.Lock()
_timer: threading.Timer | None = None


def _take() -> Any:
    with _lock:
        if _spare:
            return _spare.pop()
    return new_backend()


def _give_back(forker: Any) -> None:
    global _timer
    with _lock:
        if not _spare:
            _spare.append(forker)
            if _timer is not None:
                _timer.cancel()
            _timer = threading.Timer(_KEPT_SECONDS, _end_spare)
            _timer.daemon = True
            _timer.start()
            return
    forker.close()


def _end_spare() -> None:
    with _lock:
        ended = list(_spare)
        _spare.clear()
    for forker in ended:
        forker.close()


atexit.register(_end_spare)
os.register_at_fork(after_in_child=_spare.clear)


def register(*, default: bool = False) -> None:
    """Make the backend known to joblib; with ``default``, what is used where none is named."""
    joblib.register_parallel_backend(NAME, Backend, make_default=default)


register()
