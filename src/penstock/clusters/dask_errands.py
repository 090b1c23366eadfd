"""Requests to a Dask cluster while it is open: coroutines in the client's thread.

Each puts what it hears, or that it hears nothing, into one queue, from which the thread that leads takes it
(:class:`penstock.clusters.dask.DaskNodes`): all that is decided is decided there.
"""

from __future__ import annotations

import asyncio
import os
import queue
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import foreign
from penstock.abc import Node, NodeLost, NodeOptions
from penstock.clusters.dask_link import DaskLink
from penstock.clusters.dask_places import DaskPlace

CLOSE_SECONDS = 20.0
_TRIES = 5
"""How often a living node is asked for a result that Dask lost."""
_AGAIN_SECONDS = 0.5
"""Until it is asked again, the first time; then ever longer."""


@dataclass
class Opened:
    """State that exists between ``open`` and ``close``."""

    job: Path
    digest: str
    options: NodeOptions
    key: str = field(default_factory=lambda: os.urandom(6).hex())
    said: queue.Queue[tuple[Any, ...]] = field(default_factory=queue.Queue)
    """What was heard, by its name, and what about."""
    places: dict[str, DaskPlace] = field(default_factory=dict)
    listed: bool = False
    ready: dict[str, Node] = field(default_factory=dict)
    tasks: dict[str, dict[int, asyncio.Future[None]]] = field(default_factory=dict)
    """What is awaited of a node's leases, by ticket."""
    heard: dict[str, list[int]] = field(default_factory=dict)
    """Tickets of a node whose results are here, of which it has not been told."""
    attended: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    rooms: dict[tuple[str, str], int] = field(default_factory=dict)
    """Bytes that were there for all nodes of a group before the first of them."""
    warned: bool = False


class Errands:
    """Sends requests, and awaits answers.

    Args:
        link: to the scheduler.
        patience: seconds in which leases that a node gave back before it ended must be here.
    """

    def __init__(self, link: DaskLink, patience: float) -> None:
        self._link = link
        self._patience = patience

    async def quietly(self, doing: Any) -> None:
        """Await something and ignore its failure."""
        with suppress(Exception):
            await doing

    async def cut(self, now: Opened, address: str, token: str, frame: bytes) -> None:
        """Send the last message to a node."""
        await self.quietly(self._link.call(address, "cut", token, frame, tuple(now.tasks.get(token, ()))))

    async def list_workers(self, now: Opened) -> None:
        """Ask the scheduler which workers there are."""
        with suppress(Exception):  # cut off: it is asked again when it is back
            known = (await self._link.client.scheduler.identity(n_workers=-1))["workers"]
            now.said.put(("workers", known))

    async def meet(self, now: Opened, address: str) -> None:
        """Ask a worker about its host."""
        folder = str(now.job.parent)
        try:
            answers = await self._link.call(address, "meet", now.options.requested, folder)
            now.said.put(("facts", address, answers[address]))
        except Exception as error:
            now.said.put(("facts", address, error))

    async def begin(self, now: Opened, address: str, token: str, order: bytes) -> None:
        """Start a node on a worker, and stay with it until it has ended."""
        try:
            busy, pid = (await self._link.call(address, "begin", order))[address]
            now.pids[token] = pid
            if busy:
                now.said.put(("busy", address, token, busy))
                return
        except Exception as error:
            now.said.put(("lost", token, NodeLost(f"it could not begin: {foreign.reason_of(error)}")))
            return
        now.attended[token] = asyncio.ensure_future(self._attend(now, address, token))
        node = await self._asked(now, token, f"penstock-{now.key}-{token}-ready", address, "ready", token)
        if node is not None:
            now.said.put(("ready", token, node))

    async def _attend(self, now: Opened, address: str, token: str) -> None:
        try:
            why = await self._link.task(f"penstock-{now.key}-{token}", address, "attend", token)
        except (Exception, asyncio.CancelledError) as error:
            why = NodeLost(f"Dask gave it up: {foreign.reason_of(error)}")
        if leases := now.tasks.get(token):  # what it gave back before it ended counts
            await asyncio.wait([*leases.values()], timeout=self._patience)
        now.said.put(("lost", token, why or NodeLost("its Dask worker was started anew")))

    async def lend(self, now: Opened, address: str, token: str, ticket: int, frame: bytes | str) -> None:
        """Have a node work on a lease."""
        leases = now.tasks.setdefault(token, {})
        leases[ticket] = mine = asyncio.ensure_future(self._fetch(now, address, token, ticket, frame))
        mine.add_done_callback(lambda done: leases.pop(ticket, None))

    async def _fetch(self, now: Opened, address: str, token: str, ticket: int, frame: bytes | str) -> None:
        key, heard = f"penstock-{now.key}-{token}-{ticket}", tuple(now.heard.pop(token, ()))
        told = await self._asked(now, token, key, address, "lease", token, ticket, frame, heard)
        if told is not None:
            now.heard.setdefault(token, []).append(ticket)
            now.said.put(("returned", token, told))

    async def _asked(self, now: Opened, token: str, key: str, address: str, word: str, *about: Any) -> Any:
        """What a node says; None once it is known to have ended.

        Dask loses a task's result where it gives the task to another worker, or its connection breaks. What
        is asked again is answered again: a lease that a living node never gave back would never end.
        """
        for number in range(_TRIES):
            try:
                told = await self._link.task(f"{key}-{number}" if number else key, address, word, *about)
            except (Exception, asyncio.CancelledError) as error:
                asking = asyncio.current_task()
                if asking is not None and asking.cancelling():
                    raise
                told, why = None, f"Dask lost what it said: {foreign.reason_of(error)}"
            else:
                why = "its Dask worker does not know it"
            if told is not None or self._has_ended(now, token):
                return told
            await asyncio.sleep(_AGAIN_SECONDS * 2**number)
        if not self._has_ended(now, token):
            now.said.put(("lost", token, NodeLost(f"{why}, {_TRIES} times")))
        return None

    @staticmethod
    def _has_ended(now: Opened, token: str) -> bool:
        attended = now.attended.get(token)
        return attended is None or attended.done()

    async def end_all(self, now: Opened) -> None:
        """End all nodes, and wait until they have."""
        tokens = {place.token: place.address for place in now.places.values() if place.token}
        await asyncio.gather(
            *(self.quietly(self._link.call(at, "end", token, False)) for token, at in tokens.items())
        )
        attended = [now.attended[token] for token in tokens if token in now.attended]
        if attended:
            await asyncio.wait(attended, timeout=CLOSE_SECONDS - 5)
        for each in (*attended, *(task for tasks in now.tasks.values() for task in tasks.values())):
            each.cancel()

    async def cancel(self, now: Opened, token: str) -> None:
        """Stop waiting for leases of a node."""
        for each in list(now.tasks.pop(token, {}).values()):
            each.cancel()
