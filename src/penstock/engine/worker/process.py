"""What a worker process does to itself: fences, threads, giving memory back."""

from __future__ import annotations

import ctypes
import resource
import sys
from functools import cache
from typing import Any

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
"""Read once, at import, by the libraries they are named for."""


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _own_limit() -> tuple[int, int]:
    """RLIMIT_DATA, soft and hard, as it was before any fence: somebody may have set it on purpose."""
    return resource.getrlimit(resource.RLIMIT_DATA)


def set_fence(limit: int) -> None:
    """Refuse private memory beyond ``limit`` bytes mapped (RLIMIT_DATA); 0 lifts the fence.

    Never above the limit that was there before.
    """
    soft, hard = _own_limit()
    if limit and (soft == resource.RLIM_INFINITY or limit < soft):
        soft = limit
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def trim() -> None:
    """Give freed heap pages back to the system (glibc only)."""
    try:
        _libc().malloc_trim(0)
    except (AttributeError, OSError):
        pass


def limit_threads(threads: int) -> None:
    """Set the thread counts of the numeric libraries that are loaded."""
    if not {"numpy", "scipy", "torch", "sklearn"}.isdisjoint(sys.modules):
        import threadpoolctl

        threadpoolctl.threadpool_limits(threads)
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.set_cpu_count(max(1, threads))
