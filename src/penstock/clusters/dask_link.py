"""The connection to a Dask scheduler, and through it to its workers."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import Client

from penstock import foreign
from penstock.clusters import dask_worker
from penstock.errors import UsageError

CONNECT_SECONDS = 10.0
"""In which a scheduler must answer."""
_MEET_SECONDS = 60.0
"""In which a Dask worker must."""


class DaskLink:
    """A Dask client of our own: the user's is theirs to close, and has one handler per kind of event.

    Args:
        where: as for :class:`penstock.clusters.dask.DaskNodes`.
    """

    def __init__(self, where: Any) -> None:
        if isinstance(where, str) and not where.strip("/"):
            raise UsageError("dask: names no scheduler: write dask://HOST:8786 or dask:scheduler.json")
        self.where = where
        self.client: Any = None

    def connect(self) -> Any:
        """The client, created if there is none yet.

        Raises:
            UsageError: nobody answers.
        """
        if self.client is None:
            address, security = self._address()
            more = {} if security is None else {"security": security}
            try:
                self.client = Client(
                    address, timeout=CONNECT_SECONDS, set_as_default=False, name="penstock", **more
                )
            except (OSError, ValueError, RuntimeError) as error:  # asyncio's TimeoutError is an OSError
                raise UsageError(
                    f"no Dask scheduler answers at {foreign.line(address)} within {CONNECT_SECONDS:.0f} s "
                    f"({foreign.reason_of(error)}): start one (dask scheduler), or correct the address"
                ) from error
        return self.client

    def _address(self) -> tuple[str, Any]:
        where = self.where
        if not isinstance(where, str):
            address = getattr(where, "scheduler_address", None) or where.scheduler.address
            return str(address), getattr(where, "security", None)
        if where.endswith(".json"):
            try:
                told = json.loads(Path(where).read_text())
                return str(told["address"]), None
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"{foreign.line(where)} is no scheduler file of Dask's ({foreign.reason_of(error)}): "
                    "it is written by dask scheduler --scheduler-file FILE"
                ) from error
        return (f"tcp:{where}" if where.startswith("//") else where), None

    @property
    def scheduler(self) -> str:
        """The scheduler's address, for display."""
        return foreign.line(self.client.scheduler.address if self.client.scheduler else self._address()[0])

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the client's thread."""
        asyncio.run_coroutine_threadsafe(coroutine, self.client.loop.asyncio_loop)

    def call(self, address: str, word: str, *told: Any) -> Any:
        """Run a function in the event loop of a Dask worker; awaitable."""
        return asyncio.wait_for(
            self.client.run(
                eval, dask_worker.CALL, {"word": word, "told": told}, workers=[address], asynchronous=True
            ),
            _MEET_SECONDS,
        )

    async def task(self, key: str, address: str, word: str, *told: Any) -> Any:
        """Run a function in a thread of a Dask worker. Packed arguments and results pass through unchanged.

        Raises:
            Exception: it was cancelled, or the worker is gone.
        """
        future = self.client.submit(
            eval, dask_worker.CALL, {"word": word, "told": told}, key=key,
            workers=[address], allow_other_workers=False, pure=False, retries=0,
        )  # fmt: skip
        try:
            packed = await future  # a gather that is given up leaves an error for asyncio to print
        finally:
            await self.client.cancel([future], asynchronous=True, force=True)
        return pickle.loads(packed) if packed is not None else None

    def ask(self, what: Any, *args: Any, **more: Any) -> Any:
        """The result of a coroutine, waited for in the main thread.

        Raises:
            UsageError: nothing, in a minute.
        """
        asked = asyncio.run_coroutine_threadsafe(what(*args, **more), self.client.loop.asyncio_loop)
        try:
            return asked.result(_MEET_SECONDS + CONNECT_SECONDS)
        except (OSError, TimeoutError, FutureTimeout) as error:
            raise UsageError(
                f"the Dask scheduler at {self.scheduler} does not answer: {foreign.reason_of(error)}"
            ) from error

    def leave(self) -> None:
        """Disconnect from the scheduler."""
        client, self.client = self.client, None
        if client is not None:
            with suppress(Exception):
                client.close(timeout=5)
