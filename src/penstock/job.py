"""A job: a source, a function, and where results go."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import registry
from penstock.abc import Observer, Sink, Source
from penstock.budget import MiB, format_size, parse_size
from penstock.durations import parse_duration
from penstock.engine.decide.estimate import Wishes
from penstock.engine.decide.plan import Plan
from penstock.engine.worker.main import Setup
from penstock.errors import UnknownPlugin, UsageError
from penstock.record.job_key import job_key
from penstock.record.listing import Listing
from penstock.report.report import Report
from penstock.stages import Run
from penstock.stored import Stored

_LARGEST_FUNCTION = 16 * MiB


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done: ``function`` over the items of ``source``, results ``into`` a sink or reducer.

    Args:
        source: the items (``penstock.sources``).
        function: an ordinary function of one item. An object with ``prepare()`` is prepared once
            per worker; one with ``warm()`` once in the fork server, before workers are forked.
        into: a sink or reducer, its registered name, or a dict of them: the function then returns a
            dict with the same names.
        inputs: passed as keywords. Files and earlier stages are opened once per worker.
        batched: the function takes what ``source.read`` gives for a whole call; a number fixes
            the items a call, for functions whose floats depend on it.
        memory: the most that a call takes, stated instead of learnt: ``"600MiB"``. It is checked; more
            than one worker may use is ItemTooLarge before any call.
        threads: the most threads that a call can make use of; None for as many as there are cores for it.
        seed: of the global random generators, which are reseeded from (seed, item).
        private: keep names of items, and messages and tracebacks of exceptions, out of journal, events
            and report, and drop what workers print; see :class:`penstock.Run`.
        timeout: how long one item (one call, if batched) may take: seconds, or ``"30s"``; None for no limit.
        stall: how long a worker may go without CPU and I/O before it counts as hung.
    """

    source: Source
    function: Callable[..., Any]
    into: Any = "collect"
    inputs: Mapping[str, Any] = field(default_factory=dict)
    batched: bool | int = False
    memory: str | int | None = None
    threads: int | None = None
    seed: int = 0
    private: bool = False
    timeout: str | float | None = None
    stall: str | float = "10min"

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            raise UsageError(
                f"source is a {type(self.source).__name__}, which has no len, read and fingerprint; "
                "for a list "
                "write penstock.sources.Items(...), for numbers penstock.sources.Range(...)"
            )
        powers = [name for name in ("weigh", "carry", "load") if hasattr(self.source, name)]
        if "carry" in powers and len(powers) < 3:
            raise UsageError(
                f"source is a {type(self.source).__name__}, whose items travel with their batch: it "
                f"needs weigh, carry and load, and has only {', '.join(powers)}"
            )
        if not callable(self.function):
            raise UsageError(f"function is a {type(self.function).__name__}, which cannot be called")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, not {self.threads}")
        if not isinstance(self.batched, bool) and self.batched < 1:
            raise UsageError(f"batched must be True, False or a number of items, not {self.batched}")
        _ = self.timeout_seconds, self.stall_seconds, self.wishes(None, None)

    # ------------------------------------------------------------------ doing it

    def plan(
        self, *, budget: str | int = "auto", workers: int | None = None, call: int | None = None
    ) -> Plan:
        """Try a few items in a worker, throw their results away, and say what a run would do.

        A job's only item is never tried.

        Raises:
            NoBudget: the budget is under the smallest possible.
            ItemTooLarge: ``memory`` is more than one worker may use.
        """
        with Run(budget=budget, workers=workers, call=call) as run:
            return run.try_out(self)

    def run(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        budget: str | int = "auto",
        workers: int | None = None,
        call: int | None = None,
        set_aside: bool | int = False,
        accept_changes: bool = False,
        retry_set_aside: bool = False,
        private: bool = False,
        observers: Sequence[Observer] = (),
        backend: str | Any = "local",
    ) -> Report:
        """Do it. The same call again resumes. Arguments as for :class:`penstock.Run`.

        The run of a private job is private.

        Raises:
            PenstockError: see :mod:`penstock.errors`.
        """
        with Run(
            folder,
            budget=budget,
            workers=workers,
            call=call,
            set_aside=set_aside,
            accept_changes=accept_changes,
            retry_set_aside=retry_set_aside,
            private=private or self.private,
            observers=observers,
            backend=backend,
        ) as run:
            run._stage("", self)
        return run.report()

    # ------------------------------------------------------------------ for the engine

    def key(self, listing: Listing | None = None) -> dict[str, Any]:
        """What resume compares; with the listing of the source's files, where it was made."""
        return job_key(
            function=self.function,
            source=self.source,
            rooms=self.rooms(temporary=False),
            inputs=self._stages_before(),
            options={"batched": self.batched, "seed": self.seed},
            listing=listing,
        )

    def _stages_before(self) -> Mapping[str, Any]:
        """The inputs, and the stage whose results are the items, where they are such."""
        stage = getattr(self.source, "stage", None)
        return {**self.inputs, "the items": stage} if isinstance(stage, Stored) else self.inputs

    def rooms(self, *, temporary: bool) -> dict[str, Any]:
        """Sinks and reducers by name; the name is empty where there is only one.

        Raises:
            UsageError: neither, or one that needs a folder in a temporary run.
        """
        if isinstance(self.into, Mapping):
            if not self.into:
                raise UsageError("into={} names no sink: give at least one")
            rooms = {str(name): _room(room) for name, room in self.into.items()}
        else:
            rooms = {"": _room(self.into)}
        if temporary:
            rooms = {name: _for_temporary(room, single=len(rooms) == 1) for name, room in rooms.items()}
        return rooms

    @property
    def stall_seconds(self) -> float:
        """``stall`` in seconds."""
        return parse_duration(self.stall, "stall")

    @property
    def timeout_seconds(self) -> float | None:
        """``timeout`` in seconds."""
        return None if self.timeout is None else parse_duration(self.timeout, "timeout")

    def most_threads(self, cores: int) -> int:
        """Threads that a call may have when all cores are its own."""
        return min(cores, self.threads or cores)

    def wishes(self, workers: int | None, call: int | None) -> Wishes:
        """What was stated about sizes."""
        fixed = None if isinstance(self.batched, bool) else self.batched
        memory = None if self.memory is None else parse_size(self.memory)
        return Wishes(workers=workers, call=call, fixed_call=fixed, memory=memory, threads=self.threads)

    def setup(self, rooms: Mapping[str, Any], results: Path, machinery: Path, *, durable: bool) -> Setup:
        """The job as a worker gets it."""
        return Setup(
            function=self.function,
            source=self.source,
            rooms=rooms,
            folder=results,
            machinery=machinery,
            items=len(self.source),
            batched=bool(self.batched),
            fixed_call=None if isinstance(self.batched, bool) else self.batched,
            inputs=dict(self.inputs),
            seed=self.seed,
            private=self.private,
            durable=durable,
        )

    def pack(self, setup: Setup) -> bytes:
        """The same, pickled. What lives only in a script or notebook goes by value.

        Raises:
            UsageError: it cannot be pickled, or is over 16 MiB; names the variable.
        """
        import cloudpickle

        try:
            packed: bytes = cloudpickle.dumps(setup, protocol=5)
        except Exception as error:
            raise UsageError(
                f"the job cannot be sent to workers: {error}. Open files, connections and locks belong in an "
                "object with prepare(), which each worker calls for itself."
            ) from error
        if len(packed) > _LARGEST_FUNCTION:
            name, size = _heaviest(self.function)
            raise UsageError(
                f"the function takes {format_size(len(packed))} to send to workers, more than "
                f"{format_size(_LARGEST_FUNCTION)}: it captures {name} ({format_size(size)}). Save "
                "that to a file "
                "and pass inputs={...: Path(...)}, which every worker maps."
            )
        return packed


