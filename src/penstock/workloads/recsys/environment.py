"""Options from elsewhere than a command line: from the environment, which is told, and from Python."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import click

from penstock.errors import UsageError
from penstock.foreign import line

_SUPERSEDED = ("SIMILARITY_MICRO_BATCH_SIZE", "SIMILARITY_BATCH_SIZE")


def told(context: click.Context | None = None) -> list[str]:
    """A line for each option whose default came from the environment, as ``click``'s ``envvar`` takes it.

    Args:
        context: of the command; the present one when not given, and nothing where there is none.
    """
    context = context or click.get_current_context(silent=True)
    if context is None:
        return []
    lines = []
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if source is click.core.ParameterSource.ENVIRONMENT:
            value = context.params.get(param.name or "")
            names = [param.envvar] if isinstance(param.envvar, str) else list(param.envvar or ())
            name = next((name for name in names if os.environ.get(name)), names[0])
            lines.append(f"{param.opts[0]} {value}, from {name}")
    return lines


def defaults(command: click.Command) -> dict[str, Any]:
    """The defaults of a command's options for callers in Python, the environment's as on a command line."""
    context = click.Context(command)
    found: dict[str, Any] = {}
    for each in command.params:
        if not isinstance(each, click.Option) or not each.name:
            continue
        given = each.value_from_envvar(context) if each.envvar else None
        if given is not None:
            found[each.name] = each.type_cast_value(context, given)
        elif each.multiple:
            found[each.name] = ()
        else:
            value = each.get_default(context)
            found[each.name] = bool(value) if each.is_flag else value
    return found


def check_ranges(command: click.Command, options: Mapping[str, Any]) -> None:
    """What a command line refuses is refused from Python too; NaN, which is in no range, always.

    Args:
        command: whose options these are.
        options: by name; None stands for a default.

    Raises:
        UsageError: a number outside its option's range, or none.
    """
    for each in command.params:
        value = options.get(each.name or "")
        if value is None or not isinstance(each.type, click.IntRange | click.FloatRange):
            continue
        try:
            number = each.type.convert(value, each, None)
        except (click.BadParameter, TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isnan(number):
            most = "" if each.type.max is None else f" to {each.type.max}"
            raise UsageError(
                f"{each.opts[0]} {line(str(value))}: a number from {each.type.min}{most} was expected"
            )


def superseded(environment: Mapping[str, str] | None = None) -> str:
    """What to say of variables that set how many rows were done at once; empty where none is set."""
    found = [name for name in _SUPERSEDED if name in (os.environ if environment is None else environment)]
    if not found:
        return ""
    verb = "has" if len(found) == 1 else "have"
    return f"{' and '.join(found)} {verb} no effect: the budget decides how much is in memory at once"
