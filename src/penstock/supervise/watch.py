"""A tree's memory: how much it holds, its peak, what is left, and when to read again.

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
from dataclasses import replace

from penstock import discover
from penstock.backends.sentinel import Sentinel
from penstock.budget import Ceiling, MiB, format_size
from penstock.held_memory import Shared
from penstock.meter import Meter
from penstock.supervise.cadence import Cadence, ListingTimes
from penstock.supervise.common_pages import CommonPages
from penstock.supervise.group import Group
from penstock.supervise.kernel_kills import KernelKills
from penstock.supervise.tree import Process, Tree
from penstock.supervise.verdict import Gone

_SMALL = MiB


class TreeMemory:
    """Reads a tree repeatedly.

    Args:
        gauge: the ceilings.
        budget: bytes that the tree may hold; None where nobody said.
    """

    def __init__(self, gauge: discover.Gauge, budget: int | None = None, tree: Tree | None = None) -> None:
        self.tree = Tree() if tree is None else tree
        self.budget = budget
        self._meter = Meter()
        group = Group()
        self.group = GroupSum(group, self._meter) if group.is_ours(()) and group.used() is not None else None
        """Our control group, where it holds nobody else: it tells the sum."""
        self.kills = KernelKills(gauge, group, ours=self.group is not None)
        self.gone = GoneProcesses()
        self._shared = SharedFiles()
        self._common = CommonPages(self.tree)
        self._cadence = Cadence()
        self._listing, self._listed_used = ListingTimes(), 0
        self._over = 0
        self.used = self.peak = 0
        """Bytes that the tree held at the last reading; the most."""
        self.at = self.peak_at = time.time()
        """When these were, in seconds since the epoch."""
        self.tables = 0
        """Bytes that the kernel held besides, page tables and stacks; the most."""
        self.free = math.inf
        """Bytes left at the last reading, under the budget and every ceiling."""
        self._recent: deque[tuple[int, float]] = deque(maxlen=128)
        self.count = 0
        """How many processes were alive at the last reading of each."""

    def listen(self) -> None:
        """Read at once when a file appears in ``/dev/shm``, on a thread with the present signal mask."""
        self._shared.listen()

    def close(self) -> None:
        """Stop listening."""
        self._shared.close()

    # ------------------------------------------------------------------ reading

    def read(self) -> float:
        """Read once; returns the seconds until the next reading."""
        begin, now = time.thread_time(), time.time()
        apart, looking = self._common.spent, 0.0
        before, before_at = self.used, self.at
        used = self._sum(now)
        if self.group is not None and self._is_worth_listing(used, now):
            self._list(now)
            used = used if self.group is not None else self._added_up(now)
        if self.kills.is_due(now) or self._is_short():
            looking = self.count_kills(now)
        changed = abs(used - before) > max(self.peak // 128, _SMALL)
        self.used, self.at = used, now
        self._recent.append((used, now))
        self._raise_peak(used, now)
        self._raise_peak(self._spiked(), now)
        free = min((_left(each, used) for each in self._ceilings()), default=math.inf)
        self.free = free if self.budget is None else min(free, self.budget - used)
        # Shares and counters have an allowance of their own.
        spent = time.thread_time() - begin - looking - (self._common.spent - apart)
        return self._cadence.next(spent, now - before_at, changed=changed, distance=self.free)

    def _is_short(self) -> bool:
        """Whether the end may be near: then the last readings must name what was held, and by whom."""
        return self.free < 64 * MiB or (self.used > 0 and self.free < self.used / 8)

    def _list(self, now: float) -> None:
        """Read each process, and whose the shared memory is."""
        for process in self.tree.read(now):
            self.gone.note(process, self.used, now)
        self._shared.read(self.tree, short=self._is_short())
        if self._listing.is_due(now):
            self._listing.done(now)
            for process in self.tree.largest(16):
                process.renamed()
            if self.group is not None and not self.group.is_ours(self.tree):
                # Somebody else came in, or the command moved out: from now on the processes are added up.
                self.group = None
        self.count = len(self.tree.processes)
        self.tables = max(self.tables, sum(each.tables for each in self.tree.processes.values()))

    def _sum(self, now: float) -> int:
        if self.group is not None:
            used = self.group.used()
            if used is not None:
                return used
            self.group = None
        self._list(now)
        return self._added_up(now)

    def _is_worth_listing(self, used: int, now: float) -> bool:
        """Whether the group's sum should be told apart into processes again."""
        moved = abs(used - self._listed_used) > max(self._listed_used // 8, 16 * MiB)
        killed = self.kills.has_risen()
        if not (moved or killed or self._listing.is_due(now) or self._is_short()):
            return False
        self._listed_used = used
        if killed:
            self.count_kills(now)
        return True

    def _added_up(self, now: float) -> int:
        largest = max((each.anonymous for each in self.tree.processes.values()), default=0)
        used = self._common.apart()
        if self._common.is_worth_reading(now, used + self._shared.held > 1.02 * self.peak):
            self._common.read(now)
            used = self._common.apart()
        return max(used, largest) + self._shared.held

    def is_over(self, line: int) -> bool:
        """Whether the tree certainly holds more than ``line`` bytes, with no page counted twice.

        What it takes long to know is not asked all the time: it may say no for a moment.
        """
        self._over = self._over + 1 if self.used > line else 0
        if self._over == 0 or self.group is not None:
            return self._over > 0
        if not self._common.may_be():
            return self._over > 1  # one reading may have met a process between two programs
        now = time.time()
        if not self._common.may_be_read(now):
            return False
        self._common.read(now)
        self.used = self._added_up(now)
        return self.used > line

    def last_second(self) -> tuple[int, float]:
        """(the peak of the tree in the second up to the last reading, the time of that reading)."""
        return max((each for each in self._recent if each[1] >= self.at - 1.0), default=(self.used, self.at))

    def own(self) -> int:
        """Anonymous + shared bytes of this process."""
        return self._meter.held()

    def _spiked(self) -> int:
        """The most since the reading before, by the kernel's high-water marks."""
        processes = self.tree.processes.values()
        if not processes:
            return 0
        if self.group is None:
            return self.used + max(each.rise for each in processes)
        # What the others held at that moment is not known: of one process alone, then.
        return max(each.memory + each.rise for each in processes)

    def _raise_peak(self, held: int, now: float) -> None:
        if held > self.peak:
            self.peak, self.peak_at = held, now

    # ------------------------------------------------------------------ who ended, kills and ceilings

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
        process, used = self.tree.processes.pop(pid, None), self.used
        if process is None:  # a reading came between its end and this
            process, used = self.gone.reap(pid, signal)
        if process is None:
            return
        # Its last rise came after its last reading. Of the others only the last reading is known.
        # What a child of its own held was counted as the child's.
        rise = process.last_rise(most, faults)
        top = max(process.highest, process.memory + rise)
        self.gone.append(Gone(pid, process.command, process.held, process.seen, now, signal, True, top))
        if rise:
            self._raise_peak(used + rise, now)

    def count_kills(self, now: float | None = None) -> float:
        """Read the ceilings and their kernel-kill counters; returns the CPU seconds that it took."""
        begin = time.thread_time()
        now = time.time() if now is None else now
        self.kills.look(now, self.last_second()[0], ours=self.group is not None)
        return time.thread_time() - begin

    def _ceilings(self) -> list[Ceiling]:
        return [each for each in self.kills.ceilings if each.scope == "tree"]

    def tightest(self) -> Ceiling | None:
        """The ceiling of the tree that leaves least now."""
        return min(self._ceilings(), key=lambda each: _left(each, self.used), default=None)

    def nearest(self) -> str:
        """That ceiling in words: ``"of 4.0 GiB (SLURM ...)"``; empty if there is none."""
        tight = self.tightest()
        return "" if tight is None else f"of {format_size(tight.bytes)} ({tight.origin})"


class GroupSum:
    """A tree's memory from its control group, less this process, if the group holds nobody else.

    Args:
        group: which.
        meter: of this process.
    """

    def __init__(self, group: Group, meter: Meter) -> None:
        self._group, self._meter = group, meter
        self._before, self._own_before = group.used() or 0, meter.held()

    def used(self) -> int | None:
        """Bytes added since the beginning, without those of this process; None if unknown."""
        used = self._group.used()
        return None if used is None else max(used - self._before - (self._meter.held() - self._own_before), 0)

    def is_ours(self, tree: Tree) -> bool:
        """Whether it still holds exactly the tree."""
        return self._group.is_ours(tree.processes)


class SharedFiles:
    """Shared memory of the tree: files that its processes hold open or map."""

    def __init__(self) -> None:
        self._shared = Shared()
        self._owners: dict[int, int] = {}
        self._sentinel: Sentinel | None = None
        self.held = 0
        """Bytes, each page once, at the last reading."""

    def listen(self) -> None:
        """Read at once when a file appears in ``/dev/shm``."""
        self._sentinel = Sentinel(lambda: self._shared.hear(self._owners))

    def close(self) -> None:
        """Stop listening."""
        if self._sentinel is not None:
            self._sentinel.close()

    def read(self, tree: Tree, *, short: bool) -> None:
        """Read what is held, and attribute it to processes.

        Args:
            tree: the processes, as just read.
            short: memory is short: look whatever it costs.
        """
        self._owners = {pid: pid for pid in tree.processes}
        held = self._shared.read(self._owners, tree.shared, 0, short=short)
        self.held = held.all
        for pid, process in tree.processes.items():
            process.own(held.by_owner.get(pid, 0))


class GoneProcesses(deque[Gone]):
    """The last processes that ended, of those that held more than 1 MiB."""

    def __init__(self) -> None:
        super().__init__(maxlen=64)
        self._unreaped: dict[int, tuple[Process, int]] = {}

    def note(self, process: Process, used: int, now: float) -> None:
        """A process was found gone.

        Args:
            process: as it was last read.
            used: bytes that the tree held then.
            now: in seconds since the epoch.
        """
        self._unreaped.pop(process.pid, None)
        self._unreaped[process.pid] = process, used
        if len(self._unreaped) > 64:  # those of others are reaped by them
            del self._unreaped[next(iter(self._unreaped))]
        if process.highest >= _SMALL:
            self.append(
                Gone(process.pid, process.command, process.held, process.seen, now, most=process.highest)
            )

    def reap(self, pid: int, signal: int | None) -> tuple[Process | None, int]:
        """A child was reaped: if it was found gone before, it, and what the tree held when it was last read.

        What was noted of it is taken back: its end is known now.
        """
        process, used = self._unreaped.pop(pid, (None, 0))
        for gone in [each for each in self if each.pid == pid and not each.reaped]:
            if process is None:
                self[self.index(gone)] = replace(gone, signal=signal, reaped=True)
            else:
                self.remove(gone)
        return process, used


def _left(ceiling: Ceiling, used: int) -> int:
    return ceiling.bytes - (ceiling.used or used)


def own_peak() -> int:
    """This process's peak RSS, which a child's own starts with (the kernel's accounting)."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
