"""Options of a job or a run, looked at when they are given: a value of a wrong type is named."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from typing import Any

from penstock import foreign, layout
from penstock.errors import UsageError

_MOST = 2**63
_LONGEST = 200
"""Bytes of a name that becomes part of a file's."""


def switch(name: str, value: bool) -> bool:
    """An option that is on or off; a word such as ``"no"`` would be on."""
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be True or False, not {foreign.shown(value, 60)}")
    return value


def positive(name: str, value: int | None) -> int | None:
    """A number of at least 1, or None."""
    value = foreign.as_int(value)
    if value is not None and not (type(value) is not bool and isinstance(value, int) and 1 <= value < _MOST):
        raise UsageError(f"{name} must be a number of at least 1, not {foreign.shown(value, 60)}")
    return value


def called(name: str, value: Callable[..., Any]) -> Callable[..., Any]:
    """A function that works when it is called; a coroutine function only makes what nobody awaits."""
    if not callable(value):
        raise UsageError(f"{name} is a {type(value).__name__}, which cannot be called")
    inner = value
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    if getattr(code, "co_flags", 0) & (CO_COROUTINE | CO_ASYNC_GENERATOR):
        raise UsageError(
            f"{name} is an async def, and workers await nothing: give a function that calls "
            "asyncio.run(...) for each item"
        )
    return value


def how_many(name: str, value: bool | int, *, least: int = 0) -> bool | int:
    """All or none of the items, or a number of them."""
    value = foreign.as_int(value)
    if not isinstance(value, bool) and not (isinstance(value, int) and least <= value < _MOST):
        raise UsageError(f"{name} must be True, False or a number of items, not {foreign.shown(value, 60)}")
    return value


def folder_name(what: str, name: object) -> str:
    """A name of a stage or an output, which becomes that of a folder in the run folder.

    Args:
        what: what it names: ``"a stage"``.
        name: a plain word.
    """
    plain = isinstance(name, str) and foreign.is_plain(name) and "/" not in name and name != "."
    if not isinstance(name, str) or not plain or len(os.fsencode(name)) > _LONGEST:
        raise UsageError(f"{what} cannot be called {foreign.shown(name, 100)}: a plain word names a folder")
    if name in layout.OURS:
        raise UsageError(
            f"{what} cannot be called {name!r}: the engine keeps something of that name in the run folder"
        )
    return name


def named(name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Objects by the names of the arguments that they are."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(
            f"{name} must be a dict from names of arguments to their values, not {foreign.shown(value, 60)}"
        )
    return value
