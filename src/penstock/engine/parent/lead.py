"""Leads nodes through one stage: lends leases, takes results back, keeps the journal.

As :class:`penstock.engine.parent.loop.Loop` does for the workers of one machine; what is decided of
leases, :mod:`penstock.engine.decide.leases` decides. Opening and closing the results is not done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from penstock import events as ev
from penstock.abc import (
    Broken,
    Carried,
    Cluster,
    Cut,
    Lease,
    NodeLost,
    Refused,
    Returned,
    Sequential,
    SetAside,
)
from penstock.engine.decide.leases import OPEN, Leases
from penstock.engine.decide.sick_nodes import SickNodes
from penstock.engine.parent.failed_batches import FailedBatches
from penstock.engine.parent.gone_nodes import Gone, GoneNodes, quoting_nothing, why
from penstock.engine.parent.interrupts import Interrupt
from penstock.engine.parent.node_learning import NodeLearning
from penstock.engine.parent.nodes import Nodes, Numbers
from penstock.engine.parent.results_here import ResultsHere
from penstock.engine.parent.stage import Stage
from penstock.meter import Meter
from penstock.plurals import plural

_TURN = 0.2
_BEAT_EVERY = 5.0
_GRACE = 6.0
"""Seconds that nodes get to give back what they have, after an interrupt."""
_CARGO = 16 << 20
"""Bytes of a lease's items that travel with it, at most."""
_LINES = 16 << 20
"""Bytes of what one lease gives back, by and large, at most."""
_TELL_AFTER = 3.0
"""Seconds without a node after which it is said what is waited for."""


class OwnedFolder(Protocol):
    """The run folder, as long as this process owns it."""

    def beat(self) -> None:
        """Heartbeat; called every few seconds."""

    def awake(self) -> None:
        """Called with each turn; raises RunTakenOver where the folder is another's now."""

    def fence(self, token: str) -> None:
        """Have nothing that a lost node still writes get a final name.

        Raises:
            OSError: its folder of drafts cannot be removed.
        """


