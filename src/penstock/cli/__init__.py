"""The command line: one file per verb, whose docstring is its help; the same words as in Python.

Data goes to stdout, everything else to stderr. An error of ours is one line and an exit code,
never a traceback. Verbs are imported when they are used, so that ``penstock --version`` is fast.
"""

from __future__ import annotations

import difflib
import re
import shutil
import sys
import textwrap
import traceback
import warnings
from importlib import import_module
from typing import Any

import click

from penstock import foreign
from penstock.errors import FunctionRaised, PenstockBug, PenstockError

__all__ = ["main", "tell"]

VERBS = (
    "limits", "nodes", "plan", "run", "resume", "exec", "watch", "ls", "report", "verify", "plugins",
    "completion",
)  # fmt: skip
"""Each is the command of the same name in the module of the same name."""

_FLAGS = {
    "retry_set_aside=True": "--retry-set-aside",
    "set_aside=True": "--set-aside all",
    "accept_changes=True": "--accept-changes",
}
"""Options that messages name as in Python -> as they are written here."""

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_INSTALLED = re.compile(r"/(site|dist)-packages/|/lib/python3|^<")

EXIT_CODES = """\b
Exit codes:
    0  done
    1  failed
    2  wrong usage
    3  cannot fit the budget; the message names the smallest that would do
    4  bad input
    5  done, with some items set aside
  130  interrupted by Ctrl-C; 143 by SIGTERM: continue with `penstock resume DIR`

\b
Sizes have a unit: 12GiB is 12 x 2^30, 12GB is 12 x 10^9, 12G means 12GiB."""


class Verbs(click.Group):
    """Finds a verb in its file, and turns our errors into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"penstock.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; an unknown one is answered with the nearest, or the verb it belongs to."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            said = f"{error.message.rstrip('.')}{_meant(args[0])}"
            raise click.UsageError(said, ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                return super().invoke(ctx)
        except click.ClickException as error:  # it names what was given to it: file names, say
            vars(error)["message"] = foreign.lines(error.message)
            raise
        except (click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # of a pipe that nobody reads any more, as `| head` leaves it, click says nothing
        except PenstockError as error:
            if isinstance(error, PenstockBug) or ctx.meta.get("penstock.verbose", 0) >= 2:
                tell(traceback.format_exc().rstrip(), err=True)
            say(error, verbose=ctx.meta.get("penstock.verbose", 0))
            ctx.exit(error.exit_code)
        except Exception as error:
            # What the system says of a file by its name is about that file, and no fault of ours.
            of_a_file = isinstance(error, OSError) and error.filename is not None
            if of_a_file and ctx.meta.get("penstock.verbose", 0) < 2:
                say(error)
                ctx.exit(4)
            tell(traceback.format_exc().rstrip(), err=True)
            say(error)
            if of_a_file:
                ctx.exit(4)
            from penstock import registry

            if theirs := registry.raised_by(error):
                tell(f"raised by {theirs}: please report it to its authors, with the lines above", err=True)
            else:
                click.echo("This is no mistake of yours: please report it, with the lines above.", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("penstock: interrupted", err=True)
            ctx.exit(130)


def _meant(name: str) -> str:
    """What somebody may have meant by a verb that is not there."""
    from penstock import registry

    if name in registry.names("workload") or ":" in name or name.endswith(".py"):
        return f": did you mean `penstock run {name}`?"
    near = difflib.get_close_matches(name, VERBS, n=1)
    return f": did you mean {near[0]!r}?" if near else f"; there are {', '.join(VERBS)}"


def tell(text: str, *, err: bool = False) -> None:
    """Print lines; foreign text in them is escaped, so that the terminal obeys none of it.

    On a terminal that is narrower than a line, the line is broken between words.
    """
    lines = foreign.lines(text, sys.maxsize)
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        lines = "\n".join(_wrapped(line, shutil.get_terminal_size().columns) for line in lines.split("\n"))
    click.echo(lines, err=err)


def _wrapped(line: str, columns: int) -> str:
    if len(line) <= columns:
        return line
    indent = " " * min(len(line) - len(line.lstrip()) + 2, columns // 4)
    return textwrap.fill(
        line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
        drop_whitespace=True, expand_tabs=False, replace_whitespace=False,
    )  # fmt: skip


def _warn(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    tell(f"penstock: warning: {foreign.told(message)}", err=True)


def with_flags(message: str) -> str:
    """A message with options in their command-line spelling."""
    for python, flag in _FLAGS.items():
        message = message.replace(f"{python} ({flag})", flag).replace(python, flag)
    return message


def say(error: Exception, *, verbose: int = 0) -> None:
    """Print an error as one paragraph on stderr; of a function's own error its place, or all when verbose."""
    message = foreign.told(error, sys.maxsize)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{foreign.line(foreign.told(error.filename))}: {error.strerror}"
    tell(f"penstock: {type(error).__name__}: {with_flags(message)}", err=True)
    if isinstance(error, FunctionRaised):  # the traceback is of their function, as its worker told it
        for note in getattr(error.__cause__, "__notes__", ()):
            tell(note.rstrip() if verbose else _place(note), err=True)
    for note in getattr(error, "__notes__", ()):
        tell(note, err=True)


def _place(trace: str) -> str:
    """Of a traceback as text, the innermost frame that is not of an installed package."""
    frames: list[tuple[str, str, str]] = _FRAME.findall(trace)
    theirs = [frame for frame in frames if not _INSTALLED.search(frame[0])]
    where = "{}, line {}, in {}; ".format(*(theirs or frames)[-1]) if frames else ""
    return f"{where}-v shows the whole traceback"


@click.command(cls=Verbs, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock", prog_name="penstock", message="%(prog)s %(version)s")
def main() -> None:
    """Run memory-hungry Python jobs inside a fixed memory budget, so that they finish.

    \b
    penstock limits                                  which limits apply here, and who set them
    penstock plan codons genomes/*.fa.gz             try a few items, run nothing
    penstock run codons genomes/*.fa.gz --into runs/codons --budget 2GiB
    penstock run mycode.py:job --into runs/mine      your own Job
    penstock resume runs/codons                      continue after any interruption
    penstock watch runs/codons                       follow it from another terminal
    penstock ls runs                                 the runs there, and their outcomes
    """
