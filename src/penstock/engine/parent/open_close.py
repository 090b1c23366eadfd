"""Opens and closes the sinks in a worker, with retries, governed like a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock import discover, storage
from penstock.abc import Backend
from penstock.budget import Budget
from penstock.engine import messages as m
from penstock.engine.decide import explain
from penstock.engine.decide.tasks import Failure
from penstock.engine.parent.clock import Clock
from penstock.engine.parent.governor_thread import GovernorThread
from penstock.engine.parent.workers import Workers, WorkerState

_TRIES = 3
_BACK_OFF = 0.5
"""Seconds before a chore is done again where files could not be written; twice as many each time."""


class OpenClose:
    """Gives a stage's chores to workers, one at a time, with a retry when a worker dies of one.

    Args:
        backend, crew, watch, clock: of the stage.
    """

    def __init__(self, backend: Backend, crew: Workers, watch: GovernorThread, clock: Clock) -> None:
        self._clock = clock
        self._not_before = -math.inf
        self._backend = backend
        self._crew = crew
        self._watch = watch
        self._failed: dict[str, int] = {}
        self._done: m.ChoreDone | None = None

    def do(self, chore: m.Chore, *, turn: Callable[[], None], no_room: Callable[[], None]) -> Any:
        """Have a chore done; returns its result.

        Args:
            chore: what to do.
            turn: hears what happened meanwhile, and calls :meth:`done` or :meth:`trouble`.
            no_room: called while there is no room to begin; ends the run when that lasts.
        """
        self._done = None
        while self._done is None:
            if not any(worker.chore is not None for worker in self._crew):
                self._begin(chore, no_room)
            turn()
        return self._done.value

    def _begin(self, chore: m.Chore, no_room: Callable[[], None]) -> None:
        free = [worker for worker in self._crew if worker.free]
        if not free:
            if all(worker.leaving for worker in self._crew):
                self._crew.start()
            return
        if not self._watch.admit:
            no_room()
            return
        if self._clock() < self._not_before:
            return
        worker = free[0]
        self._crew.dismiss(free[1:], "evicted")
        worker.chore = chore
        worker.kills_before = discover.kernel_kills(self._watch.memory.ceilings)
        self._watch.began(worker.number, 0, timed=False)
        self._backend.send(worker.number, chore)

    def done(self, worker: WorkerState, message: m.ChoreDone) -> None:
        """A worker has done the chore."""
        worker.chore = None
        self._watch.ended(worker.number)
        self._done = message

    def trouble(
        self, chore: m.Chore, failure: Failure, failed: m.Failed | None, budget: Budget, folder: Path
    ) -> None:
        """A worker failed at the chore, or died of it.

        Raises:
            RunFailed: no retry mends it, or there were enough.
        """
        times = self._failed[chore.what] = self._failed.get(chore.what, 0) + 1
        if failed is not None and failed.cause not in ("memory", "unfit"):
            if not (failed.cause == "disk" and storage.may_pass(failed.errno) and times < _TRIES):
                raise explain.of_chore(chore.what, failed, folder)
            self._not_before = self._clock() + _BACK_OFF * 2**times
        if times >= _TRIES:
            raise explain.chore_died(chore.what, times, failure, budget)
