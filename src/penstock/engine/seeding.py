"""The global random generators, reseeded from (seed, item), so that no answer depends on batches.

Reseeding costs 10 to 20 us, too much for items of a microsecond. So a group of items is seeded
once, and whether anybody drew is looked at afterwards; if so, the group is worked again with a
seed for each item, and from then on every item is seeded.
"""

from __future__ import annotations

import hashlib
import random
import sys
from typing import Any


class Seeder:
    """Seeds ``random`` and, once it is loaded, ``numpy.random``.

    Args:
        seed: the job's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.each_item = False
        """Whether the function is known to draw from a global generator."""

    def seed(self, item: int) -> None:
        """Seed for one item."""
        number = int.from_bytes(
            hashlib.blake2b(f"{self._seed}:{item}".encode(), digest_size=8).digest(), "little"
        )
        random.seed(number)
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None:
            numpy_random.seed(number & 0xFFFFFFFF)

    def begin(self, item: int) -> Any:
        """Seed for a group of items that begins with ``item``; the state, for :meth:`was_used`."""
        self.seed(item)
        return self._state()

    def was_used(self, before: Any) -> bool:
        """Whether anybody drew since; if so, items are seeded one by one from now on."""
        if self.each_item:
            return False
        after = self._state()
        # A generator that was only now imported was never seeded: that counts as drawn from.
        self.each_item = bool(after[0] != before[0] or after[1] != before[1])
        return self.each_item

    @staticmethod
    def _state() -> tuple[Any, Any]:
        numpy_random = sys.modules.get("numpy.random")
        drawn: Any = None
        if numpy_random is not None:
            state = numpy_random.get_state(legacy=False)
            inner = state["state"]
            drawn = (
                (inner.get("pos"), bytes(inner["key"][:8]), state["has_gauss"])
                if "key" in inner
                else repr(state)
            )
        return random.getstate(), drawn
