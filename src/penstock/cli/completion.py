"""The verb ``penstock completion``: the script that lets a shell complete our words."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash   penstock completion bash > ~/.local/share/bash-completion/completions/penstock
    zsh    penstock completion zsh  > a folder of $fpath, as _penstock
    fish   penstock completion fish > ~/.config/fish/completions/penstock.fish
    """
    from click.shell_completion import get_completion_class

    from penstock.cli import main

    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(main, {}, "penstock", "_PENSTOCK_COMPLETE").source())
