"""The global random generators, reseeded from (seed, item), so that no answer depends on batches.

Reseeding costs 10 to 20 us, too much for items of a microsecond. So a group of items is seeded
once, and whether anybody drew is looked at afterwards; if so, the group is worked again with a
seed for each item, and from then on every item is seeded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import random
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NUMPY = "numpy.random"


class Seeder:
    """Seeds ``random`` and, as soon as it is loaded, ``numpy.random``.

    Args:
        seed: the job's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = 0
        self.each_item = False
        """Whether the function is known to draw from a global generator."""
        if _NUMPY not in sys.modules:
            _seed_when_imported(self)

    def seed(self, item: int) -> None:
        """Seed for one item."""
        self._number = int.from_bytes(
            hashlib.blake2b(f"{self._seed}:{item}".encode(), digest_size=8).digest(), "little"
        )
        random.seed(self._number)
        self.seed_numpy()

    def seed_numpy(self) -> None:
        """Seed ``numpy.random`` for the item at hand, if it is loaded."""
        numpy_random = sys.modules.get(_NUMPY)
        if numpy_random is not None:
            numpy_random.seed(self._number & 0xFFFFFFFF)

    def begin(self, item: int) -> Any:
        """Seed for a group of items that begins with ``item``; the state, for :meth:`was_used`."""
        self.seed(item)
        return self._state()

    def was_used(self, before: Any) -> bool:
        """Whether anybody drew since; if so, items are seeded one by one from now on."""
        if self.each_item:
            return False
        after = self._state()
        # A generator that was only now imported may have been drawn from already.
        self.each_item = bool(after[0] != before[0] or after[1] != before[1])
        return self.each_item

    @staticmethod
    def _state() -> tuple[Any, Any]:
        numpy_random = sys.modules.get(_NUMPY)
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


class _Importer:
    """Seeds ``numpy.random`` when a function is the first to import it, before it can draw."""

    def __init__(self) -> None:
        self.seeder: Seeder | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _NUMPY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load, seeder = spec.loader.exec_module, self.seeder

            def load_and_seed(module: ModuleType) -> None:
                load(module)
                if seeder is not None:
                    seeder.seed_numpy()

            spec.loader.exec_module = load_and_seed  # type: ignore[method-assign]
        return spec


_importer = _Importer()


def _seed_when_imported(seeder: Seeder) -> None:
    _importer.seeder = seeder
    if _importer not in sys.meta_path:
        sys.meta_path.insert(0, _importer)
