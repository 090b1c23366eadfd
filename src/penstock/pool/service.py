"""Runs the engine's loop on a background thread for an executor, whose calls keep coming.

:class:`penstock.Executor` is what people see of it. Covers handing calls over, results back to their
futures, and the end, whichever way it comes: asked for, with the interpreter, or by an error.
"""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from penstock import discover, foreign, forks
from penstock.abc import Event, Observer, SetAside
from penstock.budget import Budget, BudgetInForce, format_size
from penstock.engine.decide import explain
from penstock.engine.parent.ledger import Ledger
from penstock.engine.parent.loop import Loop
from penstock.engine.parent.options import Host, Options
from penstock.engine.parent.stage import Stage
from penstock.engine.worker.main import Setup
from penstock.engine.worker.process import THREAD_VARIABLES
from penstock.errors import PenstockBug
from penstock.events import CallsWait
from penstock.meter import Meter
from penstock.observers import Observers
from penstock.patience import may_wait, slices
from penstock.pool.calls import Arrivals, Call, Calls, Invoke
from penstock.pool.futures import fail, fulfil
from penstock.pool.pickling import Sender, pack
from penstock.pool.spool import File, Folder
from penstock.record import journal
from penstock.sinks.collect import Collect
from penstock.warned import warn


@dataclass(frozen=True)
class PoolOptions:
    """An executor's options, except for how its calls run."""

    initializer: Callable[..., object] | None = None
    """Called once in every worker."""
    initargs: tuple[Any, ...] = ()
    observers: Sequence[Observer] = ()
    """Called with every event."""
    arrays: Mapping[str, Any] = field(default_factory=dict)
    """How large arrays of arguments travel: keywords of :class:`Sender`."""
    modules: Sequence[str] = ()
    """Imported where workers are forked from, before the first one is."""
    folder: str | os.PathLike[str] | None = None
    """For the files; None for the one that temporary files go to."""
    keep_backend: bool = False
    """Whether the backend is left open at the end."""


