"""Where batches may be cut: at the borders of grains."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.engine.decide.tasks import Task


@dataclass(slots=True)
class Grains:
    """Items in grains of ``unit``; the last grain may be smaller.

    Args:
        items: how many there are; more may come.
        unit: items of a grain; 1 where there is none.
    """

    items: int
    unit: int

    def whole(self, size: int) -> int:
        """At most ``size`` items in whole grains, but at least one grain."""
        return max(size // self.unit, 1) * self.unit

    def of(self, item: int) -> tuple[int, int]:
        """Start and stop of the grain that an item lies in."""
        start = item // self.unit * self.unit
        return start, min(start + self.unit, self.items)

    def middle(self, task: Task) -> int:
        """Where to split a task: at a grain's border; at or past its end if it is one grain."""
        unit = self.unit
        half = (task.start + (task.stop - task.start) // 2) // unit * unit
        return max(half, task.start // unit * unit + unit)

    def is_one(self, task: Task) -> bool:
        """Whether a task cannot be split."""
        return not task.start < self.middle(task) < task.stop
