"""A run of the real loop, schedule, admission and governor with a :class:`FakeBackend`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import discover
from penstock.abc import Ceiling, Event
from penstock.budget import Budget
from penstock.engine.decide.estimate import Wishes
from penstock.engine.decide.learnt import Learnt
from penstock.engine.parent.ledger import Ledger
from penstock.engine.parent.loop import Loop
from penstock.engine.parent.options import Host, Options
from penstock.engine.parent.stage import Stage
from penstock.engine.worker.main import Setup
from penstock.record import journal
from penstock.sources.items import Range
from penstock.testing.fake import FakeBackend


class FakeLimit:
    """A limit moved by a script, against which a backend's workers count.

    Args:
        backend: whose memory is used.
        size: bytes; may be set anew at any time.
        others: bytes that others use; may be set anew.
    """

    def __init__(self, backend: FakeBackend, size: int, others: int = 0) -> None:
        self._backend = backend
        self.size = size
        self.others = others
        self.error: Exception | None = None
        """Raised when it is read, while it is set."""

    def read(self) -> Sequence[Ceiling]:
        """The current ceiling."""
        if self.error is not None:
            raise self.error
        used = self.others + self._backend.held
        kills = self._backend.kernel_kills
        return [Ceiling(self.size, "tree", "a limit of a script", used, kernel_kills=kills)]


# --------------------------------------------------------------------------- a run of it


class _Book:
    """A journal in memory."""

    def __init__(self) -> None:
        self.lines: list[Mapping[str, Any]] = []

    def write(self, *entries: Mapping[str, Any]) -> None:
        self.lines += entries


class _NoStop:
    number = 0


@dataclass
class Simulated:
    """A run of a :class:`FakeBackend`, in progress or over."""

    loop: Loop
    backend: FakeBackend
    lines: list[Mapping[str, Any]]
    """Of the journal."""
    events: list[Event] = field(default_factory=list)
    parts: list[tuple[int, list[Any]]] = field(default_factory=list)
    """Results as they came: the first item, and each result."""
    when: dict[int, float] = field(default_factory=dict)
    """When the result of each item came."""

    @property
    def results(self) -> list[Any]:
        """Results in item order; an item kept twice appears twice."""
        return [each for _, part in sorted(self.parts, key=lambda part: part[0]) for each in part]

    @property
    def aside(self) -> dict[int, str]:
        """Items set aside, and why."""
        return {each.item: each.reason for each in self.loop.stage.aside}

    def events_of(self, kind: type[Event]) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def run(self) -> Simulated:
        """Run it; afterwards every worker is gone, whatever happened.

        Raises:
            PenstockError: as a run does.
        """
        self.loop.run(opened=False)
        return self


def simulate(backend: FakeBackend, items: int, budget: int, **more: Any) -> Simulated:
    """Run a stage of so many items in a budget; see :func:`simulation` for the rest."""
    return simulation(backend, items, budget, **more).run()


def simulation(
    backend: FakeBackend,
    items: int,
    budget: int,
    *,
    workers: int = 4,
    cores: int | None = None,
    limits: Sequence[Any] = (),
    requested: str | int | None = None,
    set_aside: bool | int = True,
    stall: float = 600.0,
    timeout: float | None = None,
    fixed_call: int | None = None,
    memory: int | None = None,
    beat: Callable[[], None] = lambda: None,
    awake: Callable[[], None] = lambda: None,
    past: journal.Past | None = None,
    interrupts: Any = _NoStop,
    book: Any = None,
    endless: bool = False,
    before: Learnt | None = None,
    keep: Callable[[Learnt], None] | None = None,
    held: int = 0,
) -> Simulated:
    """A stage that is ready to run.

    Args:
        backend: the workers.
        items: how many.
        budget: bytes.
        workers: at most so many.
        cores: that there are; by default one for each.
        limits: read by the governor; ``requested="auto"`` lets the budget follow them.
        set_aside, stall, timeout: as for a job, in seconds.
        fixed_call: as ``batched=N``.
        memory: bytes that a call takes, as stated.
        beat: called every few seconds.
        awake: called with each turn; raises where the run is another's now.
        past: what a journal said before.
        interrupts: has ``number``, a signal that asks to stop.
        book: takes the journal's lines in place of a list.
        endless: as an executor's calls: none waits for another while a worker is free.
        before: what earlier runs learnt.
        keep: takes what this one learnt.
        held: bytes of these that this process itself holds.
    """
    lines = _Book()
    sink: Any = _Output(backend.grain)
    nowhere = Path("/nonexistent")
    setup = Setup(
        abs, Range(items), {"": sink}, nowhere, nowhere, items, backend.batched, fixed_call, durable=False
    )
    options = Options(
        Budget(budget, "a script"), requested=budget if requested is None else requested,
        wishes=Wishes(workers=workers, fixed_call=fixed_call, memory=memory), set_aside=set_aside,
        stall=stall, timeout=timeout, cores=cores or workers, endless=endless,
        most_batch_seconds=0.02 if endless else math.inf, before=before, keep=keep,
    )  # fmt: skip
    events: list[Event] = []
    clock = backend.clock
    ledger = Ledger(book or lines, events.append, "", nowhere, clock=clock)
    host = Host(discover.Gauge(list(limits)), clock, held=lambda: held, core_wait=lambda: 0.0)
    stage = Stage(setup, options, backend, host, ledger, past or journal.Past())
    parts: list[tuple[int, list[Any]]] = []
    when: dict[int, float] = {}

    def collect(first: int, results: list[Any]) -> None:
        parts.append((first, results))
        when.update(dict.fromkeys(range(first, first + len(results)), clock()))

    loop = Loop(stage, collect=collect, interrupts=interrupts, beat=beat, awake=awake)
    return Simulated(loop, backend, lines.lines, events, parts, when)


class _Output:
    """Stands for a sink: only its grain is asked for."""

    def __init__(self, grain: int | None) -> None:
        self.grain = grain
