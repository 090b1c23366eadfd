"""The cluster ``local:N``: N nodes as processes on this machine, which share its budget and cores.

For trying out what a cluster does, and for tests: on one machine a run without it has the same workers and
less overhead.
"""

from __future__ import annotations

import math
import pickle
import platform
import queue
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from penstock import discover, foreign
from penstock.abc import Cut, Lease, Node, NodeLost, NodeOffer, NodeOptions, Told
from penstock.budget import MiB, format_size
from penstock.clusters.far import BudgetShare, Far, Hello, Parcel, new_token
from penstock.engine.worker.process import release_unused
from penstock.errors import UsageError
from penstock.meter import Meter
from penstock.runs.on_nodes import GROWTH
from penstock.version import __version__

_AT_ONCE = 1 * MiB
"""Packed bytes of messages that are heard at once."""
_AMPLE = 256 * MiB
"""Bytes of a share in which a node of nearly any job finds room to begin."""
_GROWN = 8 * MiB
"""By so much this process may have grown until the nodes' shares are found again."""
_LOOK_SECONDS = 0.1
"""Between looks at what it holds, while it takes results."""


class SharedBudget:
    """The budget of one machine, of which nodes have equal shares.

    Args:
        count: of nodes.
        budget: of all.
        beside: bytes of it that are in no share; what this process may grow by is among them.
        held: bytes of them that are held already, by this process and what it started besides nodes.
    """

    def __init__(self, count: int, budget: int, beside: int, held: int) -> None:
        self._count = count
        self._budget = budget
        self._beside = beside
        self._held = self._began = held
        self._spare = beside - held
        """As at the start, so is kept free at any time: what is on its way, once packed and once unpacked."""

    def share(self) -> BudgetShare:
        """The share of each node."""
        least = max((self._budget - self._beside) // self._count, MiB)  # less is refused in other words
        return BudgetShare(least, self._beside)

    def grew(self, held: int) -> bool:
        """Whether much more is held than when the shares were found."""
        return held >= self._held + _GROWN

    def follow(self, held: int) -> bool:
        """Take what is held now; whether the shares are others."""
        if not self.grew(held) and held > self._held - _GROWN:
            return False
        self._held = held
        before, self._beside = self._beside, self._spare + max(held, self._began)
        return self._beside != before


class LocalNodes:
    """Nodes on this machine.

    Args:
        where: behind ``local:`` how many; 2 where nothing is said.
    """

    def __init__(self, where: str = "2") -> None:
        if not 1 <= (foreign.whole(where) or 0) <= 64:
            raise UsageError(f"local:{foreign.line(where, 60)} is no number of nodes, 1 to 64: write local:2")
        self._count = int(where)
        self._far: dict[str, Far] = {}
        self._ready: dict[str, Node] = {}
        self._said: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._held_here = Meter().held
        self._server = 0
        """Bytes that this process's own fork server holds."""
        self._shared = SharedBudget(self._count, 0, 0, 0)
        self._looked = -math.inf
        self._later: list[Callable[[], None]] = []

    def open(self, job: Path, digest: str, options: NodeOptions) -> None:
        """Start the nodes. Each gets its share of the budget, less what this process takes."""
        self._server = max(options.held - GROWTH - self._held_here(), 0)
        self._shared = SharedBudget(self._count, options.budget, options.held, self._held())
        self._looked = -math.inf
        share = self._shared.share().bytes
        cores = max(discover.cpus() // self._count, 1)
        origin = f"one share of {format_size(options.budget)}, local:{self._count}"
        heard = self._said = queue.Queue()  # what nodes of the job before still say is put nowhere

        def begin() -> None:
            token = new_token(options)
            hello = Hello(
                token, job, digest, options, share, cores, options.log, origin, self._count, options.held
            )
            self._far[token] = Far(hello, lambda message: heard.put((token, message)))

        # In a small share the first node finds out whether it can work, before all take more than there is.
        at_once = self._count if share >= _AMPLE else 1
        for _ in range(at_once):
            begin()
        self._later = [begin] * (self._count - at_once)

    def _held(self) -> int:
        """Bytes that are held beside the nodes."""
        return self._held_here() + self._server

    def nodes(self) -> Mapping[str, Node]:
        """The nodes that are ready."""
        return MappingProxyType(self._ready)

    def coming(self) -> str:
        """How many nodes are starting."""
        begin = len(self._far) - len(self._ready) + (len(self._later) if self._far else 0)
        return f"{begin} of {self._count} begin" if begin else ""

    def send(self, node: str, message: Lease | Cut) -> None:
        """Send a message."""
        if node in self._far:
            self._far[node].send(message)

    def wait(self, timeout: float) -> list[tuple[str, Told]]:
        """The messages of nodes; of large ones few at once, as they are larger once they are unpacked."""
        heard: list[tuple[str, Any]] = []
        size = 0
        try:
            heard.append(self._said.get(timeout=timeout))
            while (size := size + len(getattr(heard[-1][1], "packed", b""))) < _AT_ONCE:
                heard.append(self._said.get_nowait())
        except queue.Empty:
            pass
        told: list[tuple[str, Told]] = []
        for token, message in heard:
            if isinstance(message, Node):
                if token in self._far:  # else it was given up meanwhile
                    self._ready[token] = message
                    self._far[token].send(self._shared.share())
                    while self._later:
                        self._later.pop()()
            elif isinstance(message, Parcel):
                told.append((token, pickle.loads(message.packed)))
            elif message is not None:
                if isinstance(message, NodeLost):
                    self._forget(token)
                    if self._later:  # it was killed before it could say anything: another tries
                        self._later.pop()()
                else:
                    self._later.clear()
                told.append((token, message))
        if size:
            self._share_anew()
        return told

    def _share_anew(self) -> None:
        """Results that this process takes are no longer there for the nodes."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if self._shared.grew(self._held()):
            release_unused()  # results pass through buffers, which allocators keep for later
        if self._shared.follow(self._held()):
            share = self._shared.share()
            for token in self._ready:
                self._far[token].send(share)

    def end(self, node: str) -> None:
        """Kill a node."""
        far = self._far.get(node)
        if far is not None:
            far.kill("it was given up")
        self._forget(node)

    def pid(self, node: str) -> int:
        """The pid of a node's program."""
        return self._far[node].process.pid

    def _forget(self, token: str) -> None:
        self._far.pop(token, None)
        self._ready.pop(token, None)

    def wake(self) -> None:
        """Make :meth:`wait` return."""
        self._said.put(("", None))

    def close(self) -> None:
        """End all nodes."""
        far = list(self._far.values())
        for each in far:
            each.close()
        for each in far:
            each.join()
        self._far.clear()
        self._ready.clear()
        self._later.clear()

    def survey(self, folder: Path | None, requested: str | int, patience: float) -> list[NodeOffer]:
        """The nodes, all on this machine and sharing its memory and cores."""
        found = discover.discover(requested).budget
        share = max(found.bytes - self._held() - GROWTH, 0) // self._count
        cores = max(discover.cpus() // self._count, 1)
        origin = f"one share of {format_size(found.bytes)}, local:{self._count}; {found.origin}"
        why = "" if share else f"of {format_size(found.bytes)} nothing is left beside this process"
        host, python = socket.gethostname(), platform.python_version()
        return [NodeOffer(host, share, origin, cores, __version__, python, why)] * self._count

    def leave(self) -> None:
        """Does nothing: nothing else was allocated."""
