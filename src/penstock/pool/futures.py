"""The futures of calls: a large result stays in its file until it is asked for."""

from __future__ import annotations

import weakref
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any

from penstock import foreign, forks
from penstock.budget import BudgetInForce
from penstock.engine.decide import explain
from penstock.engine.decide.governor import headroom
from penstock.meter import Meter
from penstock.patience import may_wait, slices
from penstock.pool.calls import Call
from penstock.pool.spool import File, load
from penstock.warned import warn

_COMING = ("PENDING", "RUNNING")
"""States of a future that waits for its result."""


class CallFuture(Future[Any]):
    """A future that reads a large result from its file on demand and does not hold it afterwards."""

    def __init__(self, budget: BudgetInForce, here: forks.Here) -> None:
        super().__init__()
        self._budget = budget
        self._here = here
        self._loaded: weakref.ref[Any] | None = None
        self.weight = 0
        """Bytes of the arguments while they wait; then of the result, where that waits in a file."""

    def result(self, timeout: float | None = None) -> Any:
        """The call's result.

        Raises:
            CannotFit: the result is large, and this process itself would be over the budget with it.
            RuntimeError: it is not there yet, and this is a child that was forked meanwhile.
            BaseException: what the call raised, or why it could not be done.
        """
        result = super().result(self._wait(timeout))
        if not isinstance(result, File):
            return result
        value = self._loaded() if self._loaded is not None else None
        if value is None:
            self._check_room(result.size)
            value = result.load()[1]
            with suppress(TypeError):  # not everything can be referred to weakly
                self._loaded = weakref.ref(value)
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The call's exception; None if it returned. Raises as :meth:`result`."""
        return super().exception(self._wait(timeout))

    def _wait(self, timeout: float | None) -> float | None:
        """Wait in slices; returns for how long the future itself may wait then."""
        self._check_coming()
        with self._condition:
            for seconds in slices(timeout):
                if self._state not in _COMING:
                    return None
                self._condition.wait(seconds)
        return 0.0

    def _check_coming(self) -> None:
        """A child that somebody forked has no thread that would bring the result."""
        # Without the future's lock, which another thread may have held at the fork.
        if self._state in _COMING and (why := self._here.refusal("the call")):
            raise RuntimeError(why)
        if self._state in _COMING and not may_wait():
            raise RuntimeError("a finalizer, run by a thread that calls wait for, cannot wait for a call")

    def _check_room(self, size: int) -> None:
        """Nobody could end this process before the kernel does."""
        held = Meter().held() + size
        free = self._budget.bytes - held
        if free < headroom(self._budget.bytes) / 2:
            raise explain.crowded(held, max(free, 0), self._budget.now)


def fail(call: Call, error: BaseException) -> None:
    """Set a future's exception, unless it was cancelled before it began."""
    if call.begin() is not None:
        with _Callbacks():
            call.future.set_exception(error)


class _Callbacks:
    """While a future's callbacks are called: what they raise is told, and ends no engine.

    ``concurrent.futures`` tells an Exception itself; ``sys.exit()`` in one, or asyncio's CancelledError,
    would end this thread, and with it every other call.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or foreign.is_a(error, Exception):
            return False
        warn(f"a callback of a call raised {foreign.reason_of(error)}; the executor goes on")
        return True


def fulfil(future: Any, result: bytes | File, remote: type[Exception] | None) -> None:
    """Set a future's result or exception from what its call returned or raised."""
    with _Callbacks():
        _settle(future, result, remote)


def _settle(future: Any, result: bytes | File, remote: type[Exception] | None) -> None:
    if isinstance(result, File) and not result.failed:
        future.weight = result.size
        future.set_result(result)
        return
    future.weight = 0
    try:
        succeeded, value = load(result)
    except BaseException as error:  # it can be pickled, but not unpickled here
        error.add_note("The call succeeded in its worker; its result cannot be loaded here.")
        future.set_exception(error)
        return
    if succeeded:
        future.set_result(value)
    else:
        future.set_exception(
            explain.stand_in(*value) if succeeded is None else _raised(value[0], value[1], remote)
        )


def _raised(error: BaseException, text: str, remote: type[Exception] | None) -> BaseException:
    """What a call raised, with its worker's traceback as the cause, as ``concurrent.futures`` has it."""
    from concurrent.futures.process import _RemoteTraceback

    kind: Any = remote or _RemoteTraceback
    with suppress(Exception):  # a frozen dataclass refuses
        error.__cause__ = kind(f'\n"""\n{foreign.with_sources(text)}"""')
    return error
