"""The seams: what a source, sink, reducer, backend, limit, observer and workload must do.

Everything that can be replaced meets the engine here, and only here. Each seam has a
conformance suite in :mod:`penstock.testing`; a class that passes it is a good plug-in.
Optional powers are Protocols of their own: a class has them by having the method.

Data does not pass through the parent: down go two integers (a :class:`Batch`), up comes a
:class:`Receipt`. ``len``, ``sizes``, ``starts``, ``name`` and ``fingerprint`` are called in the
parent and must be cheap; everything else runs in a worker.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from penstock.abc.backend import Backend, Death, Message, MoreOfABackend, Reading
from penstock.abc.batches import Batch, Closed, Part, Receipt
from penstock.abc.job import Limit, Observer, Workload
from penstock.abc.sink import Reducer, Sink
from penstock.abc.source import (
    Carried,
    Expecting,
    Fingerprinted,
    Itemised,
    Named,
    Sequential,
    Sized,
    Source,
    Spanned,
)
from penstock.budget import Budget, Ceiling
from penstock.errors import SetAside

if TYPE_CHECKING:
    from penstock.abc.cluster import (
        Broken,
        Cluster,
        Cut,
        Lease,
        Node,
        NodeLost,
        NodeOffer,
        NodeOptions,
        Refused,
        Returned,
        Told,
    )
    from penstock.events import Event

__all__ = [
    "Backend",
    "Batch",
    "Broken",
    "Budget",
    "Carried",
    "Ceiling",
    "Closed",
    "Cluster",
    "Cut",
    "Death",
    "Event",
    "Expecting",
    "Fingerprinted",
    "Itemised",
    "Lease",
    "Limit",
    "Message",
    "MoreOfABackend",
    "Named",
    "Node",
    "NodeLost",
    "NodeOffer",
    "NodeOptions",
    "Observer",
    "Part",
    "Reading",
    "Receipt",
    "Reducer",
    "Refused",
    "Returned",
    "Sequential",
    "SetAside",
    "Sink",
    "Sized",
    "Source",
    "Spanned",
    "Told",
    "Workload",
]  # fmt: skip

# Loaded when first used: a worker needs neither, and each of its starts would pay for them.
_HOMES = {
    "Event": "penstock.events",
    "Broken": "penstock.abc.cluster",
    "Cluster": "penstock.abc.cluster",
    "Cut": "penstock.abc.cluster",
    "Lease": "penstock.abc.cluster",
    "Node": "penstock.abc.cluster",
    "NodeLost": "penstock.abc.cluster",
    "NodeOffer": "penstock.abc.cluster",
    "NodeOptions": "penstock.abc.cluster",
    "Refused": "penstock.abc.cluster",
    "Returned": "penstock.abc.cluster",
    "Told": "penstock.abc.cluster",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'penstock.abc' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
