"""The items of leases on a node, for a source whose items live in the parent's process."""

from __future__ import annotations

import pickle
from typing import Any

from penstock.errors import PenstockBug

_OWN = frozenset(("weigh", "carry", "load", "name", "read"))


class Delivered:
    """A source that carries its items, with those of the open leases loaded.

    What it carries to a worker is what the source itself would. Workers have the plain source.

    Args:
        source: without its items, as it was unpickled.
    """

    def __init__(self, source: Any) -> None:
        self._plain = source
        self._empty = pickle.dumps(source)
        self._loaded: list[tuple[int, int, Any]] = []

    def deliver(self, start: int, stop: int, cargo: Any) -> None:
        """Load the items of a lease."""
        source = pickle.loads(self._empty)
        source.load(start, cargo)
        self._loaded.append((start, stop, source))

    def forget(self, start: int) -> None:
        """Unload the lease that begins there."""
        self._loaded = [each for each in self._loaded if each[0] != start]

    def _of(self, start: int, stop: int) -> Any:
        for first, last, source in self._loaded:
            if first <= start and stop <= last:
                return source
        raise PenstockBug(f"items {start} to {stop} were not delivered to this node")

    def weigh(self, start: int, stop: int) -> int:
        """As the source does."""
        weight: int = self._of(start, stop).weigh(start, stop)
        return weight

    def carry(self, start: int, stop: int) -> Any:
        """As the source does."""
        return self._of(start, stop).carry(start, stop)

    def load(self, start: int, cargo: Any) -> None:
        """Not used here: workers load with the plain source."""
        raise PenstockBug("a node works no items itself")

    def read(self, start: int, stop: int) -> Any:
        """As the source does."""
        return self._of(start, stop).read(start, stop)

    def name(self, item: int) -> str:
        """The source's name for an item, if it names items."""
        source = self._of(item, item + 1)
        return str(source.name(item)) if hasattr(source, "name") else str(item)

    def __len__(self) -> int:
        return len(self._plain)


def delivered(source: Any) -> Delivered:
    """The same with the other powers of the source (sizes, say), which a class has by having the method."""
    others = {
        name: _forward(name)
        for name in dir(type(source))
        if not name.startswith("_") and name not in _OWN and callable(getattr(source, name, None))
    }
    made: Delivered = type("Delivered", (Delivered,), others)(source)
    return made


def _forward(name: str) -> Any:
    def method(self: Delivered, *args: Any, **named: Any) -> Any:
        return getattr(self._plain, name)(*args, **named)

    return method
