"""Traces: what each item holds while it works, and for how long. Made up, seeded, exact.

A family says how the peaks of the items are distributed and what their size hints tell; a profile
says how an item's memory grows to its peak. No profile grows faster than one core can touch memory.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

MiB = 1 << 20
FILL_RATE = 6 * 1024 * MiB
"""Bytes that one core can touch in a second."""
_ALONE = 0.8
"""The largest item, as a share of the budget, where all are to fit."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item: a piecewise linear curve of bytes over its own working time."""

    times: tuple[float, ...]
    bytes: tuple[float, ...]
    hint: float = 1.0
    leaks: int = 0
    """Bytes that its worker holds from then on."""

    @property
    def seconds(self) -> float:
        """How long it works."""
        return self.times[-1]

    @property
    def peak(self) -> int:
        """The most that it holds, in bytes."""
        return int(max(self.bytes))

    def held(self, at: float) -> float:
        """Bytes after so many seconds of work."""
        k = bisect_right(self.times, at)
        if k == 0:
            return self.bytes[0]
        if k == len(self.times):
            return self.bytes[-1]
        t0, t1, b0, b1 = self.times[k - 1], self.times[k], self.bytes[k - 1], self.bytes[k]
        return b0 + (b1 - b0) * (at - t0) / (t1 - t0) if t1 > t0 else b1


@dataclass(frozen=True)
class Trace:
    """The items of a run, and what it runs in."""

    name: str
    items: tuple[Item, ...]
    budget: int
    workers: int
    hinted: bool = False
    never: frozenset[int] = field(default_factory=frozenset)
    """Items that cannot fit, even alone."""


def _instant(peak: float, seconds: float, rise: float) -> list[tuple[float, float]]:
    return [(0, 0), (rise, peak), (seconds, peak)]


def _ramp(peak: float, seconds: float, rise: float) -> list[tuple[float, float]]:
    return [(0, 0.05 * peak), (max(0.9 * seconds, rise), peak), (seconds, peak)]


def _spike(peak: float, seconds: float, rise: float) -> list[tuple[float, float]]:
    at = min(0.8 * seconds, seconds - rise)
    return [(0, 0), (0.1 * rise, 0.1 * peak), (at, 0.1 * peak), (at + 0.9 * rise, peak), (seconds, peak)]


PROFILES = {"instant": _instant, "ramp": _ramp, "spike": _spike}
"""All of it at once; growing to the end; a tenth of it, and all of it in the last fifth."""


def shaped(profile: str, peak: float, seconds: float, *, hint: float = 1.0, leaks: int = 0) -> Item:
    """An item with a peak and a time, in the shape of a profile."""
    rise = peak / FILL_RATE
    points = PROFILES[profile](peak, max(seconds, 1.25 * rise + 0.001), rise)
    return Item(tuple(t for t, _ in points), tuple(b for _, b in points), hint, leaks)


# --------------------------------------------------------------------------- families

Draw = Callable[[int, int, random.Random], tuple[float, float]]
"""(item, items, random) -> (peak where the mean is about 1, size hint)."""


def _without_hint(draw: Callable[[int, int, random.Random], float]) -> Draw:
    return lambda i, n, rng: (draw(i, n, rng), 1.0)


def _lognormal(sigma: float) -> Draw:
    return _without_hint(lambda i, n, rng: math.exp(rng.gauss(-sigma * sigma / 2, sigma)))


def _by_hint(noise: float) -> Draw:
    def draw(i: int, n: int, rng: random.Random) -> tuple[float, float]:
        hint = math.exp(rng.gauss(-0.32, 0.8))
        return (0.1 + 0.9 * hint) * math.exp(rng.gauss(-noise * noise / 2, noise)), hint

    return draw


def _lying_hint(i: int, n: int, rng: random.Random) -> tuple[float, float]:
    return math.exp(rng.gauss(-0.125, 0.5)), math.exp(rng.gauss(-0.32, 0.8))


FAMILIES: dict[str, Draw] = {
    "uniform": _without_hint(lambda i, n, rng: rng.uniform(0.97, 1.03)),
    "wide": _without_hint(lambda i, n, rng: rng.uniform(0.01, 2.0)),
    "lognormal0.5": _lognormal(0.5),
    "lognormal1.0": _lognormal(1.0),
    "lognormal1.5": _lognormal(1.5),
    "bimodal": _without_hint(
        lambda i, n, rng: (10 if rng.random() < 0.05 else 1) / 1.45 * rng.uniform(0.95, 1.05)
    ),
    "drift": _without_hint(lambda i, n, rng: (0.4 + 1.2 * i / n) * rng.uniform(0.9, 1.1)),
    "half": _without_hint(lambda i, n, rng: (0.1 if i < n // 2 else 1.9) * rng.uniform(0.95, 1.05)),
    "hinted": _by_hint(0.1),
    "hintnoise": _by_hint(0.4),
    "hintlie": _lying_hint,
    "leak": _without_hint(lambda i, n, rng: 0.5 * rng.uniform(0.9, 1.1)),
    "cyclic": _without_hint(
        lambda i, n, rng: (1 + 0.85 * math.sin(2 * math.pi * i / 60)) * rng.uniform(0.95, 1.05)
    ),
    "pareto": _without_hint(lambda i, n, rng: 0.375 * rng.paretovariate(1.6)),
    "poison": _without_hint(lambda i, n, rng: rng.uniform(0.9, 1.1)),
}
_HINTED = frozenset({"hinted", "hintnoise", "hintlie"})


def family(
    name: str,
    seed: int,
    profile: str,
    *,
    items: int = 200,
    workers: int = 8,
    budget: int = 2048 * MiB,
    pressure: float = 1.2,
    seconds: float = 0.5,
) -> Trace:
    """A trace of a family.

    Args:
        name: of the family.
        seed: another one, other items.
        profile: how memory grows in an item.
        items: how many.
        workers: cores.
        budget: in bytes.
        pressure: all cores busy with mean items would take so many budgets.
        seconds: of a mean item; half of it is the same for all, half goes with the peak.
    """
    rng = random.Random(f"{name}/{seed}")
    mean = pressure * budget / workers
    made, never = [], set()
    for i in range(items):
        peak, hint = FAMILIES[name](i, items, rng)
        peak = min(peak, _ALONE * budget / mean)
        lasting = seconds * (0.5 + 0.5 * peak) * math.exp(rng.gauss(-0.045, 0.3))
        leaks = int(0.04 * mean) if name == "leak" else 0
        made.append(shaped(profile, peak * mean, lasting, hint=hint, leaks=leaks))
    if name == "poison":
        made[items // 2] = shaped(profile, 3 * budget, 2 * seconds)
        never.add(items // 2)
    return Trace(name, tuple(made), budget, workers, name in _HINTED, frozenset(never))
