"""Results that come to this process, in a run whose results are wanted here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from penstock.budget import KiB
from penstock.engine.decide import explain
from penstock.engine.decide.governor import headroom
from penstock.engine.parent.stage import Stage
from penstock.engine.weight import weight
from penstock.meter import Meter
from penstock.outputs import is_reducer
from penstock.warned import warn

_LEAST = 64 * KiB
"""Bytes that a lease may bring, however many are open."""
_CHECK_EVERY = 0.2
_LASTING = 1.0
"""Seconds that a limit may be nearly reached: nodes below it give way meanwhile, where they can."""
_ENOUGH = 20
"""Items whose results tell what those of all will take, unless half of all are fewer."""


def results_at_once(stage: Stage) -> int:
    """Bytes of results that may go up together: on their way they are there several times, at both ends.

    0 where results stay with the worker, are folded there, or are those of an executor, which go one by one.
    """
    setup = stage.setup
    reduced = any(is_reducer(output) for output in setup.outputs.values())
    if setup.durable or stage.options.endless or reduced:
        return 0
    return min(headroom(stage.budget.bytes) // 4, stage.most_results)


class ResultsHere:
    """Hands on the results that come, weighs them, and sees what all will take.

    Args:
        stage: counts what they weigh.
        collect: takes (first item, results).
    """

    def __init__(self, stage: Stage, collect: Callable[[int, list[Any]], None]) -> None:
        self._stage = stage
        self._collect = collect
        self._held = Meter().held
        self._checked = -math.inf
        self._full_since = math.inf
        self._before = self._held()
        self._warned = False

    def take(self, first: int, results: list[Any], came: int = 0) -> None:
        """Take the results of items from ``first`` on, of which so many came before."""
        if not self._stage.options.endless:  # there they are taken away again
            self._stage.admission.collected += weight(results)
        self._collect(first + came, results[came:])

    def on_the_way(self, leases: int) -> int:
        """Bytes that each lease may bring, where so many are open: all may come at the same moment."""
        return max(headroom(self._stage.budget.bytes) // 4 // max(leases, 1), _LEAST)

    def look_ahead(self) -> None:
        """Say, once, that the results of all items will not fit."""
        stage = self._stage
        kept, items, budget = stage.admission.kept, stage.setup.items, stage.budget.now
        held = stage.admission.collected
        if self._warned or kept < min(_ENOUGH, items / 2):
            return
        if held * items > budget.bytes * kept:
            self._warned = True
            warn(explain.results_will_not_fit(kept, items, held, budget))

    def take_line(self, line: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take the results out of the line of a node's kept batch; the line without them.

        Raises:
            CannotFit: they leave too little of the budget.
        """
        for start, _, _, value in line.get("receipts", {}).get("", ()):
            self.take(start, value)
            self._stage.admission.kept += len(value)
        self.look_ahead()
        self._check_room()
        return {name: value for name, value in line.items() if name != "receipts"}

    def _check_room(self) -> None:
        """There may be too many: nobody else could end this process before the kernel does."""
        stage, now = self._stage, self._stage.clock()
        if now - self._checked < _CHECK_EVERY:
            return
        self._checked = now
        budget, held = stage.budget.now, self._held()
        if budget.bytes - held < headroom(budget.bytes) / 2:
            self.blame()
            raise explain.crowded(held, max(budget.bytes - held, 0), budget, gathers=False)
        # Nodes may be below the same limits, of whose budgets this process knows nothing.
        below = (each for each in stage.gauge.read() if each.scope == "tree")
        if any(each.bytes - each.used < headroom(budget.bytes) / 2 for each in below):
            self._full_since = min(self._full_since, now)
            if now - self._full_since > _LASTING:
                self.blame()
        else:
            self._full_since = math.inf

    def blame(self) -> None:
        """Where something does not fit, and results have taken much of the budget, that is why.

        Raises:
            CannotFit: they have.
        """
        stage, grown = self._stage, self._held() - self._before
        budget = stage.budget.bytes
        # On their way results are there several times; what else came in is the user's own.
        results = stage.admission.collected + headroom(budget)
        if grown > budget / 4 and results > grown / 2:
            raise stage.results_too_large()
