"""The arguments of an executor, checked."""

from __future__ import annotations

import operator
import warnings
from typing import Any

from penstock.errors import UsageError


def most_workers(max_workers: Any, workers: Any) -> int | None:
    """The number of workers, given under either name."""
    if isinstance(max_workers, str):
        raise UsageError(
            f"max_workers must be a number, not {max_workers!r}; a budget is given by keyword: "
            f"Executor(budget={max_workers!r})"
        )
    if None not in (max_workers, workers) and max_workers != workers:
        raise UsageError(
            f"max_workers={max_workers!r} and workers={workers!r} are the same thing: give one of them"
        )
    asked = max_workers if workers is None else workers
    try:
        number = None if asked is None else operator.index(asked)
    except TypeError:
        raise UsageError(f"workers must be a number, not {asked!r}") from None
    if workers is None and number is not None and number < 1:
        raise UsageError(f"max_workers must be greater than 0, not {number}")
    return number


def most_tasks(asked: Any) -> int | None:
    """The most calls a worker takes before it is replaced."""
    if asked is not None and not isinstance(asked, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if asked is not None and asked <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    return asked


_said: set[str] = set()


def look_at_context(context: Any) -> None:
    """Warn once, where workers were asked to inherit this process's memory, that they do not."""
    method = getattr(context, "get_start_method", lambda: "spawn")()
    if context is None or method in ("forkserver", "spawn") or "fork" in _said:
        return
    _said.add("fork")
    warnings.warn(
        f"mp_context with the start method {method!r} has no effect: workers are forked from a process of "
        "their own and inherit nothing of this one. What calls need is sent with them.",
        RuntimeWarning,
        stacklevel=3,
    )
