"""The verb ``penstock exec``: any command and all that it starts, supervised."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from penstock import advice, foreign
from penstock.budget import Budget, format_size
from penstock.cli import options, tell
from penstock.cli.statusline import StatusLine
from penstock.plurals import plural

if TYPE_CHECKING:
    from penstock.supervise.record import CommandRecord
    from penstock.supervise.supervisor import Ending
    from penstock.supervise.watch import TreeMemory

_PLAIN_SECONDS = 30.0


@click.command(context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False})
@options.with_options(options.budget()[:1])
@click.option(
    "--over",
    type=click.Choice(["kill", "warn"]),
    default="kill",
    show_default=True,
    help="Over a --budget: kill the command before the kernel does, or only warn.",
)
@click.option(
    "--into",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the readings and a page of memory over time there.",
)
@options.with_options([options.system()])
@click.option(
    "--rescue",
    is_flag=True,
    help="For a Python script: replace its process pools (concurrent.futures, multiprocessing, joblib) by "
    "ours, which stay inside the budget.",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait until what the command left running in the background has ended too.",
)
@click.option(
    "--json",
    "as_json",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what it needed and how it ended, as one JSON object.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing unless it was killed.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD ...")
def exec(  # noqa: A001 - the verb's name
    command: tuple[str, ...],
    budget: str,
    over: Literal["kill", "warn"],
    into: Path | None,
    system: str | None,
    rescue: bool,
    wait: bool,
    as_json: Path | None,
    quiet: bool,
) -> None:
    """Run any command; say what it needed, and who killed it.

    The whole tree of processes counts. Input, output, signals and exit code pass through (128 +
    signal; 3 when it went over its --budget; 126 and 127 as in a shell). With --budget auto it only
    watches.
    """
    from penstock.supervise.command import CannotStart
    from penstock.supervise.supervisor import Supervisor

    if rescue:
        _rescue(budget)
    teller = Teller(quiet=quiet)
    with ExitStack() as stack:
        record: CommandRecord | None = None
        if into is not None:
            from penstock.supervise.record import CommandRecord

            record = stack.enter_context(CommandRecord(into))
        supervisor = Supervisor(
            command, budget=_budget(budget), over=over, wait=wait, observers=[record] if record else [],
            display=teller,
        )  # fmt: skip
        try:
            ending = supervisor.run()
        except CannotStart as error:
            tell(f"penstock exec: {error}", err=True)
            sys.exit(error.code)
        teller.clear()
        if record is not None:
            record.facts({"command": list(command), **asdict(ending)})
            with suppress(OSError):
                record.draw()
            if record.taken_over is not None:
                click.echo(f"penstock exec: no record was written: {record.taken_over}", err=True)
        if as_json is not None:
            _write(as_json, {"schema": 1, "command": list(command), **asdict(ending)})
        teller.end(ending, system or advice.here(os.environ))
    _leave(ending)


def _write(path: Path, told: Mapping[str, Any]) -> None:
    """Sizes in bytes, times in seconds; where it cannot be written the command has run all the same."""
    try:
        path.write_text(json.dumps(told, indent=1) + "\n", errors="replace")
    except OSError as error:
        tell(f"penstock exec: --json {path}: {error.strerror}", err=True)


def _budget(asked: str) -> Budget | None:
    """The budget that was asked for; None for ``auto`` without PENSTOCK_BUDGET: then we only watch."""
    from penstock import discover

    if asked == "auto" and not os.environ.get(discover.VARIABLE, "").strip():
        return None
    return discover.discover(asked).budget


def _rescue(budget: str) -> None:
    """Have the command inherit what replaces its pools, and the budget that these keep to."""
    from penstock import discover, rescue

    os.environ.update(rescue.environment(dict(os.environ)))
    if budget != "auto":
        os.environ[discover.VARIABLE] = budget


def _leave(ending: Ending) -> None:
    """Exit as the command did."""
    if ending.from_terminal and ending.signal == signal.SIGINT:
        # A shell's loop goes on after exit code 130, and ends after a death by Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(ending.code)


class Teller:
    """Progress of a command on stderr: a live line on a terminal, a plain one every 30 s elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._line = StatusLine(quiet=quiet)
        self._began = time.monotonic()
        self._next = self._began + _PLAIN_SECONDS

    def tick(self, watch: TreeMemory) -> None:
        """Called after each reading."""
        if self._line.is_due():
            self._line.draw(f" {self._text(watch)}")
        elif not self._line.live and not self._quiet and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_SECONDS
            self.say(self._text(watch))

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self.clear()
        with suppress(OSError):  # the terminal is gone, the command goes on
            os.write(
                2,
                f"penstock exec: {time.strftime('%H:%M:%S')} {foreign.line(text)}\n".encode(errors="replace"),
            )

    def clear(self) -> None:
        """Erase the live line."""
        self._line.clear()

    def end(self, ending: Ending, system: str) -> None:
        """Print what the command needed, and who killed it."""
        lines = [foreign.line(each) for each in ending.verdict.lines]
        if lines:
            lines[0] = f"penstock exec: {lines[0]}"
        ask = advice.request(system, ending.advised)
        if not ending.complete:
            lines.append(f"penstock exec: needed more than {format_size(ending.peak)}; try {ask}")
        elif not self._quiet:
            lines.append(f"penstock exec: needed {format_size(ending.peak)}; next time ask for {ask}")
        if lines:
            with suppress(OSError):
                os.write(2, ("\n  ".join(lines[:-1]) + "\n" * (len(lines) > 1) + lines[-1] + "\n").encode())

    def _text(self, watch: TreeMemory) -> str:
        seconds = int(time.monotonic() - self._began)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        tight = watch.tightest()
        limit = watch.budget or (tight.bytes if tight else 0)
        of = f" of {format_size(limit)}" if limit else ""
        processes = f"{plural(watch.count, 'process', 'processes')}"
        return f"{format_size(watch.used)}{of}, peak {format_size(watch.peak)}, {processes}, {clock}"
