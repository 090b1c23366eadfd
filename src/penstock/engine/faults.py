"""An exception of the function, as it may be told outside its process."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from penstock.abc import SetAside
from penstock.errors import BadInput, PenstockError

_LONGEST_MESSAGE, _LONGEST_TRACEBACK = 2_000, 20_000
_OURS = str(Path(__file__).parent)


def set_aside(source: Any, item: int, error: BaseException, *, private: bool) -> SetAside:
    """The item's place holder, with the reason; without any words of the function's for a private job."""
    name, kind = item_name(source, item), type(error).__qualname__
    error.__context__ = None  # the first of two tries says nothing more
    if private:
        return SetAside(item, name, "raised", f"raised {kind}", kind)
    sentence = str(error) if isinstance(error, BadInput) else f"raised {kind}: {error}"
    return SetAside(item, name, "raised", sentence[:_LONGEST_MESSAGE], qualified(error), traceback_of(error))


def message_of(error: BaseException) -> str:
    """Its message, not endless."""
    return str(error)[:_LONGEST_MESSAGE]


def traceback_of(error: BaseException) -> str:
    """Its traceback from the function on: our own frames say nothing to its author."""
    text = "".join(traceback.format_exception(type(error), error, _user_frames(error)))
    return text[-_LONGEST_TRACEBACK:]


def _user_frames(error: BaseException) -> TracebackType | None:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        if not frame.tb_frame.f_code.co_filename.startswith(_OURS):
            break
        frame = frame.tb_next
    return frame


def qualified(error: BaseException) -> str:
    """Its type's name; with the module where it is no built-in one."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def out_of_memory(error: BaseException) -> bool:
    """Whether this very process was refused memory: what an inner run of a function says is none."""
    return isinstance(error, MemoryError) and not isinstance(error, PenstockError)


def disk_full(error: BaseException) -> bool:
    """Whether it says that a disk or quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def item_name(source: Any, item: int) -> str:
    """What the source calls the item, or its number."""
    name = getattr(source, "name", None)
    try:
        return str(name(item)) if callable(name) else str(item)
    except Exception:  # a name is never worth a failure
        return str(item)
