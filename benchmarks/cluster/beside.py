"""Two nodes of one core beside two workers of one run: the same items, in turns."""

from __future__ import annotations

import time

import penstock

ITEM_SECONDS = 0.01


def busy(number: int) -> int:
    """So much CPU, whatever else the machine does."""
    until = time.thread_time() + ITEM_SECONDS
    while time.thread_time() < until:
        pass
    return number


def rates(items: int, repeat: int) -> dict[str, list[float]]:
    """Items a second of wall time, of each way, run after run."""
    here = __import__("beside").busy  # nodes import it by name, as they would a user's
    ways: dict[str, dict[str, object]] = {
        "one run, 2 workers": {"workers": 2},
        "local:2, 1 core each": {"workers": 1, "cluster": "local:2"},
    }
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, how in ways.items():
            began = time.monotonic()
            report = penstock.run(here, range(items), into=penstock.reducers.Sum(), progress=False, **how)
            assert report.result == sum(range(items)), name
            seen[name].append(items / (time.monotonic() - began))
    return seen
