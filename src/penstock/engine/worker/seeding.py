"""Reseeds the global random generators from (seed, item), so that no answer depends on batches.

Reseeding costs 10 to 20 us, too much for items of a microsecond. So a group of items is seeded
once, and whether anybody drew is looked at afterwards: twins of the generators, seeded alike, then
draw something else than they do. If so, what was drawn is drawn again with a seed for each item, and from
then on every item is seeded.
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
        self._twins: list[Any] = []
        self.each_item = False
        """Whether the function is known to draw from a global generator."""
        if _NUMPY not in sys.modules:
            _seed_when_imported(self)

    def seed(self, item: int, *, watched: bool = False) -> None:
        """Seed for one item; ``watched``, so that :meth:`was_used` can be asked."""
        self._number = int.from_bytes(
            hashlib.blake2b(f"{self._seed}:{item}".encode(), digest_size=8).digest(), "little"
        )
        random.seed(self._number)
        self._twins = [random.Random(self._number)] if watched else []
        self.seed_numpy()

    def seed_numpy(self) -> None:
        """Seed ``numpy.random`` for the current item, if it is loaded."""
        numpy_random = sys.modules.get(_NUMPY)
        if numpy_random is not None:
            seed = self._number & 0xFFFFFFFF
            numpy_random.seed(seed)
            if self._twins:
                self._twins[1:] = [numpy_random.RandomState(seed)]

    def begin(self, item: int) -> None:
        """Seed for a group of items that begins with ``item``."""
        self.seed(item, watched=not self.each_item)

    def was_used(self) -> bool:
        """Whether anybody drew since the group began; if so, items are seeded one by one from now on.

        May be asked again and again within the group: it draws as well, from the twins too.
        """
        if self.each_item or not self._twins:
            return False
        self.each_item = random.getrandbits(64) != self._twins[0].getrandbits(64)
        numpy_random = sys.modules.get(_NUMPY)
        if numpy_random is not None:  # without a twin: it was imported, and not by our leave
            twin = self._twins[1] if len(self._twins) > 1 else None
            self.each_item |= twin is None or numpy_random.random_sample() != twin.random_sample()
        return self.each_item


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
