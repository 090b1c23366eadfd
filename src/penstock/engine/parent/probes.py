"""Probes: work a few items to make a plan, and discard the results."""

from __future__ import annotations

import math

from penstock import asking
from penstock.abc import Carried
from penstock.engine import messages as m
from penstock.engine.decide import explain
from penstock.engine.decide.plan import Plan
from penstock.engine.parent.loop import Loop
from penstock.engine.worker.main import Setup

_TRIALS = 24
_SECONDS = 15.0
"""No trial begins after so long."""


def try_out(loop: Loop, setup: Setup, *, threads: int) -> Plan:
    """Try the first, last, largest and spread items of a job, then larger calls, and plan.

    A job's only item is never tried. A worker that dies of an item has taught a lower bound.

    Raises:
        ItemTooLarge: everything that was tried ran out of memory.
    """
    stage = loop.stage
    with loop:
        began = stage.clock()
        call = setup.fixed_call or 1
        probes = stage.estimate.probes(_TRIALS - 2)
        while probes and setup.items > 1 and stage.clock() - began < _SECONDS:
            start = min(probes.pop(0), max(setup.items - call, 0))
            _try(loop, setup, start, min(start + call, setup.items), threads)
            if not probes and setup.batched and setup.fixed_call is None:
                larger = min(stage.admission.make_plan().call, setup.items // 2)
                if larger > call:
                    call, probes = larger, stage.estimate.probes(2)
        if stage.estimate.died and not stage.estimate.recall.tried:
            raise explain.none_fits(
                stage.estimate.died_holding, stage.admission.budget, stage.admission.reserved(to_come=False)
            )
        return stage.admission.make_plan()


def _try(loop: Loop, setup: Setup, start: int, stop: int, threads: int) -> None:
    stage = loop.stage
    while not (free := [worker for worker in stage.crew if worker.free]):
        if not len(stage.crew):
            stage.crew.start()
        loop.poll()
    worker = free[0]
    worker.trial = (start, stop)
    stage.watch.began(worker.number, 0)
    cargo = asking.carry(setup.source, start, stop) if isinstance(setup.source, Carried) else None
    work = m.Work(
        start=start,
        stop=stop,
        without=(),
        call=stop - start,
        seconds=math.inf,
        memory=stage.admission.budget.bytes,
        fence=0,
        granted=max(stage.admission.spare(), 0),
        threads=threads,
        attempt=0,
        keep=False,
        cargo=cargo,
    )
    stage.backend.send(worker.number, work)
    while worker.trial is not None and stage.crew.get(worker.number) is not None:
        loop.poll()
