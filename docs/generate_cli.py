"""Write docs/cli.md from the help of every verb: python docs/generate_cli.py

Workloads are left out: which there are depends on what is installed, and each has a page of its own.
"""

from pathlib import Path

import click

from penstock.cli import VERBS, main
from penstock.cli.run import Targets

WIDTH = 100
HEAD = """# The command line

Written by `python docs/generate_cli.py` from the commands' own help; change it there.
How the verbs are used, with what they print: [running.md](running.md).
"""


class Bare(Targets):
    """A verb that takes workloads, without the ones that happen to be installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return []


def text() -> str:
    """The whole page."""
    context = click.Context(main, info_name="penstock", terminal_width=WIDTH, **main.context_settings)
    parts = [HEAD, *_section("penstock", main, context)]
    for verb in VERBS:
        command = main.get_command(context, verb)
        assert command is not None, verb
        if isinstance(command, Targets):
            command = Bare(name=verb, ours=command.ours, do=command.do, callback=command.callback,
                           help=command.help, subcommand_metavar=command.subcommand_metavar)  # fmt: skip
        inner = click.Context(command, info_name=verb, parent=context, terminal_width=WIDTH)
        parts += _section(f"penstock {verb}", command, inner)
        if isinstance(command, Targets):
            job = click.Command("FILE.py:JOB", params=[*command.ours()])
            more = click.Context(job, info_name="FILE.py:JOB", parent=inner, terminal_width=WIDTH)
            parts += ["Its options, whatever it runs:\n", f"```text\n{_options(job.get_help(more))}\n```\n"]
    return "\n".join(parts)


def _section(title: str, command: click.Command, context: click.Context) -> list[str]:
    return [f"## {title}\n", f"```text\n{command.get_help(context).rstrip()}\n```\n"]


def _options(whole: str) -> str:
    return whole[whole.index("Options:") :].rstrip()


if __name__ == "__main__":
    page = Path(__file__).with_name("cli.md")
    page.write_text(text(), encoding="utf-8")
    print(f"wrote {page}")
