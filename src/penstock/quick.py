"""``@dataclass`` as in the standard library, made in a quarter of the time.

A run imports some ninety such classes twice: in its parent, and where its workers are forked from. The
standard library writes five functions for each and compiles them, which was a fifth of the start of a run.
Here only ``__init__`` is written, and the others are the same functions for all classes. What this one cannot
do is left to the standard library's, which it is for whoever checks types.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any


class _Factory:
    """Stands for what a field's factory makes, in signatures too."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, **options):
        """As the standard library's; of the options, ``frozen``, ``slots`` and ``kw_only`` are quick."""

        def make(cls: type) -> type:
            quick = options.keys() <= {"frozen", "slots", "kw_only"}
            quick &= not any("InitVar" in str(each) for each in vars(cls).get("__annotations__", {}).values())
            return _make(cls, **options) if quick else dataclasses.dataclass(**options)(cls)

        return make if cls is None else make(cls)


def _make(cls: type, *, frozen: bool = False, slots: bool = False, kw_only: bool = False) -> Any:
    own = {name for name, value in vars(cls).items() if (name, value) != ("__hash__", None)}
    with _like_those_that_it_inherits_from(cls, frozen):
        plain = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)
        made: Any = plain(cls)
    params = made.__dataclass_params__
    params.init, params.repr, params.eq, params.frozen = True, True, True, frozen
    every = fields(made)
    methods = {"__init__": _init(made, every, frozen), "__repr__": _repr, "__eq__": _eq}
    made._compared = _getter([field.name for field in every if field.compare])
    if frozen:
        methods |= {"__hash__": _hash, "__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        if slots:
            methods |= {"__getstate__": _state, "__setstate__": _restore}
    elif "__eq__" not in own:
        made.__hash__ = None
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    return made


@contextmanager
def _like_those_that_it_inherits_from(cls: type, frozen: bool) -> Iterator[None]:
    """A frozen class is not frozen for the standard library until it is made: nor may those above it be."""
    above = [
        vars(base)["__dataclass_params__"] for base in cls.__mro__[1:] if "__dataclass_params__" in vars(base)
    ]
    if any(params.frozen is not frozen for params in above):
        raise TypeError(f"{cls.__qualname__} and what it inherits from must all be frozen, or none")
    try:
        for params in above:
            params.frozen = False
        yield
    finally:
        for params in above:
            params.frozen = frozen


def _init(cls: type, every: tuple[Field[Any], ...], frozen: bool) -> Callable[..., None]:
    known: dict[str, Any] = {"__set": object.__setattr__, "__absent": _FACTORY}
    given: dict[bool, list[str]] = {False: [], True: []}
    body = []
    for field in every:
        name, made = field.name, field.default_factory is not MISSING
        if field.init:
            known[f"__default_{name}"] = default = field.default_factory if made else field.default
            absent = "" if default is MISSING else "=__absent" if made else f"=__default_{name}"
            given[field.kw_only is True].append(name + absent)
            value = f"__default_{name}() if {name} is __absent else {name}" if made else name
        elif made:
            known[f"__default_{name}"], value = field.default_factory, f"__default_{name}()"
        else:
            continue
        body.append(f" __set(self, {name!r}, {value})" if frozen else f" self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    parameters = ", ".join(["self", *given[False], *["*"][: len(given[True])], *given[True]])
    exec(f"def __init__({parameters}):\n" + ("\n".join(body) or " pass"), known)
    init: Callable[..., None] = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {field.name: field.type for field in every if field.init} | {"return": None}
    return init


def _getter(names: list[str]) -> staticmethod[[Any], Any]:
    """The values of these fields, in a tuple."""
    if len(names) > 1:
        return staticmethod(attrgetter(*names))
    return staticmethod(lambda one: tuple(getattr(one, name) for name in names))


def _repr(self: Any) -> str:
    told = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(told)})"


def _eq(self: Any, other: Any) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    return self._compared(self) == self._compared(other)


def _hash(self: Any) -> int:
    return hash(self._compared(self))


def _refuse_to_set(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
