"""Calls as items of the engine's loop, and how a worker runs one."""

from __future__ import annotations

import errno
import os
import pickle
import reprlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from penstock import foreign, forks, storage
from penstock.errors import DiskFull, ItemTooLarge
from penstock.pool import inherited
from penstock.pool.pickling import pack
from penstock.pool.random_state import RandomState
from penstock.pool.spool import File, load
from penstock.sharing import share

_TRAVELS = 200
"""Bytes of a call that waits in a file, on its way."""
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


class Call:
    """A call and the future of its result; keeps its arguments until it is done."""

    __slots__ = ("arguments", "begun", "fn", "future", "holds", "packed")

    def __init__(
        self,
        fn: str | Callable[[], str],
        packed: bytes | File,
        holds: list[Any],
        future: Future[Any],
        arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {}),
    ) -> None:
        self.fn = fn
        """What the function is called; or tells the whole call in a few words."""
        self.packed = packed
        self.holds = holds
        """Whoever owns the files that are needed."""
        self.future = future
        self.arguments = arguments
        """What is kept of its arguments to name them: of :func:`keep_words`."""
        self.begun = False
        """Whether it was told to the future that it runs, or that it was cancelled in time."""

    def begin(self) -> bytes | File | None:
        """What the worker receives: None if the call was cancelled."""
        if not self.begun:
            self.begun = True
            self.future.set_running_or_notify_cancel()
        return None if self.future.cancelled() else self.packed

    def __str__(self) -> str:
        """The call in short: ``train(17, ...)``."""
        if not isinstance(self.fn, str):
            return self.fn()
        return f"{self.fn}({', '.join(in_words(*self.arguments))})"


_PLAIN = frozenset((int, float, complex, bool, type(None)))
_TEXT = frozenset((str, bytes))
_LONGEST = 40
_FEW = 6
_DIGITS = 10**40


class _Left:
    """Stands for an argument that is not told."""

    def __repr__(self) -> str:
        return "..."


_LEFT = _Left()


def keep_words(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A description of a call for later, without references to the caller's objects.

    What was pickled is never loaded for it: an argument may be large, or may do anything when it is loaded.
    """
    return tuple(_kept(each) for each in args), {name: _kept(each) for name, each in kwargs.items()}


def _kept(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value if kind is not int or -_DIGITS < value < _DIGITS else _LEFT
    if kind in _TEXT:
        return value if len(value) <= _LONGEST else value[: _LONGEST + 1]
    if kind is tuple or kind is list:
        flat = _PLAIN | _TEXT
        few = [_kept(each) if type(each) in flat else _LEFT for each in value[:_FEW]]
        return kind(few if len(value) <= _FEW else [*few, _LEFT])
    return _LEFT


def in_words(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    """Arguments as text, shortened."""
    return [_short.repr(each) for each in args] + [f"{k}={_short.repr(v)}" for k, v in kwargs.items()]


class Calls:
    """An executor's calls as a source that grows: pickled here, carried with their batch."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: dict[int, Call] = {}
        self._first = 0
        self._cargo: list[bytes | File | None] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"_count": 0, "_waiting": {}, "_first": 0, "_cargo": []}

    def __len__(self) -> int:
        return self._count

    def add(self, call: Call) -> None:
        """Add a call."""
        self._waiting[self._count] = call
        self._count += 1

    def done(self, number: int) -> Call | None:
        """Remove and return a call that is done; None if it was before."""
        return self._waiting.pop(number, None)

    def known(self) -> list[Call]:
        """All calls that are not done."""
        return list(self._waiting.values())

    def left(self) -> list[Call]:
        """Remove and return all calls that are not done."""
        left = list(self._waiting.values())
        self._waiting.clear()
        return left

    def name(self, number: int) -> str:
        """The call in short."""
        return str(self._waiting[number])

    def weigh(self, start: int, stop: int) -> int:
        """Bytes that travel with these calls."""
        packed = (self._waiting[number].packed for number in range(start, stop))
        return sum(len(each) if isinstance(each, bytes) else _TRAVELS for each in packed)

    def carry(self, start: int, stop: int) -> list[bytes | File | None]:
        """The calls of a batch; None for each that was cancelled."""
        return [self._waiting[number].begin() for number in range(start, stop)]

    def load(self, start: int, cargo: list[bytes | File | None]) -> None:
        """Take the calls of a batch, in the worker."""
        self._first, self._cargo = start, cargo

    def read(self, start: int, stop: int) -> list[bytes | File | None]:
        """Some of the calls that were carried."""
        return self._cargo[start - self._first : stop - self._first]

    def fingerprint(self) -> Mapping[str, str]:
        """Empty: there is nothing to resume."""
        return {}


