"""What runs inside a Dask worker: starts a node's program, passes on leases, and watches over it.

A worker's own process does no work of ours and never grows, so Dask's memory limits do not meet ours. Dask
may run a task again in another life of a worker at the same address; a token that is not found here answers
nothing. Everything comes and goes as plain values and packed bytes, so that neither the scheduler nor a
worker with another version needs anything of ours to pass it on.
"""

from __future__ import annotations

import os
import pickle
import platform
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import distributed
from distributed.worker import thread_state

from penstock import discover, proc
from penstock.abc import Broken, Node, NodeLost, Refused
from penstock.clusters.far import Far, Hello, Parcel, Start
from penstock.errors import PenstockError
from penstock.version import __version__

CALL = "__import__('penstock.clusters.dask_worker', fromlist=['call']).call(word, told)"
"""What is evaluated in a Dask worker."""
_LOOK_SECONDS = 1.0
"""How often an attendant looks whether Dask still wants it."""
_OVERTAKE_SECONDS = 2.0
"""After which a message no longer waits for leases that lie in Dask's queue."""
_WANTED = ("executing", "long-running")
_ALIVE = ("running", "paused")


def call(word: str, told: tuple[Any, ...]) -> Any:
    """Call one of the functions below by name, on the host of a Dask worker."""
    does: dict[str, Callable[..., Any]] = {
        "meet": meet, "begin": begin, "ready": ready, "attend": attend,
        "lease": lease, "cut": cut, "end": end,
    }  # fmt: skip
    return does[word](*told)


@dataclass(frozen=True, slots=True)
class Birth:
    """Down: start the program of a node."""

    hello: Hello
    start: Start
    worker: str
    """Address of the Dask worker."""


# --------------------------------------------------------------------------- in the worker's event loop


def meet(requested: str | int, folder: str) -> dict[str, Any]:
    """What this host is, as plain values."""
    facts: dict[str, Any] = {
        "version": __version__, "python": platform.python_version(), "host": socket.gethostname(),
        "boot": boot(), "cores": discover.cpus(), "sees": _sees(folder), "shares": _shares(),
        "left": 0, "budget": 0, "origin": "", "group": "", "why": "",
    }  # fmt: skip
    try:
        most, found = discover.discover("auto"), discover.discover(requested)
    except PenstockError as error:
        facts["why"] = f"{facts['host']}: {error}"
        return facts
    with suppress(OSError):
        facts["group"] = Path("/proc/self/cgroup").read_text()
    return facts | {"left": most.budget.bytes, "budget": found.budget.bytes, "origin": found.budget.origin}


def boot() -> str:
    """A text that identifies the running machine, whatever its name."""
    return proc.text(Path("/proc/sys/kernel/random/boot_id")).strip() or socket.gethostname()


def _sees(folder: str) -> bool:
    return not folder or Path(folder).is_dir()


def _shares() -> dict[str, float]:
    """At which share of its memory limit Dask ends or pauses a worker, by the name of the setting."""
    names = ("terminate", "pause")
    return {name: float(dask.config.get(f"distributed.worker.memory.{name}", 0) or 0) for name in names}


def begin(packed: bytes) -> tuple[str, int]:
    """Start a node, unless another run has one here; then that run's folder and the program's pid."""
    order: Birth = pickle.loads(packed)
    for other in [each for each in _nodes.values() if each.worker == order.worker]:
        if other.drafts != order.hello.options.drafts and not other.ended:
            return str(other.drafts.parents[1]), 0
        other.far.close()  # of a parent that is gone, or was cut off
    made = _nodes[order.hello.token] = _Attended(order)
    return "", made.far.process.pid


def cut(token: str, frame: bytes, after: tuple[int, ...]) -> None:
    """Pass on the last message, which must neither wait in Dask's queue nor overtake queued leases."""

    known = _nodes.get(token)
    if known is not None:
        threading.Thread(target=known.cut, args=(frame, {*after}), name="penstock-cut", daemon=True).start()


def end(token: str, kill: bool) -> None:
    """End a node."""
    if (known := _nodes.get(token)) is not None:
        if kill:
            known.far.kill("it was given up")
        known.far.close()


