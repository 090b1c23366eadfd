"""Functions and classes of the main script, by value: workers never import it.

In a worker all of them share one namespace, as they do in the script: what an initializer or a function
binds with ``global`` stays for the calls after it. A global is sent with each call that names it, and
taken where the script has bound the name anew since; a change inside the object is not seen then, as it
is not in a process that was forked before it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any

import cloudpickle
from cloudpickle.cloudpickle import _function_setstate


class Bindings:
    """The main script's globals as they were last sent, each with a number: a new one for each binding."""

    def __init__(self) -> None:
        # Held, so that no other object can come to have the place, and so the identity, of one.
        self._bound: dict[str, tuple[Any, int]] = {}
        self._lock = threading.Lock()

    def numbers(self, bound: Mapping[str, Any]) -> dict[str, int]:
        """The numbers of these."""
        with self._lock:
            for name, value in bound.items():
                before, number = self._bound.get(name, (self, 0))
                if value is not before:
                    self._bound[name] = value, number + 1
            return {name: self._bound[name][1] for name in bound}

    def renew(self) -> None:
        """Count everything as bound anew: what is bound may have been changed since."""
        with self._lock:
            self._bound = {name: (self, number) for name, (_, number) in self._bound.items()}


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles calls.

    Args:
        file: to write to.
        bindings: of the main script.
    """

    def __init__(self, file: Any, bindings: Bindings) -> None:
        super().__init__(file, protocol=5)
        self._bindings = bindings

    def _dynamic_function_reduce(self, func: Any) -> Any:
        reduced = super()._dynamic_function_reduce(func)
        if func.__globals__ is not vars(sys.modules["__main__"]):
            return reduced
        (code, about, _, _, closure), (attributes, slots) = reduced[1:3]
        numbers = self._bindings.numbers(slots["__globals__"])
        return _function, (code, about, closure), (attributes, slots, numbers), None, None, _set_state


# --------------------------------------------------------------------------- in a worker

_namespace: dict[str, Any] = {"__builtins__": __builtins__}
_numbers: dict[str, int] = {}


def _function(code: CodeType, about: dict[str, Any], closure: Any) -> FunctionType:
    _namespace.update(about)  # __name__, __file__
    return FunctionType(code, _namespace, None, None, closure)


def _set_state(function: FunctionType, state: tuple[dict[str, Any], dict[str, Any], dict[str, int]]) -> None:
    attributes, slots, numbers = state
    for name, value in slots["__globals__"].items():
        if _numbers.get(name) != numbers[name]:
            _namespace[name], _numbers[name] = value, numbers[name]
    _function_setstate(function, (attributes, {**slots, "__globals__": {}}))
