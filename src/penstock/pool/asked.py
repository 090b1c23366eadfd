"""The arguments of an executor, checked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from penstock import asking, foreign
from penstock.errors import UsageError


def most_workers(max_workers: Any, workers: Any) -> int | None:
    """The number of workers, given under either name."""
    if isinstance(max_workers, str):
        raise UsageError(
            f"max_workers must be a number, not {max_workers!r}; a budget is given by keyword: "
            f"Executor(budget={max_workers!r})"
        )
    given: dict[str, int] = {}
    for name, value in (("max_workers", max_workers), ("workers", workers)):
        if value is None:
            continue
        given[name] = foreign.as_int(value)
        if type(given[name]) is not int:
            raise UsageError(f"{name} must be a number, not {foreign.shown(value, 60)}")
    if len({*given.values()}) > 1:
        raise UsageError(
            f"max_workers={max_workers!r} and workers={workers!r} are the same thing: give one of them"
        )
    if given.get("max_workers", 1) < 1:
        raise UsageError(f"max_workers must be greater than 0, not {max_workers}")
    return next(iter(given.values()), None)


def most_tasks(asked: Any) -> int | None:
    """The most calls a worker takes before it is replaced."""
    if asked is not None and not isinstance(asked, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if asked is not None and asked <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    return asked


def arguments(initargs: Any) -> tuple[Any, ...]:
    """Of the initializer."""
    listed = foreign.listed(initargs)
    if listed is None:
        raise UsageError(f"initargs must be a tuple of arguments, not {foreign.shown(initargs, 60)}")
    return listed


def keywords(arrays: Any) -> dict[str, Any]:
    """How large arrays travel."""
    if arrays is not None and not isinstance(arrays, Mapping):
        raise UsageError(f"arrays must be a dict, not {foreign.shown(arrays, 60)}")
    return dict(arrays or {})


def names(modules: Any) -> tuple[str, ...]:
    """The modules to import beforehand."""
    listed = foreign.listed(modules)
    if listed is None or not all(isinstance(each, str) for each in listed):
        raise UsageError(f"modules must be a list of names, not {foreign.shown(modules, 60)}")
    return listed


def folder(value: Any) -> Any:
    """A folder for arguments and results on their way; None for one of our own."""
    if value is not None and not isinstance(value, str | os.PathLike):
        raise UsageError(f"folder must be a path, not {foreign.shown(value, 60)}")
    return value


def backend(value: Any) -> Any:
    """Where workers run, by name or as an object."""
    return value if isinstance(value, str) else asking.whole(value)


_said: set[str] = set()


def look_at_context(context: Any) -> None:
    """Warn once, where workers were asked to inherit this process's memory, that they do not."""
    if context is None:
        return
    if not hasattr(context, "get_start_method"):
        raise UsageError(
            f"mp_context must be what multiprocessing.get_context() returns, not {foreign.shown(context, 60)}"
        )
    method = context.get_start_method()
    if method in ("forkserver", "spawn") or "fork" in _said:
        return
    _said.add("fork")
    warnings.warn(
        f"mp_context with the start method {method!r} has no effect: workers are forked from a process of "
        "their own and inherit nothing of this one. What calls need is sent with them.",
        RuntimeWarning,
        stacklevel=3,
    )
