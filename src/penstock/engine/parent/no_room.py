"""No room to start anything: how long this may last."""

from __future__ import annotations

import math

from penstock.engine.decide import explain, files_in_memory
from penstock.engine.decide.governor import headroom
from penstock.engine.parent.stage import Stage

_CROWDED = 5.0
"""Seconds that this process may hold so much that nothing can run."""
_LAGGING = 1.0
"""The same where it is collected results, which nobody takes away; readings lag behind."""


class NoRoom:
    """There is no room to start anything. Where nothing runs that could give some, not for ever.

    Nobody can pause or kill this process, nor others: what they hold may be freed, so it is waited for a
    while, and then the run ends before the kernel must end it.

    Args:
        stage: that would start something.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._since = math.inf
        self._beside = stage.admission.budget.beside

    def end(self) -> None:
        """There is room."""
        self._since = math.inf

    def last(self, now: float) -> None:
        """There is none at this moment.

        Raises:
            CannotFit: it has lasted too long.
        """
        stage = self._stage
        if stage.crew.running:
            self._since = math.inf
            return
        self._since = min(self._since, now)
        waited, budget = now - self._since, stage.admission.budget
        # Where the budget leaves more than that, it is others who hold it.
        full = stage.admission.spare() < headroom(budget.bytes)
        if full and waited > _LAGGING and stage.crowded_by_results:
            raise stage.results_too_large()
        reserved = stage.admission.reserved(to_come=False)
        parent = reserved.parent + reserved.results
        self._blame_files(waited)
        if budget.beside > self._beside and waited > _LAGGING:
            raise explain.share_too_small(budget)
        ours = parent > budget.bytes / 2
        if waited > (_CROWDED if ours else stage.options.stall):
            free, gathers = stage.watch.memory.free, stage.options.endless
            raise explain.crowded(parent if ours else 0, free, budget, gathers=gathers)

    def _blame_files(self, waited: float) -> None:
        """Where it is files in memory that leave no room: no process frees them by ending."""
        memory, budget = self._stage.watch.memory, self._stage.admission.budget
        others = budget.bytes - memory.free - memory.used
        if waited > _CROWDED and memory.shared > max(headroom(budget.bytes), others):
            raise files_in_memory.crowded(memory.shared, memory.free, budget)
