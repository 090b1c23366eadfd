"""The time of somebody who knows every peak and every time beforehand."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from traces import Trace
from world import IDLE, PARENT

_ORDERS: tuple[Callable[[tuple[int, float]], object], ...] = (
    lambda each: (-each[0], -each[1]),
    lambda each: (-each[1], -each[0]),
    lambda each: -each[0] * each[1],
    lambda each: 0,
)
"""Largest first, longest first, most byte seconds first, as they come."""


def clairvoyant(trace: Trace) -> float:
    """Seconds of the best of four list schedules that pack true peaks, without headroom, start or reading.

    Where peaks do not coincide (ramps and spikes) one may do better by luck; where memory is held at
    once, hardly.
    """
    room = trace.budget - PARENT - trace.workers * IDLE
    items = [(item.peak, item.seconds) for k, item in enumerate(trace.items) if k not in trace.never]
    return min(_packed(sorted(items, key=order), trace.workers, room) for order in _ORDERS)


def _packed(items: Sequence[tuple[int, float]], workers: int, room: int) -> float:
    """Seconds of a list schedule: whenever an item ends, the first ones that fit start."""
    waiting = list(items)
    running: list[tuple[float, int]] = []
    now = 0.0
    while waiting or running:
        k = 0
        while k < len(waiting) and len(running) < workers:
            peak, seconds = waiting[k]
            if peak > room:
                k += 1
                continue
            room -= peak
            heapq.heappush(running, (now + seconds, peak))
            del waiting[k]
        if not running:
            raise ValueError("an item does not fit, even alone")
        now, peak = heapq.heappop(running)
        room += peak
    return now
