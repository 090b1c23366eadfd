"""The fork server: the process that workers are forked from.

It has loaded the job and the function's modules (and warmed their JIT), so a worker starts in
milliseconds and shares these pages. Where the main script has a main guard, it has run that as well
(:mod:`penstock.backends.main_script`). It runs one thread, and reports who was born and who died. When
its parent goes, everything it started goes.

Started as ``python -c`` by :mod:`penstock.backends.server`; speaks over a SOCK_SEQPACKET socket.
"""

from __future__ import annotations

import gc
import math
import mmap
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from penstock import foreign, forks, temporary
from penstock.backends import likeness, main_script, segments
from penstock.backends.frames import Channel
from penstock.backends.lineage import adopt_orphans, die_with_parent, offer_to_kernel
from penstock.backends.marks import mark_worker, worker_of
from penstock.identity import started
from penstock.proc import TRACKER_SECONDS, tracks_resources

SLOTS = 1024
"""Notes for workers that live at the same time."""
_TRACKERS = ("multiprocessing.resource_tracker", "joblib.externals.loky.backend.resource_tracker")
_ROUNDS = 50
"""Looks at who is left at the end, 10 ms apart, besides those for trackers."""
_ROUNDS_ALONE = 500
"""The same where the parent was killed: nobody waits for us."""
_GONE_SECONDS = 5.0
"""In which a process that was killed is gone, also on a busy machine."""
_LOOK_SECONDS = 1.0
"""Between two looks whether the parent is there, while code of the user's runs."""


def main(descriptor: int, notes: int, ask: int) -> None:
    """Serve until told to end or until the parent is gone.

    Args:
        descriptor: of the control socket.
        notes: of the shared memory that holds the workers' notes.
        ask: of the socket at which our parent answers; see ``likeness``.
    """
    control = socket.socket(fileno=descriptor)
    # A newborn is covered before it can say so itself; workers then go to 1000, before us.
    offer_to_kernel(900)
    adopt_orphans()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # None where our parent has closed its own
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Libraries keep threads that were started while loading; they do not survive a fork, and
    # their authors handle that (pthread_atfork) or their users are told by the log.
    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
    Server(control, mmap.mmap(notes, 0), ask).serve()
    os._exit(0)


