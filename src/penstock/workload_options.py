"""A workload's options from Python: parsed as on its command line, and refused in the same words.

A workload has one description of its options, the ``command`` that ``click`` parses, and is called from
Python with any of them by name. So each value given there goes through the type and the callback that the
command line has for it, as the text that would have been typed; what is not given has the default that it has
there, the environment's too. Values that a command line has parsed may be read once more, and stay the same.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Collection, Iterable, Mapping, Set
from numbers import Real
from typing import Any

import click

from penstock import foreign
from penstock.errors import UsageError

_MOST = 1 << 63
"""No count, size or seed is beyond it, and arrays hold none that is."""


def read_options(
    command: click.Command, given: Mapping[str, Any], *, free: Collection[str] = ()
) -> dict[str, Any]:
    """All options of a command by name, each as the command line would give it.

    Args:
        command: of the workload.
        given: options by name; None stands for the default.
        free: options of which Python may give what no command line can: these are taken as they are.

    Raises:
        UsageError: an option that the command does not have, a value that it refuses, a number that is none
            (NaN, infinite, beyond 64 bits), or one that must be given and is not.
    """
    named = {param.name: param for param in command.params if param.name}
    for name in given:
        if name not in named:
            raise UsageError(_unknown(command, name, named))
    context = click.Context(command, info_name=command.name)
    own = {}
    for name, param in named.items():
        value = given.get(name)
        if value is None and param.envvar:  # one that is refused is passed over below
            value = param.value_from_envvar(context)
        if value is not None:
            own[name] = value if name in free else _checked(context, param, value)
    asked = command.make_context(command.name, [], resilient_parsing=True).params | own
    for name, param in named.items():
        if param.required and asked[name] in (None, ()):
            raise UsageError(click.MissingParameter(ctx=context, param=param).format_message())
    return asked


def refuse_odd_numbers(param: click.Parameter, value: Any) -> None:
    """Refuse numbers that ``click`` accepts and our options cannot use.

    Raises:
        click.BadParameter: NaN, which is in every range, an infinite number, or one beyond 64 bits.
    """
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not (math.isfinite(number) and abs(number) < _MOST):
            context = click.get_current_context(silent=True)
            raise click.BadParameter(f"{number} is no number that can be used.", context, param)


def _unknown(command: click.Command, name: str, named: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), named, n=1)
    said = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(named))}"
    return f"there is no option {foreign.line(str(name))}: {said}"


def _checked(context: click.Context, param: click.Parameter, value: Any) -> Any:
    """The value that a command line would give."""
    try:
        several = param.multiple or param.nargs != 1
        typed: Any = tuple(_typed(param, each) for each in _each(value)) if several else _typed(param, value)
        found = param.process_value(context, typed)
        refuse_odd_numbers(param, found)
    except click.UsageError as error:
        if isinstance(error, click.BadParameter):
            error.param, error.ctx = error.param or param, error.ctx or context
        raise UsageError(error.format_message()) from None
    return found


def _each(value: Any) -> Iterable[Any]:
    one = isinstance(value, str | bytes | os.PathLike | Mapping | Set) or not isinstance(value, Iterable)
    return (value,) if one else value


def _typed(param: click.Parameter, value: Any) -> Any:
    """What would have been typed; a switch is not typed, and is as it is."""
    kind = param.type
    if isinstance(kind, type(click.BOOL)):
        if not isinstance(value, bool):
            raise click.BadParameter(f"{foreign.shown(value, 100)}: True or False was expected.")
        return value
    if isinstance(value, os.PathLike):
        value = os.fsdecode(value)
    number = isinstance(value, Real) and not isinstance(value, bool) and not isinstance(kind, click.Path)
    wanted = "a number" if isinstance(kind, type(click.INT) | type(click.FLOAT)) else "a text"
    try:
        text = str(value) if number else value
    except ValueError:  # of more digits than Python writes
        text = None
    if not isinstance(text, str) or "\0" in text:
        raise click.BadParameter(f"{foreign.shown(value, 100)}: {wanted} was expected.")
    return text
