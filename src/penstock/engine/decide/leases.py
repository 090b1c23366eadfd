"""Leases: which interval of items each node has now, and how large the next one is.

A state machine over intervals of items, as :class:`penstock.engine.decide.schedule.Schedule` is for the
workers of one machine. It knows no clock, no process and no file. Every item is in exactly one of these
places at any time, whatever dies: pending, lent under a ticket, held back (of a node that is lost and not
yet fenced), done.

A ticket counts once, while it is open, for the node that has it, and only inside its interval. What a node
gives back of its lease is pending again. What a lost node had is held back until the node is fenced: only
then nothing that it still writes can get a final name, and another node may work the same items.

Sizes (all in whole grains, so that no grain is worked by two nodes; of a stream in whole stretches):
    half of what is left, over the nodes, to each by how fast it is;
    at most a sixteenth of a node's fair share, and not more of its work than may be lost;
    at least 30 seconds of its work or a sixty-fourth of its share, whatever is less: the last ones are short.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, KeysView, Sequence
from dataclasses import dataclass, field

from penstock.intervals import Intervals

OPEN = 2
"""Leases that a node has at a time, so that it never waits for the next."""
_SHARE, _LEAST_SHARE = 16, 64
_LEAST_SECONDS, _MOST_SECONDS = 30.0, 60.0
_AIM = 0.8
"""Part of its time for which a lease has work: of more, a node that slows down gives some back each time."""
_SECONDS_A_NODE = 0.03
"""With more than 2,000 nodes leases are longer, or whoever passes them on has too many a second."""
_STREAMED = 10
"""A lease cut in the middle of a stretch costs the next node all before it, so there it lasts longer."""


@dataclass(frozen=True, slots=True)
class LentItems:
    """Items lent to a node."""

    ticket: int
    start: int
    stop: int
    seconds: float
    """After so long it takes no more of them, and gives the rest back."""
    floor: int = 0
    """Bytes that were too few for these items elsewhere."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of a lease."""

    lent: LentItems
    kept: tuple[tuple[int, int], ...]
    """What counts of what the node kept."""
    heavier: tuple[tuple[int, int], ...]
    """What does not, as a larger node is to try it."""


@dataclass
class _Lessee:
    alone: int
    rate: float = 0.0
    """Items a second of the whole node; 0 while that is not known."""
    tickets: dict[int, LentItems] = field(default_factory=dict)
    lost: bool = False