class Server:
    """Loads jobs, forks workers, reaps them."""

    def __init__(self, control: socket.socket, notes: mmap.mmap, ask: int) -> None:
        self._control = control
        self._notes = memoryview(notes).cast("q")
        self._words = len(self._notes) // SLOTS
        self._parent = os.getppid()
        self._parent_began = started(self._parent)
        self._ask = ask
        self._numbers: dict[int, int] = {}
        """By process, the number in the name of each worker."""
        self._workers: dict[int, int] = {}
        self._lives: dict[int, tuple[float, float]] = {}
        """When each worker began, and ended: at infinity while it lives."""
        self._killed: dict[int, tuple[float, float]] = {}
        """Those of them that were killed, as long as they may have left something."""
        self._trackers: dict[int, float] = {}
        """Resource trackers whose worker is gone, and when each is ended."""
        self._told_to_end = False
        self._look_at = 0.0
        """When it is looked next whether workers ended unheard, by the monotonic clock."""
        self._job: Any = None
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        self._wake_by = wake
        self._hear_of_children()

    def _hear_of_children(self) -> None:
        """Be told of each child's end, whatever our parent or code of the user's has set: a module's may be
        ``signal(SIGCHLD, SIG_IGN)``, after which the kernel tells nobody how a worker ended."""
        signal.set_wakeup_fd(self._wake_by, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def serve(self) -> None:
        """Serve requests until the end."""
        while os.getppid() == self._parent:
            ready = likeness.readable(self._control, self._wake, milliseconds=1000)
            if self._wake in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake, 4096)
            self._reap()
            self._reap_unheard(time.monotonic())
            if self._trackers:
                self._kill_orphans()
            self._tidy()
            if self._control.fileno() in ready and not self._command():
                break
        self._end()
        if not self._told_to_end and not _children(os.getpid()):
            segments.remove_left(self._lives)  # of a run that was killed: nobody waits for them
            self._sweep()

    def _sweep(self) -> None:
        """Remove the temporary folders of a parent that was killed, once it is gone.

        Its end of the socket is closed, and we are another's child, a moment before it is.
        """
        until = time.monotonic() + _GONE_SECONDS
        while started(self._parent) == self._parent_began and time.monotonic() < until:
            time.sleep(0.005)
        for place in dict.fromkeys((tempfile.gettempdir(), "/var/tmp")):
            temporary.sweep_again(Path(place))

    def _command(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 4)
        except OSError:
            return False
        if not data:
            return False
        what, argument = pickle.loads(data)
        if what == "begin":
            self._begin(*argument)
        elif what == "load":
            with self._ending_with_parent():
                self._load(descriptors[0])
        elif what == "import":
            with self._ending_with_parent():
                self._import(argument)
        elif what == "fork":
            return self._fork(argument, *descriptors)
        self._told_to_end = what == "end"
        return not self._told_to_end

    def _begin(self, of_parent: likeness.Likeness, path: str, module: str) -> None:
        likeness.take(of_parent, self._ask)
        with self._ending_with_parent():
            told = main_script.run(path, module) if path else ""
        self._say("begun", told)

    @contextmanager
    def _ending_with_parent(self) -> Iterator[None]:
        """While code of the user's runs, which may wait for ever, end with the parent all the same."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(_LOOK_SECONDS):
                if os.getppid() != self._parent:
                    for pid in _children(os.getpid()):
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    self._sweep()
                    os._exit(1)

        watch = threading.Thread(target=look, daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()
            self._hear_of_children()

    def _load(self, descriptor: int) -> None:
        self._job = None
        here = forks.Here()
        try:
            with open(descriptor, "rb") as file:
                self._job = pickle.load(file)
            self._job.warm()
            here.stay()  # a module that forks when it is imported gives us no second server
        except BaseException as error:
            here.stay(error)
            text = traceback.format_exc()
            self._say("failed", (foreign.kind_of(error), foreign.told(error), text[-20_000:]))
            return
        # What is here stays: collections in the workers need not look at it, nor unshare it. Nor is it looked
        # at again for the next job: all that is left of this one then is what its cycles hold.
        gc.collect()
        gc.freeze()
        self._say("loaded", None)

    def _import(self, modules: tuple[str, ...]) -> None:
        here = forks.Here()
        for module in modules:
            with suppress(Exception):  # it worked in a worker; if not here, each imports its own
                import_module(module)
            here.stay()
        gc.collect()
        gc.freeze()

    def _fork(self, slot: int, connection: int, entrance: int = -1) -> bool:
        _flush()
        server = os.getpid()
        number = likeness.number_of(self._numbers.values())
        try:
            pid = os.fork()
        except OSError as error:  # no memory, no process left: the parent tries again later
            _close(connection, entrance)
            self._say("unborn", (slot, str(error)))
            return True
        if pid == 0:
            self._be_worker(server, slot, connection, entrance, number)
        _close(connection, entrance)
        self._workers[pid] = slot
        self._numbers[pid] = number
        self._lives[pid] = time.time(), math.inf
        self._say("born", (slot, pid))
        return True

    def _be_worker(self, server: int, slot: int, connection: int, entrance: int, number: int) -> None:
        code = 1
        try:
            if entrance >= 0:  # into the control group that was made for it
                with suppress(OSError):
                    os.write(entrance, b"0")
                os.close(entrance)
            offer_to_kernel(1000)
            die_with_parent(server)
            os.setsid()
            adopt_orphans()
            mark_worker()
            likeness.be_worker(number)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake)
            words = self._notes[slot * self._words : (slot + 1) * self._words]
            channel = Channel(socket.socket(fileno=connection))
            try:
                self._job.serve(channel, words)
            finally:
                channel.detach()
            likeness.leave()
            code = 0
        except SystemExit as told:
            code = told.code if type(told.code) is int else 1
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = 0  # the parent is gone
        except BaseException:
            traceback.print_exc()
        finally:
            _flush()
            os._exit(code)

    def _reap(self) -> None:
        lost = False  # somebody, so that there may be children of theirs
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            lost = True
            self._ended(pid, status, usage.ru_utime + usage.ru_stime)
        if lost:
            self._kill_orphans()

    def _reap_unheard(self, now: float) -> None:
        """Workers that ended while a module that is being imported had SIGCHLD ignored: the kernel tells of
        them no more, not even how they ended."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        for pid in list(self._workers):
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self._ended(pid, int(signal.SIGKILL), 0.0)
                self._kill_orphans()

    def _ended(self, pid: int, status: int, cpu: float) -> None:
        slot = self._workers.pop(pid, None)
        self._numbers.pop(pid, None)
        if pid in self._lives:
            self._lives[pid] = self._lives[pid][0], time.time()
        if slot is not None and os.WIFSIGNALED(status):
            self._killed[pid] = self._lives[pid]
        if slot is not None:
            self._say("died", (slot, pid, status, cpu))

    def _tidy(self) -> None:
        """Remove what killed workers left; what their children have mapped goes when these are gone."""
        if self._killed:
            mapped = segments.remove_left(self._killed)
            self._killed = {pid: life for pid, life in self._killed.items() if pid in mapped}

    def _kill_orphans(self) -> None:
        """Children that a dead worker left behind were given to us; not those of one that lives."""
        now = time.monotonic()
        trackers, self._trackers = self._trackers, {}
        for pid in _children(os.getpid()):
            if pid in self._workers or self._is_of_living(pid):
                continue
            if tracks_resources(pid) and now < (until := trackers.get(pid, now + TRACKER_SECONDS)):
                self._trackers[pid] = until
                continue
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _is_of_living(self, pid: int) -> bool:
        try:
            return worker_of(pid) in self._workers
        except LookupError:
            return False

    def _say(self, what: str, argument: Any) -> None:
        with suppress(OSError):
            self._control.send(pickle.dumps((what, argument)))

    def _end(self) -> None:
        for pid in list(self._workers):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _leave_trackers()
        # Orphans of orphans come to us one generation at a time.
        rounds, spared = 0, time.monotonic() + TRACKER_SECONDS
        while rounds < (_ROUNDS if self._told_to_end else _ROUNDS_ALONE):
            waits = False
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            for pid in _children(os.getpid()):
                if time.monotonic() < spared and tracks_resources(pid):
                    waits = True
                    continue
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            rounds += not waits
            time.sleep(0.01)


def _leave_trackers() -> None:
    """Let the resource trackers of this process itself end; they wait until it has."""
    for name in _TRACKERS:
        tracker = getattr(sys.modules.get(name), "_resource_tracker", None)
        descriptor = getattr(tracker, "__dict__", {}).get("_fd")  # one that is asked for is no own one
        if isinstance(descriptor, int):
            with suppress(OSError):
                os.close(descriptor)


def _flush() -> None:
    """What was printed is not printed again by who is forked; whatever has become of the streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []
