"""Results of nodes that come to this process, in a run whose results are wanted here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from penstock.engine.decide import explain
from penstock.engine.decide.governor import headroom
from penstock.engine.parent.stage import Stage
from penstock.meter import Meter

_CHECK_EVERY = 0.2


class ResultsHere:
    """Takes the results out of the lines that nodes return, as long as there is memory for them.

    Args:
        stage: counts what they weigh.
        collect: takes (first item, results).
    """

    def __init__(self, stage: Stage, collect: Callable[[int, list[Any]], None]) -> None:
        self._stage = stage
        self._collect = collect
        self._held = Meter().held
        self._checked = -math.inf

    def take(self, line: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take the results of a kept batch; the line without them.

        Raises:
            CannotFit: they leave too little of the budget.
        """
        for start, _, _, value in line.get("receipts", {}).get("", ()):
            self._stage.collected += explain.weight(value)
            self._collect(start, value)
        self._check_room()
        return {name: value for name, value in line.items() if name != "receipts"}

    def _check_room(self) -> None:
        """There may be too many: nobody else could end this process before the kernel does."""
        now = self._stage.clock()
        if now - self._checked < _CHECK_EVERY:
            return
        self._checked = now
        budget, held = self._stage.budget.now, self._held()
        if budget.bytes - held < headroom(budget.bytes) / 2:
            raise explain.crowded(held, max(budget.bytes - held, 0), budget)
