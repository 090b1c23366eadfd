"""Options set elsewhere than on a command line: from environment variables, which is reported, and Python."""

from __future__ import annotations

import os
from collections.abc import Mapping

import click

_SUPERSEDED = ("SIMILARITY_MICRO_BATCH_SIZE", "SIMILARITY_BATCH_SIZE")


def defaults(context: click.Context | None = None) -> list[str]:
    """A line for each option whose default came from the environment (``click``'s ``envvar``).

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


def superseded(environment: Mapping[str, str] | None = None) -> str:
    """A note on variables that set batch sizes in the original; empty if none is set."""
    found = [name for name in _SUPERSEDED if name in (os.environ if environment is None else environment)]
    if not found:
        return ""
    verb = "has" if len(found) == 1 else "have"
    return f"{' and '.join(found)} {verb} no effect: the budget decides how much is in memory at once"
