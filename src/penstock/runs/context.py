"""State shared by the stages of a run: options, folder, signals and events."""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock import discover
from penstock.abc import Event
from penstock.engine.parent.interrupts import Interrupts
from penstock.observers import Observers
from penstock.record.folder import RunFolder
from penstock.report.report import Report
from penstock.report.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of a :class:`penstock.Run`, as its arguments describe them."""

    budget: str | int = "auto"
    workers: int | None = None
    call: int | None = None
    set_aside: bool | int = False
    accept_changes: bool = False
    retry_set_aside: bool = False
    private: bool = False
    history: bool = True
    wait: float = 300.0
    """Seconds without any node of the cluster after which the run ends."""

    @property
    def tries_all(self) -> bool:
        """Whether all set-aside items are retried: always, if none may be set aside."""
        return self.retry_set_aside or self.set_aside is False


@dataclass
class RunContext:
    """The shared state of a run in use."""

    options: RunOptions
    folder: RunFolder
    observers: Observers = field(default_factory=Observers)
    """Those that were given."""
    display: Observers = field(default_factory=Observers)
    """Shows the run to whoever started it."""
    interrupts: Interrupts = field(default_factory=Interrupts)
    gauge: discover.Gauge = field(default_factory=lambda: discover.Gauge())
    reports: list[Report] = field(default_factory=list)
    """One for each stage so far."""

    def discover(self) -> discover.Discovery:
        """The present budget."""
        found = discover.discover(self.options.budget, [self.gauge])
        self.gauge.tell()
        return found

    def emit(self, event: Event, tally: Tally) -> None:
        """Count an event, write it to the run folder and pass it to the observers."""
        tally(event)
        self.folder.write(event)
        self.display(event)
        self.observers(event)