class Lead:
    """Leads the nodes of a cluster through a stage.

    Args:
        stage: its parts. Its workers are not used, nor its schedule.
        cluster: opened with the job.
        folder: of the run.
        collect: takes (first item, results) of a run whose results come to this process.
        interrupts: has ``number``, the signal that asks to stop, or 0.
        patience: seconds without any node after which the run ends.
        numbers: of nodes and their workers, over all stages of the run.
    """

    def __init__(
        self,
        stage: Stage,
        cluster: Cluster,
        *,
        folder: OwnedFolder,
        collect: Callable[[int, list[Any]], None] | None,
        interrupts: Any,
        patience: float = 300.0,
        numbers: Numbers | None = None,
    ) -> None:
        self._stage = stage
        self._cluster = cluster
        self._folder = folder
        self._results = None if collect is None else ResultsHere(stage, collect)
        self._interrupts = interrupts
        self._patience = patience
        self._clock = stage.clock
        self._ledger = stage.ledger
        self._failures = FailedBatches(stage)
        self._sick = SickNodes()
        source = stage.setup.source
        # Asked once: what a protocol asks of an object takes as long as all else of a lease.
        self._carried = source if isinstance(source, Carried) else None
        self.leases = Leases(
            stage.setup.items,
            stage.schedule.unit,
            done=list(stage.schedule.done),
            starts=source.starts() if isinstance(source, Sequential) else None,
        )
        self.nodes = Nodes(stage.ledger, numbers or Numbers(), Meter().held)
        self._departed = GoneNodes(durable=stage.setup.durable)
        self._learning = NodeLearning(stage.options)
        self._said_coming = ""
        self._said_warming = False
        self._beaten = self._alone_since = self._clock()
        self._met_at = -math.inf

    @property
    def cpu(self) -> float:
        """CPU seconds of all nodes."""
        return self.nodes.cpu

    def run(self) -> None:
        """Work all items.

        Raises:
            Interrupt: a signal asked to stop; what nodes could keep is kept.
            PenstockError: the run cannot go on.
        """
        while not self.leases.finished:
            if self._interrupts.number:
                self._wind_down()
                self._learning.keep()
                raise Interrupt(self._interrupts.number)
            self._meet()
            for node in self.leases.wanting:
                self._lend(node)
            self._listen(_TURN)
            self._fence_lost()
            self._expect()
        self._ledger.commit()
        self._learning.keep()
        if self._stage.aside.too_many:
            raise self._failures.error()

    def _listen(self, patience: float) -> None:
        happened = self._cluster.wait(patience)
        self._folder.awake()  # where the run is another's now, nothing counts that was heard
        for node, told in happened:
            if isinstance(told, Returned):
                self._returned(node, told)
            else:
                self._gone(node, told)
        self._ledger.commit()
        now = self._clock()
        if now - self._beaten >= _BEAT_EVERY:
            self._beaten = now
            self._folder.beat()
            self._learning.keep()

    # ------------------------------------------------------------------ down

    def _meet(self) -> None:
        there, now = self._cluster.nodes(), self._clock()
        # Asked each turn, of thousands of nodes: looked through where their number is another, or long ago.
        if len(there) == self.leases.count and now - self._met_at < _BEAT_EVERY:
            return
        self._met_at = now
        for token, node in there.items():
            if self.nodes.meet(token, node):
                self.leases.join(token, node.alone)
                largest = self._stage.largest_node
                if largest is None or node.alone > largest.alone:
                    self._stage.largest_node = node
                self._learning.join(token)
                if node.warming and not self._said_warming:  # of the first that says so: hundreds may
                    self._said_warming = True
                    self._ledger.say(ev.Looking, message=f"{self.nodes.name(token)}: {node.warming}")

    def _lend(self, node: str) -> None:
        while (lent := self.leases.lend(node)) is not None:
            start, stop, cargo = lent.start, lent.stop, None
            if (carried := self._carried) is not None:
                unit = self.leases.unit
                while (weight := carried.weigh(start, stop)) > _CARGO and stop - start > unit:
                    fewer = max(int((stop - start) * _CARGO / weight / 2) // unit, 1) * unit
                    stop = self.leases.shorten(node, lent.ticket, start + fewer).stop
                cargo = carried.carry(start, stop)
            without = tuple(self._stage.aside.among(start, stop))
            learnt, most = self._learning.for_lease(node), self._most_bytes()
            lease = Lease(lent.ticket, start, stop, lent.seconds, without, cargo, learnt, most)
            self._cluster.send(node, lease)

    def _most_bytes(self) -> int:
        """Bytes that a lease may bring: results that come to this process must fit here on their way."""
        if self._results is None:
            return _LINES
        return min(self._results.on_the_way(OPEN * self.leases.count), _LINES)

    def _wind_down(self) -> None:
        """Have the nodes give back what they have; those that do not in time are given up."""
        for node in self.leases.living:
            self._cluster.send(node, Cut())
        deadline = self._clock() + _GRACE
        while self.leases.lent and self._clock() < deadline:
            self._listen(0.05)
        self._ledger.commit()

    # ------------------------------------------------------------------ up

    def _returned(self, node: str, told: Returned) -> None:
        asides = [each for line in told.lines for each in line.get("aside", ())]
        if self._is_sick(node, told, asides):
            return
        try:
            settled = self.leases.settle(
                node,
                told.ticket,
                [(line["kept"][0], line["kept"][1]) for line in told.lines if "kept" in line],
                too_large=[each["item"] for each in asides if each["reason"] == "memory"],
                rate=told.rate,
            )
        except ValueError as error:
            self._gone(node, Broken("PenstockBug", str(error)))
            return
        if settled is None:
            return
        counted, heavier = set(settled.kept), settled.heavier
        for line in told.lines:
            if "kept" not in line:
                self._set_aside(line, heavier)
            elif tuple(line["kept"]) in counted:
                self._keep(line)
        self.nodes.report(node, told, counted)
        if told.learnt is not None:
            self._learning.take(told.learnt)
        self._failures.stop_if_hopeless()

    def _is_sick(self, node: str, told: Returned, asides: list[Mapping[str, Any]]) -> bool:
        """Leave a node out on which all fails; what it told last does not count, and is worked elsewhere."""
        if told.ticket not in self.leases.tickets(node):
            return False
        known = self._stage.aside.items
        failed = {each["item"]: each for each in asides if each["item"] not in known}
        raised = [each for each in failed.values() if each["reason"] == "raised"]
        worked = sum(line["kept"][1] - line["kept"][0] for line in told.lines if "kept" in line)
        worked = max(worked - sum(each["item"] in known for each in asides), len(failed))
        if not self._sick.hear(node, worked, len(raised), self.leases.living):
            return False
        self._cluster.send(node, Cut())  # else another might be begun in its place
        every = f"every item raised there and none elsewhere, the last: {raised[-1]['message']}"
        self._gone(node, Refused(f"left out: {every}. Look at that host"))
        return True

    def _keep(self, line: Mapping[str, Any]) -> None:
        for each in line.get("aside", ()):
            self._put_aside(SetAside(**each))
        if self._results is not None:
            line = self._results.take_line(line)
        self._ledger.keep(line)

    def _set_aside(self, line: Mapping[str, Any], heavier: tuple[tuple[int, int], ...]) -> None:
        """Items that were given up, of which the others are not kept yet."""
        counted = [
            each
            for each in line.get("aside", ())
            if not any(start <= each["item"] < stop for start, stop in heavier)
        ]
        for each in counted:
            self._put_aside(SetAside(**each))
        if counted:
            self._ledger.keep({**line, "aside": counted})

    def _put_aside(self, each: SetAside) -> None:
        if self._results is not None and each.reason == "memory":
            self._results.blame()
        if each.item not in self._stage.aside.items:
            self.leases.try_first(self._failures.count(each))

    # ------------------------------------------------------------------ nodes that go

    def _gone(self, node: str, told: Gone) -> None:
        if node in self._departed:  # that it ended, once it was given up
            return
        self.leases.join(node)  # it may never have been ready
        self.leases.lose(node)
        self._cluster.end(node)
        if self._results is not None and isinstance(told, Broken) and told.kind == "CannotFit":
            self._results.blame()
        if self._stage.setup.private and isinstance(told, Broken):
            told = quoting_nothing(told)
        reason = f"{told.kind}: {told.message}" if isinstance(told, Broken) else why(told)
        if self._interrupts.number and isinstance(told, NodeLost):
            reason = ""  # it ends with the run, and nobody works what it had
        self._learning.leave(node)
        self._departed.add(node, self.nodes.name(node), told)
        self.nodes.gone(node, reason)
        self._fence_lost()
        if self._departed.too_many_broken:
            raise self._departed.error(f"{plural(self._departed.broken, 'node')} could not go on")

    def _fence_lost(self) -> None:
        for node in self.leases.held_back:
            try:
                self._folder.fence(node)
            except OSError as error:
                if not self.leases.living and not self._cluster.coming():
                    raise self._departed.error(
                        f"the folder of drafts of a node that is lost cannot be taken away ({error})"
                    ) from error
            else:
                self.leases.fenced(node)

    def _expect(self) -> None:
        """End where nobody is left to work."""
        if not self.leases.count:
            self._meet()  # some may have become ready while we listened
        if self.leases.count or self.leases.finished:
            self._alone_since = self._clock()
            return
        coming = self._cluster.coming()
        waited = self._clock() - self._alone_since
        if not coming:
            raise self._departed.error("no node is left to work")
        self._tell_wait(waited, coming)
        if waited > self._patience:
            raise self._departed.error(f"no node was there for {waited:.0f} s ({coming})")

    def _tell_wait(self, waited: float, coming: str) -> None:
        """Say what is waited for, when that is long, and when it changes."""
        if waited > _TELL_AFTER and coming != self._said_coming:
            self._said_coming = coming
            self._ledger.say(ev.Looking, message=f"no node is there yet: {coming}")
