"""The options that several verbs share, and their parsed values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from penstock import advice, foreign
from penstock.budget import parse_size
from penstock.durations import parse_duration
from penstock.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])


def _size(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A size with a unit, a share such as ``80%``, or ``auto``; kept as it was written."""
    text = value.strip()
    share = text.removesuffix("%")
    if text == "auto" or (share != text and share.replace(".", "", 1).isdigit()):
        return text
    try:
        parse_size(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error
    return text


def _duration(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A time with a unit; kept as it was written."""
    try:
        parse_duration(value, "--wait")
    except UsageError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _number_or_all(_ctx: click.Context, _param: click.Parameter, value: str | None) -> bool | int:
    if value is None:
        return False
    if value == "all":
        return True
    if (number := foreign.whole(value)) is not None:
        return number
    raise click.BadParameter(f"{value!r} is neither a number of items nor 'all'")


def into() -> click.Option:
    """Where results are written."""
    return click.Option(
        ["--into", "into"], required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
        help="The run folder: results, journal and report. The same command again resumes.",
    )  # fmt: skip


def budget() -> list[click.Option]:
    """How much memory, how many workers, how many items a call."""
    return [
        click.Option(
            ["--budget", "budget"], callback=_size, default="auto", show_default=True, metavar="SIZE",
            help="Memory that all processes together may use: 4GiB, 80%, or auto: what the limits leave.",
        ),
        click.Option(
            ["--workers", "workers"], type=click.IntRange(min=1), metavar="N",
            help="The most workers at once; by default the plan chooses.",
        ),
        click.Option(
            ["--call", "call"], type=click.IntRange(min=1), metavar="N",
            help="The most items per call; by default the plan chooses.",
        ),
    ]  # fmt: skip


def system() -> click.Option:
    """The batch system or container in whose words advice is given."""
    return click.Option(
        ["--for", "system"], type=click.Choice(advice.SYSTEMS),
        help="Word the advice for next time for this system; by default the one it runs in.",
    )  # fmt: skip


def cluster(*, required: bool = False) -> list[click.Option]:
    """Which cluster works the items, and how long to wait without any node."""
    return [
        click.Option(
            ["--cluster", "cluster"], metavar="CLUSTER", required=required,
            help="Work on the items on the nodes of a cluster, each in its own budget: local:2, "
            "dask://HOST:8786, dask:scheduler.json, slurm:4,memory=64GiB,cores=16 (experimental).",
        ),
        click.Option(
            ["--wait", "wait"], default="5min", show_default=True, metavar="TIME", callback=_duration,
            help="How long to wait without any node of the cluster.",
        ),
    ]  # fmt: skip


def running() -> list[click.Option]:
    """How a run treats failures, and how much it prints."""
    return [
        *cluster(),
        click.Option(
            ["--set-aside", "set_aside"], callback=_number_or_all, metavar="N|all",
            help="Succeed although up to N items (or any number) cannot be done; the exit code is then 5.",
        ),
        click.Option(
            ["--accept-changes", "accept_changes"], is_flag=True,
            help="Continue although the code or the options have changed; what is done is kept unchanged.",
        ),
        click.Option(
            ["--retry-set-aside", "retry_set_aside"], is_flag=True, help="Retry the items set aside earlier."
        ),
        click.Option(
            ["--history/--no-history", "history"], default=True,
            help="Start from what earlier runs of the same function took, and save it for later ones.",
        ),
        click.Option(
            ["--exit-zero", "exit_zero"], is_flag=True,
            help="Exit with 0 even if items were set aside, for schedulers that take 5 for a failure.",
        ),
        system(),
        click.Option(["-q", "--quiet", "quiet"], is_flag=True, help="Print errors only."),
        click.Option(
            ["-v", "--verbose", "verbose"], count=True, help="Print failures as they happen; -vv: everything."
        ),
    ]  # fmt: skip


def with_options(options: list[click.Option]) -> Callable[[Command], Command]:
    """A decorator that adds options to a command's function, to be put above ``@click.command``."""

    def add(function: Command) -> Command:
        params: list[click.Parameter] = function.__dict__.setdefault("__click_params__", [])
        params.extend(reversed(options))
        return function

    return add


@dataclass(frozen=True, slots=True, kw_only=True)
class CliOptions:
    """The values of our own options on the command line."""

    budget: str = "auto"
    workers: int | None = None
    call: int | None = None
    cluster: str | None = None
    wait: str = "5min"
    set_aside: bool | int = False
    accept_changes: bool = False
    retry_set_aside: bool = False
    history: bool = True
    exit_zero: bool = False
    system: str | None = None
    quiet: bool = False
    verbose: int = 0

    @classmethod
    def take(cls, values: dict[str, Any]) -> CliOptions:
        """Take our options out of the values that click gives; the rest is the workload's."""
        ours = {name: values.pop(name) for name in cls.__slots__ if name in values}
        context = click.get_current_context(silent=True)
        if context is not None:
            context.meta["penstock.verbose"] = ours.get("verbose", 0)
        return cls(**ours)

    def to_keep(self) -> dict[str, Any]:
        """What ``resume`` repeats: budget, workers, call, items set aside and history, where given."""
        plain = CliOptions()
        names = ("budget", "workers", "call", "set_aside", "history")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(plain, name)}

    def for_run(self) -> dict[str, Any]:
        """The keyword arguments of ``Run`` and ``Job.run``."""
        return {
            "budget": self.budget, "workers": self.workers, "call": self.call, "cluster": self.cluster,
            "wait": self.wait,
            "set_aside": self.set_aside, "accept_changes": self.accept_changes,
            "retry_set_aside": self.retry_set_aside, "history": self.history,
            "progress": False, "output": "log",
        }  # fmt: skip
