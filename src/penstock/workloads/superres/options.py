"""Options that several of these commands share."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import click

from penstock.errors import MissingExtra, UsageError


def split_names(text: str) -> list[str]:
    """The names in ``"A,B"``.

    Raises:
        UsageError: one is there twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(set(names)) < len(names):
        raise UsageError(f"{text!r} names one twice")
    return names


def check_names(_context: click.Context, _param: click.Parameter, text: str) -> str:
    """A click callback that refuses what :func:`split_names` refuses."""
    split_names(text)
    return text


_SOURCE = [
    click.option(
        "--root", type=click.Path(file_okay=False), default=".", show_default="here", metavar="DIR",
        help="Where relative paths in the manifest begin.",
    ),
    click.option("--spacing", default="3mm", show_default=True, help="Key of the volumes in the manifest."),
    click.option("--pulse", default="t1c", show_default=True, help="Key of the volumes in the manifest."),
    click.option(
        "--allow-missing", is_flag=True, help="Leave patients out whose files are not all there."
    ),
]  # fmt: skip


def with_source(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SOURCE):
        command = option(command)
    return command


def with_pictures(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--pictures/--no-pictures", default=False, show_default=True,
        help="Draw slices of each patient that is blended (needs matplotlib).",
    )(command)  # fmt: skip


def defaults(command: click.Command) -> dict[str, Any]:
    """The defaults of the command's options, for callers in Python."""
    context = click.Context(command)
    found: dict[str, Any] = {}
    for each in command.params:
        if isinstance(each, click.Option) and each.name:
            found[each.name] = () if each.multiple else each.get_default(context)
    return {name: bool(value) if name == "allow_missing" else value for name, value in found.items()}


def need_numba() -> None:
    if find_spec("numba") is None:
        raise MissingExtra("blending experts", "numba", "superres")


def need_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise MissingExtra("pictures", "matplotlib", "plot")
