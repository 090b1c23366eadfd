"""Ties between processes: parent-death signal, subreaper (who adopts orphans) and OOM score."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from functools import cache
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37
_lock = threading.Lock()
_adopting = 0


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends. Call from the main thread."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)


def adopt_orphans() -> None:
    """Become a subreaper: the parent of orphans, so that none is left behind."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopt_for_now() -> None:
    """Be a subreaper until :func:`adopt_no_more` was called as often; for a process that we share."""
    global _adopting
    with _lock:
        if sys.platform == "linux" and not _adopting:
            before = ctypes.c_int(0)
            _libc().prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
            if before.value:  # it is one already, and stays one
                return
            adopt_orphans()
        _adopting += 1


def adopt_no_more() -> None:
    """Stop being a subreaper, if nobody else asked for it."""
    global _adopting
    with _lock:
        if _adopting:
            _adopting -= 1
            if not _adopting:
                _libc().prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def offer_to_kernel(score: int) -> None:
    """Set how willingly the kernel kills this process when memory runs out (1000: first).

    Raising it needs no rights. Children inherit it.
    """
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))
    except OSError:
        pass  # not Linux, or /proc is read-only: the kernel chooses by size, which is the worker too
