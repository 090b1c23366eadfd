"""The memory of each process of a tree, from ``/proc`` files that are kept open.

The supervisor adopts orphans (it is a subreaper), so a process that has been seen stays in the tree
until it ends, also when it has left its session or its parent has ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from penstock import proc
from penstock.identity import after_command
from penstock.peaks import HugePages, Mark, Peak, between, fault_size, faults_below, fields, take
from penstock.proc import KernelFile, find

_THREADS_EVERY = 8
"""Children of threads other than the main one are looked for at every eighth reading."""
_STACKS = 64 << 10
"""Kernel memory of a process beside its page tables: stacks, task and file structures (about)."""
_LONGEST = 200


class Process:
    """One process as of its last reading. All sizes in bytes.

    Args:
        pid: its number.
        parent: the process that it was found under, or None for the first of the tree.
        huge: the machine's count of huge pages.
        root: the process above the tree.
    """

    __slots__ = (
        "_at_fork", "_before", "_children", "_faults_below", "_host", "_huge", "_kept", "_named", "_owned",
        "_peak", "_stat", "_status", "anonymous", "below", "born", "command", "forked", "highest", "mark",
        "memory", "parent", "pid", "readings", "rise", "seen", "shared", "tables", "threads",
    )  # fmt: skip

    def __init__(self, pid: int, parent: Process | None, huge: HugePages, root: int = 0) -> None:
        folder = Path(f"/proc/{pid}")
        self.pid, self.parent = pid, 0 if parent is None else parent.pid
        self._status = KernelFile(folder / "status")
        self._stat = KernelFile(folder / "stat")
        self._children = KernelFile(folder / f"task/{pid}/children")
        self._kept = bool(self._status.read())  # False: gone, or no descriptor is left for it
        self.memory = self.anonymous = self.shared = self.mark = self.highest = self.tables = 0
        self._owned = self._faults_below = 0
        self._huge = huge
        self._peak: Peak | None = None
        self.threads, self.readings = 1, 0
        self._before = 0
        self._named = 1 << 20
        self.seen = 0.0
        self.below = 0
        """The highest resident mark of a process that was found under it."""
        self.rise = 0
        """How far it went, between two readings, above what it held at either."""
        # Asked first: what it is called, and holds, is then its own if the answer is no.
        self._host = self.parent or root
        if self._host and not proc.same_memory(pid, self._host):
            self._host = 0
        self.command = command_of(pid)
        self.forked = (
            parent is not None
            and not self._host
            and (parent.command == self.command or (parent.renamed() and parent.command == self.command))
        )
        """Whether it was forked and has not run another program since: its pages are its parent's."""
        self.born = -1
        """What it has in common with its parent, about, if it was forked."""
        self._at_fork = 0 if parent is None else parent.anonymous

    @property
    def inside(self) -> bool:
        """Whether it still runs in its parent's address space (it has not called exec), counted there."""
        return self._host > 0

    def read(self, now: float) -> bool:
        """Read it again; False when it has ended."""
        if self._host:
            if proc.same_memory(self.pid, self._host):
                return True
            self._host, self.command = 0, command_of(self.pid)
        try:
            stat = fields(self._read_stat())
            text = self._status.read() if self._kept else slurp(f"/proc/{self.pid}/status")
            mark, self.shared = take(stat, text, self._read_stat, self._huge)
        except ValueError:  # gone, or a zombie
            return False
        self._before = self.memory
        self.anonymous = mark.held - self.shared
        self._add_owned()
        self._faults_below = faults_below(stat)
        self.tables = ((find(text, b"VmPTE:") or 0) << 10) + _STACKS
        self.threads = find(text, b"Threads:") or 1
        first = self.seen == 0.0
        if self._peak is None:
            # A forked one's high-water mark begins with its parent's pages, another's at nothing.
            begin = mark if self.forked else self._from_nothing(mark)
            self._peak = Peak(begin, fault_size())
        # The kernel's own high-water mark misses no spike, and counts mapped files: see the rule.
        self.rise = self._peak.feed(mark) - mark.held
        self.mark, self.seen = mark.mark, now
        self.readings += 1
        if first and self.forked:
            self.born = min(self.anonymous, self._at_fork)
        self.highest = max(self.highest, self.memory + self.rise)
        if self.memory > self._named:
            self._named = 2 * self.memory + (1 << 20)
            if self.renamed():  # meanwhile: what was read was the memory of the program before
                return self.read(now)
        return True

    def _read_stat(self) -> bytes:
        return self._stat.read() if self._kept else slurp(f"/proc/{self.pid}/stat")

    def _from_nothing(self, mark: Mark) -> Mark:
        huge, collapsed = self._huge.begin
        return mark._replace(mark=0, held=0, before=0, faults=0, huge=huge, collapsed=collapsed)

    def own(self, shared: int) -> None:
        """Set the shared memory that it was first seen to hold, mapped or not. In bytes."""
        self._owned = shared
        self._add_owned()
        self.highest = max(self.highest, self.memory + self.rise)

    def _add_owned(self) -> None:
        self.memory = self.anonymous + max(self.shared, self._owned)

    def last_rise(self, most: int, faults: int) -> int:
        """How far its memory rose after the last reading, as the kernel reported at its end.

        Args:
            most: the most that was resident, of it or of a child that it had waited for.
            faults: its page faults, those of such children included.
        """
        if self._peak is None or most <= max(self.mark, self.below):
            return 0
        last = self._peak.last
        since = max(faults - self._faults_below, last.before)
        huge, collapsed = self._huge.read()
        end = last._replace(mark=most, held=0, faults=since, huge=huge, collapsed=collapsed)
        return between(last, end, fault_size()) - last.held

    @property
    def held(self) -> int:
        """Bytes at the last reading, the higher of the last two: a process that ends shrinks first."""
        return max(self.memory, self._before)

    def children(self, *, of_threads: bool) -> Iterator[int]:
        """Its children: of its main thread, and on request of its other threads too."""
        main = f"/proc/{self.pid}/task/{self.pid}/children"
        yield from map(int, (self._children.read() if self._kept else slurp(main)).split())
        if of_threads and self.threads > 1:
            with suppress(OSError):
                for thread in Path(f"/proc/{self.pid}/task").iterdir():
                    if thread.name != str(self.pid):
                        yield from map(int, slurp(f"{thread}/children").split())

    def in_common(self) -> int:
        """How much of its anonymous memory is other processes' share of common pages; slow (20 ms a GiB).

        0 where that is not told: another user's process, or an old kernel.
        """
        # Both numbers are of one moment, in which it may have grown since it was read.
        whole, part = proc.share(self.pid)
        if not whole and not proc.held(self.pid):
            return self.anonymous  # it has ended since: what it had of these the others have alone now
        return max(whole - part, 0)

    def renamed(self) -> bool:
        """Read its command line again; returns whether it runs another program now."""
        command = _line_of(self.pid)
        if command in ("", self.command):  # empty: it is about to end
            return False
        self.command, self.forked, self.born = command, False, -1
        self._peak = None if self._peak is None else self._fresh(self._peak.last)
        return True

    def _fresh(self, last: Mark) -> Peak:
        """Its mark began anew with another program."""
        return Peak(last._replace(mark=0, held=0), fault_size())


