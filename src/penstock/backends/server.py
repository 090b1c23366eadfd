"""The fork server, as its parent sees it: start, load a job, request forks, end.

What runs in it is :mod:`penstock.backends.forkserver`. One server follows another where one was lost, or
where a job wants another environment. With it come and go the means to know which processes and memory are
its: control groups, or a census where there are none.
"""

from __future__ import annotations

import marshal
import os
import pickle
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import script
from penstock.backends import likeness, main_script
from penstock.backends.census import Census
from penstock.backends.enclosure import Enclosure
from penstock.backends.marks import VARIABLE, new_run, of_server
from penstock.backends.processes import cpu_seconds
from penstock.backends.silence import Silence, Silent
from penstock.errors import PenstockError, RunFailed
from penstock.proc import TRACKER_SECONDS

# Not by json: a script may have changed how that writes, for the whole process.
_BOOT = (
    "import sys, marshal; _, seen, *numbers = sys.argv; "
    "sys.path[:], sys.argv[:] = marshal.loads(bytes.fromhex(seen)); "
    "from penstock.backends.forkserver import main; main(*map(int, numbers))"
)
END_SECONDS = 2.0
"""In so long a server or worker that was told to end has ended, or is killed."""
_LOAD_SECONDS = 300.0
"""A fork server that uses no CPU for so long while it loads a job hangs."""
_TOP_SECONDS = 30.0
"""The same while it runs the top of the main script, without which it can do."""
_LOADS = 3
"""So often a job is loaded where the fork server did not answer."""
_UNHEARD = "did not answer: somebody stops it, or there is no CPU for it"
_KILLED = "was killed while it loaded the job: there is no memory for it, or somebody kills it"
_SEND_SECONDS = struct.pack("ll", 5, 0)
"""Seconds (and microseconds) in which what is said to the fork server has room."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a server is started and loaded with."""

    setup: bytes = b""
    """The job, pickled."""
    environment: Mapping[str, str] | None = None
    """Variables beside those of this process; None before the first job."""
    log: Path | None = None
    """Where the output of the server and its workers goes."""

    def same_process(self, other: Loaded) -> bool:
        """Whether one server process can serve both."""
        return (self.environment, self.log) == (other.environment, other.log)


