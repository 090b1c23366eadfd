"""Workers on this machine, forked from a server that has loaded the job."""

from __future__ import annotations

import errno
import marshal
import mmap
import os
import pickle
import resource
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import forks, script, storage
from penstock import worker_note as note
from penstock.abc import Death, Message, Reading
from penstock.backends import likeness, main_script
from penstock.backends.census import Census
from penstock.backends.enclosure import Enclosure
from penstock.backends.forkserver import SLOTS
from penstock.backends.frames import Unpacker, pack
from penstock.backends.marks import VARIABLE, new_run, of_server
from penstock.backends.processes import Helper, WorkerTree, cpu_seconds, end_sessions
from penstock.backends.silence import Silence, Silent
from penstock.errors import PenstockError
from penstock.peaks import HugePages
from penstock.proc import TRACKER_SECONDS, held

# Not by json: a script may have changed how that writes, for the whole process.
_BOOT = (
    "import sys, marshal; _, seen, *numbers = sys.argv; "
    "sys.path[:], sys.argv[:] = marshal.loads(bytes.fromhex(seen)); "
    "from penstock.backends.forkserver import main; main(*map(int, numbers))"
)
_END_SECONDS = 2.0
_LOAD_SECONDS = 300.0
"""A fork server that uses no CPU for so long while it loads a job hangs."""
_TOP_SECONDS = 30.0
"""The same while it runs the top of the main script, without which it can do."""
_LOADS = 3
"""So often a job is loaded where the fork server did not answer."""
_SEND_SECONDS = struct.pack("ll", 5, 0)
"""Seconds (and microseconds) in which what is said to the fork server has room."""


@dataclass
class _Worker:
    slot: int
    connection: socket.socket
    incoming: Unpacker = field(default_factory=Unpacker)
    outgoing: bytearray = field(default_factory=bytearray)
    tree: WorkerTree | None = None
    doomed: bool = False
    owed: bool = True
    """Whether the server owes an answer: that it is born, or that it is dead."""

    @property
    def pid(self) -> int | None:
        """Its process, once it is known."""
        return None if self.tree is None else self.tree.pid