def run(
    function: Callable[..., Any],
    items: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    into: Any = "collect",
    inputs: Mapping[str, Any] | None = None,
    batched: bool | int = False,
    memory: str | int | None = None,
    threads: int | None = None,
    seed: int = 0,
    private: bool = False,
    timeout: str | float | None = None,
    stall: str | float = "10min",
    budget: str | int = "auto",
    workers: int | None = None,
    call: int | None = None,
    set_aside: bool | int = False,
    accept_changes: bool = False,
    retry_set_aside: bool = False,
    observers: Sequence[Observer] = (),
    backend: str | Any = "local",
) -> Report:
    """Call ``function`` with every item, inside a memory budget; the report has the ``result``.

    Args:
        function: of one item.
        items: a list, tuple, array, range, number of items, or a source.
        folder: where to keep results and journal, so that the same call resumes; None for a
            temporary run.
        into, inputs, batched, memory, threads, seed, timeout, stall: as for :class:`Job`.
        private: as for :class:`Job` and :class:`Run`.
        budget, workers, call, set_aside, accept_changes, retry_set_aside, observers, backend: as for
            :class:`Run`.

    Raises:
        PenstockError: see :mod:`penstock.errors`.
    """
    job = Job(
        source=as_source(items),
        function=function,
        into=into,
        inputs=inputs or {},
        batched=batched,
        memory=memory,
        threads=threads,
        seed=seed,
        private=private,
        timeout=timeout,
        stall=stall,
    )
    return job.run(
        folder,
        budget=budget,
        workers=workers,
        call=call,
        set_aside=set_aside,
        accept_changes=accept_changes,
        retry_set_aside=retry_set_aside,
        observers=observers,
        backend=backend,
    )


