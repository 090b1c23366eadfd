"""Copy-on-write pages that forked processes share, which summing over processes counts several times.

They are told by proportional shares, which the kernel walks page by page: read as often as that cost allows.
"""

from __future__ import annotations

import time

from penstock.supervise.cadence import COST
from penstock.supervise.tree import Tree

_CREDIT = 0.1
"""CPU seconds that may be spent on it at once."""
_SELDOM = 1.0
"""Seconds after which shares are read again, though nothing has changed that shows."""


class CommonPages:
    """Pages that the processes of a tree share.

    Args:
        tree: the processes, as they were read last.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._common = self._anonymous = 0
        self._known: set[int] = set()
        """Whose shares were read last."""
        self._at = self._next = time.time()
        self._credit = _CREDIT
        self.spent = 0.0
        """CPU seconds that reading shares took so far."""

    def may_be(self) -> bool:
        """Whether any two may share anonymous pages: separately started programs do not."""
        return any(each.forked for each in self._tree.processes.values())

    def apart(self) -> int:
        """Anonymous bytes of the tree, less pages known to be shared and those that new forks brought."""
        processes = self._tree.processes
        new = processes.keys() - self._known
        born = sum(
            min(processes[pid].born, processes[pid].anonymous) for pid in new if processes[pid].born > 0
        )
        return self._tree.anonymous - self._common - born

    def is_worth_reading(self, now: float, above: bool) -> bool:
        """Whether to read proportional shares for an ordinary reading of the tree.

        Args:
            now: seconds since the epoch.
            above: whether the sum would be a new peak.
        """
        if not self.may_be() or now < self._next or self._credit_at(now) <= 0:
            return False
        processes = self._tree.processes
        new = any(pid not in self._known and not each.inside for pid, each in processes.items())
        return new or above or now >= self._at + _SELDOM

    def may_be_read(self, now: float) -> bool:
        """Whether to read proportional shares where much depends on it.

        In a storm of forks the sum grows: then they are read again and again, whatever it takes.
        """
        grown = self._tree.anonymous > 1.05 * self._anonymous
        return now >= self._next and (grown or self._credit_at(now) > 0)

    def read(self, now: float) -> None:
        """Read the proportional shares of all processes with an address space of their own."""
        begin = time.thread_time()
        processes = {pid: each for pid, each in self._tree.processes.items() if not each.inside}
        self._common = sum(process.in_common() for process in processes.values())
        self._known = set(processes)
        cost = time.thread_time() - begin
        self._credit = self._credit_at(now) - cost
        self._at, self._next, self._anonymous = now, now + 5 * cost, self._tree.anonymous
        self.spent += cost

    def _credit_at(self, now: float) -> float:
        return min(self._credit + (now - self._at) * COST / 2, _CREDIT)
