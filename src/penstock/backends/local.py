"""Workers on this machine, forked from a server that has preloaded the job."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from penstock import forks, storage
from penstock.abc import Death, Message, Reading
from penstock.backends.forkserver import SLOTS
from penstock.backends.frames import pack
from penstock.backends.left_memory import LeftMemory
from penstock.backends.likeness import take_closed_streams
from penstock.backends.notes import Notes
from penstock.backends.processes import Helper, LocalWorker, end_sessions
from penstock.backends.server import END_SECONDS, ForkServer, Loaded
from penstock.errors import RunFailed
from penstock.peaks import HugePages
from penstock.proc import held


class Local:
    """The backend ``local``: a fork server and its workers."""

    def __init__(self) -> None:
        self._here = forks.Here()
        take_closed_streams()
        with ExitStack() as opened:  # all or none: there may be no descriptor left for one of them
            self._selector = opened.enter_context(closing(selectors.DefaultSelector()))
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            opened.callback(os.close, self._wake)
            self._selector.register(self._wake, selectors.EVENT_READ)
            self._notes = opened.enter_context(closing(Notes(SLOTS)))
            self._huge = HugePages()
            self._opened = opened.pop_all()
        # Guards the table of workers: the governor's thread reads, pauses and kills too.
        self._lock = threading.RLock()
        self._workers: dict[int, LocalWorker] = {}
        self._slots: dict[int, int] = {}
        self._free_slots = deque(range(SLOTS))
        self._next = 1
        self._events: deque[Message | Death] = deque()
        self._server = ForkServer(self._notes.file, self._selector)
        self._loaded = Loaded()
        self._cpu = 0.0
        self.short = False
        """Whether memory is short: then what is ours is looked for whatever it costs."""
        self._helper = Helper()
        self._left = LeftMemory()

    @property
    def output(self) -> bool:
        """Whether workers write to this process's stdout and stderr, unless there is a log."""
        return self._server.output

    @output.setter
    def output(self, here: bool) -> None:
        self._server.output = here

    # ------------------------------------------------------------------ the server

    def open(self, setup: bytes, environment: Mapping[str, str], log: Path | None) -> None:
        """Load a job; starts a fork server if none runs or its environment differs."""
        wanted = Loaded(setup, dict(environment), log)
        if not wanted.same_process(self._loaded):
            self._server.end()
        self._loaded = wanted
        try:
            self._load()
        except OSError as error:
            if error.filename is not None and error.errno not in (errno.EMFILE, errno.ENFILE):
                raise  # of a file: told as what it is by whoever knows whose it is
            self._server_lost()
            raise RunFailed(
                f"no workers can be started: {storage.reason(error.errno or 0)}. See to it, then do the "
                "same again: what a run folder holds is kept."
            ) from error

    def _load(self) -> None:
        self._server.load(self._loaded, self._take_word, self._server_lost)

    # ------------------------------------------------------------------ workers

    def start(self) -> int:
        """Request a worker; its ``Ready`` arrives through :meth:`wait`."""
        if not self._server.runs:
            self._load()
        slot = self._free_slots.popleft()
        self._notes.clear(slot)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = self._next
        self._next += 1
        with theirs, self._lock:
            self._workers[worker] = LocalWorker(slot, ours)
            self._slots[slot] = worker
            enclosure = self._server.enclosure
            entrance = None if enclosure is None else enclosure.entrance(worker)
            descriptors = [theirs.fileno()] if entrance is None else [theirs.fileno(), entrance]
            with suppress(OSError):  # the server has just died: wait() notices
                self._server.say("fork", slot, descriptors)
            if entrance is not None:
                os.close(entrance)
        return worker

    def send(self, worker: int, content: Any) -> None:
        """Queue a message; what the socket does not take at once is sent by :meth:`wait`."""
        with self._lock:
            entry = self._workers.get(worker)
            if entry is not None:
                if self._server.enclosure is not None:
                    self._server.enclosure.order(worker, entry.pid)
                self._left.given(worker)
                entry.outgoing += pack(content)
                self._flush(worker, entry)

    def _flush(self, worker: int, entry: LocalWorker) -> None:
        with suppress(BlockingIOError, OSError):
            while entry.outgoing:
                sent = entry.connection.send(entry.outgoing)
                del entry.outgoing[:sent]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if entry.outgoing else 0)
        with suppress(KeyError):
            if self._selector.get_key(entry.connection).events != events:
                self._selector.modify(entry.connection, events, worker)

    def wait(self, timeout: float) -> list[Message | Death]:
        """Messages and deaths since the last call."""
        for key, mask in self._selector.select(0 if self._events else timeout):
            if key.data is None:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake)
            elif key.data == "control":
                self._listen()
            elif key.data == "door":
                self._server.answer()
            elif (entry := self._workers.get(key.data)) is not None:
                if mask & selectors.EVENT_WRITE:
                    self._flush(key.data, entry)
                if mask & selectors.EVENT_READ:
                    self._collect(key.data, entry)
        self._mind_server()
        if self._server.enclosure is not None:
            self._server.enclosure.tidy()
        self._left.tidy()
        happened = list(self._events)
        self._events.clear()
        return happened

    def _mind_server(self) -> None:
        """A server that owes an answer and does not give it goes; the next worker starts another."""
        server = self._server
        if server.pid is None or not any(entry.owed for entry in self._workers.values()):
            server.silence.renew()
        elif server.silence.over(server.pid):
            self._server_lost()

    def _listen(self) -> None:
        word = self._server.listen()
        if word is None:
            self._server_lost()
        else:
            self._take_word(*word)

    def _take_word(self, what: str, argument: Any) -> None:
        self._server.silence.renew()
        if what == "born":
            self._welcome(*argument)
        elif what == "died":
            slot, _, status, cpu = argument
            self._cpu += cpu
            self._reap(self._slots[slot], status, self._workers[self._slots[slot]].unwatched)
        elif what == "unborn":
            slot, why = argument
            self._reap(self._slots[slot], int(signal.SIGKILL), f"no process could be started: {why}")

    def _welcome(self, slot: int, pid: int) -> None:
        worker = self._slots[slot]
        entry = self._workers[worker]
        with self._lock:
            entry.watch(pid, self._huge)
        if entry.unwatched:
            return
        # Only now is it heard: whoever gives it work can read its memory, pause it and kill it.
        self._selector.register(entry.connection, selectors.EVENT_READ, worker)
        self._flush(worker, entry)

    def _server_lost(self) -> None:
        """Without the server no status is told: its workers were killed with it, their children not."""
        self._server.drop()
        trees = [entry.tree for entry in self._workers.values() if entry.tree is not None]
        sessions = {tree.pid: tree.began for tree in trees}
        for worker in list(self._workers):
            self._reap(worker, int(signal.SIGKILL))
        end_sessions(sessions)
        self._server.end_groups()

    def _reap(self, worker: int, status: int, why: str = "") -> None:
        entry = self._workers[worker]
        self._collect(worker, entry)  # what it said before it died counts
        noted, left = self.noted(worker), self._notes.left(entry.slot)
        for_memory = None
        if (enclosure := self._server.enclosure) is not None:
            for_memory = enclosure.kernel_killed(worker)  # told no more once the group is gone
            enclosure.reap(worker)
        with self._lock:
            del self._workers[worker], self._slots[entry.slot]
            self._free_slots.append(entry.slot)
            with suppress(KeyError, ValueError):
                self._selector.unregister(entry.connection)
            entry.connection.close()
            if entry.tree is not None:
                entry.tree.close()
        if entry.tree is not None and (census := self._server.census) is not None:
            census.end(entry.tree.pid)
        killed = os.WIFSIGNALED(status)
        self._left.gone(worker, killed=killed)
        self._events.append(
            Death(
                worker,
                os.WTERMSIG(status) if killed else None,
                None if killed else os.WEXITSTATUS(status),
                noted,
                why,
                for_memory,
                left,
            )
        )

    def _collect(self, worker: int, entry: LocalWorker) -> None:
        while True:
            try:
                data = entry.connection.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:  # its end; the server tells how
                entry.owed = True
                with suppress(KeyError, ValueError):
                    self._selector.unregister(entry.connection)
                return
            self._events.extend(Message(worker, content) for content in entry.incoming.feed(data))

    def wake(self) -> None:
        """Make :meth:`wait` return; callable from any thread."""
        os.eventfd_write(self._wake, 1)

    def preload(self, modules: Iterable[str]) -> None:
        """Import in the fork server what workers were seen to import, so that later workers share it."""
        with suppress(OSError):
            self._server.say("import", tuple(modules))

    # ------------------------------------------------------------------ watching

    @property
    def cpu(self) -> float:
        """CPU seconds of the fork server and of the workers that have ended."""
        return self._cpu + self._server.cpu

    def noted(self, worker: int) -> tuple[int, int, int]:
        """(item, start and stop of the call) that a worker is working on; item -1 between items."""
        with self._lock:
            entry = self._workers.get(worker)
            return (-1, -1, -1) if entry is None else self._notes.at(entry.slot)

    def early(self, worker: int) -> tuple[int, bytes]:
        """The number of a worker's current batch, and its results so far."""
        with self._lock:
            entry = self._workers.get(worker)
            return (0, b"") if entry is None else self._notes.early(entry.slot)

    def cut(self, worker: int) -> None:
        """Ask a worker to end its batch soon."""
        with self._lock:
            entry = self._workers.get(worker)
            if entry is not None:
                self._notes.cut(entry.slot)

    def read(self) -> Mapping[int, Reading]:
        """Memory and CPU of every worker's tree."""
        with self._lock:
            self._huge.recent()  # so that what is counted from here on is ours, mostly
            trees = {worker: entry.tree for worker, entry in self._workers.items() if entry.tree is not None}
            read = ((worker, tree.read()) for worker, tree in trees.items())
            readings = {worker: reading for worker, reading in read if reading is not None}
            if (enclosure := self._server.enclosure) is not None:
                for worker, tree in trees.items():
                    if worker in readings:
                        readings[worker] = enclosure.read(worker, readings[worker], tree.pid)
            self._helper.begin()
            for tree in trees.values():
                if (what := tree.slow()) is not None:
                    self._helper.ask(what)
            census = self._server.census
            if census is not None:
                census.short = self.short
                readings = census.read(trees, readings)
        return readings

    def io(self, worker: int) -> int:
        """Bytes that a worker has read and written."""
        with self._lock:
            entry = self._workers.get(worker)
            return entry.tree.io() if entry is not None and entry.tree is not None else 0

    def overhead(self) -> int:
        """Bytes of the fork server, and of processes that belong to no living worker."""
        census, server = self._server.census, self._server.pid
        if census is not None:
            return census.beside
        return held(server) if server is not None else 0

    def shared(self) -> int:
        """Bytes of shared memory that all of them held at the last reading."""
        census = self._server.census
        return 0 if census is None else census.shared

    def total(self) -> int | None:
        """Bytes of the run's control group, where there is one."""
        enclosure = self._server.enclosure
        return None if enclosure is None else enclosure.total()

    def top(self) -> int:
        """The maximum of :meth:`total` between its last two calls."""
        enclosure = self._server.enclosure
        return 0 if enclosure is None else enclosure.top()

    def fence(self, worker: int, most: int) -> None:
        """Have the kernel kill a worker rather than let it hold more, if it has a group of its own."""
        enclosure = self._server.enclosure
        if enclosure is not None:
            enclosure.fence(worker, most)

    @property
    def measure(self) -> str:
        """How memory is measured; without a server, how it would be."""
        return self._server.measure

    def pause(self, worker: int) -> None:
        """SIGSTOP to the worker's tree."""
        self._signal(worker, signal.SIGSTOP)

    def resume(self, worker: int) -> None:
        """SIGCONT to the worker's tree."""
        self._signal(worker, signal.SIGCONT)

    def kill(self, worker: int) -> None:
        """SIGKILL to the worker's tree."""
        self._signal(worker, signal.SIGKILL)

    def _signal(self, worker: int, number: signal.Signals) -> None:
        with self._lock:
            entry = self._workers.get(worker)
            if entry is None:
                return
            if number == signal.SIGKILL:
                entry.doomed = entry.owed = True
                if entry.tree is not None:  # what it has open is told no more when it is gone
                    entry.tree.stop()
                    self._left.look(worker, (entry.tree.pid, *entry.tree.children, *entry.tree.strays))
            enclosure = self._server.enclosure
            in_group = enclosure is not None and enclosure.send(worker, entry.pid, number)
            # A group's kill on v1 may miss who is born meanwhile; the tree's then takes its parent.
            if entry.tree is not None and (not in_group or number == signal.SIGKILL):
                entry.tree.send(number)
                if (census := self._server.census) is not None:
                    census.send(entry.tree.pid, number)
            if entry.tree is not None and number == signal.SIGSTOP:  # behind it: it must not be late
                self._left.look(worker, (entry.tree.pid, *entry.tree.children, *entry.tree.strays))

    def close(self) -> None:
        """End all workers, then the server; does nothing in a child forked by the user's code."""
        if self._here.left():
            return
        with self._lock:
            for worker in list(self._workers):
                self.kill(worker)
        deadline = time.monotonic() + END_SECONDS
        while self._workers and self._server.pid is not None and time.monotonic() < deadline:
            self.wait(0.05)
        self._server.close()
        for worker in list(self._workers):
            self._reap(worker, int(signal.SIGKILL))
        self._left.tidy(last=True)
        self._helper.stop()
        self._opened.close()