def as_source(items: Any) -> Any:
    """Items as a source: a source is one, a range or number counts, a sequence travels."""
    from penstock.sources.items import Items, Range

    if isinstance(items, range) or (isinstance(items, int) and not isinstance(items, bool)):
        return Range(items)
    return items if isinstance(items, Source) else Items(items)


def _room(into: Any) -> Any:
    if not isinstance(into, str):
        if isinstance(into, type):
            raise UsageError(f"into is the class {into.__name__}; write {into.__name__}()")
        if not isinstance(into, Sink) and not hasattr(into, "merge"):
            raise UsageError(f"into is a {type(into).__name__}, which is neither a sink nor a reducer")
        return into
    for kind in ("sink", "reducer"):
        if into in registry.names(kind):
            return registry.load(kind, into)()
    raise UnknownPlugin("sink or reducer", into, {*registry.names("sink"), *registry.names("reducer")})


def _for_temporary(room: Any, *, single: bool) -> Any:
    from penstock.sinks.collect import Collect

    if hasattr(room, "merge"):
        return room
    if isinstance(room, Collect) and single:
        return Collect(cap=room.cap, anything=True)
    what = type(room).__name__
    raise UsageError(f"{what} keeps files, and a temporary run keeps none: give the run a folder")


def _heaviest(function: Any) -> tuple[str, int]:
    """The captured variable that pickles largest."""
    import cloudpickle

    if isinstance(function, functools.partial):
        found = {f"argument {n}": value for n, value in enumerate(function.args)} | dict(function.keywords)
        function = function.func
    else:
        found = {}
    code = getattr(function, "__code__", None)
    if code is not None:
        cells = getattr(function, "__closure__", None) or ()
        found |= dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
        found |= {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    else:
        found |= vars(function) if hasattr(function, "__dict__") else {}
    sizes = {}
    for name, value in found.items():
        try:
            sizes[name] = len(cloudpickle.dumps(value))
        except Exception:
            sizes[name] = 0
    name = max(sizes, key=sizes.__getitem__, default="")
    return (repr(name), sizes[name]) if name else ("something large", 0)
