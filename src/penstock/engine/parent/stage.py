"""The parts of a running stage, wired together in one place."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from penstock import asking
from penstock.abc import Backend, Node, Sequential
from penstock.budget import BudgetInForce, MiB
from penstock.engine import messages as m
from penstock.engine.decide import explain
from penstock.engine.decide.estimate import Estimate
from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.schedule import Schedule
from penstock.engine.parent.admission import Admission
from penstock.engine.parent.governor_thread import GovernorThread
from penstock.engine.parent.ledger import Ledger
from penstock.engine.parent.open_close import OpenClose
from penstock.engine.parent.options import Host, Options
from penstock.engine.parent.set_aside import SetAsideItems, sample
from penstock.engine.parent.workers import Workers
from penstock.engine.worker.exceptions import item_name
from penstock.engine.worker.main import Setup
from penstock.errors import CannotFit
from penstock.record import journal


class Stage:
    """The parts of one stage, and the few facts that several of them share.

    Args:
        setup: the job, as workers get it.
        options: how to run it.
        backend: opened with the job.
        host: where it runs.
        ledger: takes journal lines and events.
        past: what the journal said before.
        name: the stage's.
    """

    def __init__(
        self,
        setup: Setup,
        options: Options,
        backend: Backend,
        host: Host,
        ledger: Ledger,
        past: journal.Past,
        name: str = "",
    ) -> None:
        self.clock = clock = host.clock
        self.budget = BudgetInForce(options.budget)
        """The one that counts now, for everybody."""
        self.setup = setup
        self.powers = asking.BackendPowers(backend)
        if not self.powers.governs:  # the only worker is this process itself
            options = replace(options, governs=False, wishes=replace(options.wishes, workers=1))
        self.largest_node: Node | None = None
        """Of the nodes, the one on which a call has most room; None where items are worked here."""
        self.too_little = 0
        """Bytes of room in which a call was ended for what others held; it begins only in more."""
        self.options = options
        self.backend = backend
        self.gauge = host.gauge
        self.ledger = ledger
        self.estimate = Estimate(
            setup.source,
            batched=setup.batched,
            wishes=options.wishes,
            cores=options.cores,
            stage=name,
            before=options.before,
        )
        self.schedule = _schedule(setup, past, self.estimate)
        decisive = sample(setup.items, self.schedule.unit, stream=isinstance(setup.source, Sequential))
        self.aside = SetAsideItems(past.aside, allowed=options.set_aside, decisive=decisive)
        self.watch = GovernorThread(backend, host, self.budget, options)
        self.crew = Workers(backend, self.watch, clock, self.schedule.running)
        self.chores = OpenClose(backend, self.crew, self.watch, clock)
        self.admission = Admission(setup, options, self.schedule, self.estimate, self.crew, self.budget)
        self.most_results = 16 * MiB
        """Bytes of results of one batch that whoever they go to can take."""

    def item_name(self, item: int) -> str:
        """An item's name in journal, events and messages."""
        return item_name(self.setup.source, item, private=self.setup.private)

    def told_calls(self, done: m.Done) -> dict[str, Any]:
        """The heaviest and the slowest call of a batch, for its event."""
        if not done.calls or done.slowest is None:
            return {}
        heaviest = max(done.calls, key=lambda call: call.peak)
        told: dict[str, Any] = {"slowest_seconds": done.slowest.seconds}
        for key, call in (("heaviest", heaviest), ("slowest", done.slowest)):
            name = self.item_name(call.start)
            told |= {key: call.start, f"{key}_stop": call.stop}
            if name != str(call.start):
                told[f"{key}_name"] = name
        return told

    @property
    def done(self) -> int:
        """Items whose results are kept."""
        return len(self.schedule.done) - sum(each.item in self.schedule.done for each in self.aside)

    @property
    def crowded(self) -> bool:
        """Whether this process itself holds so much that no worker fits."""
        return self.options.governs and self.admission.spare() <= 0

    @property
    def cramped(self) -> bool:
        """Whether nothing runs, and what others hold leaves no call anything: it would be ended for that."""
        if not self.options.governs or self.crew.running:
            return False
        # What else is to be done may fit.
        least = self.too_little if self.schedule.only_alone else 0
        return self.admission.room(to_come=False) <= min(least, int(0.9 * self.admission.spare()))

    @property
    def crowded_by_results(self) -> bool:
        """Whether it is collected results that leave no call enough room."""
        return self.admission.collected > abs(self.admission.spare())

    def results_too_large(self) -> CannotFit:
        """The error of that. Raise it at once: a frame that it passes and that holds it makes a circle."""
        admission = self.admission
        return explain.results_too_large(
            admission.kept, self.setup.items, admission.collected, admission.budget
        )

    def learnt(self) -> Learnt | None:
        """Measurements for a later run; None if nothing was measured, or nothing was kept.

        What was learnt where everything failed is that of other calls than those that will do.
        """
        if not self.estimate.recall.measured or not self.admission.kept:
            return None
        return self.estimate.learnt(self.admission.reserved(to_come=False))

    def extend(self, items: int) -> None:
        """Take a number of items that has grown."""
        self.schedule.extend(items)
        self.estimate.items = items


def _schedule(setup: Setup, past: journal.Past, estimate: Estimate) -> Schedule:
    grains = [grain for output in setup.outputs.values() if (grain := asking.grain(output))]
    return Schedule(
        setup.items,
        # Fixed calls are the same in every batch of whole grains; without grains, of whole calls.
        math.lcm(*grains) if grains else setup.fixed_call,
        done=past.done,
        set_aside=past.aside,
        starts=asking.starts(setup.source, setup.items) if isinstance(setup.source, Sequential) else None,
        first=estimate.probes() if setup.items > 8 else (),
        fixed_call=setup.fixed_call is not None,
    )
