"""The verb ``penstock watch``: a run's progress, read from outside through the files of its folder."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from penstock import events as ev
from penstock import foreign
from penstock.cli import tell
from penstock.cli.report import check_begun, events_of, from_events
from penstock.display.screen import screen
from penstock.errors import UsageError
from penstock.record import postmortem
from penstock.record.following import Follower, LockWatch, Now, RunLife
from penstock.report.live import LiveState
from penstock.report.report import Report

if TYPE_CHECKING:
    from penstock.cli.live_page import LivePage

_EVERY = 1.0
"""Seconds between two looks."""
_PLAIN_SECONDS = 30.0


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait for a run to begin in DIR, and for one that was interrupted or died to be resumed.",
)
@click.option("--page", is_flag=True, help="Serve the page of the run as it grows, on 127.0.0.1 only.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port of that page; a free one by default."
)
def watch(folder: Path, wait: bool, page: bool, port: int) -> None:
    """Watch the run in DIR, from another terminal or machine, until it is done.

    Shows items, workers, memory against the budget and the last failures, from the files in DIR: the run is
    not involved, and Ctrl-C does not affect it. Continues through a resume. With --page a browser shows it;
    from elsewhere use `ssh -L 8000:127.0.0.1:PORT`. Exits with the run's own code
    (5 if items were set aside, also for a run with --exit-zero).
    """
    if not wait and not LockWatch(folder).is_held():
        check_begun(folder)
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"{folder.parent} is not there, so no run can begin in {folder}")
    with ExitStack() as stack:
        shown: Screen | LivePage
        if page:
            from penstock.cli.live_page import LivePage

            shown = stack.enter_context(LivePage(folder, port))
            tell(f"the page is at {shown.address} (for whoever has this address; Ctrl-C ends it)", err=True)
        else:
            shown = stack.enter_context(Screen(folder))
        try:
            life = follow(folder, shown, wait=wait or page)
            shown.close()
            report = _report(folder)
            tell(report.as_text())
            if page and wait:
                tell("the page stays until Ctrl-C", err=True)
                shown.stay()
        except KeyboardInterrupt:
            shown.close()
            click.get_current_context().exit(130)
    click.get_current_context().exit(_code(report, life.code))


def follow(
    folder: Path,
    shown: Screen | LivePage,
    *,
    wait: bool,
    sleep: Callable[[float], None] = time.sleep,
    watched: LockWatch | None = None,
) -> RunLife:
    """Show what is new until the run is done or failed, or, without ``wait``, no longer runs.

    Args:
        folder: of the run.
        shown: told every event, and each time how it stands.
        wait: whether to wait for a beginning, and for a resume.
        sleep: waits between two looks.
        watched: who tells whether somebody runs there.

    Returns:
        What was told of its end.
    """
    follower, watched = Follower(folder), watched or LockWatch(folder)
    life = RunLife()
    try:
        while True:
            held = watched.is_held()  # before the events: what is written before it ends is read then
            for event in follower.new():
                life.take(event)
                shown.take(event)
            now = life.now(held)
            shown.show(now)
            if now == "ended" or (now != "running" and not wait):
                return life
            sleep(_EVERY)
    finally:
        follower.close()


class Screen(AbstractContextManager["Screen"]):
    """Several live lines on a terminal; elsewhere a line every 30 s, and failures as they happen.

    Args:
        folder: of the run.
        stream: where to; stdout by default.
        live: whether it is a terminal that can be drawn on; by default as the stream says.
    """

    def __init__(self, folder: Path, *, stream: IO[str] | None = None, live: bool | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._folder = folder
        self._stream = stream if stream is not None else sys.stdout
        self._is_live = self._stream.isatty() if live is None else live
        self._console = Console(file=self._stream)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._state = LiveState()
        self._at, self._read = 0.0, 0.0
        """When the last event was by the run's clock, and by ours when it was read."""
        self._due = 0.0
        self._told: Now | None = None
        self._failed = 0
        """Failures that were told."""

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Erase the lines."""
        self._live.stop()

    def take(self, event: ev.Event) -> None:
        """Take the next event."""
        self._state.take(event, event.at)
        self._at, self._read = event.at, time.monotonic()

    def show(self, now: Now) -> None:
        """Draw the current state."""
        if now != self._told and now != "running":
            self._say(self._standing(now))
        self._told = now
        if self._is_live:
            self._draw(now)
        elif now == "running" and time.monotonic() >= self._due:
            self._due = time.monotonic() + _PLAIN_SECONDS
            stage = f"{self._state.stage}: " if self._state.stage else ""
            self._say(f"{time.strftime('%H:%M:%S')} {stage}{', '.join(self._state.parts(self._now()))}")
        new, self._failed = self._state.failed - self._failed, self._state.failed
        if not self._is_live:
            for _, sentence in list(self._state.failures)[-new:] if new else ():
                self._say(sentence)

    def stay(self) -> None:
        """Does nothing: everything was shown."""

    def _standing(self, now: Now) -> str:
        if now == "nothing":
            return f"waiting for a run to begin in {self._folder}; Ctrl-C leaves"
        if now == "died":
            died = postmortem.of_run(self._folder)
            said = "the run died" if died is None else str(died)
        elif now == "interrupted":
            said = f"interrupted at {self._state.parts(self._now())[0]}"
        else:
            return ""
        return f"{said}; to go on: penstock resume {shlex.quote(str(self._folder))}"

    def _now(self) -> float:
        """The run's clock, as far as it can be told: no clock of two machines is compared."""
        return self._at + time.monotonic() - self._read

    def _draw(self, now: Now) -> None:
        if now == "running" and self._state.began and not self._state.ended:
            if not self._live.is_started:
                self._live.start()
            self._live.update(screen(self._state, self._now(), self._console), refresh=True)
        else:
            self._live.stop()

    def _say(self, sentence: str) -> None:
        if sentence:
            said = foreign.line(sentence, 20_000)
            self._console.print(said, markup=False, highlight=False, soft_wrap=not self._is_live)
            with suppress(OSError):
                self._stream.flush()


def _report(folder: Path) -> Report:
    """What became of it."""
    stages = from_events(folder, events_of(folder), postmortem.of_run(folder))
    return stages[0] if len(stages) == 1 else Report.of_stages(stages, folder=folder)


def _code(report: Report, told: int | None) -> int:
    """The exit code of a run that ended so: what was told of it, or the usual one of its outcome."""
    if report.outcome == "done":
        return 5 if report.set_aside_total else 0
    if told and report.outcome in ("failed", "interrupted"):
        return told
    return 130 if report.outcome == "interrupted" else 1
