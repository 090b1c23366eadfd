"""A scripted cluster: no process and no waiting; time advances where the lead waits.

    cluster = FakeCluster([FakeNode(speed=3), FakeNode(dies=40.0, zombie=True)], clock)

The real leases and the real lead run. Covers nodes that come, go, are slow, tell late and tell twice. Does
not cover what happens inside a node, nor files: what a node that is fenced would write is only counted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from penstock import discover
from penstock.abc import (
    Broken,
    Cut,
    Event,
    Lease,
    Node,
    NodeLost,
    NodeOffer,
    NodeOptions,
    Receipt,
    Refused,
    Returned,
    SetAside,
    Told,
)  # fmt: skip
from penstock.budget import Budget, GiB
from penstock.engine.decide.estimate import Wishes
from penstock.engine.decide.learnt import Learnt
from penstock.engine.parent.lead import Lead
from penstock.engine.parent.ledger import Book, Ledger
from penstock.engine.parent.options import Host, Options
from penstock.engine.parent.stage import Stage
from penstock.engine.worker.main import Setup
from penstock.record import entries, journal
from penstock.sources.items import Range
from penstock.testing.fake import FakeBackend
from penstock.testing.fakeclock import FakeClock
from penstock.testing.fakerun import _Book, _NoStop, _Output


@dataclass(frozen=True, slots=True)
class FakeNode:
    """The script of a node. Times are seconds from the start."""

    speed: float = 1.0
    """Items a second."""
    born: float = 0.0
    dies: float = math.inf
    silence: float = 5.0
    """Seconds after its death that it is told of as lost."""
    zombie: bool = False
    """Whether it was only cut off: what it works comes late, after it was given up."""
    twice: bool = False
    """Whether it tells everything twice."""
    alone: int = 1 * GiB
    """Bytes that a call may use."""
    broken: str = ""
    """Why it cannot work at all; empty where it can."""
    kind: str = "RunFailed"
    """The class of the error of that."""
    refused: str = ""
    """Why its host cannot have a node of this job."""
    sick: bool = False
    """Whether every item raises there."""


@dataclass
class _FakeLife:
    token: str
    what: FakeNode
    leases: deque[Lease] = field(default_factory=deque)
    working: bool = False
    alive: bool = True


class FakeCluster:
    """A cluster whose nodes follow their scripts.

    Args:
        nodes: what befalls each.
        clock: by which they work.
        batch: items of a batch; whole grains.
        needs: bytes that an item needs; it is set aside where that is more than a call may use.
        raises: items whose function raises.
        folds: whether what a node kept of a lease comes back as one line, not a line a batch: for millions of
            batches.
    """

    def __init__(
        self,
        nodes: Iterable[FakeNode],
        clock: FakeClock,
        *,
        batch: int = 1,
        needs: Callable[[int], int] | None = None,
        raises: Callable[[int], bool] | None = None,
        folds: bool = False,
    ) -> None:
        self._clock = clock
        self._batch = batch
        self._needs, self._raises = needs, raises
        self._folds = folds
        self._lives = {
            f"{number:032x}": _FakeLife(f"{number:032x}", each) for number, each in enumerate(nodes)
        }
        self._ready: dict[str, Node] = {}
        self._said: deque[tuple[str, Told]] = deque()
        self._unborn = len(self._lives)
        self._woken = False
        self.learnt: Mapping[str, Any] | None = None
        """What nodes tell that they have learnt."""
        self.sent: list[tuple[str, Lease]] = []
        """Every lease, with its node."""
        self.worked = 0
        """Items that nodes worked, some of them twice."""
        self.ended: list[str] = []

    def open(self, job: Path, digest: str, options: NodeOptions) -> None:
        """Start the nodes."""
        self.begin()

    def begin(self) -> None:
        """Start the nodes without a job."""
        for life in self._lives.values():
            self._clock.after(life.what.born, partial(self._be_born, life))
            if life.what.dies < math.inf:
                self._clock.after(life.what.dies, partial(self._die, life))

    def _be_born(self, life: _FakeLife) -> None:
        self._unborn -= 1
        if life.what.broken:
            self._said.append((life.token, Broken(life.what.kind, life.what.broken)))
        elif life.what.refused:
            self._said.append((life.token, Refused(life.what.refused)))
        elif life.alive:
            self._ready[life.token] = Node("a host", 4 * GiB, "a script", 1, life.what.alone)

    def _die(self, life: _FakeLife) -> None:
        life.alive = False
        lost = life.token, NodeLost("killed by a script")

        def told() -> None:
            self._ready.pop(life.token, None)
            self._said.append(lost)

        self._clock.after(life.what.silence, told)

    def nodes(self) -> Mapping[str, Node]:
        """The nodes that are ready."""
        return MappingProxyType(self._ready)

    def coming(self) -> str:
        """How many have not started yet."""
        return f"{self._unborn} are not born" if self._unborn else ""

    def send(self, node: str, message: Lease | Cut) -> None:
        """Queue a message."""
        life = self._lives[node]
        if isinstance(message, Cut):
            for lease in life.leases:
                self._said.append((node, Returned(lease.ticket, ())))
            life.leases.clear()
            return
        self.sent.append((node, message))
        life.leases.append(message)
        self._go_on(life)

    def _go_on(self, life: _FakeLife) -> None:
        if life.working or not life.leases or not (life.alive or life.what.zombie):
            return
        lease = life.leases[0]
        whole = max(int(lease.seconds * life.what.speed) // self._batch, 1) * self._batch
        stop = min(lease.stop, lease.start + whole)
        life.working = True
        self._clock.after((stop - lease.start) / life.what.speed, lambda: self._finish(life, lease, stop))

    def _finish(self, life: _FakeLife, lease: Lease, stop: int) -> None:
        life.working = False
        if not life.leases or life.leases[0] is not lease or not (life.alive or life.what.zombie):
            return
        life.leases.popleft()
        self.worked += stop - lease.start
        step = stop - lease.start if self._folds else self._batch
        lines = [
            self._line(life, lease, start, min(start + step, stop))
            for start in range(lease.start, stop, step)
        ]
        told = Returned(lease.ticket, lines, rate=life.what.speed, learnt=self.learnt)
        self._said.extend([(life.token, told)] * (2 if life.what.twice else 1))
        self._go_on(life)

    def _line(self, life: _FakeLife, lease: Lease, start: int, stop: int) -> Mapping[str, Any]:
        aside = self._aside(life, lease, range(start, stop))
        return entries.kept(start, stop, {"": [(start, stop, Receipt(value=life.token))]}, aside)

    def _aside(self, life: _FakeLife, lease: Lease, items: range) -> list[SetAside]:
        known = {each.item: each for each in lease.without}
        needs, raises = self._needs, self._raises
        if needs is None and raises is None and not life.what.sick:
            return [each for item, each in sorted(known.items()) if item in items]
        aside = []
        for item in items:
            if item in known:
                aside.append(known[item])
            elif life.what.sick or (raises is not None and raises(item)):
                aside.append(SetAside(item, str(item), "raised", "ValueError: a script"))
            elif needs is not None and needs(item) > life.what.alone:
                aside.append(SetAside(item, str(item), "memory", "needs more", needed=needs(item)))
        return aside

    def wait(self, timeout: float) -> list[tuple[str, Told]]:
        """Advance the clock until there is a message."""
        until = self._clock() + timeout
        while not self._said and not self._woken and self._clock() < until:
            self._clock.advance(min(self._clock.next_due(), until))
        self._woken = False
        said = list(self._said)
        self._said.clear()
        return said

    def end(self, node: str) -> None:
        """Kill a node; a zombie continues, since nobody can reach it."""
        self.ended.append(node)
        self._ready.pop(node, None)

    def wake(self) -> None:
        """Make :meth:`wait` return."""
        self._woken = True

    def close(self) -> None:
        """End all nodes."""
        for life in self._lives.values():
            life.alive = False
        self._ready.clear()

    def survey(self, folder: Path | None, requested: str | int, patience: float) -> list[NodeOffer]:
        """The nodes of the script."""
        return [
            NodeOffer("a host", 4 * GiB, "a script", 1, "a script", "a script", life.what.refused)
            for life in self._lives.values()
        ]

    def leave(self) -> None:
        """Does nothing: nothing else was allocated."""


@dataclass
class _Folder:
    """A run folder that nobody takes over; notes which nodes were fenced, and calls back for each."""

    on_fence: Callable[[str], None] | None
    fenced: list[str]

    def beat(self) -> None:
        """Nothing is kept."""

    def awake(self) -> None:
        """It is never another's."""

    def fence(self, token: str) -> None:
        if self.on_fence is not None:
            self.on_fence(token)
        self.fenced.append(token)


