"""Announces the plan when it is first known and when it has changed much."""

from __future__ import annotations

from penstock import events as ev
from penstock.engine.decide.plan import Plan
from penstock.engine.decide.recall import Recall
from penstock.engine.parent.ledger import Ledger


class PlanAnnouncer:
    """Remembers the plan that was announced last.

    Args:
        ledger: tells.
        recall: what the plan goes by of earlier runs, which is told too.
    """

    def __init__(self, ledger: Ledger, recall: Recall) -> None:
        self._ledger = ledger
        self._recall = recall
        self._told = (0, 0, 0)

    def tell(self, plan: Plan) -> None:
        """Announce the plan if it is new."""
        while self._recall.news:
            self._ledger.say(ev.Recalled, message=self._recall.news.pop(0))
        if not plan.tried and not plan.before and not plan.declared:
            return
        old, new = self._told, (plan.workers, plan.call, max(plan.footprint, 1))
        if old[0] == new[0] and 0.5 < new[1] / old[1] < 2 and 0.67 < new[2] / old[2] < 1.5:
            return
        self._told = new
        # More than there are cores may have been asked for: they would not be faster.
        most = max(min(plan.most_workers, plan.cores), plan.workers)
        self._ledger.say(
            ev.Planned,
            workers=plan.workers,
            call=plan.call,
            batch=plan.batch,
            reserved=plan.reserved.total(plan.workers),
            footprint=plan.footprint,
            projected=plan.projected,
            enough=plan.budget_for(plan.workers),
            most_workers=most,
            enough_for_most=plan.budget_for(most),
            why=plan.why,
        )
