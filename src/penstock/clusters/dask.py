"""The cluster ``dask``: a node on each worker of an existing Dask cluster.

``dask://HOST:PORT``, ``dask:tcp://HOST:PORT``, ``dask:FILE.json`` (a scheduler file), or in Python a
``distributed.Client``. Dask places the work and watches the workers; which items a node has, we decide. A
node is born by ``client.run``, which Dask never repeats; a lease is a task bound to its worker, which finds
the node by its token or does nothing. :mod:`penstock.clusters.dask_errands` asks, and
:mod:`penstock.clusters.dask_worker` is the other end.
"""

from __future__ import annotations

import asyncio
import pickle
import queue
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from penstock.abc import Cut, Lease, Node, NodeLost, NodeOffer, NodeOptions, Refused, Returned, Told
from penstock.backends.frames import pack
from penstock.clusters import dask_worker
from penstock.clusters.dask_errands import CLOSE_SECONDS, Errands, Opened
from penstock.clusters.dask_link import DaskLink
from penstock.clusters.dask_places import DaskPlace, failed, offer, share, unfit, warning
from penstock.clusters.far import Hello, Start, new_token
from penstock.plurals import plural
from penstock.warned import warn

_BACK_SECONDS = 15.0
"""In which a scheduler that was cut off must be back."""
_BUSY_SECONDS = 2.0
"""After which a worker that has another run's node is asked again."""
_BIRTHS = 3
"""So many nodes in a row that ended on a worker before they gave anything back: it is the host."""
_LARGE = 1 << 20
"""Bytes of a lease above which it goes through the run folder, not through the scheduler."""


