"""Partitions of an earlier stage as items."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from penstock.errors import BadInput
from penstock.files import digest
from penstock.partitioned import GROUPS, INDEX, Partition, Partitioned
from penstock.stored import Stored


class Partitions:
    """Partitions kept by :class:`penstock.sinks.Partitions`; an item is one of them, an iterable of tables.

    The tables come in the order of the items that gave their rows, at most 65,536 rows and about 8 MiB at a
    time, so that a function that needs no more than that holds no partition. ``item.table()`` is all of it.

    Args:
        stored: the stage, or the folder that its sink keeps.
        name: of the sink, where the stage keeps several.

    Raises:
        BadInput: there are no partitions.
        ResultsDamaged: a file of the stage is gone, or is not what was kept.
    """

    def __init__(self, stored: Stored | str | os.PathLike[str], name: str = "") -> None:
        folder = Path(stored) / name if name else Path(stored)
        self.stage = stored if isinstance(stored, Stored) else None
        """The stage that they come from: what it lacks is lacking here, and done again with it."""
        if self.stage is not None and self.stage.check is not None:
            self.stage.check()
        if not (folder / INDEX).is_file():
            raise BadInput("holds no partitions: they are what the sink Partitions keeps", file=str(folder))
        self._partitioned = Partitioned(folder)

    def __len__(self) -> int:
        return len(self._partitioned)

    def __repr__(self) -> str:
        return f"Partitions({self._partitioned.folder}, {len(self)} partitions)"

    def read(self, start: int, stop: int) -> Iterator[Partition]:
        """One partition after the other."""
        return (self._partitioned[number] for number in range(start, stop))

    def sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of their rows, uncompressed."""
        return [int(size) for size in self._partitioned.bytes[start:stop]]

    def name(self, item: int) -> str:
        """``"partition 7 of shuffle"``."""
        where = self.stage.name if self.stage is not None else self._partitioned.folder.name
        return f"partition {item} of {where}"

    def fingerprint(self) -> Mapping[str, str]:
        """The fingerprint of the lists that name every file with its digest."""
        folder = self._partitioned.folder
        return {name: digest(folder / name) for name in (INDEX, GROUPS)}