# --------------------------------------------------------------------------- in threads of the worker


def ready(token: str) -> bytes | None:
    """Wait until the node is ready, or has failed."""
    if (known := _nodes.get(token)) is None:
        return None
    distributed.secede()
    with known.changed:
        known.changed.wait_for(lambda: known.told or known.ended)
        return pickle.dumps(known.told) if known.told else None


def lease(token: str, ticket: int, frame: bytes | str, heard: tuple[int, ...] = ()) -> bytes | None:
    """Pass a lease on and wait until it is returned; a large one travels in a file.

    Idempotent: asked again, because Dask lost the answer or runs the task anew, it gives the same one, until
    the ticket is among those that were ``heard``.
    """
    if (known := _nodes.get(token)) is None or known.ended:
        return None
    distributed.secede()
    with known.changed:
        for each in heard:
            known.returned.pop(each, None)
            known.taken.discard(each)
            known.passed.discard(each)
        if ticket in known.taken:
            return known.wait_for(ticket)
        known.taken.add(ticket)
    if isinstance(frame, str):
        try:
            path = Path(frame)
            frame = path.read_bytes()
            path.unlink()
        except OSError:  # it was fenced
            known.taken.discard(ticket)
            return None
    known.far.pass_on(frame)
    with known.changed:
        known.passed.add(ticket)
        known.changed.notify_all()
        return known.wait_for(ticket)


def attend(token: str) -> bytes | None:
    """Stay until the node has ended, and end it when Dask no longer wants this task: its parent is gone."""
    if (known := _nodes.get(token)) is None:
        return None
    worker, key = distributed.get_worker(), thread_state.key
    distributed.secede()
    while not known.ended:
        with known.changed:
            known.changed.wait_for(lambda: known.ended, _LOOK_SECONDS)
        task = worker.state.tasks.get(key)
        if task is None or task.state not in _WANTED or worker.status.name not in _ALIVE:
            known.far.close()
            known.far.join()
    del _nodes[token]
    return pickle.dumps(known.ended)


class _Attended:
    """A node of this Dask worker, and what it said."""

    def __init__(self, order: Birth) -> None:
        self.worker = order.worker
        self.drafts = order.hello.options.drafts
        self.changed = threading.Condition()
        self.told: Node | Broken | Refused | None = None
        self.taken: set[int] = set()
        """Tickets of leases that came for it, and of which it is not known that their results were heard."""
        self.passed: set[int] = set()
        """Those of them that were passed on."""
        self.returned: dict[int, bytes] = {}
        """What it gave back, by ticket, until that was heard."""
        self.ended: Broken | Refused | NodeLost | None = None
        known = [each for each in order.start.path if each not in sys.path]
        start = Start(
            (*sys.path, *known),  # its own packages first
            order.start.arguments,
            order.start.folder if order.start.folder and Path(order.start.folder).is_dir() else None,
            _environment(),
        )
        self.far = Far(order.hello, self._said, start)

    def cut(self, frame: bytes, after: set[int]) -> None:
        """Pass on the last message, behind the leases with these tickets."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended or self.passed >= after, _OVERTAKE_SECONDS)
        self.far.pass_on(frame)

    def wait_for(self, ticket: int) -> bytes | None:
        """What it gives back for a lease; None where it ends before. To be called with the lock held."""
        self.changed.wait_for(lambda: ticket in self.returned or self.ended)
        return self.returned.get(ticket)

    def _said(self, message: Any) -> None:
        with self.changed:
            if isinstance(message, Parcel):
                self.returned[message.ticket] = message.packed
            elif isinstance(message, NodeLost):
                failed = self.told if isinstance(self.told, Broken | Refused) else None
                self.ended = failed or message
            else:
                self.told = message
            self.changed.notify_all()


_nodes: dict[str, _Attended] = {}
"""The nodes that were born in this process, by token."""


def _environment() -> dict[str, str]:
    """Without what Dask sets for work in its own process: how many threads there are, a node decides."""
    theirs = dask.config.get("distributed.nanny.pre-spawn-environ", {})
    return {name: value for name, value in os.environ.items() if str(theirs.get(name, "")) != value}
