"""Deduplicates rows of one request and item: the first impression counts.

First is by time (rows without one go last), position (likewise), and number of the row: nothing hangs on the
order that rows come in where times and positions tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.hashing import mix
from penstock.workloads.recsys.hashing import hashes
from penstock.workloads.recsys.ranking.columns import IDENTITY, POSITION
from penstock.workloads.recsys.ranking.rules import Rules, keep
from penstock.workloads.recsys.ranking.sorting import ROW
from penstock.workloads.recsys.shared.tables import floats_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PASS = 2_000_000
"""Rows of a query that are compared at once."""
_BATCH = 65_536
_LAST = np.iinfo(np.int64).max
_TOP = np.uint64(48)
"""Bits of a word below its first sixteen."""


@dataclass(frozen=True)
class Shown:
    """Rows that may repeat each other.

    Attributes:
        query: int64: number of the query of each.
        items: uint64: hash of the item of each.
        order: int64 arrays by which the first is told, the most important first.
    """

    query: NDArray[np.int64]
    items: NDArray[np.uint64]
    order: tuple[NDArray[Any], ...]

    @classmethod
    def of(
        cls, table: Any, times: NDArray[np.int64] | None, items: NDArray[np.uint64],
        query: NDArray[np.int64], row: NDArray[np.int64],
    ) -> Shown:  # fmt: skip
        """From rows of the samples, and what is known of them."""
        order: list[NDArray[Any]] = []
        if times is not None:
            order.append(np.where(times == np.iinfo(np.int64).min, _LAST, times))
        if POSITION in table.schema.names:
            positions = floats_of(table.column(POSITION), zero=False)
            order.append(np.where(np.isnan(positions), np.inf, positions))
        return cls(query, items, (*order, row))

    def count(self) -> int:
        """How many rows come after another one, by hashes of 64 bits alone."""
        return len(self._twice(self._words()))

    def repeated(self) -> NDArray[np.bool_]:
        """Which rows repeat an earlier one with the same query and item."""
        found = np.zeros(len(self.query), np.bool_)
        words = self._words()
        twice = self._twice(words)
        if not len(twice):  # the usual case costs one sort
            return found
        near = np.zeros(1 << 16, np.bool_)  # few words begin as one of these does
        near[twice >> _TOP] = True
        some = np.flatnonzero(near[words >> _TOP])
        some = some[np.isin(words[some], twice)]
        keys = (*(each[some] for each in reversed(self.order)), self.items[some], self.query[some])
        order = some[np.lexsort(keys)]
        same = (self.query[order][1:] == self.query[order][:-1]) & (
            self.items[order][1:] == self.items[order][:-1]
        )
        found[order[1:][same]] = True
        return found

    def _words(self) -> NDArray[np.uint64]:
        """A hash of query and item of each row."""
        words: NDArray[np.uint64] = mix(self.items ^ mix(self.query.astype(np.uint64)))
        return words

    @staticmethod
    def _twice(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Words that were there before, ascending, as often as that."""
        ordered = np.sort(words)
        twice: NDArray[np.uint64] = ordered[1:][ordered[1:] == ordered[:-1]]
        return twice


def write_repeats(
    folder: Path, *, paths: Sequence[Path], columns: Sequence[str], queries: Path, most: int, rules: Rules,
    clicks: Path | None = None,
) -> dict[str, int]:  # fmt: skip
    """Write ``repeats.npy``, int64 ascending: repeated rows of queries that no span holds whole.

    Args:
        folder: of the step.
        paths, columns: of the samples, in the order of the queries.
        queries: of ``write_queries``.
        most: rows of a span.
        rules: which rows count.
        clicks: of ``write_clicks``.
    """
    rows = penstock.sources.ParquetRows(paths, columns)
    firsts = np.load(queries / "firsts.npy", mmap_mode="r", allow_pickle=False)
    drawn = np.load(queries / "drawn.npy", mmap_mode="r", allow_pickle=False)
    sizes = np.diff(np.append(firsts, len(rows)))
    found = [np.zeros(0, np.int64)]
    for query in np.flatnonzero((sizes > most) & drawn).tolist():
        begin, stop = int(firsts[query]), int(firsts[query] + sizes[query])
        passes = -(-(stop - begin) // _PASS)
        found += [_repeated(rows, begin, stop, (turn, passes), rules, clicks) for turn in range(passes)]
    repeats = np.sort(np.concatenate(found))
    np.save(folder / "repeats.npy", repeats)
    return {"repeats": len(repeats)}


def _repeated(
    rows: penstock.sources.ParquetRows, begin: int, stop: int, share: tuple[int, int], rules: Rules,
    clicks: Path | None,
) -> NDArray[np.int64]:  # fmt: skip
    """Of the items of one share by hash; numbers of rows of the samples."""
    turn, passes = share
    parts: list[tuple[NDArray[Any], ...]] = []
    for start in range(begin, stop, _BATCH):
        table: Any = rows.read(start, min(start + _BATCH, stop))
        kept = keep(table, rules, clicks)
        items = hashes(kept.datasets, IDENTITY)
        mine = items % np.uint64(passes) == turn
        at = np.flatnonzero(kept.mask)
        table = table.take(at[mine])
        row = np.asarray(table.column(ROW)) if ROW in table.schema.names else start + at[mine]
        times = None if kept.times is None else kept.times[mine]
        shown = Shown.of(table, times, items[mine], np.zeros(len(row), np.int64), row)
        parts.append((shown.items, *shown.order))
    items, *order = (np.concatenate(each) for each in zip(*parts, strict=True))
    together = Shown(np.zeros(len(items), np.int64), items, tuple(order))
    return np.asarray(order[-1][together.repeated()], np.int64)
