"""The options of a stage, and its interface to the machine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from penstock import discover, proc
from penstock.budget import Budget
from penstock.engine.decide.estimate import Wishes
from penstock.engine.decide.learnt import Learnt
from penstock.engine.parent.clock import Clock
from penstock.errors import UsageError
from penstock.meter import Meter


@dataclass(frozen=True)
class Options:
    """The options of a stage."""

    budget: Budget
    """At the start; what counts later is the stage's."""
    requested: str | int = "auto"
    """What the user asked for as budget."""
    wishes: Wishes = field(default_factory=Wishes)
    set_aside: bool | int = False
    """How many items may be set aside without failing the run."""
    stall: float = 600.0
    timeout: float | None = None
    governs: bool = True
    """Whether there are workers to pause and kill."""
    cores: int = 1
    endless: bool = False
    """Whether items keep coming: nothing that befalls some of them ends it."""
    most_batch_seconds: float = math.inf
    """A batch should not take longer than this."""
    most_items: int | None = None
    """A worker that was given so many is replaced."""
    before: Learnt | None = None
    """What earlier runs of the same function learnt."""
    keep: Callable[[Learnt], None] | None = None
    """Takes what was learnt, now and then and at the end."""

    def __post_init__(self) -> None:
        # Read on the governor's thread, where nobody could be told.
        for name, value in (("stall", self.stall), ("timeout", self.timeout)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise UsageError(f"{name} must be a number of seconds, not {value!r}")
            if value is not None and not value > 0:  # not NaN either
                raise UsageError(f"{name} must be more than 0 seconds, not {value!r}")


@dataclass(frozen=True)
class Host:
    """The machine as a stage sees it: its only access to memory readings and time."""

    gauge: discover.Gauge = field(default_factory=discover.Gauge)
    """The ceilings, read anew each time."""
    clock: Clock = field(default_factory=Clock)
    """That time goes by."""
    held: Callable[[], int] = field(default_factory=lambda: Meter().held)
    """Bytes of this process now."""
    core_wait: Callable[[], float] = field(default=proc.core_wait)
    """Seconds that it waited for a core each time, so far."""
