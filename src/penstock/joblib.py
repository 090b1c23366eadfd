"""joblib inside a memory budget: ``import penstock.joblib``, then ``parallel_config(backend="penstock")``.

The import registers the backend through joblib's own ``register_parallel_backend``; scikit-learn's
``n_jobs`` then goes through it as well:

    import penstock.joblib
    with joblib.parallel_config(backend="penstock", budget="4GiB"):
        cross_val_score(model, X, y, n_jobs=-1)

A call that cannot fit raises ItemTooLarge out of ``Parallel``, as any exception of a call does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.engine.discover import cpus
from penstock.errors import MissingExtra
from penstock.executor import Executor

try:
    import joblib
    from joblib.parallel import AutoBatchingMixin, ParallelBackendBase
except ImportError as error:
    raise MissingExtra("penstock.joblib", "joblib", "joblib") from error

NAME = "penstock"


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """A joblib backend over :class:`penstock.Executor`.

    Options of ``parallel_config(backend="penstock", ...)`` or of ``Parallel``: ``budget``,
    ``memory``, ``timeout_per_call``, as for the executor. ``n_jobs`` is the most workers; memory
    may allow fewer at a time.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers there are at most."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return max(cpus() + 1 + n_jobs, 1) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Start the executor; even a single job runs in a worker, so that it is governed."""
        n_jobs = self.effective_n_jobs(n_jobs)
        options = {**self.backend_kwargs, **options}
        self.parallel = parallel
        self._options: dict[str, Any] = {
            name: options[name] for name in ("budget", "memory") if name in options
        }
        if "timeout_per_call" in options:
            self._options["timeout"] = options["timeout_per_call"]
        self._workers = n_jobs
        self._executor: Executor | None = Executor(workers=n_jobs, **self._options)
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Any:
        """Have a worker call ``func``."""
        assert self._executor is not None
        future = self._executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Any) -> Any:
        """The result of what ``submit`` gave."""
        return future.result()

    def terminate(self) -> None:
        """End the workers."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call failed: drop the others."""
        if self._executor is not None:
            self._executor.abandon()
        self._executor = Executor(workers=self._workers, **self._options) if ensure_ready else None


def register(*, default: bool = False) -> None:
    """Make the backend known to joblib; with ``default``, what is used where none is named."""
    joblib.register_parallel_backend(NAME, Backend, make_default=default)


register()
