"""Pickles functions and classes of the main script by value: workers run it only if it has a main guard.

In a worker all of them share one namespace, as they do in the script, and that is the script's own where it
was run: a class is then the one that it defined, with the attributes that it has here by now. What an
initializer or a function binds with ``global``, or sets on a class, stays for the calls after it. A global is
sent with each call that names it, a class with its attributes likewise, and taken where the script has bound
the name anew since; a change inside the object is not seen then, as it is not in a process that was forked
before it.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections import ChainMap
from collections.abc import Callable, Mapping
from enum import Enum
from types import CodeType, FunctionType, MappingProxyType
from typing import Any

import cloudpickle
from cloudpickle.cloudpickle import _class_setstate, _function_setstate, _lookup_class_or_track

from penstock.pool.inherited import Inherited, Inheriting

_Cached: Any = functools._lru_cache_wrapper


class Bindings:
    """The main script's globals as last sent, each with a number that changes when it is rebound."""

    def __init__(self) -> None:
        # Held, so that no other object can come to have the place, and so the identity, of one.
        self._bound: dict[str, tuple[Any, int]] = {}
        self._lock = threading.RLock()  # a signal's handler, or a finalizer, may send too

    def numbers(self, bound: Mapping[str, Any]) -> dict[str, int]:
        """The numbers of these globals."""
        with self._lock:
            for name, value in bound.items():
                before, number = self._bound.get(name, (self, 0))
                if value is not before:
                    self._bound[name] = value, number + 1
            return {name: self._bound[name][1] for name in bound}

    def renew(self) -> None:
        """Treat everything as rebound: the objects may have changed since."""
        with self._lock:
            self._bound = {name: (self, number) for name, (_, number) in self._bound.items()}


def _reduce_property(value: functools.cached_property[Any]) -> Any:
    return _property, (value.func, value.attrname)


def _property(function: Any, name: str | None) -> functools.cached_property[Any]:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _copied(value: Any) -> Any:
    """Made anew of what it holds."""
    return type(value), (dict(value),)


def _listed(value: Any) -> Any:
    return type(value), (list(value),)


_TABLE: Any = ChainMap(
    {
        # What decorators of the standard library keep: of functions with cases, and of classes.
        functools.cached_property: _reduce_property,
        MappingProxyType: _copied,
        weakref.WeakKeyDictionary: _copied,
        weakref.WeakValueDictionary: _copied,
        weakref.WeakSet: _listed,
    },
    vars(cloudpickle.Pickler)["dispatch_table"],
)


class Tabled(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles by value, with the caller's dispatch table.

    Args:
        file: to write to.
        table: the table, of the one that there would be.
    """

    def __init__(self, file: Any, table: Callable[[Any], Any]) -> None:
        # Before it begins: later it is heeded only where the class has none.
        self.dispatch_table = table(_TABLE)
        super().__init__(file, protocol=5)


class Pickler(Tabled):
    """Pickles calls.

    Args:
        file, table: as there.
        bindings: of the main script.
        inheriting: to be told when globals and attributes of its classes are pickled.
    """

    def __init__(
        self, file: Any, table: Callable[[Any], Any], bindings: Bindings, inheriting: Inheriting
    ) -> None:
        super().__init__(file, table)
        self._bindings = bindings
        inheriting.begin()
        self._inheriting = inheriting

    def _dynamic_function_reduce(self, func: Any) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        if func.__globals__ is not vars(sys.modules["__main__"]):
            return reduced
        (code, about, _, _, closure), (attributes, slots) = reduced[1:3]
        numbers = self._bindings.numbers(slots["__globals__"])
        bound = self._inheriting.within(slots.pop("__globals__"))
        return _function, (code, about, closure), (attributes, slots, bound, numbers), None, None, _set_state

    def reducer_override(self, obj: Any) -> Any:
        """As in cloudpickle, but a class that the script names may already be there."""
        if type(obj) is _Cached and obj.__module__ == "__main__":
            number = self._bindings.numbers({f"{obj.__qualname__} and its cache": obj})
            return _cached, (obj.__qualname__, *number.values(), obj.__wrapped__, obj.cache_parameters())
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented or not isinstance(obj, type) or len(reduced) < 6:
            return reduced
        if obj.__module__ != "__main__" or _named(sys.modules["__main__"], obj.__qualname__) is not obj:
            return reduced
        make, arguments, state = reduced[:3]
        # By the number that cloudpickle gives a class: one that is defined anew is another.
        numbers = self._bindings.numbers({f"{arguments[-2]}.{name}": each for name, each in state[0].items()})
        about = obj.__qualname__, self._inheriting.within(state), numbers
        return _class, (obj.__qualname__, make, arguments), about, None, None, _set_class


def _named(module: Any, name: str) -> Any:
    """What a dotted name means in a module; None where it means nothing."""
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


# --------------------------------------------------------------------------- in a worker

_apart: dict[str, Any] = {"__builtins__": __builtins__}
_numbers: dict[str, int] = {}
_caches: dict[str, tuple[int, Any]] = {}
_classes: dict[int, tuple[type, dict[str, int]]] = {}
"""By identity; held, since what was set on a class would go with it between two calls."""


def _script() -> Any:
    """The main script's module, where it was run in this process or in the one it was forked from."""
    # Not by its name: that is one of its globals, and becomes what a function that names it was sent with.
    main = sys.modules.get("__mp_main__")
    return main if main is not None and main is sys.modules.get("__main__") else None


def _names() -> dict[str, Any]:
    main = _script()
    return _apart if main is None else vars(main)


def _function(code: CodeType, about: dict[str, Any], closure: Any) -> FunctionType:
    names = _names()
    if names is _apart:
        names.update(about)  # __name__, __file__
    return FunctionType(code, names, None, None, closure)


def _class(name: str, make: Any, arguments: tuple[Any, ...]) -> Any:
    there = _defined(name)
    if there is None:
        return make(*arguments)
    return _lookup_class_or_track(arguments[-2], there)


def _defined(name: str) -> Any:
    main = _script()
    there = None if main is None else _named(main, name)
    return there if isinstance(there, type) else None


def _cached(name: str, number: int, function: Any, parameters: dict[str, Any]) -> Any:
    """A function with a cache: the same one, with what it has kept, for all calls of a worker."""
    main = _script()
    there = None if main is None else _named(main, name)
    if type(there) is _Cached:
        return there
    known, made = _caches.get(name, (0, None))
    if known != number:
        made = functools.lru_cache(**parameters)(function)
        _caches[name] = number, made
    return made


def _set_class(kind: type, state: tuple[str, Inherited, dict[str, int]]) -> Any:
    name, (_, (attributes, more), _), numbers = state
    if kind is _defined(name) and issubclass(kind, Enum):
        return kind  # its members are what they are
    _, known = _classes.setdefault(id(kind), (kind, {}))
    changed = [key for key, number in numbers.items() if known.get(key) != number]
    known.update((key, numbers[key]) for key in changed)
    names = {key.partition(".")[2] for key in changed}
    return _class_setstate(kind, ({key: each for key, each in attributes.items() if key in names}, more))


def _set_state(
    function: FunctionType, state: tuple[dict[str, Any], dict[str, Any], Inherited, dict[str, int]]
) -> None:
    attributes, slots, (_, bound, _), numbers = state
    names = _names()
    for name, value in bound.items():
        if _numbers.get(name) != numbers[name]:
            names[name], _numbers[name] = value, numbers[name]
    _function_setstate(function, (attributes, {**slots, "__globals__": {}}))
