"""What a lease costs the leading process with real nodes: over pipes, and by Dask."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from worlds import Dask, Local

import penstock
from penstock.engine.decide import leases
from penstock.engine.decide.leases import Leases

_ITEMS, _ITEM_SECONDS = 1_500, 0.02
_SHORT = 0.2
"""Seconds of a lease in one of two runs of the same items; in the other they are as long as usual."""
_MARK = "PENSTOCK_LENT=1"


def nap(number: int) -> int:
    """Takes as long, and no CPU, so that the nodes leave the leading process its own."""
    time.sleep(_ITEM_SECONDS)
    return number


@dataclass(frozen=True)
class Cost:
    """Of one kind of cluster."""

    leases: int
    """More where they are short."""
    cpu: float
    """Seconds of the leading process's, more there."""


def costs() -> dict[str, Cost]:
    """By kind of cluster."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in (("pipes, local:2", Local), ("Dask, 2 workers", Dask)):
            world = kind(Path(folder), _MARK)
            world.up()
            try:
                few, many = _run(world.where, None), _run(world.where, _SHORT)
            finally:
                world.down()
            found[name] = Cost(many[0] - few[0], many[1] - few[1])
    return found


def _run(where: str, seconds: float | None) -> tuple[int, float]:
    """Leases, and CPU seconds of this process, where a lease lasts so long at most."""
    lend, lent = Leases.lend, 0
    usual = leases._LEAST_SECONDS, leases._MOST_SECONDS

    def counted(decides: Leases, node: str) -> object:
        nonlocal lent
        lease = lend(decides, node)
        lent += lease is not None
        return lease

    here = __import__("lent").nap  # nodes import it by name, as they would a user's
    cpu = _cpu()
    Leases.lend = counted  # type: ignore[method-assign, assignment]
    if seconds is not None:
        leases._LEAST_SECONDS = leases._MOST_SECONDS = seconds
    try:
        report = penstock.run(here, range(_ITEMS), cluster=where, workers=1, into=penstock.reducers.Sum())
    finally:
        Leases.lend = lend  # type: ignore[method-assign]
        leases._LEAST_SECONDS, leases._MOST_SECONDS = usual
    assert report.result == sum(range(_ITEMS))
    return lent, _cpu() - cpu


def _cpu() -> float:
    """Of this process and its threads, without those that it started."""
    told = os.times()
    return told.user + told.system
