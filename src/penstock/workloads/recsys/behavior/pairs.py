"""Co-occurrence: pairs of items by user, and each item's most frequent partners.

Items are numbers here, in the ascending order of their ids. All functions are exact: they add up integers, so
that nothing depends on how rows lie in files, or on how many are looked at together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.hashing import mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 1 << 20
"""Pairs that are made, or counts that are gathered, before they are added up."""


@dataclass(frozen=True)
class Baskets:
    """The distinct items of each user.

    Attributes:
        starts: int64 (users + 1): where the items of each begin.
        items: int64, ascending within a user.
    """

    starts: NDArray[np.int64]
    items: NDArray[np.int64]

    @classmethod
    def of(cls, users: NDArray[np.int64], items: NDArray[np.int64], size: int) -> Baskets:
        """Baskets from rows in any order, with any repeats.

        Args:
            users: numbers from 0.
            items: numbers from 0.
            size: items that there are.
        """
        pairs = np.unique(users * size + items)
        counts = np.bincount(pairs // max(size, 1), minlength=int(users.max(initial=-1)) + 1)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), pairs % max(size, 1))

    def capped(self, most: int, draws: NDArray[np.uint64], users: NDArray[np.uint64]) -> Baskets:
        """At most so many items per user: those with the smallest hashes of user and item.

        Args:
            most: items of a user.
            draws: the hash of each item.
            users: the hash of each user.
        """
        counts = np.diff(self.starts)
        if not (counts > most).any():
            return self
        number = np.repeat(np.arange(len(counts)), counts)
        drawn = mix(draws[self.items] ^ users[number])
        order = np.lexsort((self.items, drawn, number))
        place = np.arange(len(order)) - self.starts[:-1][number]
        kept = np.sort(order[place < most])
        return Baskets(np.concatenate([[0], np.cumsum(np.minimum(counts, most))]), self.items[kept])

    @property
    def pairs(self) -> int:
        """The number of pairs of distinct items, in both directions."""
        counts = np.diff(self.starts)
        return int((counts * (counts - 1)).sum())


def count_pairs(baskets: Baskets, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs as item * size + other item, ascending, with the number of users that have both; in chunks."""
    counts = np.diff(baskets.starts)
    partners = np.repeat(counts, counts)  # of each row
    first = np.repeat(baskets.starts[:-1], counts)
    ends = np.cumsum(partners)
    low = 0
    while low < len(partners):
        before = ends[low - 1] if low else 0
        high = max(int(np.searchsorted(ends, before + AT_ONCE, "right")), low + 1)
        own = partners[low:high]
        within = np.arange(own.sum()) - np.repeat(np.cumsum(own) - own, own)
        one = np.repeat(baskets.items[low:high], own)
        other = baskets.items[np.repeat(first[low:high], own) + within]
        apart = one != other
        yield np.unique((one * size + other)[apart], return_counts=True)
        low = high


def add_up(
    counted: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct keys, ascending, with the sums of their counts.

    Memory holds the different keys, and as many again before they are added up.
    """
    keys, sums = np.zeros(0, np.int64), np.zeros(0, np.int64)
    waiting: list[tuple[Any, Any]] = []
    held = 0
    for key, count in counted:
        waiting.append((key, count))
        held += len(key)
        if held > max(AT_ONCE, len(keys)):
            keys, sums = _added([(keys, sums), *waiting])
            waiting, held = [], 0
    return _added([(keys, sums), *waiting]) if waiting else (keys, sums)


def _added(parts: list[tuple[Any, Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    keys = np.concatenate([key for key, _ in parts])
    counts = np.concatenate([count for _, count in parts])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(counts[order], starts) if len(starts) else counts[:0]


def most_frequent(
    keys: NDArray[np.int64], counts: NDArray[np.int64], size: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Each item's most frequent partners; ties by number, ascending.

    Args:
        keys: item * size + other item, ascending.
        counts: of each.
        size: items that there are.
        most: others of an item.

    Returns (item, rank from 1, other item, count), by item and rank.
    """
    items, others = keys // max(size, 1), keys % max(size, 1)
    order = np.lexsort((others, -counts, items))
    starts = np.flatnonzero(np.diff(items, prepend=-1))  # keys ascend, so items do
    first = np.repeat(starts, np.diff(starts, append=len(items)))
    rank = np.arange(len(items)) - first + 1
    kept = rank <= most
    return items[order][kept], rank[kept], others[order][kept], counts[order][kept]


def shares(items: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each count as a share of its item's total; equal items are adjacent."""
    starts = np.flatnonzero(np.diff(items, prepend=-1))
    if not len(starts):
        return np.zeros(0)
    sums = np.add.reduceat(counts, starts)
    found: NDArray[np.float64] = counts / np.repeat(sums, np.diff(starts, append=len(items)))
    return found
