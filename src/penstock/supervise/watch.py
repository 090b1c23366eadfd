"""How much the tree holds, its peak, what is left, and when to look again.

Two ways of measuring. Where the control group is ours alone its counter tells at once what the whole
tree holds, each page counted once. Elsewhere the anonymous memory of the processes is added up, which
counts pages that a parent has in common with its forked children several times; that is corrected by
their proportional shares, read as often as its cost allows. Shared memory is then that of the files
which the processes hold or map (:mod:`penstock.held_memory`), never what merely lies in ``/dev/shm``.

Mapped files are no memory, in the peaks neither (:mod:`penstock.peaks`). The marks that tell these are
the command's own and are not reset: a spike that stays below what files took before is seen only by a
reading at that moment.
"""

from __future__ import annotations

import math
import time
from collections import deque

from penstock import discover
from penstock.backends.sentinel import Sentinel
from penstock.budget import Ceiling, GiB, MiB
from penstock.held_memory import Shared
from penstock.meter import Meter
from penstock.supervise.group import Group
from penstock.supervise.tree import Process, Tree
from penstock.supervise.verdict import Gone, Rise, Scope

_COST = 0.003
"""Share of one core that the readings may take."""
_CREDIT = 0.05
"""CPU seconds that may be spent at once, while much happens."""
_QUICK, _CALM, _SLOWEST = 0.01, 0.1, 0.5
_SHARES_CREDIT = 0.1
"""The same for reading what processes have in common."""
_LOOK = 0.5
"""Seconds between readings of the ceilings and their counters."""
_LIST = 1.0
"""Seconds between readings of each process where the group's counter tells the sum and stands still."""
_FILL_RATE = 6 * GiB
"""Bytes that one core can touch in a second."""
_SMALL = MiB


def pace(cost: float, credit: float, changed: bool, before: float, distance: float) -> float:
    """Seconds until the next reading. Pure.

    Args:
        cost: CPU seconds that a reading takes.
        credit: CPU seconds that may be spent now; saved up in calm.
        changed: whether what is held has changed since the last one.
        before: seconds between the last two.
        distance: bytes until something must be done; infinite where nothing ever is.
    """
    least = _QUICK if credit > 0 else min(max(cost / _COST, _QUICK), _SLOWEST)
    calm = least if changed else min(before * 1.5, max(least, _CALM))
    # Close to the line the cost does not matter: it is crossed within a few readings.
    close = distance / (4 * _FILL_RATE)
    return min(calm, max(close, _QUICK if not changed else 0.001))


