"""Calls of ``map`` that are submitted ahead of the consumer of their results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from penstock.budget import MiB

AHEAD = 1024
"""Calls that ``map`` has under way, or done and not yet consumed, at most."""
AHEAD_BYTES = 64 * MiB
"""Bytes of their arguments and waiting results from which it has only a few for each worker."""


class Ahead:
    """Calls submitted, or done, ahead of the consumer of their results.

    Args:
        submit: gives the future of a call.
        arguments: of each call; read when there is room.
        most: calls at once; None for 1,024, taken up in halves.
        a_few: so many even where they are large.
        failed: gives the future that stands in the place of arguments which raised; None: they raise here.
    """

    def __init__(
        self,
        submit: Callable[[tuple[Any, ...]], Any],
        arguments: Iterator[tuple[Any, ...]],
        most: int | None,
        a_few: int,
        failed: Callable[[Exception], Any] | None = None,
    ) -> None:
        self._failed = failed
        self.broken: Any = None
        """The future that stands where the arguments ended with an error; the last one."""
        self._submit = submit
        self._arguments = arguments
        self._most = most or AHEAD
        self._refill = self._most - 1 if most else AHEAD // 2
        self._a_few = a_few
        self._more = True
        self._futures: dict[Any, None] = {}  # in order
        self._lock = threading.RLock()
        self._reads = False
        self._fill()

    @contextmanager
    def _reading(self) -> Iterator[bool]:
        """One reads the arguments at a time; whether that is us.

        Not where they themselves ask for more, or what comes in between does, a signal's handler or a
        finalizer: they shut the executor down, say. Who waited for itself there would wait for ever.
        """
        with self._lock:
            if self._reads:
                yield False
                return
            self._reads = True
            try:
                yield True
            finally:
                self._reads = False

    def _fill(self) -> None:
        with self._reading() as may_read:
            if not may_read:
                return
            waiting = sum(future.weight for future in list(self._futures))
            while self._more and len(self._futures) < self._most:
                if waiting >= AHEAD_BYTES and len(self._futures) >= self._a_few:
                    return
                waiting += self._submit_next()

    def read_all(self) -> None:
        """Submit all the rest; nothing more can be submitted afterwards."""
        with self._reading() as may_read:
            while may_read and self._more:
                self._submit_next()

    def _submit_next(self) -> int:
        try:
            each = next(self._arguments, None)
        except Exception as error:
            if self._failed is None:
                raise
            self._more = False
            self.broken = self._failed(error)
            self._futures[self.broken] = None
            return 0
        if each is None:
            self._more = False
            return 0
        future = self._submit(each)
        self._futures[future] = None
        return int(future.weight)

    def first(self) -> Any:
        """Take the oldest; None if none are left."""
        future = next(iter(self._futures), None)
        if future is not None:
            self.take(future)
        return future

    def result(self, end: float | None = None) -> Any:
        """Take the oldest and return its result, which must be there."""
        future = self.first()
        return future.result(None if end is None else end - time.monotonic())

    def take(self, future: Any) -> None:
        """Take one whose result is being consumed: others may begin."""
        del self._futures[future]
        if self._more and len(self._futures) <= self._refill:
            self._fill()

    def __len__(self) -> int:
        """How many are not taken yet."""
        return len(self._futures)

    def cancel(self) -> None:
        """Cancel all that have not begun."""
        for future in self._futures:
            future.cancel()