class Arrivals:
    """Calls from any thread, until the loop takes them in. The caller holds the lock."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._to_import: list[str] = []
        self._imported = {"__main__", "builtins", None}
        self._waiting = False

    def add(self, call: Call, module: str | None) -> bool:
        """Add a call and the module of its function; returns whether the loop waits for it."""
        if module not in self._imported:
            self._imported.add(module)
            self._to_import.append(str(module))
            inherited.tell_of_module(str(module))
        self.calls.append(call)
        waited, self._waiting = self._waiting, False
        return waited

    def take(self) -> tuple[list[Call], list[str]]:
        """All new calls, and the modules to import first; if there are none, the loop waits from now on."""
        came, modules = self.calls, self._to_import
        self.calls, self._to_import = [], []
        self._waiting = not came
        return came, modules


class Invoke:
    """Runs a call in a worker: unpickle, call, pickle.

    The answer, in a file where it is large, is a pickled (True, result); or (False, (exception, its traceback
    as text)); or (None, what is told of an exception that cannot be pickled).
    """

    def __init__(self, begin: bytes | File | None, modules: tuple[str, ...] = ()) -> None:
        self._begin = begin
        """An initializer and its arguments, packed."""
        self._modules = modules
        self._random = RandomState()

    def warm(self) -> None:
        """Called once where workers are forked from: they share what is imported here."""
        for module in self._modules:
            with suppress(Exception):  # whoever needs it is told
                import_module(module)

    def prepare(self) -> None:
        """Called once per worker."""
        if self._begin is not None:
            initializer, arguments = load(self._begin)
            with self._random.initializing():
                initializer(*arguments)

    def __call__(self, packed: bytes | File | None) -> bytes | File | None:
        if packed is None:
            return None
        folder = share().scratch
        assert folder is not None
        here = forks.Here()
        try:
            fn, args, kwargs = load(packed)
            with self._random.calling():
                result = fn(*args, **kwargs)
            here.stay()
            del fn, args, kwargs, packed
        except BaseException as error:
            here.stay(error)
            # What an inner run of the function says is an exception like others.
            if foreign.is_a(error, MemoryError) and not foreign.is_a(error, ItemTooLarge):
                raise
            if foreign.number_of(error) == errno.ENOMEM:
                raise MemoryError(foreign.told(error)) from None
            return _failed(error, folder)
        try:
            return pack((True, result), folder)
        except MemoryError:
            raise
        except Exception as error:
            if storage.is_full(error):
                error = DiskFull(_no_room(folder))
            elif storage.is_at_fault(error, folder):
                place = foreign.file_of(error) or folder
                error = storage.failure(foreign.number_of(error), place, _ELSEWHERE)
            else:
                _note(error, f"The result, of type {foreign.kind_of(result)}, cannot be sent back.")
                _tell_unsent(error, result)
            return _failed(error, folder)


_ELSEWHERE = "The result could not be handed over: see to it, or set TMPDIR to another disk."


def _no_room(folder: Path) -> str:
    status = os.statvfs(folder)
    return (
        f"there is no room for the result in {folder} ({status.f_bavail * status.f_frsize >> 20} MiB left): "
        "make some, set TMPDIR to a larger disk, or have the function write its result itself"
    )


# --------------------------------------------------------------------------- exceptions


def _failed(error: BaseException, folder: Path) -> bytes | File:
    """An exception on its way: itself, and its traceback as text, as tracebacks do not cross processes.

    One whose class cannot be made from its ``args`` is put together without asking it; one that cannot
    be pickled at all is told of.
    """
    trace = foreign.frames_of(error)
    trace = trace.tb_next if trace is not None else None  # without our own frame
    text = foreign.trace_of(error, trace)
    with suppress(Exception):  # a frozen dataclass refuses
        error.__traceback__ = None  # its frames hold memory
    for form in (error, _Parts(error)):
        try:
            packed = pack((False, (form, text)), folder)
            twin = load(packed)[1][0]
            if _alike(twin, error):
                if isinstance(packed, File):
                    packed.failed = True
                return packed
        except Exception:  # what a class may do here is anybody's guess
            continue
    return pickle.dumps(
        (
            None,
            (f"{foreign.home_of(error)}.{foreign.kind_of(error)}", foreign.lines(foreign.told(error)), text),
        ),
        protocol=5,
    )


def _alike(one: Any, other: Any) -> bool:
    """Whether an exception, or what it is about, is what it was: of an object without ``==``, its kind."""
    if type(one).__qualname__ != type(other).__qualname__:
        return False
    if isinstance(one, BaseException):
        return _alike(one.args, other.args)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return type(one) not in _PLAIN | _TEXT or one == other or one != one


def _note(error: BaseException, text: str) -> None:
    with suppress(Exception):  # of a class that takes no attributes
        error.add_note(text)


UNSENT = "_penstock_unsent"
"""An attribute of an exception that stands for a result which cannot be sent: that, as it writes itself."""


def _tell_unsent(error: BaseException, result: Any) -> None:
    with suppress(Exception):
        setattr(error, UNSENT, foreign.line(_short.repr(result)))


class _Parts:
    """An exception as its class, ``args`` and those attributes that can be pickled."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        args = self._error.args
        if isinstance(self._error, BaseExceptionGroup):  # its parts are exceptions of any class
            args = self._error.message, [_Parts(each) for each in self._error.exceptions]
        state = {}
        for name, value in vars(self._error).items():
            try:
                cloudpickle.dumps(value)
            except Exception:  # it goes without this
                continue
            state[name] = value
        return _put_together, (type(self._error), args, state)


def _put_together(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