class TreeMemory:
    """Reads a tree again and again.

    Args:
        gauge: the ceilings.
        budget: bytes that the tree may hold; None where nobody said.
    """

    def __init__(self, gauge: discover.Gauge, budget: int | None = None, tree: Tree | None = None) -> None:
        self.tree = Tree() if tree is None else tree
        self._counters = Group()
        self.group = self._counters if self._counters.is_ours(()) else None
        """Our control group, where it holds nobody else: it tells the sum."""
        self.budget = budget
        self._shared = Shared()
        self._shared_held = 0
        self._owners: dict[int, int] = {}
        self._sentinel: Sentinel | None = None
        self._own = Meter()
        self._own_before = self._own.held()
        used = self.group.used() if self.group else None
        self._before = used or 0
        if used is None:
            self.group = None
        self._gauge = gauge
        self.ceilings: tuple[Ceiling, ...] = gauge.read()
        self._own_kills: int | None = None
        self._kills = self._count()
        self._counted = time.time()
        self._looked = self._listed = 0.0
        self._list_every = 0.02
        self._shares_at = self._shares_next = time.time()
        self._shares_credit = _SHARES_CREDIT
        self._shares_of: set[int] = set()
        self._over = 0
        self._in_common = self._shares_held = self._listed_used = 0
        self._cost, self._credit, self._extra = 0.0, _CREDIT, 0.0
        self.interval = _QUICK
        self.used = self.peak = 0
        """Bytes that the tree held at the last reading; the most."""
        self.peak_at = time.time()
        """When that was, in seconds since the epoch."""
        self.tables = 0
        """Bytes that the kernel held besides, page tables and stacks; the most."""
        self.free = math.inf
        """Bytes left at the last reading, under the budget and every ceiling."""
        self.at = time.time()
        """When the last reading was."""
        self._recent: deque[tuple[int, float]] = deque(maxlen=128)
        self.gone: deque[Gone] = deque(maxlen=64)
        """The last processes that ended, of those that held more than 1 MiB."""
        self.rises: list[Rise] = []
        """Kernel kills, as the counters told them."""
        self.count = 0
        """How many processes were alive at the last reading of each."""

    def listen(self) -> None:
        """Look at once when a file appears in ``/dev/shm``, from a thread with the signals blocked as now."""
        self._sentinel = Sentinel(lambda: self._shared.hear(self._owners))

    def close(self) -> None:
        """Listen no more."""
        if self._sentinel is not None:
            self._sentinel.close()

    # ------------------------------------------------------------------ reading

    def read(self) -> float:
        """Read once; the seconds until the next time."""
        begin = time.thread_time()
        now = time.time()
        self._extra = 0.0
        before, before_at = self.used, self.at
        used = self._used(now)
        if self.group is not None and self._is_worth_listing(used, now):
            self._list(now)
            used = used if self.group is not None else self._added_up(now)
        if now - self._looked >= _LOOK or self._is_short():
            self._look(now)
        changed = abs(used - before) > max(self.peak // 128, _SMALL)
        self.used, self.at = used, now
        self._recent.append((used, now))
        if used > self.peak:
            self.peak, self.peak_at = used, now
        self._add_spikes(now)
        free = min((_left(each, used) for each in self.ceilings if each.scope == "tree"), default=math.inf)
        self.free = free if self.budget is None else min(free, self.budget - used)
        spent = time.thread_time() - begin - self._extra
        self._cost = spent if self._cost == 0.0 else 0.8 * self._cost + 0.2 * spent
        self._credit = min(self._credit + _COST * (now - before_at) - spent, _CREDIT)
        self.interval = pace(self._cost, self._credit, changed, self.interval, self.free)
        return self.interval

    def _is_short(self) -> bool:
        """Whether the end may be near: then the last readings must name what was held, and by whom."""
        return self.free < 64 * MiB or (self.used > 0 and self.free < self.used / 8)

    def _list(self, now: float) -> None:
        """Read each process, and whose the shared memory is."""
        for process in self.tree.read(now):
            self._note_gone(process, now)
        self._owners = {pid: pid for pid in self.tree.processes}
        held = self._shared.read(self._owners, self.tree.shared, 0, short=self._is_short())
        self._shared_held = held.all
        for pid, process in self.tree.processes.items():
            process.own(held.by_owner.get(pid, 0))
        if now - self._listed >= self._list_every:
            # Soon after the start it is looked at more often: much changes then.
            self._listed, self._list_every = now, min(2 * self._list_every, _LIST)
            for process in self.tree.largest(16):
                process.renamed()
            if self.group is not None and not self.group.is_ours(self.tree.processes):
                # Somebody else came in, or the command moved out: from now on the processes are added up.
                self.group = None
        self.count = len(self.tree.processes)
        self.tables = max(self.tables, sum(each.tables for each in self.tree.processes.values()))

    def _used(self, now: float) -> int:
        if self.group is not None:
            used = self.group.used()
            if used is not None:
                return max(used - self._before - (self._own.held() - self._own_before), 0)
            self.group = None
        self._list(now)
        return self._added_up(now)

    def _is_worth_listing(self, used: int, now: float) -> bool:
        """Whether the group's sum should be told apart into processes again."""
        moved = abs(used - self._listed_used) > max(self._listed_used // 8, 16 * MiB)
        killed = self._counters.kernel_kills() != self._own_kills
        if not (moved or killed or now - self._listed >= self._list_every or self._is_short()):
            return False
        self._listed_used = used
        if killed:
            self.count_kills(now)
        return True

    def _added_up(self, now: float) -> int:
        processes = self.tree.processes
        held = self.tree.anonymous
        largest = max((each.anonymous for each in processes.values()), default=0)
        used = self._apart(held)
        if self._may_share() and now >= self._shares_next and self._credit_for_shares(now) > 0:
            new = any(pid not in self._shares_of and not each.inside for pid, each in processes.items())
            if new or used + self._shared_held > 1.02 * self.peak or now >= self._shares_at + _LIST:
                self._read_shares(now)
                used = self._apart(held)
        return max(used, largest) + self._shared_held

    def _may_share(self) -> bool:
        """Whether any two may have anonymous pages in common: programs of their own have not."""
        return any(each.forked for each in self.tree.processes.values())

    def _apart(self, held: int) -> int:
        """``held`` without what was found to be in common, and what new forks brought with them."""
        processes = self.tree.processes
        new = processes.keys() - self._shares_of
        born = sum(
            min(processes[pid].born, processes[pid].anonymous) for pid in new if processes[pid].born > 0
        )
        return held - self._in_common - born

    def _credit_for_shares(self, now: float) -> float:
        return min(self._shares_credit + (now - self._shares_at) * _COST / 2, _SHARES_CREDIT)

    def _read_shares(self, now: float) -> None:
        begin = time.thread_time()
        processes = {pid: each for pid, each in self.tree.processes.items() if not each.inside}
        self._in_common = sum(process.in_common() for process in processes.values())
        self._shares_of = set(processes)
        cost = time.thread_time() - begin
        self._shares_credit = self._credit_for_shares(now) - cost
        self._shares_at, self._shares_next, self._shares_held = now, now + 5 * cost, self.tree.anonymous
        self._extra += cost

    def is_over(self, line: int) -> bool:
        """Whether the tree holds more than ``line`` bytes for sure, no page counted twice.

        What it takes long to know is not asked all the time: it may say no for a moment.
        """
        self._over = self._over + 1 if self.used > line else 0
        if self._over == 0 or self.group is not None:
            return self._over > 0
        if not self._may_share():
            return self._over > 1  # one reading may have met a process between two programs
        now = time.time()
        # In a storm of forks the sum grows: then it is asked again and again, whatever it takes.
        grown = self.tree.anonymous > 1.05 * self._shares_held
        if now < self._shares_next or not (grown or self._credit_for_shares(now) > 0):
            return False
        self._read_shares(now)
        self.used = self._added_up(now)
        return self.used > line

    def last_second(self) -> tuple[int, float]:
        """(the most that the tree held in the second up to the last reading, when that was)."""
        return max((each for each in self._recent if each[1] >= self.at - 1.0), default=(self.used, self.at))

    def own(self) -> int:
        """Anonymous + shared bytes of this process."""
        return self._own.held()

    def _add_spikes(self, now: float) -> None:
        """Let the kernel's high-water marks raise the peak: what happened between two readings."""
        if not self.tree.processes:
            return
        if self.group is None:
            top = self.used + max(each.rise for each in self.tree.processes.values())
        else:  # what the others held at that moment is not known: of one process alone, then
            top = max(each.memory + each.rise for each in self.tree.processes.values())
        if top > self.peak:
            self.peak, self.peak_at = top, now

    # ------------------------------------------------------------------ who ended

    def _note_gone(self, process: Process, now: float) -> None:
        if process.highest >= _SMALL:
            self.gone.append(
                Gone(process.pid, process.command, process.held, process.seen, now, most=process.highest)
            )

    def ended(self, pid: int, signal: int | None, most: int, faults: int) -> None:
        """A child of ours has ended.

        Args:
            pid: its number.
            signal: what ended it, if a signal did.
            most: the resident peak of it, or of a child of its own that had ended, as the kernel told it
                at the end; 0 where that cannot be believed.
            faults: the page faults of all of these.
        """
        now = time.time()
        process = self.tree.processes.pop(pid, None)
        if process is None:
            for place, gone in enumerate(self.gone):
                if gone.pid == pid and not gone.reaped:
                    self.gone[place] = Gone(
                        pid, gone.command, gone.memory, gone.seen, gone.noticed, signal, True, gone.most
                    )
            return
        # Its last rise came after its last reading. Of the others only the last reading is known.
        # What a child of its own held was counted as the child's.
        rise = process.last_rise(most, faults)
        top = max(process.highest, process.memory + rise)
        self.gone.append(Gone(pid, process.command, process.held, process.seen, now, signal, True, top))
        if rise and self.used + rise > self.peak:
            self.peak, self.peak_at = self.used + rise, now

    # ------------------------------------------------------------------ ceilings and kills

    def _look(self, now: float) -> None:
        begin = time.thread_time()
        self._looked = now
        self.count_kills(now)
        self._extra += time.thread_time() - begin

    def count_kills(self, now: float | None = None) -> None:
        """Read the ceilings, and compare their counters of kernel kills with the last time."""
        now = time.time() if now is None else now
        self.ceilings = self._gauge.read()
        counts = self._count()
        risen = [
            (self._SCOPES.index(scope), count - self._kills[origin][1], origin)
            for origin, (scope, count) in counts.items()
            if origin in self._kills and count > self._kills[origin][1]
        ]
        if risen:
            # The narrowest counter speaks: the wider ones count the same kills, and others'.
            level, count, origin = min(risen)
            scope = self._SCOPES[level]
            if scope != "machine" or all(each == "machine" for each, _ in counts.values()):
                self.rises.append(Rise(count, origin, scope, self._counted, now, self.last_second()[0]))
        self._kills, self._counted = counts, now

    _SCOPES: tuple[Scope, ...] = ("ours", "group", "machine")

    def _count(self) -> dict[str, tuple[Scope, int]]:
        """Counters by origin: (whose processes they count, kills so far)."""
        found: dict[str, tuple[Scope, int]] = {}
        own = str(self._counters.folder)
        kills = self._counters.kernel_kills()
        self._own_kills = kills
        if kills is not None:
            found[own] = ("group", kills)
        for ceiling in self.ceilings:
            if ceiling.kernel_kills is not None and ceiling.scope == "tree":
                scope: Scope = "group" if "cgroup" in ceiling.origin else "machine"
                found[ceiling.origin] = (scope, ceiling.kernel_kills)
        if self.group is None:
            return found
        # Of our own group, and of those below it, every process is ours.
        return {
            origin: ("ours" if own in origin else scope, count) for origin, (scope, count) in found.items()
        }

    @property
    def counts_kills(self) -> bool:
        """Whether kernel kills are counted anywhere here."""
        return bool(self._kills)

    def tightest(self) -> Ceiling | None:
        """The ceiling of the tree that leaves least now."""
        tree = [each for each in self.ceilings if each.scope == "tree"]
        return min(tree, key=lambda each: _left(each, self.used), default=None)


def _left(ceiling: Ceiling, used: int) -> int:
    return ceiling.bytes - (ceiling.used or used)


def own_peak() -> int:
    """The resident peak of this process, which a child's own begins with (the kernel's accounting)."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