class Leases:
    """The state of all leases.

    Args:
        items: how many there are.
        unit: items of a grain, which no two nodes share.
        done: items that are kept already.
        starts: for a source that is read in order, the items where a stretch begins.
    """

    def __init__(
        self,
        items: int,
        unit: int = 1,
        *,
        done: Iterable[tuple[int, int]] = (),
        starts: Sequence[int] | None = None,
    ) -> None:
        self.items = items
        self.unit = unit
        self.done = Intervals(done)
        self._pending = Intervals(self.done.gaps(0, items))
        self._heavy: list[tuple[int, int, int]] = []
        """Intervals that were too large for a node, and the bytes that were too few there."""
        self._first: list[int] = []
        self._nodes: dict[str, _Lessee] = {}
        self._living: dict[str, None] = {}
        self._lost: dict[str, None] = {}
        self._lent = 0
        self._rates, self._rated = 0.0, 0
        """Items a second of the living nodes of which that is known, added up; how many these are."""
        self._wanting: dict[str, None] = {}
        """Nodes with fewer leases than they may have."""
        self._largest: int | None = None
        """Bytes that a worker of the largest living node may use; None where that is to be found again."""
        self._tickets = 0
        self._starts = None
        if starts is not None:
            # At the first grain that begins in each, as the workers of one machine read them.
            rounded = {-(-start // unit) * unit for start in (0, *starts)}
            self._starts = sorted(start for start in rounded if start < items)

    # ------------------------------------------------------------------ questions

    @property
    def finished(self) -> bool:
        """Whether every item is done."""
        return len(self.done) >= self.items

    @property
    def left(self) -> int:
        """Items that are neither leased nor done."""
        return len(self._pending) + sum(stop - start for start, stop, _ in self._heavy)

    @property
    def living(self) -> KeysView[str]:
        """The nodes that are not lost; a view, since every lease of thousands of nodes asks for it."""
        return self._living.keys()

    @property
    def count(self) -> int:
        """The number of living nodes."""
        return len(self._living)

    @property
    def lent(self) -> int:
        """The number of living nodes' leases."""
        return self._lent

    @property
    def held_back(self) -> list[str]:
        """The lost nodes that are not fenced yet."""
        return list(self._lost)

    @property
    def wanting(self) -> list[str]:
        """The nodes that can take another lease, while there are items to lend."""
        return list(self._wanting) if self.left else []

    def tickets(self, node: str) -> list[int]:
        """A node's open leases."""
        return list(self._nodes[node].tickets) if node in self._nodes else []

    # ------------------------------------------------------------------ nodes

    def join(self, node: str, alone: int = 0) -> None:
        """Add a node.

        Args:
            node: its token, which no other has or had.
            alone: bytes that a single worker of it may use.
        """
        if node not in self._nodes:
            self._nodes[node] = _Lessee(alone)
            self._living[node] = self._wanting[node] = None
            if self._largest is not None:
                self._largest = max(self._largest, alone)

    def lose(self, node: str) -> bool:
        """Mark a node lost or excluded: its leases are void; False if that was known.

        Its items are held back until :meth:`fenced`.
        """
        known = self._nodes.get(node)
        if known is None or known.lost:
            return False
        known.lost = True
        if known.alone == self._largest:
            self._largest = None
        del self._living[node]
        self._lost[node] = None
        self._rates, self._rated = self._rates - known.rate, self._rated - bool(known.rate)
        self._lent -= len(known.tickets)
        self._wanting.pop(node, None)
        return True

    def fenced(self, node: str) -> None:
        """A lost node is fenced and can no longer publish a file: its items may be lent again."""
        if not self._nodes[node].lost:
            raise ValueError(f"{node} is not lost")
        del self._lost[node]
        for lent in self._nodes.pop(node).tickets.values():
            self._give_back(lent, Intervals())

    # ------------------------------------------------------------------ lending

    def try_first(self, items: Iterable[int]) -> None:
        """Lend the grains of these before all others, each by itself; streams are still read in order."""
        if self._starts is None:
            self._first = [*items, *self._first]

    def lend(self, node: str) -> LentItems | None:
        """The next items for a node; None if it has enough, or if there are none for it."""
        mine = self._nodes.get(node)
        if mine is None or mine.lost or len(mine.tickets) >= OPEN:
            return None
        found = self._heavy_for(mine) or self._fresh(mine)
        if found is None:
            return None
        self._tickets += 1
        self._lent += 1
        start, stop, floor = found
        lent = mine.tickets[self._tickets] = LentItems(self._tickets, start, stop, self._seconds(), floor)
        if len(mine.tickets) >= OPEN:
            del self._wanting[node]
        return lent

    def shorten(self, node: str, ticket: int, stop: int) -> LentItems:
        """Shorten a lease that was not sent yet to a grain's border: its items are too large to carry."""
        lent = self._nodes[node].tickets[ticket]
        if not lent.start < stop < lent.stop or stop % self.unit:
            raise ValueError(f"a lease of items {lent.start} to {lent.stop} cannot end at {stop}")
        self._pending.add(stop, lent.stop)
        shorter = LentItems(ticket, lent.start, stop, lent.seconds, lent.floor)
        self._nodes[node].tickets[ticket] = shorter
        return shorter

    def _heavy_for(self, node: _Lessee) -> tuple[int, int, int] | None:
        if not self._heavy:
            return None
        largest = self._most_alone()
        for place, (start, stop, floor) in enumerate(self._heavy):
            # Where no larger one lives any more, it is worked once more where it can be.
            if node.alone > floor or largest <= floor:
                del self._heavy[place]
                return start, stop, floor
        return None

    def _most_alone(self) -> int:
        # Asked with each lease: of thousands of nodes it is not looked for each time.
        if self._largest is None:
            self._largest = max((self._nodes[name].alone for name in self._living), default=0)
        return self._largest

    def _fresh(self, node: _Lessee) -> tuple[int, int, int] | None:
        while self._first and self._first[0] not in self._pending:
            self._first.pop(0)
        if self._first:
            start = self._first[0] // self.unit * self.unit
            stop = min(start + self.unit, self.items)
            # Of a grain that is half done only what is left.
            start, stop = next((a, b) for a, b in self._within(start, stop))
        elif (found := self._pending.first()) is not None:
            start, stop = found[0], min(found[1], self._end(found[0], self._size(node)))
        else:
            return None
        self._pending.remove(start, stop)
        return start, stop, 0

    def _within(self, start: int, stop: int) -> Iterable[tuple[int, int]]:
        """The pending intervals among these items."""
        at = start
        while (found := self._pending.first(at=at)) is not None and found[0] < stop:
            yield found[0], min(found[1], stop)
            at = found[1]

    def _end(self, start: int, size: int) -> int:
        """Where a lease of about so many items ends: at a grain's border, or a stretch's."""
        wanted = start + size
        if self._starts is None:
            return max(wanted // self.unit, start // self.unit + 1) * self.unit
        place = bisect_right(self._starts, wanted)
        if self._starts[place - 1] > start:
            return self._starts[place - 1]
        return self._starts[place] if place < len(self._starts) else self.items

    def _size(self, node: _Lessee) -> int:
        nodes = max(self.count, 1)
        share = self.items / nodes
        half = len(self._pending) / (2 * nodes)
        least, most = share / _LEAST_SHARE, share / _SHARE
        if node.rate:
            if self._rated:  # all are to end at one time
                half *= node.rate * self._rated / max(self._rates, node.rate)  # rounded sums may be lower
            least = min(least, _LEAST_SECONDS * node.rate)
            most = min(most, _AIM * self._seconds_of_work() * node.rate)
        return max(int(min(max(half, least), most)), 1)

    def _seconds_of_work(self) -> float:
        return max(_MOST_SECONDS, _SECONDS_A_NODE * self.count)

    def _seconds(self) -> float:
        return self._seconds_of_work() * (1 if self._starts is None else _STREAMED)

    # ------------------------------------------------------------------ taking back

    def settle(
        self,
        node: str,
        ticket: int,
        kept: Iterable[tuple[int, int]],
        *,
        too_large: Iterable[int] = (),
        rate: float = 0.0,
    ) -> Settled | None:
        """Take a returned lease.

        Args:
            node: from whom.
            ticket: of the lease.
            kept: what it kept, in any order. What lies between is pending again.
            too_large: items that were set aside there for want of memory. Where a larger node lives, the
                intervals that they lie in do not count, and are for that one.
            rate: items a second of the whole node; 0 where that is not known.

        Returns:
            None where the ticket is not open: it was told before, or the node was given up.

        Raises:
            ValueError: it tells of items that are not in its lease, or twice of the same; the ticket stays
                open.
        """
        mine = self._nodes.get(node)
        if mine is None or mine.lost or ticket not in mine.tickets:
            return None
        lent = mine.tickets[ticket]
        pairs = sorted(kept)
        self._check(lent, pairs)
        del mine.tickets[ticket]
        self._lent -= 1
        self._wanting[node] = None
        if rate:
            self._rates, self._rated = self._rates + rate - mine.rate, self._rated + (not mine.rate)
            mine.rate = rate
        heavy = self._heavier(mine, lent, pairs, too_large)
        counted = tuple(pair for pair in pairs if pair not in heavy)
        for start, stop in counted:
            self.done.add(start, stop)
        self._heavy += [(start, stop, mine.alone) for start, stop in heavy]
        self._give_back(lent, Intervals([*counted, *heavy]))
        return Settled(lent, counted, tuple(sorted(heavy)))

    def _check(self, lent: LentItems, pairs: Sequence[tuple[int, int]]) -> None:
        at = lent.start
        for start, stop in pairs:
            if not at <= start < stop <= lent.stop:
                raise ValueError(
                    f"of a lease of items {lent.start} to {lent.stop} items {start} to {stop} cannot be kept"
                )
            at = stop

    def _heavier(
        self, node: _Lessee, lent: LentItems, pairs: Sequence[tuple[int, int]], too_large: Iterable[int]
    ) -> set[tuple[int, int]]:
        """The intervals that a larger node is to try, where one lives."""
        if self._most_alone() <= node.alone:
            return set()
        kept, found = Intervals(pairs), set()
        for item in too_large:
            place = bisect_right(pairs, (item, math.inf)) - 1
            if place >= 0 and item < pairs[place][1]:
                found.add(pairs[place])
            else:  # its grain was not kept: that goes by itself
                start = max(item // self.unit * self.unit, lent.start)
                stop = min(start + self.unit, lent.stop)
                found |= {(a, b) for a, b in kept.gaps(start, stop) if a <= item < b}
        return found

    def _give_back(self, lent: LentItems, told: Intervals) -> None:
        for start, stop in told.gaps(lent.start, lent.stop):
            if lent.floor:
                self._heavy.append((start, stop, lent.floor))
            else:
                self._pending.add(start, stop)