class Service:
    """Runs calls until it is closed.

    Args:
        options: how a call is run.
        asked: what else the executor was asked for.
        backend: not yet opened.
        said_instead: what a call that could not be done fails with, in place of our error.

    Raises:
        NoBudget: nothing fits.
        FunctionRaised: the initializer did.
    """

    def __init__(
        self,
        options: Options,
        asked: PoolOptions,
        backend: Any,
        *,
        said_instead: Callable[[BaseException], BaseException] = lambda error: error,
    ) -> None:
        self.abandon_at_exit = False
        """Whether the interpreter's end ends the calls too."""
        self.remote: type[Exception] | None = None
        """The class of a worker's traceback, where it is not that of ``concurrent.futures``."""
        self._asked = asked
        self.folder = Folder(_where() if asked.folder is None else asked.folder)
        self.sent = Sender(self.folder, **asked.arrays)
        self._said_instead = said_instead
        self._backend = backend
        self._observers = Observers(asked.observers)
        self._calls = Calls()
        self._came = Arrivals()
        # Guards what has come and what is below, and the backend's end: nobody may wake one that is closed.
        # Re-entrant: a collection may find a forgotten executor at any moment, and close it.
        self._lock = threading.RLock()
        self.here = forks.Here()
        self._closed = False
        self._ended = False
        self._broken: BaseException | None = None
        self._stop = _Stop()
        self._started = threading.Event()
        try:
            self._loop = self._make_loop(options, self._invoke())
        except BaseException:  # half-way: what workers are forked from may be there
            if not asked.keep_backend:
                with suppress(Exception):
                    backend.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="penstock-executor", daemon=True)
        self._thread.start()
        try:
            any(self._started.wait(seconds) for seconds in slices())
        except BaseException:  # Ctrl-C
            self.abandon()
            raise
        if self._broken is not None:
            raise self._broken
        _serving.add(self)

    @property
    def budget(self) -> BudgetInForce:
        """The budget in force."""
        return self._loop.stage.budget

    def _invoke(self) -> Invoke:
        asked = self._asked
        if asked.initializer is None:
            return Invoke(None, tuple(asked.modules))
        with self.sent.inheriting.all():
            begin = pack((asked.initializer, asked.initargs), self.folder.path, self.sent)
        own = begin.own(self.folder) if isinstance(begin, File) else None
        self._holds = [own, *self.sent.used()]
        return Invoke(begin, tuple(asked.modules))

    def _make_loop(self, options: Options, invoke: Invoke) -> Loop:
        import cloudpickle

        setup = Setup(
            function=invoke,
            source=self._calls,
            outputs={"": Collect(anything=True)},
            folder=self.folder.path,
            state_dir=self.folder.path,
            items=0,
            batched=False,
            fixed_call=None,
            durable=False,
            # As in other pools no two draw the same; a call that is tried again draws what it drew.
            seed=int.from_bytes(os.urandom(8), "little"),
        )
        threads = thread_variables()
        self._backend.open(cloudpickle.dumps(setup), threads, None)
        # The loop is a knot of references, this must not be tied into it: its folder and its files go
        # as soon as nobody holds them. While the loop runs, its thread holds this.
        me: Any = weakref.ref(self)
        ledger = Ledger(_NoJournal(), lambda event: me()._emit(event), "", setup.state_dir)
        past = journal.Past(opened=True)
        return Loop(
            Stage(setup, options, self._backend, Host(), ledger, past),
            collect=lambda first, results: me()._deliver(first, results),
            interrupts=self._stop,
            beat=lambda: None,
        )

    def _emit(self, event: Event) -> None:
        if isinstance(event, CallsWait):
            warn(_waits(event, self.budget.now))
        self._observers(event)

    # ------------------------------------------------------------------ from any thread

    def add(self, call: Call, module: str | None) -> None:
        """Accept a call; its function's module is imported where workers are forked from.

        Raises:
            RuntimeError: no more are taken.
        """
        self.check_here()
        with self._lock:
            self.check_open()
            if self._came.add(call, module):
                self._wake()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do, and more may come."""
        with self._lock:
            return not (self._closed or self._came.calls or self._calls.known())

    def rest(self) -> None:
        """Nothing will come for a while: remove arrays from disk and everything from the caller's folder."""
        self.sent.renew()
        if self._is_elsewhere():
            self.folder.leave()

    def renew_globals(self) -> None:
        """Send the main script's globals again from now on."""
        self.sent.renew_globals()

    def renew(self) -> bool:
        """Send arrays and globals again from now on; False if no more calls are accepted."""
        if not self.idle:
            return False
        self.sent.renew()
        return not self._is_elsewhere() or self.folder.come_back()

    def _is_elsewhere(self) -> bool:
        """Whether the files are in a folder of the caller's choice, who may look into it."""
        return self._asked.folder is not None

    @property
    def most_workers(self) -> int:
        """The most workers at once."""
        return self._loop.stage.estimate.most_workers

    @most_workers.setter
    def most_workers(self, workers: int) -> None:
        self._loop.stage.estimate.most_workers = workers

    @property
    def most_calls(self) -> int | None:
        """The most calls a worker takes before it is replaced."""
        return self._loop.stage.admission.most_items

    @most_calls.setter
    def most_calls(self, calls: int | None) -> None:
        self._loop.stage.admission.most_items = calls

    def check_here(self) -> None:
        """Refuse to act in a fork of the process that owns the workers.

        Raises:
            RuntimeError: this is one.
        """
        if why := self.here.refusal("the executor"):
            raise RuntimeError(why)

    def check_open(self) -> None:
        """Raise RuntimeError where :meth:`add` would."""
        if self._broken is not None:
            raise BrokenExecutor(f"the executor cannot go on: {self._broken}") from self._broken
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def close(self, *, cancel: bool = False) -> None:
        """Accept no more calls; ``cancel`` those that no worker has yet. A no-op in a forked child."""
        if self.here.left():
            return
        with self._lock:
            self._closed = True
            known = [*self._came.calls, *self._calls.known()] if cancel else []
            self._wake()
        for call in known:  # without the lock: callbacks run here
            call.future.cancel()

    def abandon(self) -> None:
        """End at once; running calls fail."""
        self._stop.number = 1
        self.close(cancel=True)
        self.join()

    def join(self) -> None:
        """Wait for the end, where this thread may."""
        if not self.here.left() and self._thread is not threading.current_thread() and may_wait():
            for seconds in slices():
                self._thread.join(seconds)
                if not self._thread.is_alive():
                    break

    def _wake(self) -> None:
        if not self._ended:
            self._backend.wake()

    # ------------------------------------------------------------------ on the loop's thread

    def _serve(self) -> None:
        try:
            self._loop.serve(self._take_in)
        except BaseException as error:
            self._broken = error
        finally:
            with self._lock:
                self._closed = self._ended = True
                left = [*self._came.take()[0], *self._calls.left()]
            try:
                if not self._asked.keep_backend:
                    self._backend.close()
            except BaseException as error:  # who waits for a call, or for the end, must be told all the same
                warn(f"the executor's backend could not be closed: {foreign.reason_of(error)}")
            if self._stop.number:
                self._broken = None
            self._started.set()
            reason = self._broken or (
                CancelledError("it was under way when the executor was told to end at once")
                if self._stop.number
                else PenstockBug("a call was lost")
            )
            for call in left:
                fail(call, reason)

    def _take_in(self) -> bool:
        """Hand what has come to the loop; False when no more will come."""
        self._started.set()
        with self._lock:
            came, modules = self._came.take()
            more = bool(came) or not self._closed
        if modules:
            self._loop.stage.powers.preload(modules)
        for call in came:
            self._calls.add(call)
        if came:
            self._loop.stage.extend(len(self._calls))
        return more

    def _deliver(self, first: int, results: list[Any]) -> None:
        """Results of a batch, in order of the calls."""
        for number, result in enumerate(results, first):
            name = self._calls.name(number) if isinstance(result, SetAside) else ""
            call = self._calls.done(number)
            if call is None:
                raise PenstockBug(f"call {number} was done twice")
            if isinstance(result, File):
                result.own(self.folder)
            if isinstance(result, SetAside):
                fail(call, self._said_instead(self._error(result, name)))
            elif result is not None:  # None: it was cancelled before it began
                fulfil(call.future, result, self.remote)

    def _error(self, aside: SetAside, name: str) -> BaseException:
        """Why a call was given up: not its own doing, where this process has left it no room."""
        held = Meter().held()
        if aside.reason == "memory" and held > self.budget.bytes / 2:
            return explain.crowded(held, max(self.budget.bytes - held, 0), self.budget.now)
        return explain.exception_of(aside, name)


