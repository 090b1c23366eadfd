"""Protocols around a job: a limit on its memory, an observer of its events, a workload by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from penstock.budget import Ceiling

if TYPE_CHECKING:
    import click

    from penstock.events import Event


class Limit(Protocol):
    """A place where someone may have set a ceiling on memory."""

    def read(self) -> Sequence[Ceiling]:
        """The current ceilings; empty when there are none. Never raises."""
        ...


class Observer(Protocol):
    """Called with every event, in order, in the parent. Must return quickly.

    One that raises is named in a warning and ends nothing; Ctrl-C and ``SystemExit`` pass.
    """

    def __call__(self, event: Event) -> None: ...


class Workload(Protocol):
    """A job with a name, for the command line: ``penstock run NAME ...``.

    With an attribute ``private = True`` its runs are private, as ``penstock.Run(private=True)`` is. With
    ``incidental = ("fetch",)`` these options may be others when a run goes on: nothing that is made depends
    on them.
    """

    command: click.Command
    """Its arguments and options; its docstring is the help. The callback is not used."""

    def run(self, run: Any, **options: Any) -> None:
        """Do the work, inside an open :class:`penstock.Run`."""
        ...

    def plan(self, budget: str | int, **options: Any) -> list[Any]:
        """The plans of its stages, as far as they are known without running them."""
        ...