class ForkServer:
    """The fork server of one backend, if there is one.

    Args:
        notes: descriptor of the memory in which workers note where they are.
        selector: where what the server says is waited for: under the keys ``"control"`` and ``"door"``.
    """

    def __init__(self, notes: int, selector: selectors.BaseSelector) -> None:
        self.output = False
        """Whether it writes to this process's stdout and stderr, where no log takes it."""
        self.enclosure: Enclosure | None = None
        """The control groups of it and its workers."""
        self.census: Census | None = None
        """Who is its, where there are no groups."""
        self.silence = Silence()
        """How long it has owed an answer."""
        self._notes = notes
        self._selector = selector
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._door: socket.socket | None = None
        """At which workers ask for what they share with this process."""
        self._main: tuple[str, str] | None = None
        """The main script's file and module, where the server is to run it; empty where it is not."""
        self._cpu = 0.0

    @property
    def pid(self) -> int | None:
        """The pid of the server, if one was started and is not known to be gone."""
        return None if self._process is None else self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it is running now."""
        return self._process is not None and self._process.poll() is None

    @property
    def cpu(self) -> float:
        """CPU seconds of this server and of those before it."""
        return self._cpu + (0.0 if self._process is None else cpu_seconds(self._process.pid))

    @property
    def measure(self) -> str:
        """How memory is measured; without a server, how it would be."""
        if self.enclosure is not None:
            return self.enclosure.measure
        enclosure = Enclosure()
        try:
            return enclosure.measure
        finally:
            enclosure.close()

    # ------------------------------------------------------------------ what it is told, what it tells

    def load(self, loaded: Loaded, other: Callable[[str, Any], None], lost: Callable[[], None]) -> None:
        """Load a job; starts a server if there is none, or if the present one does not answer.

        Args:
            loaded: the job, and with what a server for it is started.
            other: takes what it says of workers meanwhile: the word and its argument.
            lost: called where it is found gone, or silent: drops it and its workers.

        Raises:
            PenstockError: the job cannot be loaded; loading it hangs; no server answers.
            OSError: no process can be started.
        """
        see = "" if loaded.log is None else f"See {loaded.log}. "
        why = _UNHEARD
        for _ in range(_LOADS):
            try:
                if self._process is not None and not self.runs:
                    lost()  # nobody has noticed yet
                self._try_to_load(loaded, other)
                return
            except Silent as silent:  # another one is started
                why = str(silent) or _UNHEARD
                lost()
        raise RunFailed(f"the fork server {why} ({_LOADS} times). {see}See to it, then do the same again.")

    def _try_to_load(self, loaded: Loaded, other: Callable[[str, Any], None]) -> None:
        if self._process is None:
            self._start(loaded)
            self._begin(loaded)
        assert self._control is not None
        job = os.memfd_create("penstock-job")
        try:
            with open(job, "wb", closefd=False) as file:
                file.write(loaded.setup)
            os.lseek(job, 0, os.SEEK_SET)
            self._tell("load", None, [job])
        finally:
            os.close(job)
        while True:
            what, argument = self._hear()
            if what == "loaded":
                return
            if what == "failed":
                name, message, text = argument
                raise _not_loaded(name, message, text)
            other(what, argument)

    def say(self, what: str, argument: Any, descriptors: Sequence[int] = ()) -> None:
        """Send it a message.

        Raises:
            OSError: it is gone, or takes nothing.
        """
        if self._control is not None:
            content = pickle.dumps((what, argument))
            if descriptors:
                socket.send_fds(self._control, [content], descriptors)
            else:
                self._control.send(content)

    def _tell(self, what: str, argument: Any, descriptors: Sequence[int] = ()) -> None:
        """The same, where it must answer."""
        try:
            self.say(what, argument, descriptors)
        except OSError as error:  # it is gone, or takes nothing
            raise Silent from error

    def listen(self) -> tuple[str, Any] | None:
        """The next message from it; None where it has ended."""
        assert self._control is not None
        data = self._control.recv(1 << 16)
        return pickle.loads(data) if data else None

    def answer(self) -> None:
        """Answer a worker's request for what it shares with this process."""
        if self._door is not None and not likeness.answer(self._door):
            self._close_door()

    def _hear(self, patience: float = _LOAD_SECONDS) -> tuple[str, Any]:
        """Its next word; waits for it while it uses CPU, or for its death.

        Args:
            patience: seconds without CPU after which it hangs.
        """
        assert self._control is not None
        assert self._process is not None
        silence = Silence(patience)
        while self._control.fileno() not in (heard := self._listen_to_both()):
            if heard:
                self.answer()
                continue
            over = silence.over(self._process.pid)
            if over == "stopped":
                raise Silent
            if over:
                self._process.kill()
                raise RunFailed(
                    f"loading the job hung: the fork server used no CPU for {patience:.0f} s while it "
                    "imported the function's module; does that wait for something when it is imported?"
                )
        word = None
        with suppress(ConnectionError):  # it ended before it had heard all that was said to it
            word = self.listen()
        if word is None:
            self._await_end()
            if self._process.returncode in (-signal.SIGKILL, -signal.SIGTERM):
                raise Silent(_KILLED)
            raise RunFailed(
                "the fork server ended while it loaded the job: a module that the function imports "
                "crashes; see workers.log, where there is a run folder"
            )
        return word

    def _listen_to_both(self) -> set[int]:
        assert self._control is not None
        ears = [self._control] if self._door is None else [self._control, self._door]
        return likeness.readable(*ears, milliseconds=500)

    # ------------------------------------------------------------------ its begin

    def _start(self, loaded: Loaded) -> None:
        self.enclosure = Enclosure()
        out: Any = None if self.output else subprocess.DEVNULL
        if loaded.log is not None:
            out = open(loaded.log, "ab", buffering=0)  # noqa: SIM115 - before the sockets: it may fail
        try:
            ours, theirs, door, ask = _sockets()
        except OSError:
            if loaded.log is not None:
                out.close()
            raise
        run = new_run()
        environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
        try:
            with theirs, ask:
                seen = marshal.dumps(([os.fspath(each) for each in sys.path], list(map(str, sys.argv))))
                boot = [sys.executable, "-c", _BOOT, seen.hex()]
                passed = (theirs.fileno(), self._notes, ask.fileno())
                self._process = subprocess.Popen(
                    self.enclosure.command([*boot, *map(str, passed)]),
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env={VARIABLE: of_server(run), **environ, **(loaded.environment or {})},
                    start_new_session=True,
                )
            # What is said to a server that does not listen must not hold up who says it.
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_SECONDS)
            if not self.enclosure.active:
                self.census = Census(self._process.pid, run)
        except BaseException:  # no descriptor may be left for what comes after the server as well
            ours.close()
            door.close()
            self.drop()
            self.end_groups()
            raise
        finally:
            if loaded.log is not None:
                out.close()
        self._control, self.silence = ours, Silence()
        self._selector.register(ours, selectors.EVENT_READ, "control")
        self._close_door()
        self._door = door
        self._selector.register(door, selectors.EVENT_READ, "door")

    def _begin(self, loaded: Loaded) -> None:
        """Have it be like this process, and run the main script where that has a main guard."""
        if self._main is None:
            self._main = main_script.of_this_process()
        try:
            self._tell("begin", (likeness.of_this_process(), *self._main))
            _, told = self._hear(_TOP_SECONDS if self._main[0] else _LOAD_SECONDS)
        except (OSError, Silent, PenstockError):
            if not self._main[0]:
                raise
            told = (
                f"{self._main[0]} ends its process, or waits, when workers import it: they go on without it"
            )
            self._main = "", ""
            self.drop()
            self.end_groups()
            self._start(loaded)
            self._begin(loaded)
        script.tell(told)

    # ------------------------------------------------------------------ its end

    def end(self) -> None:
        """Tell it to end, and make sure that it and all its processes have ended."""
        if self._process is None:
            return
        self._cpu += cpu_seconds(self._process.pid)  # told no more once it is gone
        with suppress(OSError):
            self.say("end", None)
        self._close_control()
        try:
            self._process.wait(END_SECONDS + TRACKER_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
        self._process = None
        self.end_groups()

    def drop(self) -> None:
        """Kill a server that does not answer or is gone. Its workers die with it; its groups remain."""
        self._close_control()
        if self._process is not None:
            self._kill()
        self._process = None

    def end_groups(self) -> None:
        """Kill what is left of the processes it and its workers started, and remove their groups."""
        enclosure, self.enclosure = self.enclosure, None
        if enclosure is not None:
            enclosure.close()
        census, self.census = self.census, None
        if census is not None:
            census.close()

    def close(self) -> None:
        """End it, and answer no more requests of workers."""
        self.end()
        self._close_door()

    def _kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._await_end()

    def _await_end(self) -> None:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):  # in the midst of I/O that does not end
            self._process.wait(END_SECONDS)

    def _close_control(self) -> None:
        control, self._control = self._control, None
        self._forget(control)

    def _close_door(self) -> None:
        door, self._door = self._door, None
        self._forget(door)

    def _forget(self, ear: socket.socket | None) -> None:
        if ear is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(ear)
            ear.close()


def _sockets() -> tuple[socket.socket, socket.socket, socket.socket, socket.socket]:
    """Ours and the server's end of two connections: to speak, and to ask for what is shared; all or none."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        return ours, theirs, *likeness.door()
    except OSError:
        ours.close()
        theirs.close()
        raise


def _not_loaded(name: str, message: str, text: str) -> PenstockError:
    """The error of a job that could not be loaded in the fork server.

    No ``RunFailed``, whose words are all ours and are kept of a private run too: it quotes the job's own.
    """
    return PenstockError(
        f"the job cannot be loaded in a worker: {name}: {message}. A worker finds modules through the "
        f"same sys.path as this process; it does not see names that exist only here.\n{text}"
    )
