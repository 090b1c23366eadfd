"""Memory and CPU of a worker's process tree, from ``/proc``, cheap enough to read every 10 ms."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from penstock import storage
from penstock.abc import Reading
from penstock.backends.frames import Unpacker
from penstock.identity import after_command, began, send
from penstock.patience import Unwaiting
from penstock.peaks import HugePages, Mark, Peak, fault_size, fields, resident, take
from penstock.proc import descendants, held_apart, image, same_memory, share, tracks_resources

_TICK = os.sysconf("SC_CLK_TCK")
_NEAR = 1 << 20
"""A child that holds less has hardly anything to share."""
_END_SECONDS = 2.0
_SHARES_EVERY = 0.25
"""Seconds between looks at what forked children have in common with their worker, at least."""
_THREADS_EVERY = 8
"""Children of threads other than the main one are looked for at every eighth reading."""


class WorkerTree:
    """A worker's process and its descendants.

    Args:
        pid: of the worker, alive and ours.
        huge: the machine's count of huge pages.
    """

    def __init__(self, pid: int, huge: HugePages) -> None:
        self.pid = pid
        with ExitStack() as opened:  # all or none
            self._pidfd = os.pidfd_open(pid)
            opened.callback(os.close, self._pidfd)
            self.began = began(pid)
            self._files: dict[str, int] = {}
            for name in ("status", "stat", f"task/{pid}/children"):
                self._files[name] = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
                opened.callback(os.close, self._files[name])
            opened.pop_all()
        self._clear = -1
        with suppress(OSError):
            self._clear = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._count = 0
        self.children: list[int] = []
        """Its descendants at the last reading."""
        self.strays: list[int] = []
        """Others that belong to it, wherever they are; set by whoever knows."""
        self._forked = Forked(pid, _parent(pid))
        self._huge = huge
        self._page = fault_size()
        self._peak: Peak | None = None
        self._before_reset: Mark | None = None
        self._lock = threading.Lock()
        self.asked = False
        """Whether its mark is to be reset, and is not yet."""

    def close(self) -> None:
        """Close the descriptors."""
        with self._lock:  # a number that was given back may be another file's at once
            for descriptor in (self._pidfd, self._clear, *self._files.values()):
                with suppress(OSError):
                    os.close(descriptor)
            self._files = {}
            self._clear = -1

    def send(self, number: signal.Signals) -> None:
        """Signal the whole tree; processes that are gone are skipped.

        Resource trackers are not killed: they end when the others have, or the fork server ends them.
        """
        # The worker first: stopped, it starts no further children.
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return  # its children are the fork server's, and its number may be another's
        family = {self.pid, *descendants(self.pid)}
        for pid in family - {self.pid}:
            send(pid, spared(pid, number), lambda pid: _parent(pid) in family)

    def stop(self) -> None:
        """Stop the worker alone, at once: it takes no more memory until it is killed."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGSTOP)

    def read(self) -> Reading | None:
        """Memory and CPU of the tree now; None when the worker is gone."""
        try:
            mark, shared, cpu = self._mark()
            children = os.pread(self._files[f"task/{self.pid}/children"], 4096, 0)
        except (OSError, KeyError, ValueError):
            return None
        rise = self._feed(mark) - mark.held
        private = mark.held - shared
        self._count += 1
        if children or self.children or self.strays or self._count % _THREADS_EVERY == 0:
            self.children = list(descendants(self.pid))
            sizes = {}
            for pid in (*self.children, *self.strays):
                with suppress(OSError, ValueError):
                    stat = fields(_slurp(f"/proc/{pid}/stat"))
                    cpu += _cpu_of(stat)
                    # Asked first: what it holds is then its own if the answer is no.
                    if not self._forked.is_inside(pid, int(stat[1])):
                        _, anonymous, _, more = resident(_slurp(f"/proc/{pid}/status"))
                        sizes[pid], shared = anonymous, shared + more
            private += self._forked.beside(private, sizes)
        return Reading(private + shared, cpu, shared, peak=private + shared + rise, mark=mark)

    def _mark(self) -> tuple[Mark, int, float]:
        """What the kernel tells of the worker alone, with its shared memory and its CPU."""
        stat = fields(self._stat())
        mark, shared = take(stat, os.pread(self._files["status"], 4096, 0), self._stat, self._huge)
        return mark, shared, _cpu_of(stat)

    def _stat(self) -> bytes:
        return os.pread(self._files["stat"], 1024, 0)

    def _feed(self, mark: Mark) -> int:
        if self._peak is None:
            self._peak = Peak(mark, self._page)
            return mark.held
        most = 0
        before, self._before_reset = self._before_reset, None
        if before is not None and before.at > self._peak.last.at:
            most = self._peak.feed(before)
            self._peak.reset()
        return max(most, self._peak.feed(mark))

    def slow(self) -> Callable[[], None] | None:
        """Slow measurements to make in a thread of their own; None for none."""
        if self.hidden:
            self.asked = True
            return self.reset
        return self._forked.slow() if self.children or self.strays else None

    @property
    def hidden(self) -> bool:
        """Whether its high-water mark should be reset, so that a spike cannot hide below it."""
        return self._clear >= 0 and not self.asked and self._peak is not None and self._peak.hidden

    def reset(self) -> None:
        """Reset its high-water mark; blocks on its mmap lock (40 ms were seen), so not in the governor.

        In a thread of its own; what it read just before is fed to the rule by the next :meth:`read`.
        """
        with self._lock, suppress(OSError, KeyError, ValueError):
            mark, _, _ = self._mark()
            os.pwrite(self._clear, b"5", 0)
            self._before_reset = mark
        self.asked = False

    def io(self) -> int:
        """Bytes read and written by the worker so far; 0 where that is not known."""
        with suppress(OSError, ValueError, IndexError):
            lines = _slurp(f"/proc/{self.pid}/io").splitlines()
            return sum(int(line.split()[1]) for line in lines[:2])
        return 0


@dataclass
class LocalWorker:
    """A worker as its parent knows it, from the moment that it is asked for."""

    slot: int
    connection: socket.socket
    incoming: Unpacker = field(default_factory=Unpacker)
    outgoing: bytearray = field(default_factory=bytearray)
    tree: WorkerTree | None = None
    doomed: bool = False
    owed: bool = True
    """Whether the server owes an answer: that it is born, or that it is dead."""
    unwatched: str = ""
    """Why nobody can look at its process, where it is there: then it must not work."""

    @property
    def pid(self) -> int | None:
        """Its process, once it is known."""
        return None if self.tree is None else self.tree.pid

    def watch(self, pid: int, huge: HugePages) -> None:
        """It is born. Kills it where it cannot be watched: nobody could keep it inside the budget.

        Args:
            pid: of its process.
            huge: the machine's count of huge pages.
        """
        self.owed = self.doomed
        try:
            self.tree = WorkerTree(pid, huge)
        except (FileNotFoundError, ProcessLookupError):
            return  # it is gone already: its death follows
        except OSError as error:
            self.unwatched = f"its process cannot be watched: {storage.reason(error.errno or 0)}"
            self.owed = True
            with suppress(OSError):  # the server tells of it only when it has heard of its death
                os.kill(pid, signal.SIGKILL)
            return
        if self.doomed:
            self.tree.send(signal.SIGKILL)


class Forked:
    """What forked children hold in addition to their worker: pages in common count once.

    A child that runs another program has pages of its own; one that was forked and does not has its
    parent's, until either writes. How many is told by the kernel's proportional shares, which take 20 ms
    a GiB to add up. Until they are known, such a child counts with what it grew by since it was forked.

    Args:
        pid: of the worker.
        parent: of the process that it was forked from.
    """

    def __init__(self, pid: int, parent: int) -> None:
        self._pid = pid
        self._image = b""
        self._is_forked: dict[int, bool] = {}
        self._own: set[int] = set()
        self._parent = parent
        self._told: tuple[int, dict[int, int]] = (0, {})
        self._sizes: dict[int, int] = {}
        self._next = 0.0
        self._asked = False

    def is_inside(self, pid: int, parent: int) -> bool:
        """Whether a child still runs in its parent's address space, where it is counted already."""
        if pid in self._own:
            return False
        if same_memory(pid, parent):
            return True
        self._own.add(pid)
        return False

    def beside(self, worker: int, sizes: dict[int, int]) -> int:
        """Bytes that children hold in addition to the worker's.

        Args:
            worker: anonymous memory of the worker.
            sizes: anonymous memory of each child.
        """
        if not self._image:
            self._image = image(self._pid)
        for pid in self._is_forked.keys() - sizes.keys():
            del self._is_forked[pid]
        self._own &= sizes.keys()
        # Read once more, after the children: it may have grown before it forked them.
        worker = max(worker, held_apart(self._pid)[0]) if sizes else worker
        extra, before = self._told
        total = most = grown = 0
        forked = {}
        for pid, size in sizes.items():
            if pid not in self._is_forked:
                self._is_forked[pid] = bool(self._image) and image(pid) == self._image
            if self._is_forked[pid]:
                forked[pid] = size
                grown += max(size - before.setdefault(pid, min(size, worker)), 0)
                most = max(most, size - worker)
            else:
                total += size
        self._sizes = forked
        if not forked:
            self._told = (0, {})
        # As it was told and grew since; at least what one of them holds more than the worker.
        return total + max(extra + grown if forked else 0, most)

    def slow(self) -> Callable[[], None] | None:
        """The function that adds up the shares, when it is due."""
        large = any(size > _NEAR for size in self._sizes.values())
        if not large or self._asked or time.monotonic() < self._next:
            return None
        self._asked = True
        return self.add_up

    def add_up(self) -> None:
        """Read the proportional shares of the worker and its forked children."""
        begin, before = time.monotonic(), self._held()
        shares = {pid: told for pid in self._sizes if (told := share(pid))[0]}
        whole, part = share(self._pid)
        part += sum(of_child for _, of_child in shares.values())
        # Pages that all of them have in common with the fork server are the worker's here, whole.
        server, of_server = share(self._parent)
        part += (server - of_server) // (2 + len(shares))
        wait = max(_SHARES_EVERY, 20 * (time.monotonic() - begin))
        if before and self._held() == before:
            self._told = (max(part - whole, 0), {pid: size for pid, (size, _) in shares.items()})
        else:  # the shares are of different moments: somebody ended, or gave much back
            wait = _SHARES_EVERY
        self._next, self._asked = time.monotonic() + wait, False

    def _held(self) -> list[int]:
        """What each of them holds, in MiB."""
        return [sum(held_apart(pid)) >> 20 for pid in (self._pid, *self._sizes)]


class Helper(Unwaiting):
    """Does slow work beside the governor's thread, which must not block."""

    def __init__(self) -> None:
        super().__init__("penstock-helper")
        self._wanted: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def ask(self, what: Callable[[], None]) -> None:
        """Do this soon."""
        self._wanted.put(what)
        self.begin()

    def begin(self) -> None:
        """Start, where something is wanted: before, others may have had all threads that there may be."""
        if not self._wanted.empty() and not self.is_alive():
            with suppress(RuntimeError):
                self.start()

    def stop(self) -> None:
        """End the thread."""
        if self.is_alive():
            self._wanted.put(None)
            self.join(_END_SECONDS)  # a process in the midst of I/O may hold it up

    def run(self) -> None:
        """Work until stopped."""
        while (what := self._wanted.get()) is not None:
            what()


def _parent(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(fields(_slurp(f"/proc/{pid}/stat"))[1])
    return 0


def spared(pid: int, number: signal.Signals) -> signal.Signals:
    """The signal to send in place of this one: resource trackers are continued rather than ended."""
    return signal.SIGCONT if number == signal.SIGKILL and tracks_resources(pid) else number


def end_sessions(leaders: Mapping[int, str]) -> None:
    """Kill what is left of the sessions of dead workers whose orphans nobody adopted.

    A number is not given to another process while there is a session of that number. Where nothing was left
    of one, another process may have begun one of its own since: then that process is its leader.

    Args:
        leaders: when each of the workers began, by its number.
    """
    left = {leader for leader, since in leaders.items() if began(leader) in ("", since)}
    for folder in Path("/proc").glob("[0-9]*") if left else ():
        pid = int(folder.name)
        if _session(pid) in left:
            send(pid, spared(pid, signal.SIGKILL), lambda pid: _session(pid) in left)


def _session(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(after_command(_slurp(f"/proc/{pid}/stat")).split()[3])
    return 0


def cpu_seconds(pid: int) -> float:
    """CPU seconds of one process so far; 0 when it is gone."""
    try:
        return _cpu(_slurp(f"/proc/{pid}/stat"))
    except (OSError, ValueError):
        return 0.0


def state(pid: int) -> str:
    """The one-letter state as ``ps`` prints it: ``"T"`` is stopped; "" when it is gone."""
    try:
        return after_command(_slurp(f"/proc/{pid}/stat"))[:1].decode()
    except (OSError, ValueError):
        return ""


def _slurp(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _cpu(stat: bytes) -> float:
    return _cpu_of(fields(stat))


def _cpu_of(of: list[bytes]) -> float:
    return (int(of[11]) + int(of[12])) / _TICK
