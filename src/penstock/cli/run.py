"""The verb ``penstock run``: a workload or a Job, into a folder."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from penstock import advice, foreign, registry
from penstock.abc import Event, Observer
from penstock.budget import MiB
from penstock.cli import options, target, tell
from penstock.cli.options import CliOptions
from penstock.cli.summary import summary
from penstock.cli.target import Target
from penstock.display.progress import Progress
from penstock.errors import CannotFit, PluginError, RunFailed
from penstock.report.report import Report
from penstock.workload_options import refuse_odd_numbers

_THREADS = "OPENBLAS_NUM_THREADS"
"""Read by NumPy at its import."""


class Targets(click.Group):
    """Each workload as a command with our options added; so is ``FILE.py:JOB``.

    Args:
        ours: makes our options, anew for each command.
        do: called with the target and all values.
    """

    def __init__(
        self, *args: Any, ours: Callable[[], list[click.Option]], do: Callable[..., None], **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.ours, self.do = ours, do

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Allow options, ours and a workload's own, before the target too: they are moved behind it."""
        takes = _taking(self.ours())
        place = _behind_options(args, takes)
        if place < len(args) and args[place] in ctx.help_option_names:
            return super().parse_args(ctx, [args[place]])
        if place < len(args) and args[place].startswith("-"):
            place = self._behind_own(ctx, args, takes)
        return super().parse_args(ctx, [*args[place : place + 1], *args[:place], *args[place + 1 :]])

    def _behind_own(self, ctx: click.Context, args: list[str], takes: Mapping[str, int]) -> int:
        """Where the workload stands whose own options are before it.

        Raises:
            NoSuchOption: there is none that has them.
        """
        known = set(self.list_commands(ctx))
        named = [place for place, arg in enumerate(args) if arg in known]
        for place in named:
            own = _taking(target.load_workload(args[place]).command.params)
            if _behind_options(args, {**own, **takes}) == place:
                return place
        flag = args[_behind_options(args, takes)].partition("=")[0]
        said = f"No such option {flag!r}; what a workload takes: penstock run WORKLOAD --help"
        if named:
            whose = args[named[0]]
            said = f"{whose} has no option {flag!r}; what it takes: penstock run {whose} --help"
        raise click.NoSuchOption(flag, said, ctx=ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return registry.names("workload")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name.endswith(".py"):
            cmd_name = target.only_job(cmd_name)
        if ":" in cmd_name:
            found = target.find_job(cmd_name)
            return self._command(cmd_name, [], found, help=f"Run the job {cmd_name}.")
        command = target.load_workload(cmd_name).command
        return self._command(
            cmd_name, command.params, Target(cmd_name), help=command.help, epilog=command.epilog
        )

    def ours_for(self, found: Target) -> list[click.Option]:
        """Our options for a target."""
        return self.ours()

    def _command(self, name: str, params: list[click.Parameter], found: Target, **more: Any) -> click.Command:
        ours = self.ours_for(found)
        taken = {flag for param in params for flag in [*param.opts, param.name]}
        clash = [flag for option in ours for flag in [*option.opts, option.name] if flag in taken]
        if clash:
            raise PluginError(
                f"the workload {name!r} has an option {clash[0]!r} of its own, which penstock needs"
            )

        def callback(**values: Any) -> None:
            for param in params:
                refuse_odd_numbers(param, values.get(param.name or ""))
            self.do(found, values)

        return click.Command(name, params=[*params, *ours], callback=callback, **more)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            try:
                rows.append((name, self.get_command(ctx, name).get_short_help_str(80)))
            except PluginError as error:
                rows.append((name, f"cannot be used: {error}"))
        rows.append(("FILE.py[:JOB], module:JOB", "Your own penstock.Job."))
        with formatter.section("Workloads"):
            formatter.write_dl(rows)


def _taking(params: Iterable[click.Parameter]) -> dict[str, int]:
    """How many values each option takes, by its flag."""
    return {
        flag: 0 if param.is_flag or param.count else param.nargs
        for param in params
        if isinstance(param, click.Option)
        for flag in [*param.opts, *param.secondary_opts]
    }


def _behind_options(args: Sequence[str], takes: Mapping[str, int]) -> int:
    """The place of the first argument that is neither one of these options nor a value of theirs."""
    place = 0
    while place < len(args) and (flag := args[place].partition("=")[0]) in takes:
        place += 1 if "=" in args[place] else 1 + takes[flag]
    return place


def _ours() -> list[click.Option]:
    return [options.into(), *options.budget(), *options.running()]


def _do(found: Target, values: dict[str, Any]) -> None:
    folder: Path = values.pop("into")
    asked = CliOptions.take(values)
    found = Target(found.name, values, found.where)
    target.check(found, folder, accept_changes=asked.accept_changes)
    execute(found, folder, asked)


@click.command(
    cls=Targets, ours=_ours, do=_do, subcommand_metavar="WORKLOAD|FILE.py[:JOB]|module:JOB ... --into DIR"
)
def run() -> None:
    """Run a workload, or a Job of your own, in a budget.

    The same command again resumes. `penstock run WORKLOAD --help` shows its options.
    """


def execute(found: Target, folder: Path, asked: CliOptions) -> None:
    """Run a target in a folder, showing progress; exits with the code of its outcome."""
    kept = False
    click.get_current_context().meta[foreign.QUIET] = asked.quiet

    def keep(event: Event) -> None:
        # With the first event the folder exists and its lock is ours.
        nonlocal kept
        if not kept:
            target.keep(found, folder, asked.to_keep())
            kept = True

    with Progress(quiet=asked.quiet, verbose=asked.verbose) as progress:
        try:
            report = _run(found, folder, asked, (keep, progress))
        except (KeyboardInterrupt, SystemExit) as stop:  # Ctrl-C or SIGTERM
            progress.close()
            tell(f"penstock: interrupted{progress.reached()}", err=True)
            _tell_resume(folder)
            click.get_current_context().exit(
                130 if isinstance(stop, KeyboardInterrupt) else int(stop.code or 1)
            )
        except (RunFailed, CannotFit) as error:
            progress.close()
            if target.path_of(folder).exists():
                enough = getattr(error, "needed", None)
                more = f" --budget {-(-enough // MiB)}MiB" if enough else ""
                if enough:
                    asked_of = advice.request(asked.system or advice.here(os.environ), advice.rounded(enough))
                    error.add_note(f"next time ask for {asked_of}")
                error.add_note(f"to go on: penstock resume {shlex.quote(str(folder))}{more}")
            raise
    if not asked.quiet:
        tell(summary(report, folder, began=progress.began, system=asked.system), err=True)
    context = click.get_current_context()
    if report.outcome == "interrupted":
        _tell_resume(folder)
        context.exit(130)
    if report.outcome == "failed":
        tell(f"penstock: RunFailed: {report.message}", err=True)
        context.exit(1)
    context.exit(5 if report.set_aside_total and not asked.exit_zero else 0)


def _run(found: Target, folder: Path, asked: CliOptions, observers: tuple[Observer, ...]) -> Report:
    if found.is_job:
        report: Report = found.job().run(folder, **asked.for_run(), observers=observers)
        return report
    import penstock

    workload = found.workload()
    if type(workload).__module__.startswith("penstock."):  # others may not need NumPy here
        _import_numpy()
    private = bool(getattr(workload, "private", False))
    with penstock.Run(folder, **asked.for_run(), private=private, observers=observers) as run:
        workload.run(run, **found.options)
    return run.report()


def _import_numpy() -> None:
    """Import NumPy with one thread: more would wait busily at first, 30 ms each, and get nothing to do.

    A workload reckons little in this process; workers have threads of their own.
    """
    if "numpy" in sys.modules or _THREADS in os.environ or find_spec("numpy") is None:
        return
    os.environ[_THREADS] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        del os.environ[_THREADS]


def _tell_resume(folder: Path) -> None:
    if target.path_of(folder).exists():
        tell(f"to go on: penstock resume {shlex.quote(str(folder))}", err=True)