def _waits(event: CallsWait, budget: Budget) -> str:
    return (
        f"{event.waiting} calls have waited {event.seconds:.0f} s for memory: {event.running} run, and only "
        f"{format_size(event.free)} are free of the budget of {format_size(budget.bytes)} ({budget.origin}). "
        "If those that run wait for one of these, none will end: raise the budget, or state with memory= how "
        "little a call takes."
    )


def thread_variables() -> dict[str, str]:
    """Thread counts for libraries in workers: as in this process's environment, else one."""
    return {name: os.environ.get(name, "1") for name in THREAD_VARIABLES}


def _where() -> str:
    """The folder for temporary files, on a disk where there is one: files in memory count as memory."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:  # says so, too, where no file can be opened any more
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
        raise
    if discover.in_memory(folder) is None:
        return folder
    other = "/var/tmp"
    usable = os.access(other, os.W_OK) and discover.in_memory(other) is None
    return other if usable else folder


class _NoJournal:
    def write(self, *entries: Mapping[str, Any]) -> None:
        """Nothing resumes."""


class _Stop:
    """Has the loop stop, as a signal would; without the grace that a signal gives."""

    number = 0
    grace = 0.0


# --------------------------------------------------------------------------- the interpreter's end

_serving: weakref.WeakSet[Service] = weakref.WeakSet()


def _finish_all() -> None:
    """Finish what was submitted, as ``concurrent.futures`` does; after an unhandled Ctrl-C, end it."""
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    for service in list(_serving):
        if interrupted or service.abandon_at_exit:
            service.abandon()
        else:
            service.close()
            service.join()


# Before threads can no longer be started, where Python has such a moment.
getattr(threading, "_register_atexit", atexit.register)(_finish_all)
os.register_at_fork(after_in_child=_serving.clear)