class DaskNodes:
    """Nodes on the workers of a Dask cluster.

    Args:
        where: behind ``dask:`` an address or the name of a scheduler file; or a ``distributed.Client``, or a
            cluster of Dask's that has a ``scheduler_address``.
    """

    def __init__(self, where: Any = "") -> None:
        self._link = DaskLink(where)
        self._errands = Errands(self._link, _BACK_SECONDS)
        self._open: Opened | None = None
        self._cut_off: float | None = None
        self._gone = False

    # ------------------------------------------------------------------ the seam

    def open(self, job: Path, digest: str, options: NodeOptions) -> None:
        """Start a node on every worker.

        Raises:
            UsageError: no scheduler answers.
        """
        client = self._link.connect()
        now = self._open = Opened(job, digest, options)
        self._cut_off, self._gone = None, False
        client.subscribe_topic("all", lambda event: now.said.put(("event", event[1])))
        self._link.spawn(self._errands.list_workers(now))

    def nodes(self) -> Mapping[str, Node]:
        """The nodes that are ready."""
        return MappingProxyType(self._open.ready) if self._open else {}

    def coming(self) -> str:
        """How many nodes are starting; new workers may join at any time, unless one was refused."""
        now = self._open
        if self._gone or now is None:
            return ""
        if not now.places:
            return f"no worker has joined the Dask cluster at {self._link.scheduler}"
        waiting = [each for each in now.places.values() if not each.left_out and each.token not in now.ready]
        if busy := next((each.busy for each in waiting if each.busy), ""):
            return f"its Dask workers have nodes of the run in {busy}"
        return f"{len(waiting)} of {plural(len(now.places), 'Dask worker')} begin" if waiting else ""

    def send(self, node: str, message: Lease | Cut) -> None:
        """Send a message."""
        now, place = self._open, self._place(node)
        if now is None or place is None:
            return
        frame = pack(message)
        if isinstance(message, Cut):
            place.left_out = True  # what is cut is not to be begun anew
            self._link.spawn(self._errands.cut(now, place.address, node, frame))
            return
        sent: bytes | str = frame
        if len(frame) > _LARGE:
            path = now.options.drafts / node / f"lease-{message.ticket}"
            try:
                path.write_bytes(frame)
            except OSError:  # it is fenced: what is sent to a node that is gone is lost
                return
            sent = str(path)
        self._link.spawn(self._errands.lend(now, place.address, node, message.ticket, sent))

    def wait(self, timeout: float) -> list[tuple[str, Told]]:
        """The messages of nodes."""
        now = self._open
        if now is None:
            return []
        told: list[tuple[str, Told]] = []
        self._watch_scheduler(now, told)
        heard = []
        try:
            heard.append(now.said.get(timeout=0.0 if told else timeout))
            while True:
                heard.append(now.said.get_nowait())
        except queue.Empty:
            pass
        for what, *about in heard:
            if what:
                getattr(self, f"_heard_{what}")(now, told, *about)
        if not self._gone and self._cut_off is None:
            self._bear(now, told)
        return told

    def end(self, node: str) -> None:
        """Kill a node; its worker may get another."""
        if (place := self._place(node)) is not None:
            self._link.spawn(self._errands.quietly(self._link.call(place.address, "end", node, True)))
            self._forget(node)

    def pid(self, node: str) -> int:
        """The pid of a node's program, on its host."""
        assert self._open is not None
        return self._open.pids[node]

    def wake(self) -> None:
        """Make :meth:`wait` return."""
        if self._open is not None:
            self._open.said.put(("",))

    def close(self) -> None:
        """End the nodes, and wait until they have ended."""
        now, self._open = self._open, None
        if now is None:
            return
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(
                self._errands.end_all(now), self._link.client.loop.asyncio_loop
            ).result(CLOSE_SECONDS)
        with suppress(Exception):
            self._link.client.unsubscribe_topic("all")

    def survey(self, folder: Path | None, requested: str | int, patience: float) -> list[NodeOffer]:
        """Ask the host of each worker.

        Raises:
            UsageError: no scheduler answers.
        """
        self._link.connect()
        deadline = time.monotonic() + patience
        while not (known := self._link.ask(self._link.client.scheduler.identity, n_workers=-1)["workers"]):
            if time.monotonic() > deadline:
                return []
            time.sleep(0.5)
        places = [_place_of(address, info) for address, info in known.items()]
        answers = self._link.ask(self._meet_all, places, requested, str(folder or ""))
        for place, facts in zip(places, answers, strict=True):
            place.facts = facts if not isinstance(facts, BaseException) else None
        rooms: dict[tuple[str, str], int] = {}
        offers = []
        for place, facts in zip(places, answers, strict=True):
            made = offer(place, facts, places, rooms, folder, dask_worker.boot())
            place.token, place.budget, place.left_out = place.address, made.budget, bool(made.why)
            offers.append(made)
        return offers

    async def _meet_all(self, places: list[DaskPlace], requested: str | int, folder: str) -> list[Any]:
        asked = (self._link.call(each.address, "meet", requested, folder) for each in places)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [
            answer if isinstance(answer, BaseException) else answer[each.address]
            for each, answer in zip(places, answers, strict=True)
        ]

    def leave(self) -> None:
        """Disconnect from the scheduler."""
        self.close()
        self._link.leave()

    # ------------------------------------------------------------------ what was heard

    def _heard_event(self, now: Opened, told: list[tuple[str, Told]], event: Mapping[str, Any]) -> None:
        if event.get("action") == "add-worker":
            self._link.spawn(self._errands.list_workers(now))
        elif event.get("action") == "remove-worker":
            self._remove(now, told, event.get("worker", ""), "Dask lost its worker, or ended it")

    def _heard_workers(self, now: Opened, told: list[tuple[str, Told]], known: Mapping[str, Any]) -> None:
        now.listed = True
        for address in [each for each in now.places if each not in known]:
            self._remove(now, told, address, "its Dask worker is gone")
        for address, info in known.items():
            if address not in now.places:
                now.places[address] = _place_of(address, info)
                self._link.spawn(self._errands.meet(now, address))

    def _heard_facts(self, now: Opened, told: list[tuple[str, Told]], address: str, facts: Any) -> None:
        if (place := now.places.get(address)) is None:
            return
        if isinstance(facts, BaseException):
            self._refuse(now, told, place, f"the Dask worker {address} {failed(facts)}")
            return
        if why := unfit(facts, now.job.parents[1], dask_worker.boot()):
            self._refuse(now, told, place, why)
            return
        place.facts = facts
        if (told_once := warning(place, facts)) and not now.warned:
            now.warned = True
            warn(told_once)

    def _heard_busy(
        self, now: Opened, told: list[tuple[str, Told]], address: str, token: str, by: str
    ) -> None:
        self._forget(token)
        if (place := now.places.get(address)) is not None:
            place.busy, place.again, place.births = by, time.monotonic() + _BUSY_SECONDS, place.births - 1
        with suppress(OSError):
            (now.options.drafts / token).rmdir()

    def _heard_ready(self, now: Opened, told: list[tuple[str, Told]], token: str, node: Any) -> None:
        if self._place(token) is not None and isinstance(node, Node):  # else it was given up meanwhile
            now.ready[token] = node

    def _heard_returned(self, now: Opened, told: list[tuple[str, Told]], token: str, what: Returned) -> None:
        if (place := self._place(token)) is not None:
            place.births = 0
            told.append((token, what))

    def _heard_lost(self, now: Opened, told: list[tuple[str, Told]], token: str, why: Told) -> None:
        if (place := self._place(token)) is None:
            return
        self._forget(token)
        if not isinstance(why, NodeLost) or place.births >= _BIRTHS:
            place.left_out = True
        told.append((token, why))

    # ------------------------------------------------------------------ nodes that come and go

    def _bear(self, now: Opened, told: list[tuple[str, Told]]) -> None:
        """Have nodes begin on the workers that have none, once all of their host have answered."""
        clock = time.monotonic()
        free = [each for each in now.places.values() if not each.left_out and not each.token]
        hosts = {each.host for each in free if each.facts is None}
        for place in free:
            if place.facts is None or place.host in hosts or place.again > clock:
                continue
            budget, origin = share(place, now.places.values(), now.rooms)
            if not budget:
                self._refuse(now, told, place, f"{place.facts['host']}: {origin}")
                continue
            place.token, place.budget, place.busy = new_token(now.options), budget, ""
            place.births += 1
            cores = max(min(place.facts["cores"], place.threads), 1)
            log = now.options.log
            found_there = budget == place.facts["budget"]
            hello = Hello(
                place.token, now.job, now.digest, now.options,
                now.options.requested if found_there else budget, cores,
                log.with_name(f"{log.stem}-{place.token[:8]}{log.suffix}") if log else None,
                "" if found_there else origin,
            )  # fmt: skip
            start = Start(tuple(sys.path), tuple(sys.argv), str(Path.cwd()))
            order = pickle.dumps(dask_worker.Birth(hello, start, place.address), protocol=5)
            self._link.spawn(self._errands.begin(now, place.address, place.token, order))

    def _refuse(self, now: Opened, told: list[tuple[str, Told]], place: DaskPlace, why: str) -> None:
        place.left_out = True
        told.append((new_token(now.options), Refused(why)))

    def _remove(self, now: Opened, told: list[tuple[str, Told]], address: str, why: str) -> None:
        place = now.places.pop(address, None)
        if place is not None and place.token:
            self._forget(place.token)
            told.append((place.token, NodeLost(why)))

    def _place(self, token: str) -> DaskPlace | None:
        places = self._open.places.values() if self._open else ()
        return next((each for each in places if each.token == token), None) if token else None

    def _forget(self, token: str) -> None:
        now, place = self._open, self._place(token)
        if now is None:
            return
        now.ready.pop(token, None)
        if place is not None:
            place.token, place.budget = "", 0
        self._link.spawn(self._errands.cancel(now, token))

    def _watch_scheduler(self, now: Opened, told: list[tuple[str, Told]]) -> None:
        """Notice that it is gone for good, or that it is back: then all is begun anew."""
        if self._link.client.status == "running":
            if self._cut_off is not None:
                self._cut_off = None
                self._link.spawn(self._errands.list_workers(now))
            return
        clock = time.monotonic()
        self._cut_off = self._cut_off or clock
        for address in list(now.places):
            self._remove(now, told, address, "cut off from the Dask scheduler")
        if clock - self._cut_off > _BACK_SECONDS or self._link.client.status == "closed":
            self._gone = True


def _place_of(address: str, info: Mapping[str, Any]) -> DaskPlace:
    """A worker as the scheduler knows it."""
    held = int(info.get("metrics", {}).get("memory", 0))
    limit = int(info["memory_limit"] or 0)
    return DaskPlace(address, str(info.get("host", "")), int(info["nthreads"]), limit, held)
