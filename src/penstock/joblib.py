"""joblib inside a memory budget: ``import penstock.joblib``, then ``parallel_config(backend="penstock")``.

The import registers the backend through joblib's own ``register_parallel_backend``; scikit-learn's
``n_jobs`` then goes through it as well:

    import penstock.joblib
    with joblib.parallel_config(backend="penstock", budget="4GiB"):
        cross_val_score(model, X, y, n_jobs=-1)

A call that cannot fit raises ItemTooLarge out of ``Parallel``, as any exception of a call does.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from penstock.discover import cpus, most_workers
from penstock.engine.worker.process import THREAD_VARIABLES
from penstock.errors import ItemTooLarge, MissingExtra, Stalled, WorkerDied
from penstock.pool import warm
from penstock.pool.calls import in_words
from penstock.pool.executor import Executor, module_of, name_of
from penstock.pool.futures import CallFuture

try:
    import joblib
    from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend
except ImportError as error:
    raise MissingExtra("penstock.joblib", "joblib", "joblib") from error

NAME = "penstock"
_MAPPED = 1 << 20
_KEPT_SECONDS = 300.0
"""So long do workers wait for the next ``Parallel`` by default; loky's wait as long."""

_TAKEN = frozenset({
    "budget", "memory", "stall", "timeout_per_call", "idle_worker_timeout", "initializer", "initargs",
    "max_nbytes", "mmap_mode", "temp_folder", "maxtasksperchild",
    # What Parallel sends along, and has dealt with itself; and what makes no difference here:
    "prefer", "require", "verbose",  # whether processes or threads, and what is printed
    "context",  # workers are always forked from a process of their own
    "prewarm",  # of mapped arrays: they are in the system's file cache, having just been written
})  # fmt: skip
"""The options of the backend; what it does not know it refuses."""
_MODES = {"r": "c", "c": "c", "r+": "r+", "w+": "r+"}
"""joblib's modes of mapped arrays, and ours: where joblib's workers may not write, ours may, to a copy."""


class PenstockBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """A joblib backend over :class:`penstock.Executor`.

    ``n_jobs`` is the most workers; memory may allow fewer at a time. One job, or ``n_jobs=None``
    where no context says otherwise, runs here, as with joblib's own backends.

    Workers wait for the next ``Parallel``, with all that they have imported, ``idle_worker_timeout``
    seconds (300), as loky's do; those with an initializer for one with the same initializer and arguments.

    Large NumPy arrays among the arguments are written once for each ``Parallel`` and mapped, as joblib
    does it: ``max_nbytes`` says from which size, None for never; ``temp_folder`` where. Workers may write
    to them, to a copy of their own, or for all with ``mmap_mode="r+"``; of a ``numpy.memmap`` of the
    caller's, opened for writing, to the file.

    Options of ``parallel_config(backend="penstock", ...)`` or of ``Parallel``: ``budget``, ``memory``,
    ``stall`` and ``timeout_per_call``, the ``timeout`` of the executor; the others as there. What joblib's
    own process backends take is taken: ``initializer``, ``initargs``, ``maxtasksperchild``.

    Raises:
        TypeError: from ``configure``: an option that it does not know.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    _warm: warm.Warm | None = None

    @property
    def _executor(self) -> Executor | None:
        return None if self._warm is None else self._warm.executor

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """The most workers at once."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return max(cpus() + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Prepare for one ``Parallel``, whose own options override those of the context."""
        options = {**self.backend_kwargs, **options}
        _check(options)
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        mode = options.get("mmap_mode", "r")
        self._options: dict[str, Any] = {
            "workers": self.most(n_jobs),
            "budget": options.get("budget", "auto"),
            "memory": options.get("memory"),
            "timeout": options.get("timeout_per_call"),
            "stall": options.get("stall", "10min"),
            "initializer": options.get("initializer"),
            "initargs": tuple(options.get("initargs", ())),
            "max_tasks_per_child": options.get("maxtasksperchild"),
            "folder": options.get("temp_folder") or os.environ.get("JOBLIB_TEMP_FOLDER") or None,
            "arrays": {
                "least": None if mode is None else options.get("max_nbytes", _MAPPED),
                "mode": "c" if mode is None else _MODES[mode],
                "unchanged": True,
                "files_as_they_are": True,
            },
        }
        idle = options.get("idle_worker_timeout")
        self._idle = _KEPT_SECONDS if idle is None else float(idle)
        self._start()
        return n_jobs

    def most(self, n_jobs: int) -> int:
        """Workers at once, for so many jobs."""
        return n_jobs

    def _start(self) -> None:
        self._warm = warm.take(self._options)

    def start_call(self) -> None:
        """A ``Parallel`` is called, perhaps again: globals may have changed since."""
        if self._warm is not None:
            self._warm.executor.renew_globals()

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Any:
        """Have a worker call ``func``: a batch of calls that joblib has put together.

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
        """The results of a batch of calls, read from their file on demand.

        joblib keeps what this gives until its user comes for it.
        """
        return _results(future) if isinstance(future, CallFuture) else future.result()

    def terminate(self) -> None:
        """Leave the workers for the next ``Parallel``."""
        if self._warm is not None:
            warm.give_back(self._warm, self._idle)
            self._warm = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call failed: cancel the others."""
        if self._warm is not None:
            self._warm.executor.abandon()
            warm.give_back(self._warm, self._idle)
            self._warm = None
        if ensure_ready:
            self._start()


Backend = PenstockBackend


class _Rescuing(PenstockBackend):
    """In place of joblib's own in a script that knows nothing of ours: ``PENSTOCK_WORKERS`` bounds it."""

    def most(self, n_jobs: int) -> int:
        """The fewer of what the script and the variable say."""
        return min(n_jobs, most_workers(None) or n_jobs)


# By the names of what they replace: Parallel(verbose=1) prints these.
class LokyBackend(_Rescuing):
    """Replaces the backend ``loky``."""


class MultiprocessingBackend(_Rescuing):
    """Replaces the backend ``multiprocessing``."""


RESCUING = {"loky": LokyBackend, "multiprocessing": MultiprocessingBackend}


def _check(options: dict[str, Any]) -> None:
    """Refuse by name what would be ignored."""
    if "timeout" in options:
        raise ValueError(
            "the 'timeout' of workers is called idle_worker_timeout, and that of a call timeout_per_call"
        )
    if unknown := sorted(options.keys() - _TAKEN):
        raise TypeError(
            f"the joblib backend {NAME!r} takes no {unknown[0]!r}; it takes {', '.join(sorted(_TAKEN))}"
        )
    if (mode := options.get("mmap_mode", "r")) is not None and mode not in _MODES:
        raise ValueError(f"mmap_mode must be one of {', '.join(map(repr, _MODES))} or None, not {mode!r}")


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
    """Call ``func`` with so many threads, of libraries that are loaded and of those that it loads itself."""
    import threadpoolctl

    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        with threadpoolctl.threadpool_limits(threads):
            return func()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def register(*, default: bool = False) -> None:
    """Register the backend with joblib; with ``default``, as the one used where none is named."""
    joblib.register_parallel_backend(NAME, Backend, make_default=default)


register()
