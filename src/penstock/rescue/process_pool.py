"""The replacement for ``concurrent.futures.ProcessPoolExecutor``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from penstock import errors
from penstock.discover import cpus, most_workers
from penstock.pool.executor import Executor
from penstock.rescue.unchanged import tell


def as_broken(error: BaseException) -> BaseException:
    """Our error as a ``BrokenProcessPool``, where the original pool would be broken."""
    # Not before: it imports the module that the original is in, where that waits to be changed.
    from penstock.rescue import broken

    if type(error) is errors.WorkerDied:
        return broken.PoolWorkerDied(str(error))
    if type(error) is errors.ItemTooLarge:
        return broken.PoolItemTooLarge(str(error), needed=error.needed)
    return error


class ProcessPool(Executor):
    """Takes the arguments of ``ProcessPoolExecutor``; the executor warns of those without effect here.

    ``PENSTOCK_WORKERS`` bounds what the script asks for. Where ours cannot be made, this becomes the
    original.
    """

    original: ClassVar[Any] = None
    _said_of_calls = staticmethod(as_broken)

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        try:
            if max_workers is not None and max_workers <= 0:
                raise ValueError("max_workers must be greater than 0")
            begin = Begin(initializer, initargs, like_worker(mp_context, "Process", daemon=False))
            super().__init__(least(max_workers), mp_context, begin, max_tasks_per_child=max_tasks_per_child)
        except Exception as error:
            if type(self) is not ProcessPool or self.original is None:
                raise
            # As Python has it: what is wrong with the arguments, the original says in its own words.
            self.__class__ = self.original
            more = {} if max_tasks_per_child is None else {"max_tasks_per_child": max_tasks_per_child}
            self.__init__(max_workers, mp_context, initializer, initargs, **more)  # type: ignore[misc]
            tell("a ProcessPoolExecutor", error)
            return
        # What scripts are seen to look at.
        self._max_workers = max_workers or cpus()
        self._processes: dict[int, Any] = {}


def least(asked: int | None) -> int | None:
    """The smaller of the script's number of workers and ``PENSTOCK_WORKERS``."""
    allowed = most_workers(None)
    return min((each for each in (asked, allowed) if each is not None), default=None)


class LikeWorker(NamedTuple):
    """What ``current_process()`` returns in a worker."""

    name: str
    """Before its number."""
    daemon: bool
    """Such a one may have no children by multiprocessing."""


def like_worker(context: Any, kind: str, *, daemon: bool) -> LikeWorker:
    """The original pool's kind of worker, named after its start method."""
    import multiprocessing

    method = (context or multiprocessing).get_start_method()
    return LikeWorker({"fork": "Fork", "spawn": "Spawn"}.get(method, "ForkServer") + kind, daemon)


class Begin:
    """A worker's first action: it takes on the script's process identity, for itself and for managers."""

    def __init__(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], like: LikeWorker
    ) -> None:
        from multiprocessing import current_process

        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._key = bytes(current_process().authkey)
        self._initializer = initializer
        self._initargs = initargs
        self._like = like

    def __call__(self) -> None:
        from multiprocessing import current_process

        mine: Any = current_process()
        mine.authkey = self._key
        mine._name = f"{self._like.name}-{mine._identity[-1]}"
        mine._config["daemon"] = self._like.daemon
        if self._initializer is not None:
            self._initializer(*self._initargs)
