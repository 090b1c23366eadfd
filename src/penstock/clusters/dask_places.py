"""What is known of a Dask cluster's workers, and what follows for nodes on them. Does not import Dask."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import discover, foreign
from penstock.abc import NodeOffer
from penstock.budget import format_size
from penstock.version import __version__

_PASSING = 64 << 20
"""Bytes by which a Dask worker may grow while leases pass through it."""


@dataclass
class DaskPlace:
    """A Dask worker that has a node or may get one."""

    address: str
    host: str
    threads: int
    limit: int
    """Bytes that Dask lets it use; 0 for no limit."""
    held: int
    """Bytes of its own process."""
    facts: Mapping[str, Any] | None = None
    """What :func:`dask_worker.meet` says of its host."""
    token: str = ""
    budget: int = 0
    """Bytes of its node."""
    births: int = 0
    """Nodes in a row that gave nothing back."""
    left_out: bool = False
    busy: str = ""
    """The folder of another run, which has a node there."""
    again: float = 0.0
    """When it is asked again."""

    @property
    def group(self) -> tuple[str, str]:
        """A key of workers that share one memory."""
        assert self.facts is not None
        return self.facts["boot"], self.facts["group"]


def share(
    place: DaskPlace, places: Collection[DaskPlace], rooms: dict[tuple[str, str], int]
) -> tuple[int, str]:
    """Bytes of a node about to start, and who set them; 0 and the reason if there is no room for it.

    What the limits of its host leave, divided among the nodes that they hold together.

    Args:
        place: of the node.
        places: all there are.
        rooms: bytes that a group had before the first node of it; is added to.
    """
    assert place.facts is not None
    found, origin = place.facts["budget"], place.facts["origin"]
    room = rooms.setdefault(place.group, place.facts["left"])
    together = [each for each in places if each.facts is not None and each.group == place.group]
    taken = sum(each.budget for each in together if each.token)
    begin = sum(not each.token and not each.left_out for each in together)
    part = max((room - taken) // max(begin, 1), 0)
    if len(together) > 1 and part < found:
        found, origin = part, f"shared by {len(together)} nodes; {origin}"
    if place.limit and place.limit < found:
        found, origin = place.limit, "the memory limit of its Dask worker"
    return found, origin if found else f"other nodes there have all of {format_size(room)}"


def offer(
    place: DaskPlace,
    answer: Any,
    places: Collection[DaskPlace],
    rooms: dict[tuple[str, str], int],
    folder: Path | None,
    boot: str,
) -> NodeOffer:
    """The node that a worker could run, as for :func:`share`, from its host's answer."""
    if isinstance(answer, BaseException):
        why = f"the Dask worker {place.address} {failed(answer)}"
        return NodeOffer(foreign.line(place.host), 0, "", place.threads, "", "", foreign.line(why))
    cores = max(min(answer["cores"], place.threads), 1)
    known = answer["host"], cores, answer["version"], answer["python"]
    why = unfit(answer, folder or Path("/"), boot)
    budget, origin = (0, "") if why else share(place, places, rooms)
    if not why and not budget:
        why = origin
    return NodeOffer(known[0], budget, origin, *known[1:], foreign.line(why))


def unfit(facts: Mapping[str, Any], folder: Path, boot: str) -> str:
    """Why a host cannot run a node of a run in this folder; empty if it can."""
    host, ours = facts["host"], f"{sys.version_info.major}.{sys.version_info.minor}"
    if facts["version"] != __version__:
        return f"{host} has Penstock {facts['version']}, and this is {__version__}: install the same there"
    if facts["python"].split(".")[:2] != ours.split("."):
        return f"{host} has Python {facts['python']}, and this is {ours}: nodes need the same"
    if facts["boot"] != boot and (why := discover.in_memory(folder)):
        return f"{host} is another host: {why}"
    if not facts["sees"]:
        return f"{host} does not see {folder}: give a path on a file system that all nodes share"
    return str(facts["why"])


def warning(place: DaskPlace, facts: Mapping[str, Any]) -> str:
    """A warning if Dask is about to kill its worker, and our node with it; empty if not."""
    for name, share in facts["shares"].items():
        if place.limit and share and place.held + _PASSING > share * place.limit:
            return (
                f"the Dask worker at {place.address} may use {format_size(place.limit)} and holds "
                f"{format_size(place.held)} itself: start it with --memory-limit 0, or set "
                f"distributed.worker.memory.{name}: false there, or it ends our node with it"
            )
    return ""


def failed(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("penstock"):
        return f"has no Penstock ({error}): install {__version__} there, with what the job needs"
    return f"does not answer: {foreign.reason_of(error)}"
