"""The parent's end of a node: starts its program, exchanges messages and heartbeats, kills it when silent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from penstock import discover
from penstock.abc import NodeLost, NodeOptions
from penstock.backends.frames import Unpacker, pack
from penstock.budget import Budget

_SILENT = 60.0
"""Seconds after which a node that does not beat is given up."""
_END_SECONDS = 8.0
_BOOT = (
    "import sys, json; _, seen, *ends = sys.argv; sys.path[:], sys.argv[:] = json.loads(seen); "
    "from penstock.clusters.node import main; main(*map(int, ends))"
)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message to a node."""

    token: str
    job: Path
    digest: str
    options: NodeOptions
    budget: str | int
    """As it would be asked for on its host."""
    cores: int
    """0: as many as it finds."""
    log: Path | None
    """What its workers print."""
    origin: str = ""
    """Who set the budget, where that is not found on its host."""
    shares: int = 1
    beside: int = 0
    """Where the budget is a share of another: see :class:`penstock.budget.Budget`."""

    def budget_here(self) -> Budget:
        """The budget of a node on this host, in the parent's words for its origin unless a limit is lower."""
        found = discover.discover(self.budget).budget
        if not self.origin or found.bytes != self.budget:
            return found
        return replace(found, origin=self.origin, shares=self.shares, beside=self.beside)


@dataclass(frozen=True, slots=True)
class Beat:
    """Up, every few seconds: heartbeat of a node."""


@dataclass(frozen=True, slots=True)
class BudgetShare:
    """Down: the node's budget is another now, as whoever shares it with the node takes more or less of it."""

    bytes: int
    beside: int
    """See :class:`penstock.budget.Budget`."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Up: a pickled Returned: those who pass it on need not know the classes inside."""

    ticket: int
    packed: bytes


class HostUnsuited(Exception):
    """This host cannot run a node of this job; the message names the host."""


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a node's program."""

    path: Sequence[str] = field(default_factory=lambda: tuple(sys.path))
    arguments: Sequence[str] = field(default_factory=lambda: tuple(sys.argv))
    folder: str | None = None
    environ: Mapping[str, str] | None = None


def new_token(options: NodeOptions) -> str:
    """A token that no other node has, and its folder for drafts."""
    token = os.urandom(16).hex()
    (options.drafts / token).mkdir(parents=True)
    return token


class Far:
    """A node's program as a process on this machine.

    Args:
        hello: what it is to be.
        said: called, on a thread, with each message; the last is a NodeLost.
        start: how; as this process was by default.
    """

    def __init__(self, hello: Hello, said: Callable[[Any], None], start: Start | None = None) -> None:
        start = start or Start()
        self._said = said
        down_theirs, down_ours = os.pipe()
        up_ours, up_theirs = os.pipe()
        log = None
        with suppress(OSError):  # a host that does not see the folder says so itself
            log = open(hello.log, "ab") if hello.log is not None else None  # noqa: SIM115
        out: Any = log if log is not None else subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _BOOT,
                    json.dumps((start.path, start.arguments)),
                    *map(str, (down_theirs, up_theirs)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(down_theirs, up_theirs),
                start_new_session=True,
                cwd=start.folder,
                env=start.environ,
            )
        finally:
            os.close(down_theirs)
            os.close(up_theirs)
            if log is not None:
                log.close()
        self._down, self._up = down_ours, up_ours
        self._lock = threading.Lock()
        self._outgoing: list[bytes] = []
        self._more = threading.Condition(self._lock)
        self._closed = False
        self._heard = time.monotonic()
        self._why = ""
        for job in (self._read, self._write, self._watch):
            threading.Thread(target=job, name="penstock-far", daemon=True).start()
        self.send(hello)

    def send(self, message: Any) -> None:
        """Send a message without blocking."""
        self.pass_on(pack(message))

    def pass_on(self, frame: bytes) -> None:
        """Send a message that is already packed."""
        with self._more:
            self._outgoing.append(frame)
            self._more.notify()

    def close(self) -> None:
        """Have it end at once; it returns nothing."""
        with self._more:
            self._closed = True
            self._more.notify()

    def kill(self, why: str) -> None:
        """Kill it, with everything that it started."""
        self._why = self._why or why
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def join(self) -> None:
        """Wait until it has ended; kill it if it does not."""
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill("it did not end")
            self.process.wait()

    # ------------------------------------------------------------------ threads

    def _write(self) -> None:
        with suppress(OSError):
            while True:
                with self._more:
                    while not self._outgoing and not self._closed:
                        self._more.wait()
                    if self._closed:
                        break
                    view = memoryview(self._outgoing.pop(0))
                while view:
                    view = view[os.write(self._down, view) :]
        os.close(self._down)

    def _read(self) -> None:
        unpacker = Unpacker()
        with suppress(OSError):
            while data := os.read(self._up, 1 << 20):
                self._heard = time.monotonic()
                for message in unpacker.feed(data):
                    if not isinstance(message, Beat):
                        self._said(message)
        os.close(self._up)
        self.close()
        self.join()
        self._said(NodeLost(self._why or _ended(self.process.returncode)))

    def _watch(self) -> None:
        while self.process.poll() is None:
            time.sleep(1.0)
            if time.monotonic() - self._heard > _SILENT:
                self.kill(f"it was silent for {_SILENT:.0f} s")
                return


def _ended(code: int) -> str:
    if code < 0:
        return f"its program was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"its program ended with exit code {code}"
