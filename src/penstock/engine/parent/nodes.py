"""The nodes of a stage in its events: their names, their workers' numbers, what they hold."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, KeysView
from functools import partial
from typing import Any

from penstock import events as ev
from penstock.abc import Event, Node, Returned
from penstock.engine.parent.ledger import Ledger

_PASSED_ON = (
    ev.WorkerStarted, ev.WorkerEnded, ev.WorkerPaused, ev.WorkerResumed,
    ev.BatchStarted, ev.BatchDone, ev.BatchFailed,
)  # fmt: skip


@dataclasses.dataclass
class _Known:
    name: str
    node: Node
    workers: dict[int, int] = dataclasses.field(default_factory=dict)
    """Its number of a worker -> ours; also of those that ended: a batch of theirs may be told later."""
    living: set[int] = dataclasses.field(default_factory=set)
    """Those that have not ended, in our numbers."""
    batches: dict[int, int] = dataclasses.field(default_factory=dict)
    """The same of batches that are under way."""
    cpu: float = 0.0
    used: int = 0
    """Bytes that it held at most since it told before."""


@dataclasses.dataclass
class Numbers:
    """Numbers for a run's nodes and their workers, each used once and by no local worker."""

    nodes: Iterator[int] = dataclasses.field(default_factory=partial(itertools.count, 1))
    workers: Iterator[int] = dataclasses.field(default_factory=partial(itertools.count, 1001))


class Nodes:
    """Passes on events of nodes, with numbers that no two nodes share.

    Args:
        ledger: takes the events.
        numbers: the next ones.
        held: tells what this process holds, in bytes.
    """

    def __init__(self, ledger: Ledger, numbers: Numbers, held: Callable[[], int] = lambda: 0) -> None:
        self._ledger = ledger
        self._held = held
        self._numbers = numbers
        self._known: dict[str, _Known] = {}
        self._batches = 0
        self._planner: str | None = None
        """The node whose plan is told: those of several would contradict each other."""

    @property
    def cpu(self) -> float:
        """CPU seconds of all nodes."""
        return sum(each.cpu for each in self._known.values())

    @property
    def tokens(self) -> KeysView[str]:
        """The tokens of all nodes that were ever ready."""
        return self._known.keys()

    def meet(self, token: str, node: Node) -> bool:
        """Add a node that is ready; False if it is known."""
        if token in self._known:
            return False
        name = f"n{next(self._numbers.nodes)}"
        self._known[token] = _Known(name, node)
        self._ledger.say(
            ev.NodeJoined,
            node=name,
            host=node.host,
            budget=node.budget,
            origin=node.origin,
            cores=node.cores,
            log=node.log,
        )
        return True

    def name(self, token: str) -> str:
        """The display name: ``"n2 on HOST"``; empty for a node that was never ready."""
        known = self._known.get(token)
        return f"{known.name} on {known.node.host}" if known else ""

    def gone(self, token: str, why: str) -> None:
        """Remove a lost or excluded node and its workers; emits events only if there is a reason."""
        known = self._known.get(token)
        if self._planner == token:
            self._planner = None
        for worker in sorted(known.living) if known else ():
            self._ledger.say(ev.WorkerEnded, worker=worker, why="node lost")
        if why:
            self._ledger.say(ev.NodeLeft, node=known.name if known else "", why=why)
        if known:
            known.living.clear()
            known.used = 0

    def report(self, token: str, returned: Returned, counted: Collection[tuple[int, int]]) -> None:
        """Emit the events that a node returned with a lease, once its results are journaled.

        Args:
            token: of the node.
            returned: what it said.
            counted: the batches that are kept.
        """
        known = self._known[token]
        known.cpu = max(known.cpu, returned.cpu)
        node = known.node
        if returned.used:
            self._ledger.say_when_kept(
                ev.NodeRead, node=known.name, used=returned.used, budget=node.budget, origin=node.origin
            )
            known.used = returned.used
            if node.beside:
                self._tell_whole(node)
        # A node tells of a batch once it is kept, and of its worker's end at once.
        for event in sorted(returned.events, key=lambda event: event.at):
            if isinstance(event, ev.Planned):
                self._planner = self._planner or token
                if self._planner == token:
                    self._pass_on(event)
            elif isinstance(event, ev.BatchDone) and (event.start, event.stop) not in counted:
                continue
            elif isinstance(event, _PASSED_ON):
                self._pass_on(event, **self._in_our_numbers(known, event))

    def _tell_whole(self, node: Node) -> None:
        """Of nodes that share a budget with this process: what all hold, each at the highest it told of."""
        used = self._held() + sum(each.used for each in self._known.values())
        free = node.budget * node.shares + node.beside - used
        self._ledger.say_when_kept(ev.MemoryRead, used=used, workers={}, free=free)

    def _pass_on(self, event: Event, **changes: Any) -> None:
        self._ledger.pass_on_when_kept(event, **changes)

    def _in_our_numbers(self, known: _Known, event: Any) -> dict[str, Any]:
        if event.worker not in known.workers:
            known.workers[event.worker] = next(self._numbers.workers)
        ours: dict[str, Any] = {"worker": known.workers[event.worker]}
        if isinstance(event, ev.WorkerStarted):
            ours["node"] = known.name
            known.living.add(ours["worker"])
        elif isinstance(event, ev.WorkerEnded):
            known.living.discard(ours["worker"])
        elif isinstance(event, ev.BatchStarted):
            self._batches += 1
            ours["batch"] = known.batches[event.batch] = self._batches
        elif isinstance(event, ev.BatchDone | ev.BatchFailed):
            ours["batch"] = known.batches.pop(event.batch, 0)
        return ours
