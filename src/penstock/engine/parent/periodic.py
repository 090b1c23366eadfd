"""Periodic work of a stage: memory samples, heartbeat of the lock, a budget that follows its limit."""

from __future__ import annotations

import math
from collections.abc import Callable

from penstock import discover
from penstock import events as ev
from penstock.engine.parent.stage import Stage
from penstock.errors import PenstockError

_SAMPLE_EVERY = 0.25
_SAMPLE_AT_LEAST = 0.9
"""With a turn of the loop, a reading at least every second."""
_BEAT_EVERY = 5.0
_KEEP_EVERY = 30.0
"""What was learnt is kept so often: a run that is killed has it then."""
_MOVED = 0.1
"""A ceiling that moved by less than this share of the budget is not followed."""


class Periodic:
    """The periodic work of a stage.

    Args:
        stage: the stage.
        beat: called every few seconds, so that the last events survive.
    """

    def __init__(self, stage: Stage, beat: Callable[[], None]) -> None:
        self._stage = stage
        self._beat = beat
        self._clock = stage.clock
        self._beaten = self._clock()
        self._sampled = -math.inf
        self._sample_every = _SAMPLE_EVERY
        self._kept_at = self._beaten
        self._moved = False
        """Whether the ceilings stood elsewhere at the last look."""

    def run_due(self) -> None:
        """Do what is due now."""
        now = self._clock()
        self._stage.gauge.tell()
        self._stage.crew.hurry()
        if now - self._sampled >= self._sample_every and self.take_sample():
            self._sampled = now
            # A long run needs no fine picture, but should it die, the last reading must be young.
            self._sample_every = min(self._sample_every * 1.01, _SAMPLE_AT_LEAST)
        if now - self._beaten >= _BEAT_EVERY:
            self._beaten = now
            self._beat()
            self._reread_budget()
        if now - self._kept_at >= _KEEP_EVERY:
            self.keep_learnt()

    def keep_learnt(self) -> None:
        """Save what was learnt, if somebody keeps it."""
        self._kept_at = self._clock()
        keep = self._stage.options.keep
        if keep is not None and (learnt := self._stage.learnt()) is not None:
            keep(learnt)

    def take_sample(self) -> bool:
        """Emit the highest reading since the last one; False if there was none."""
        sample = self._stage.watch.sample()
        if sample is not None:
            workers = {str(worker): held for worker, held in sample.workers.items()}
            self._stage.ledger.say(ev.MemoryRead, used=sample.used, workers=workers, free=sample.free)
        return sample is not None

    def _reread_budget(self) -> None:
        """Follow a ceiling that moved during the run, where it moved much."""
        stage = self._stage
        if stage.options.requested != "auto":
            return
        try:
            found = discover.choose(stage.watch.memory.ceilings, "auto", stage.watch.memory.used_then)
        except PenstockError:
            return  # others took everything: what is free tells the governor
        old = stage.budget.bytes
        before, self._moved = self._moved, abs(found.bytes - old) > _MOVED * old
        # Once may be a process of ours that is ending: its memory is still charged, and no longer ours.
        if before and self._moved:
            self._moved = False
            stage.budget.now = found
            # What is set aside from now on did not fit into this one.
            stage.ledger.keep({"budget": found.bytes})
            stage.ledger.say(ev.BudgetChanged, budget=found.bytes, origin=found.origin)