class Tree:
    """All descendants of this process.

    Args:
        root: the process whose descendants they are, this one by default.
    """

    def __init__(self, root: int | None = None) -> None:
        self._root = os.getpid() if root is None else root
        self._children = KernelFile(Path(f"/proc/{self._root}/task/{self._root}/children"))
        self._turn = 0
        self.huge = HugePages()
        """The machine's count of huge pages."""
        self.processes: dict[int, Process] = {}
        """Those alive at the last reading."""

    def read(self, now: float) -> list[Process]:
        """Read them all again; returns those that have ended since the last reading."""
        self._turn += 1
        self.huge.recent()
        of_threads = self._turn % _THREADS_EVERY == 0
        before, self.processes = self.processes, {}
        # A process once seen is read by its own descriptor, whoever its parent is now.
        todo: list[tuple[int, Process | None]] = [(pid, None) for pid in before]
        todo += [(int(pid), None) for pid in self._children.read().split()]
        ended = []
        looked = set()
        while todo:
            pid, parent = todo.pop()
            if pid in looked:
                continue
            looked.add(pid)
            process = before.get(pid)
            if process is not None and not process.read(now):
                ended.append(process)
                process = None  # the number may be another process's by now
            if process is None:
                process = Process(pid, parent, self.huge, self._root)
                if not process.read(now):
                    continue
            self.processes[pid] = process
            todo += [(child, process) for child in process.children(of_threads=of_threads)]
        for process in self.processes.values():
            above = self.processes.get(process.parent)
            if above is not None:
                above.below = max(above.below, process.mark, process.below)
        return ended

    def members(self) -> set[int]:
        """Those alive at the last reading, and any started since: none is too young for a signal."""
        return {*self.processes, *proc.descendants(self._root)}

    @property
    def anonymous(self) -> int:
        """Anonymous bytes at the last reading; pages that two share count twice."""
        return sum(process.anonymous for process in self.processes.values())

    @property
    def shared(self) -> int:
        """Bytes of shared memory that processes map, counted once per mapping."""
        return sum(process.shared for process in self.processes.values())

    def largest(self, most: int) -> list[Process]:
        """The largest processes, in descending order."""
        return sorted(self.processes.values(), key=lambda each: -each.memory)[:most]


def slurp(path: str) -> bytes:
    """Read a small file of ``/proc``; empty if it is gone or not readable."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read() or b""
    except OSError:
        return b""


def command_of(pid: int) -> str:
    """A process's command line as one would type it, shortened; empty if it is gone."""
    return _line_of(pid) or slurp(f"/proc/{pid}/comm").decode(errors="replace").strip()


def _line_of(pid: int) -> str:
    import shlex

    words = slurp(f"/proc/{pid}/cmdline").rstrip(b"\0").split(b"\0")
    line = shlex.join(word.decode(errors="replace") for word in words) if words != [b""] else ""
    line = "".join(letter if letter.isprintable() else " " for letter in line)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def has_ended(pid: int) -> bool:
    """Whether a process is gone or a zombie."""
    stat = slurp(f"/proc/{pid}/stat")
    return not stat or after_command(stat)[:1] in b"ZX"


def ancestors(pid: int) -> Iterable[int]:
    """The process's parent, its parent, and so on, as far as they are visible."""
    while pid > 1:
        stat = slurp(f"/proc/{pid}/stat")
        if not stat:
            return
        pid = int(after_command(stat).split()[1])
        yield pid