class Local:
    """The backend ``local``: a fork server and its workers."""

    def __init__(self) -> None:
        self.output = False
        """Whether workers write to this process's stdout and stderr, where no log takes it."""
        self._here = forks.Here()
        self._server: subprocess.Popen[bytes] | None = None
        self._enclosure: Enclosure | None = None
        self._control: socket.socket | None = None
        self._door: socket.socket | None = None
        """At which workers ask for what they share with this process."""
        self._main: tuple[str, str] | None = None
        """The main script's file and module, where the server is to run it; empty where it is not."""
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        # Guards the table of workers: the governor's thread reads, pauses and kills too.
        self._lock = threading.RLock()
        self._workers: dict[int, _Worker] = {}
        self._slots: dict[int, int] = {}
        self._free_slots = deque(range(SLOTS))
        self._next = 1
        self._events: deque[Message | Death] = deque()
        self._notes_file = os.memfd_create("penstock-notes")
        self._words = note.words(resource.getrlimit(resource.RLIMIT_FSIZE)[0], SLOTS)
        os.ftruncate(self._notes_file, SLOTS * self._words * 8)
        self._notes = memoryview(mmap.mmap(self._notes_file, SLOTS * self._words * 8)).cast("q")
        self._start_with: tuple[bytes, dict[str, str], Path | None] = (b"", {}, None)
        self._cpu = 0.0
        self._silence = Silence()
        self._census: Census | None = None
        self.short = False
        """Whether memory is short: then what is ours is looked for whatever it costs."""
        self._huge = HugePages()
        self._helper = Helper()

    # ------------------------------------------------------------------ the server

    def open(self, setup: bytes, environment: Mapping[str, str], log: Path | None) -> None:
        """Load a job; the fork server is started if it does not run or its environment differs."""
        wanted = (dict(environment), log)
        if self._server is not None and self._start_with[1:] != wanted:
            self._end_server()
        self._start_with = (setup, *wanted)
        try:
            self._load()
        except OSError as error:
            if error.filename is not None and error.errno not in (errno.EMFILE, errno.ENFILE):
                raise  # of a file: told as what it is by whoever knows whose it is
            self._server_lost()
            raise PenstockError(
                f"no workers can be started: {storage.reason(error.errno or 0)}. What is journaled is kept: "
                "see to it, then run the same command again."
            ) from error

    def _load(self) -> None:
        for _ in range(_LOADS):
            try:
                self._try_to_load()
                return
            except Silent:  # another one is started
                self._server_lost()
        raise PenstockError(
            f"the fork server did not answer, {_LOADS} times: somebody stops it, or there is no CPU for it. "
            "See workers.log in the run folder, then run the same command again."
        )

    def _try_to_load(self) -> None:
        setup, environment, log = self._start_with
        if self._server is not None and self._server.poll() is not None:
            self._server_lost()  # wait() has not noticed yet
        if self._server is None:
            self._start_server(environment, log)
            self._begin()
        assert self._control is not None
        job = os.memfd_create("penstock-job")
        try:
            with open(job, "wb", closefd=False) as file:
                file.write(setup)
            os.lseek(job, 0, os.SEEK_SET)
            try:
                socket.send_fds(self._control, [pickle.dumps(("load", None))], [job])
            except OSError as error:  # it is gone, or takes nothing
                raise Silent from error
        finally:
            os.close(job)
        while True:
            what, argument = self._hear()
            if what == "loaded":
                return
            if what == "failed":
                name, message, text = argument
                raise _LoadFailed(name, message, text)
            self._take_word(what, argument)

    def _start_server(self, environment: Mapping[str, str], log: Path | None) -> None:
        self._enclosure = Enclosure()
        out: Any = None if self.output else subprocess.DEVNULL
        if log is not None:
            out = open(log, "ab", buffering=0)  # noqa: SIM115 - before the sockets: it may fail
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            door, ask = likeness.door()
        except OSError:
            ours.close()
            theirs.close()
            raise
        run = new_run()
        environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
        with theirs, ask:
            try:
                seen = marshal.dumps(([os.fspath(each) for each in sys.path], list(map(str, sys.argv))))
                boot = [sys.executable, "-c", _BOOT, seen.hex()]
                passed = (theirs.fileno(), self._notes_file, ask.fileno())
                self._server = subprocess.Popen(
                    self._enclosure.command([*boot, *map(str, passed)]),
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env={VARIABLE: of_server(run), **environ, **environment},
                    start_new_session=True,
                )
            except OSError:
                self._end_enclosure()
                raise
            finally:
                if log is not None:
                    out.close()
        # What is said to a server that does not listen must not hold up who says it.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_SECONDS)
        if not self._enclosure.active:
            self._census = Census(self._server.pid, run)
        self._control, self._silence = ours, Silence()
        self._selector.register(ours, selectors.EVENT_READ, "control")
        self._close_door()
        self._door = door
        self._selector.register(door, selectors.EVENT_READ, "door")

    def _close_door(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(door)
            door.close()

    def _answer(self) -> None:
        if self._door is not None and not likeness.answer(self._door):
            self._close_door()

    def _begin(self) -> None:
        """Have the server be like this process, and run the main script where that has a main guard."""
        if self._main is None:
            self._main = main_script.of_this_process()
        assert self._control is not None
        try:
            self._control.send(pickle.dumps(("begin", (likeness.of_this_process(), *self._main))))
            _, told = self._hear(_TOP_SECONDS if self._main[0] else _LOAD_SECONDS)
        except (OSError, Silent, PenstockError):
            if not self._main[0]:
                raise
            told = (
                f"{self._main[0]} ends its process, or waits, when workers import it: they go on without it"
            )
            self._main = "", ""
            self._server_lost()
            self._start_server(*self._start_with[1:])
            self._begin()
        script.tell(told)

    def _hear(self, patience: float = _LOAD_SECONDS) -> tuple[str, Any]:
        """The server's next word; waits for it while the server uses CPU, or for its death.

        Args:
            patience: seconds without CPU after which it hangs.
        """
        assert self._control is not None
        assert self._server is not None
        silence = Silence(patience)
        while self._control.fileno() not in (heard := self._listen_to_both()):
            if heard:
                self._answer()
                continue
            over = silence.over(self._server.pid)
            if over == "stopped":
                raise Silent
            if over:
                self._server.kill()
                raise PenstockError(
                    f"loading the job hung: the fork server used no CPU for {patience:.0f} s while it "
                    "imported the function's module; does that wait for something when it is imported?"
                )
        data = b""
        with suppress(ConnectionError):  # it ended before it had heard all that was said to it
            data = self._control.recv(1 << 16)
        if not data:
            raise PenstockError(
                "the fork server ended while it loaded the job: a module that the function imports "
                "crashes, or there is no memory for it; see workers.log in the run folder"
            )
        what, argument = pickle.loads(data)
        return what, argument

    def _listen_to_both(self) -> set[int]:
        assert self._control is not None
        ears = [self._control] if self._door is None else [self._control, self._door]
        return likeness.readable(*ears, milliseconds=500)

    def _end_server(self) -> None:
        if self._server is None or self._control is None:
            return
        self._cpu += cpu_seconds(self._server.pid)  # told no more once it is gone
        with suppress(OSError):
            self._control.send(pickle.dumps(("end", None)))
        with suppress(KeyError, ValueError):
            self._selector.unregister(self._control)
        self._control.close()
        try:
            self._server.wait(_END_SECONDS + TRACKER_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill_server()
        self._server = self._control = None
        self._end_enclosure()
        self._end_census()

    def _end_enclosure(self) -> None:
        """End whoever is left of the server's and its workers' groups, and the groups."""
        if self._enclosure is not None:
            self._enclosure.close()
            self._enclosure = None

    def _end_census(self) -> None:
        """End whoever the server and its workers left behind."""
        census, self._census = self._census, None
        if census is not None:
            census.close()

    def _kill_server(self) -> None:
        """Its workers die with it."""
        assert self._server is not None
        self._server.kill()
        with suppress(subprocess.TimeoutExpired):  # in the midst of I/O that does not end
            self._server.wait(_END_SECONDS)

    # ------------------------------------------------------------------ workers

    def start(self) -> int:
        """Ask for a worker; its ``Ready`` arrives through :meth:`wait`."""
        if self._server is None or self._server.poll() is not None:
            self._load()
        assert self._control is not None
        slot = self._free_slots.popleft()
        self._notes[slot * self._words : slot * self._words + note.HEAD] = _BLANK
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = self._next
        self._next += 1
        with theirs, self._lock:
            self._workers[worker] = _Worker(slot, ours)
            self._slots[slot] = worker
            entrance = None if self._enclosure is None else self._enclosure.entrance(worker)
            descriptors = [theirs.fileno()] if entrance is None else [theirs.fileno(), entrance]
            with suppress(OSError):  # the server has just died: wait() notices
                socket.send_fds(self._control, [pickle.dumps(("fork", slot))], descriptors)
            if entrance is not None:
                os.close(entrance)
        return worker

    def send(self, worker: int, content: Any) -> None:
        """Queue a message; what the socket does not take at once is sent by :meth:`wait`."""
        with self._lock:
            entry = self._workers.get(worker)
            if entry is not None:
                if self._enclosure is not None:
                    self._enclosure.order(worker, entry.pid)
                entry.outgoing += pack(content)
                self._flush(worker, entry)

    def _flush(self, worker: int, entry: _Worker) -> None:
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
                self._answer()
            elif (entry := self._workers.get(key.data)) is not None:
                if mask & selectors.EVENT_WRITE:
                    self._flush(key.data, entry)
                if mask & selectors.EVENT_READ:
                    self._collect(key.data, entry)
        self._mind_server()
        if self._enclosure is not None:
            self._enclosure.tidy()
        happened = list(self._events)
        self._events.clear()
        return happened

    def _mind_server(self) -> None:
        """A server that owes an answer and does not give it goes; the next worker starts another."""
        if self._server is None or not any(entry.owed for entry in self._workers.values()):
            self._silence.renew()
        elif self._silence.over(self._server.pid):
            self._server_lost()

    def _listen(self) -> None:
        assert self._control is not None
        data = self._control.recv(1 << 16)
        if not data:
            self._server_lost()
            return
        self._take_word(*pickle.loads(data))

    def _take_word(self, what: str, argument: Any) -> None:
        self._silence.renew()
        if what == "born":
            slot, pid = argument
            entry = self._workers[self._slots[slot]]
            entry.owed = entry.doomed
            with suppress(OSError), self._lock:  # it may be gone already: its death follows
                entry.tree = WorkerTree(pid, self._huge)
                if entry.doomed:
                    entry.tree.send(signal.SIGKILL)
            # Only now is it heard: whoever gives it work can read its memory, pause it and kill it.
            self._selector.register(entry.connection, selectors.EVENT_READ, self._slots[slot])
            self._flush(self._slots[slot], entry)
        elif what == "died":
            slot, _, status, cpu = argument
            self._cpu += cpu
            self._bury(self._slots[slot], status)
        elif what == "unborn":
            slot, why = argument
            self._bury(self._slots[slot], int(signal.SIGKILL), f"no process could be started: {why}")

    def _server_lost(self) -> None:
        """Without the server no status is told: its workers were killed with it, their children not."""
        if self._control is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(self._control)
            self._control.close()
        if self._server is not None:
            self._kill_server()
        self._server = self._control = None
        trees = [entry.tree for entry in self._workers.values() if entry.tree is not None]
        sessions = {tree.pid: tree.began for tree in trees}
        for worker in list(self._workers):
            self._bury(worker, int(signal.SIGKILL))
        end_sessions(sessions)
        self._end_enclosure()
        self._end_census()

    def _bury(self, worker: int, status: int, why: str = "") -> None:
        entry = self._workers[worker]
        self._collect(worker, entry)  # what it said before it died counts
        noted = self.noted(worker)
        for_memory = None
        if self._enclosure is not None:
            for_memory = self._enclosure.kernel_killed(worker)  # told no more once the group is gone
            self._enclosure.bury(worker)
        with self._lock:
            del self._workers[worker], self._slots[entry.slot]
            self._free_slots.append(entry.slot)
            with suppress(KeyError, ValueError):
                self._selector.unregister(entry.connection)
            entry.connection.close()
            if entry.tree is not None:
                entry.tree.close()
        if entry.tree is not None and (census := self._census) is not None:
            census.end(entry.tree.pid)
        killed = os.WIFSIGNALED(status)
        self._events.append(
            Death(
                worker,
                os.WTERMSIG(status) if killed else None,
                None if killed else os.WEXITSTATUS(status),
                noted,
                why,
                for_memory,
            )
        )

    def _collect(self, worker: int, entry: _Worker) -> None:
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
        """Make :meth:`wait` return; from any thread."""
        os.eventfd_write(self._wake, 1)

    def preload(self, modules: Iterable[str]) -> None:
        """Have the fork server import what workers were seen to import, so that later ones share it."""
        if self._control is not None:
            with suppress(OSError):
                self._control.send(pickle.dumps(("import", tuple(modules))))

    # ------------------------------------------------------------------ watching

    @property
    def cpu(self) -> float:
        """CPU seconds of the workers that have ended and of the fork server."""
        return self._cpu + (cpu_seconds(self._server.pid) if self._server is not None else 0.0)

    def noted(self, worker: int) -> tuple[int, int, int]:
        """(item, start and stop of the call) that a worker is at; item -1 between items."""
        with self._lock:
            entry = self._workers.get(worker)
            if entry is None:
                return -1, -1, -1
            at = entry.slot * self._words
            return (
                self._notes[at + note.ITEM],
                self._notes[at + note.CALL_START],
                self._notes[at + note.CALL_STOP],
            )

    def early(self, worker: int) -> tuple[int, bytes]:
        """The number of the batch that a worker is at, and the results that it has laid down of it."""
        with self._lock:
            entry = self._workers.get(worker)
            if entry is None:
                return 0, b""
            at = entry.slot * self._words
            number = self._notes[at + note.BATCH]
            room = self._notes[at + note.HEAD : at + self._words].cast("B")
            return number, bytes(room[: self._notes[at + note.EARLY]])

    def cut(self, worker: int) -> None:
        """Ask a worker to end its batch soon."""
        with self._lock:
            entry = self._workers.get(worker)
            if entry is not None:
                self._notes[entry.slot * self._words + note.CUT] = 1

    def read(self) -> Mapping[int, Reading]:
        """Memory and CPU of every worker's tree."""
        with self._lock:
            self._huge.recent()  # so that what is counted from here on is ours, mostly
            trees = {worker: entry.tree for worker, entry in self._workers.items() if entry.tree is not None}
            read = ((worker, tree.read()) for worker, tree in trees.items())
            readings = {worker: reading for worker, reading in read if reading is not None}
            if self._enclosure is not None:
                for worker, tree in trees.items():
                    if worker in readings:
                        readings[worker] = self._enclosure.read(worker, readings[worker], tree.pid)
            for tree in trees.values():
                if (what := tree.slow()) is not None:
                    self._helper.ask(what)
            census = self._census
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
        census, server = self._census, self._server
        if census is not None:
            return census.beside
        return held(server.pid) if server is not None else 0

    def shared(self) -> int:
        """Bytes of shared memory that all of them hold, as of the last reading."""
        census = self._census
        return 0 if census is None else census.shared

    def total(self) -> int | None:
        """Bytes of the control group of the run, where there is one."""
        enclosure = self._enclosure
        return None if enclosure is None else enclosure.total()

    def top(self) -> int:
        """The most that :meth:`total` was between its last two calls."""
        enclosure = self._enclosure
        return 0 if enclosure is None else enclosure.top()

    def fence(self, worker: int, most: int) -> None:
        """Have the kernel end a worker rather than let it hold more, where it is in a group of its own."""
        enclosure = self._enclosure
        if enclosure is not None:
            enclosure.fence(worker, most)

    @property
    def measure(self) -> str:
        """How memory is measured; without a server, how it would be."""
        if self._enclosure is not None:
            return self._enclosure.measure
        enclosure = Enclosure()
        try:
            return enclosure.measure
        finally:
            enclosure.close()

    def pause(self, worker: int) -> None:
        """SIGSTOP to the tree."""
        self._signal(worker, signal.SIGSTOP)

    def resume(self, worker: int) -> None:
        """SIGCONT to the tree."""
        self._signal(worker, signal.SIGCONT)

    def kill(self, worker: int) -> None:
        """SIGKILL to the tree."""
        self._signal(worker, signal.SIGKILL)

    def _signal(self, worker: int, number: signal.Signals) -> None:
        with self._lock:
            entry = self._workers.get(worker)
            if entry is None:
                return
            if number == signal.SIGKILL:
                entry.doomed = entry.owed = True
            in_group = self._enclosure is not None and self._enclosure.send(worker, entry.pid, number)
            # A group's kill on v1 may miss who is born meanwhile; the tree's then takes its parent.
            if entry.tree is not None and (not in_group or number == signal.SIGKILL):
                entry.tree.send(number)
                if (census := self._census) is not None:
                    census.send(entry.tree.pid, number)

    def close(self) -> None:
        """End all workers, then the server; a child that this process's own code forked has none to end."""
        if self._here.left():
            return
        with self._lock:
            for worker in list(self._workers):
                self.kill(worker)
        deadline = time.monotonic() + _END_SECONDS
        while self._workers and self._server is not None and time.monotonic() < deadline:
            self.wait(0.05)
        self._end_server()
        self._close_door()
        for worker in list(self._workers):
            self._bury(worker, int(signal.SIGKILL))
        self._helper.stop()
        self._selector.close()
        self._notes.release()
        for descriptor in (self._wake, self._notes_file):
            os.close(descriptor)


class _LoadFailed(PenstockError):
    """The job could not be loaded in the fork server."""

    def __init__(self, name: str, message: str, text: str) -> None:
        super().__init__(
            f"the job cannot be loaded in a worker: {name}: {message}. A worker finds modules through the "
            f"same sys.path as this process; it does not see names that exist only here.\n{text}"
        )


_BLANK = memoryview(bytearray(8 * note.HEAD)).cast("q")
_BLANK[note.ITEM] = _BLANK[note.CALL_START] = _BLANK[note.CALL_STOP] = -1
