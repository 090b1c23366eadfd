"""Pickles shared memory that a forked child would inherit, for workers, which inherit nothing.

Arguments are copies, as in every pool. But where a function of the main script names an array as a global,
or a class has it as an attribute, a forked child would see the very same memory, and write to it for all. So
such an array is handed over as the place where it lies. One that lies where workers cannot reach is refused.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from penstock import foreign, handing, mapped, relinked, script

_MOST = 5


class Unreachable(TypeError):
    """Shared memory that workers cannot reach: a copy would not be shared."""


class _Mark:
    """Pickled as None; tells when it is."""

    def __init__(self, tell: Any) -> None:
        self._tell = tell

    def __reduce__(self) -> tuple[Any, ...]:
        self._tell()
        return _nothing, ()


def _nothing() -> None:
    """What a mark is where it arrives."""


Inherited = tuple[Any, Any, Any]
"""A value between two marks."""


class Inheriting(threading.local):
    """True while an object is pickled on this thread that a forked child would inherit."""

    def __init__(self) -> None:
        self._depth = self._around = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    def begin(self) -> None:
        """Start a new pickle: the one before may have failed between two marks."""
        self._depth = self._around

    @contextmanager
    def all(self) -> Iterator[None]:
        """Everything that is pickled within this context."""
        self._depth = self._around = 1
        try:
            yield
        finally:
            self._depth = self._around = 0

    def within(self, value: Any) -> Inherited:
        """A replacement for the value that puts marks around its pickle."""
        return _Mark(self._enter), value, _Mark(self._leave)

    def _enter(self) -> None:
        self._depth += 1

    def _leave(self) -> None:
        self._depth -= 1


def reducers() -> Mapping[Any, Any]:
    """Reducers for memory that stays the same wherever it is mapped, while there is a lender."""
    heap: Any = sys.modules.get("multiprocessing.heap")
    found: dict[Any, Any] = {mmap.mmap: _mmap}
    if heap is not None:
        found[heap.Arena] = _arena
    return found


def _arena(arena: Any) -> Any:
    return mapped.arena_in, (_lender().duplicate_for_child(arena.fd), arena.size)


def _mmap(memory: mmap.mmap) -> Any:
    address = mapped.address_of(memory)
    around = None if address is None else mapped.around(address, len(memory))
    if address is None or around is None:
        return memory.__reduce_ex__(2)  # says that it cannot be
    place = _lent(around, address, len(memory), "an mmap")
    return mapped.mmap_in, (place, memory.tell())


def array(value: Any) -> Any:
    """A reducer for a NumPy array that lies in shared memory; None for any other array.

    Raises:
        Unreachable: workers cannot map that.
    """
    if not value.size or value.dtype.hasobject or not mapped.may_be_mapped(value):
        return None
    start, size = mapped.span(value)
    around = mapped.around(start, size)
    if around is None or not around.writable:
        return None
    place = _lent(around, start, size, "an array")
    first = value.__array_interface__["data"][0]
    at = first - around.start + around.offset - place[1]
    return mapped.array_in, (place, at, value.dtype, value.shape, value.strides)


def _lent(around: mapped.Mapping, start: int, size: int, what: str) -> tuple[int, int, int, bool]:
    """Where its bytes, and as few others as can be, lie in the file that is lent."""
    first = (start - around.start) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    end = start + size - around.start
    try:
        with mapped.file_of(around) as descriptor:
            number = _lender().duplicate_for_child(descriptor)
    except OSError as error:
        raise Unreachable(
            f"{what} lies in shared memory that workers cannot reach ({os.strerror(error.errno or 0)}): make "
            "it with multiprocessing.RawArray, multiprocessing.shared_memory, or in a file"
        ) from error
    return number, around.offset + first, end - first, around.writable


def _lender() -> handing.Lender:
    lender = handing.lender_now()
    assert lender is not None
    return lender


# --------------------------------------------------------------------------- what is not handed over


def go_by_name(fn: Any, error: Exception) -> bool:
    """Whether a function may be pickled by name, for workers that have imported the main script.

    There it uses what they made for themselves: where that is told of, or makes no difference.

    Args:
        fn: the function, or the call that it is the first part of.
        error: why it could not travel by value.
    """
    fn = fn[0] if isinstance(fn, tuple) and fn else fn
    if isinstance(error, Unreachable):
        return False
    if not isinstance(fn, FunctionType):
        return not isinstance(error, relinked.InUse)
    main = vars(sys.modules["__main__"])
    names = {name: main[name] for name in fn.__code__.co_names if name in main and is_shared(main[name])}
    if isinstance(error, relinked.InUse) and any(map(_holds_something, names.values())):
        return False
    if names:
        why = f"{foreign.kind_of(error)}: {foreign.line(foreign.told(error), 120)}"
        script.tell(
            f"{fn.__qualname__} could not be sent with what it names ({why}): in workers it uses "
            f"{', '.join(names)} as they have made it themselves, which they share with each other only"
        )
    return True


def unsent(fn: Any, send: Callable[[Any], Any]) -> str:
    """Why a call cannot be sent, in a sentence that names the global to blame, if it is one.

    Args:
        fn: the function.
        send: raises for what cannot be sent.
    """
    main = vars(sys.modules["__main__"])
    for name in fn.__code__.co_names if isinstance(fn, FunctionType) and fn.__globals__ is main else ():
        try:
            send(main.get(name))
        except Exception:
            return (
                f"The call cannot be sent to a worker: {fn.__qualname__} names {name} "
                f"({foreign.kind_of(main[name])}). Make it in the function or in an initializer, or put the "
                'work below `if __name__ == "__main__":`: then workers make their own.'
            )
    return "The call cannot be sent to a worker."


def tell_of_module(name: str) -> None:
    """Warn of shared objects that a module has made, since workers import it again."""
    module = sys.modules.get(name)
    if module is None:
        return
    found = [
        each for each, value in list(vars(module).items()) if is_shared(value) and _holds_something(value)
    ]
    if found:
        script.tell(
            f"workers import {foreign.line(name, 200)} anew, and have {', '.join(found[:_MOST])} of their "
            "own, not this process's: hand it over with initargs=, or name it in the main script"
        )


def is_shared(value: Any) -> bool:
    """Whether the object is one that processes share."""
    kind = type(value)
    if kind.__module__ == "numpy":
        numpy = sys.modules["numpy"]
        if not isinstance(value, numpy.ndarray) or not value.size or not mapped.may_be_mapped(value):
            return False
        around = mapped.around(*mapped.span(value))
        return around is not None and around.writable
    ctypes: Any = sys.modules.get("_ctypes")
    if ctypes is not None and issubclass(kind, _ctypes_kinds(ctypes)):
        return hasattr(value, "_wrapper")  # in multiprocessing's memory
    return kind.__module__.startswith("multiprocessing") and kind in relinked.reducers()


def _ctypes_kinds(ctypes: Any) -> tuple[type, ...]:
    return ctypes.Array, ctypes._SimpleCData, ctypes.Structure, ctypes.Union


def _holds_something(value: Any) -> bool:
    """A lock is as good where only workers use it."""
    return type(value).__name__ not in ("Lock", "RLock", "Semaphore", "BoundedSemaphore")