@dataclass
class Led:
    """A stage for a :class:`FakeCluster`, before or after it ran."""

    lead: Lead
    cluster: FakeCluster
    lines: list[Mapping[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    fenced: list[str] = field(default_factory=list)

    @property
    def kept(self) -> list[tuple[int, int]]:
        """The intervals in the journal, in item order."""
        return sorted((line["kept"][0], line["kept"][1]) for line in self.lines if "kept" in line)

    @property
    def aside(self) -> dict[int, str]:
        """Items set aside, and why."""
        return {
            each["item"]: each["reason"]
            for line in self.lines
            if "kept" in line
            for each in line.get("aside", ())
        }

    def events_of(self, kind: type[Event]) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


def lead(
    cluster: FakeCluster,
    items: int,
    clock: FakeClock,
    *,
    grain: int | None = None,
    set_aside: bool | int = True,
    past: journal.Past | None = None,
    interrupts: Any = _NoStop,
    fence: Callable[[str], None] | None = None,
    patience: float = 300.0,
    book: Book | None = None,
    before: Learnt | None = None,
    keep: Callable[[Learnt], None] | None = None,
    collect: Callable[[int, list[Any]], None] | None = None,
) -> Led:
    """A stage to run on a fake cluster: ``lead(...).lead.run()``.

    Args:
        cluster: the nodes.
        items: how many.
        clock: of the nodes.
        grain: items of a part.
        set_aside: as for a job.
        past: what a journal said before.
        interrupts: has ``number``, a signal that asks to stop.
        fence: called with the token of a node that is lost, beside counting it.
        patience: seconds without a node.
        book: takes the lines of the journal instead of :attr:`Led.lines`.
        before, keep: as for a stage: what earlier runs learnt, and what takes what this one did.
        collect: takes (first item, results), where these come to this process.
    """
    kept = _Book()
    events: list[Event] = []
    fenced: list[str] = []
    nowhere = Path("/nonexistent")
    output: Any = _Output(grain)
    setup = Setup(abs, Range(items), {"": output}, nowhere, nowhere, items, False, None, durable=False)
    budget = Budget(4 * GiB, "a script")
    options = Options(budget, budget.bytes, Wishes(workers=1), set_aside=set_aside, before=before, keep=keep)
    ledger = Ledger(book or kept, events.append, "", nowhere, clock=clock)
    backend = FakeBackend(clock=clock)
    host = Host(discover.Gauge([]), clock, held=lambda: 0, core_wait=lambda: 0.0)
    stage = Stage(setup, options, backend, host, ledger, past or journal.Past())

    cluster.begin()
    made = Lead(
        stage,
        cluster,
        folder=_Folder(fence, fenced),
        collect=collect,
        interrupts=interrupts,
        patience=patience,
    )
    return Led(made, cluster, kept.lines, events, fenced)
