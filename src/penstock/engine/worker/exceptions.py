"""Exceptions of the function as plain text and names, safe to send to the parent."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from penstock import foreign
from penstock.abc import SetAside
from penstock.errors import BadInput, PenstockError

_LONGEST_NAME = 1_000
_OURS = str(Path(__file__).parents[1])


def set_aside(source: Any, item: int, error: BaseException, *, private: bool) -> SetAside:
    """The item's placeholder, with the reason; without any text of the function's in a private job."""
    name, kind = item_name(source, item, private=private), foreign.kind_of(error)
    _drop(error, "__context__")  # the first of two tries says nothing more
    if private and foreign.is_a(error, BadInput) and getattr(error, "quotes_nothing", False):
        return SetAside(item, name, "raised", message_of(error), qualified(error))
    if private:
        return SetAside(item, name, "raised", f"raised {kind}", kind)
    message = message_of(error)
    sentence = message if foreign.is_a(error, BadInput) else f"raised {kind}: {message}"
    return SetAside(item, name, "raised", sentence, qualified(error), traceback_of(error))


def message_of(error: BaseException) -> str:
    """Its message, bounded and escaped for terminals."""
    return foreign.lines(foreign.told(error))


def traceback_of(error: BaseException) -> str:
    """Its traceback from the function on, without our own frames."""
    return foreign.trace_of(error, _user_frames(error))


def forget_frames(error: BaseException) -> None:
    """Drop its traceback, whose frames hold memory."""
    _drop(error, "__traceback__")


def _drop(error: BaseException, name: str) -> None:
    # Not by assignment: the exception may be a frozen dataclass.
    with suppress(Exception):
        BaseException.__dict__[name].__set__(error, None)


def _user_frames(error: BaseException) -> TracebackType | None:
    frame = foreign.frames_of(error)
    while frame is not None and frame.tb_next is not None:
        if not frame.tb_frame.f_code.co_filename.startswith(_OURS):
            break
        frame = frame.tb_next
    return frame


def qualified(error: BaseException) -> str:
    """Its type's name, with the module unless it is built in."""
    name, module = foreign.kind_of(error), foreign.home_of(error)
    return foreign.line(name if module == "builtins" else f"{module}.{name}", 200)


def out_of_memory(error: BaseException) -> bool:
    """Whether this very process was refused memory; an inner run's report of such does not count."""
    return foreign.is_a(error, MemoryError) and not foreign.is_a(error, PenstockError)


def item_name(source: Any, item: int, *, private: bool) -> str:
    """The source's name for the item, or its number; in a private job always the number."""
    try:
        name = None if private else getattr(source, "name", None)
        called = name(item) if callable(name) else item
    except Exception:  # a name is never worth a failure
        called = item
    return foreign.told(called, _LONGEST_NAME)
