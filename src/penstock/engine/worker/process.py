"""What a worker process does to itself: memory fences, thread limits, releasing memory."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Callable, Collection
from functools import cache, partial
from types import FunctionType, MethodType
from typing import Any

from penstock.budget import MiB

THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
"""Read once, at import, by the libraries they are named for."""
_TRIM_ABOVE = 4 * MiB
"""Retained memory under this is not worth a collection."""
_SHAREABLE = ("numpy", "scipy", "pandas", "pyarrow", "numba", "PIL", "nibabel", "skimage", "cv2")
"""Packages that start no thread and open nothing when they are imported."""


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _own_limit() -> tuple[int, int]:
    """RLIMIT_DATA, soft and hard, as it was before any fence: somebody may have set it on purpose."""
    return resource.getrlimit(resource.RLIMIT_DATA)


def set_fence(limit: int) -> None:
    """Refuse private memory beyond ``limit`` bytes mapped (RLIMIT_DATA); 0 lifts the fence.

    Never above the limit that was there before, nor above a hard one that a function has set since.
    """
    most = _own_limit()[0]
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    bounds = [each for each in (limit, most, hard) if each and each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds, default=resource.RLIM_INFINITY), hard))


def give_back(held: Callable[[], int], kept: int) -> tuple[int, int]:
    """Release free memory to the system, where that is worth it.

    Args:
        held: bytes that this process holds above what it held when it was idle.
        kept: of these, bytes that a collection could not release, such as a library that a call imported: the
            next one would look at all of it again. 0 at first.

    Returns:
        What it still holds in bytes, and what ``kept`` is from now on.
    """
    before = max(held(), 0)
    kept = min(kept, before)
    if before - kept <= _TRIM_ABOVE:
        return before, kept
    gc.collect()
    release_unused()
    after = max(held(), 0)
    return after, after


def release_unused() -> None:
    """Return to the system what this process has freed and its allocators keep for later."""
    release = getattr(sys.modules.get("pyarrow"), "default_memory_pool", None)
    if release is not None:
        release().release_unused()
    try:
        _libc().malloc_trim(0)  # glibc only
    except (AttributeError, OSError):
        pass


def imported_since(modules: Collection[str]) -> tuple[str, ...]:
    """Large, well-behaved packages imported besides these: worth preloading for later workers."""
    return tuple(name for name in _SHAREABLE if name in sys.modules and name not in modules)


def name_in_script(function: object) -> None:
    """Let the main script's functions be found under their names here, where they came by value.

    Else a pool inside the function cannot send them: pickle looks whether ``__main__`` has the same. Classes
    likewise, where the script was run here; elsewhere others could not read a result that only names one.
    """
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    main = sys.modules["__main__"]
    kinds = (FunctionType, type) if main is sys.modules.get("__mp_main__") else (FunctionType,)
    held = (function, *vars(type(function)).values()) if not isinstance(function, type) else ()
    for each in held:
        if not isinstance(each, FunctionType) or each.__module__ != "__main__":
            continue
        names = each.__globals__ if each.__globals__ is not vars(main) else {}
        for name, value in {**names, each.__name__: each}.items():
            if isinstance(value, kinds) and (value.__module__, value.__qualname__) == ("__main__", name):
                setattr(main, name, value)


def limit_threads(threads: int) -> None:
    """Set the thread counts of the loaded numeric libraries.

    NumPy alone is left as it is where the variables that it read at import say the same: to look for what
    it uses takes 10 ms.
    """
    loaded = {"numpy", "scipy", "torch", "sklearn"} & sys.modules.keys()
    told = {os.environ.get(name) for name in THREAD_VARIABLES} == {str(threads)}
    if loaded and not (told and loaded == {"numpy"}):
        import threadpoolctl

        threadpoolctl.threadpool_limits(threads)
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.set_cpu_count(max(1, threads))
