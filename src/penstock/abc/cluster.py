"""The cluster protocol: start work on nodes, and report which of them are alive.

A node is a whole Penstock on some host, with its own budget, governor and workers. Down goes a
:class:`Lease`, an interval of items for a while; up comes :class:`Returned`, the journal lines of what was
kept. The parent is the only writer of the journal, and decides who has which items; a cluster only carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from penstock.errors import SetAside
from penstock.events import Event


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Options of the nodes' work."""

    drafts: Path
    """Folder in which each node has one of its own, named by its token: see :class:`Cluster`."""
    budget: int
    """Bytes that the parent found, or was given."""
    requested: str | int
    """What the user asked for as budget of a node: ``"auto"``, a share, bytes."""
    workers: int | None
    """At most so many on a node."""
    call: int | None
    memory: int | None
    threads: int | None
    """What was stated of a call's memory and threads."""
    stall: float
    timeout: float | None
    set_aside: bool
    """Whether any item may be set aside."""
    umask: int
    log: Path | None
    """What workers print, on nodes that see the run folder; None to drop it."""
    held: int
    """Bytes that the parent itself takes, where a node shares its machine."""
    code: Mapping[str, str] = field(default_factory=dict)
    """What tells the job's modules from edited ones, by name, as the parent has them."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is ready for leases."""

    host: str
    budget: int
    """Bytes that all its processes together may use."""
    origin: str
    """Who set that."""
    cores: int
    alone: int = 0
    """Bytes that a call may use where nothing runs beside it."""
    warming: str = ""
    """Why its first items will take a while, as the job's function says there; of a private job nothing."""
    log: str = ""
    """Name of the file, beside ``NodeOptions.log``, that has what its workers print."""
    shares: int = 1
    """The budget is one of so many equal shares of the one that was asked for."""
    beside: int = 0
    """Bytes of that one that are in no share."""


@dataclass(frozen=True, slots=True)
class NodeOffer:
    """A node that could be started, as its host was asked before anything runs."""

    host: str
    budget: int
    """Bytes that it would have; 0 where there could be none."""
    origin: str
    """Who sets that."""
    cores: int
    version: str
    """Of Penstock there."""
    python: str
    why: str = ""
    """Why it would be refused; empty where it would not."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Down: items that are lent to a node."""

    ticket: int
    start: int
    stop: int
    seconds: float
    """After so long it takes no more of them, ends what runs, and gives the rest back."""
    without: tuple[SetAside, ...] = ()
    """Items set aside before; they are not worked, and stand so in the results."""
    cargo: Any = None
    """The items themselves, of a source that carries them."""
    learnt: Mapping[str, Any] | None = None
    """With the first lease of a node: numbers of what calls took elsewhere, to begin with."""
    most_bytes: int = 16 << 20
    """Bytes of what it gives back after which no more of it is begun: the leases that are open bound what is
    on its way up."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Down: end what runs at the next good place, return all leases, and end."""


@dataclass(frozen=True, slots=True)
class Returned:
    """Up: the outcome of a lease. Items that it does not mention were not kept."""

    ticket: int
    lines: Sequence[Mapping[str, Any]]
    """Of the journal: ``{"kept": [start, stop], ...}``, ``{"aside": [...]}``."""
    rate: float = 0.0
    """Items a second of the whole node, as it is going; 0 where that is not known."""
    used: int = 0
    """The most bytes that the node held since it told last."""
    cpu: float = 0.0
    """CPU seconds of the node so far."""
    events: Sequence[Event] = ()
    """What it said of its workers and batches, in its own numbers."""
    learnt: Mapping[str, Any] | None = None
    """Numbers of what calls took there, now and then: other nodes and later runs begin with them."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Up: the node cannot continue, and ends."""

    kind: str
    """Name of the class in :mod:`penstock.errors`, or of another."""
    message: str
    needed: int | None = None
    """Bytes of the smallest budget that would do, where it was too small and that is known."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Up: this host cannot run a node, through no fault of the job: another version, no such folder."""

    message: str
    """Names the host."""


@dataclass(frozen=True, slots=True)
class NodeLost:
    """Up: the node is lost: killed, disconnected or silent."""

    why: str


Told: TypeAlias = Returned | Broken | Refused | NodeLost
"""What is heard of a node. After any but the first it is gone."""


class Cluster(Protocol):
    """Starts work on nodes and reports which of them are alive.

    A node is known by a token, 32 hexadecimal digits, which no other has or had; it stands for one life of
    one process tree, never for a host. Before anything of a node runs, the cluster makes
    ``options.drafts / token``, in which alone the node makes its drafts. The parent removes that folder when
    the node is lost: from then on nothing that it still writes gets a final name.

    Nothing here waits for a node without an end. One that is silent is given up, and told of as lost.
    """

    def open(self, job: Path, digest: str, options: NodeOptions) -> None:
        """Start the nodes.

        Args:
            job: the packed job, a file that every node must see; nothing large goes another way.
            digest: of its bytes (``penstock.files.digest``), compared before anything is unpickled.
            options: how they are to work.

        Raises:
            PenstockError: nobody can be asked for nodes.
        """
        ...

    def nodes(self) -> Mapping[str, Node]:
        """The nodes that are ready, by token; may grow and shrink. Called often: return a view, no copy."""
        ...

    def coming(self) -> str:
        """Why more nodes may come soon (``"2 of 4 begin"``); empty if none will."""
        ...

    def send(self, node: str, message: Lease | Cut) -> None:
        """Send a message without blocking; to a lost node it is dropped."""
        ...

    def wait(self, timeout: float) -> list[tuple[str, Told]]:
        """Messages of nodes, and losses, since the last call; blocks for at most ``timeout`` seconds."""
        ...

    def end(self, node: str) -> None:
        """Kill what can be reached of a node that is lost or excluded. Its token is never reused."""
        ...

    def wake(self) -> None:
        """Make a blocked ``wait`` return at once; callable from any thread."""
        ...

    def close(self) -> None:
        """End all nodes; no process is left on any host. May be opened again for the next stage."""
        ...

    def survey(self, folder: Path | None, requested: str | int, patience: float) -> list[NodeOffer]:
        """Ask which nodes there would be, starting nothing. Waits up to ``patience`` seconds for the first.

        Args:
            folder: the run folder, which each must see; None to ask nothing of it.
            requested: what would be asked for as budget of a node.
            patience: seconds.

        Raises:
            PenstockError: nobody can be asked.
        """
        ...

    def leave(self) -> None:
        """The run is over: release what was allocated, such as jobs of a batch system."""
        ...
