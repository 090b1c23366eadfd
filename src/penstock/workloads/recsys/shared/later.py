"""Memory of stages that depend on earlier ones: computed, since nothing can be tried yet.

Bytes are those of the whole process tree with one worker, from above; files that are mapped are not among
them, since the kernel takes their pages back. A run plans each of these stages anew, by trying it, when its
turn comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.budget import MiB, format_size

BASE = 100 * MiB
"""This process, the fork server and an idle worker."""
SHORT = 96 * MiB
"""A step that reads a table by batches, and holds nothing that grows."""


@dataclass(frozen=True)
class Stage:
    """A stage's memory.

    Attributes:
        name: of the stage.
        takes: bytes above :data:`BASE`.
        why: what they are for, in words.
    """

    name: str
    takes: int
    why: str


@dataclass(frozen=True)
class Reckoned:
    """A computed plan: what every plan offers, from its budget and its peak.

    Attributes:
        budget: bytes.
    """

    budget: int

    @property
    def projected(self) -> int:
        """Bytes at the peak."""
        raise NotImplementedError

    @property
    def headroom(self) -> int:
        """Bytes of the budget that are left; negative if it is too small."""
        return self.budget - self.projected

    @property
    def threads(self) -> int:
        """Threads per worker; the peak does not depend on them."""
        return 1

    @property
    def seconds(self) -> float | None:
        """None: unknown before a stage is tried."""
        return None


@dataclass(frozen=True)
class LaterPlan(Reckoned):
    """The plan of a run's later stages.

    Attributes:
        budget: bytes.
        stages: in order.
        notes: what else is to be told.
    """

    stages: Sequence[Stage]
    notes: Sequence[str] = ()

    @property
    def projected(self) -> int:
        """Bytes at the peak."""
        return BASE + max((stage.takes for stage in self.stages), default=0)

    def __str__(self) -> str:
        lines = [
            "later stages, by arithmetic, with one worker; each is tried and planned when its turn comes"
        ]
        width = max((len(stage.name) for stage in self.stages), default=0)
        lines += [
            f"{each.name:<{width}}  {format_size(BASE + each.takes):>9}  {each.why}" for each in self.stages
        ]
        if self.headroom < 0:
            lines.append(
                f"does not fit: the largest takes {format_size(self.projected)}, and the budget is "
                f"{format_size(self.budget)}"
            )
        return "\n".join([*lines, *self.notes])
