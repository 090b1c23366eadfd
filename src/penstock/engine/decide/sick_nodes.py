"""Detects sick nodes: those on which everything fails that succeeds elsewhere get no leases. Pure."""

from __future__ import annotations

from collections.abc import Collection

SICK_ITEMS = 20
"""So many items fail on a node before the first that does not."""
SICK_NODES = 2
"""So many nodes are left out of a stage for that. Where it befalls a third, it is the job."""


class SickNodes:
    """Finds nodes on which every item fails while those of other nodes do not."""

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}
        self._well: set[str] = set()
        self._found = 0

    def hear(self, node: str, worked: int, failed: int, living: Collection[str]) -> bool:
        """Take an outcome; returns whether the node is to be excluded now.

        Args:
            node: it has told of a lease.
            worked: items of that.
            failed: how many of them raised.
            living: all nodes that work; nobody is left out where no other is known to work well.
        """
        if worked > failed:
            self._well.add(node)
        if node in self._well:
            return False
        self._failed[node] = self._failed.get(node, 0) + failed
        if self._failed[node] < SICK_ITEMS or self._found >= SICK_NODES or self._well.isdisjoint(living):
            return False
        self._found += 1
        return True
