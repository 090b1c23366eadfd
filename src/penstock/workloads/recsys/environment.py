"""The environment variables that set a pipeline's options before: read as defaults, and told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

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


def superseded(environment: Mapping[str, str] | None = None) -> str:
    """What to say of variables that set how many rows were done at once; empty where none is set."""
    found = [name for name in _SUPERSEDED if name in (os.environ if environment is None else environment)]
    if not found:
        return ""
    verb = "has" if len(found) == 1 else "have"
    return f"{' and '.join(found)} {verb} no effect: the budget decides how much is in memory at once"
