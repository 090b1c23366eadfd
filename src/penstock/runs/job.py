"""A job: a source, a function, and outputs; to be planned and run."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Unpack, overload

from penstock import display, foreign
from penstock.abc import Observer, Source
from penstock.engine.decide.plan import Plan
from penstock.errors import SetAside
from penstock.report.report import Report
from penstock.runs.result_types import (
    CallKeywords,
    Item,
    JobKeywords,
    JobRunKeywords,
    ReducerTo,
    Result,
    SinkOf,
)
from penstock.runs.run import Run
from penstock.runs.spec import JobSpec

if TYPE_CHECKING:
    from penstock.runs.result_types import Collecting


class Job(JobSpec, Generic[Result]):
    """What to do: ``function`` over the items of ``source``, results ``into`` a sink or reducer.

    Args:
        source: the items (``penstock.sources``).
        function: an ordinary function of one item. An object with ``prepare()`` is prepared once
            per worker; one with ``warm()`` once in the fork server, before workers are forked. What
            ``warming()`` gives is said before that: why it will take a while, empty where it will not.
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

    To a type checker it is a ``Job[list[T]]`` where ``function`` returns T and results are collected, and
    the type of a sink's ``result`` or a reducer's ``finish`` otherwise.
    """

    if TYPE_CHECKING:  # the arguments are the fields of JobSpec; here stands what Result is

        @overload
        def __init__(
            self: Job[list[Item]],
            *,
            source: Source,
            function: Callable[..., Item],
            into: Collecting = "collect",
            batched: Literal[False] = False,
            **options: Unpack[JobKeywords],
        ) -> None: ...
        @overload
        def __init__(
            self: Job[list[Item]],
            *,
            source: Source,
            function: Callable[..., Iterable[Item]],
            into: Collecting = "collect",
            batched: bool | int,
            **options: Unpack[JobKeywords],
        ) -> None: ...
        @overload
        def __init__(
            self,
            *,
            source: Source,
            function: Callable[..., Any],
            into: SinkOf[Result] | ReducerTo[Result],
            batched: bool | int = False,
            **options: Unpack[JobKeywords],
        ) -> None: ...
        @overload
        def __init__(
            self: Job[Any],
            *,
            source: Source,
            function: Callable[..., Any],
            into: str | Mapping[str, Any],
            batched: bool | int = False,
            **options: Unpack[JobKeywords],
        ) -> None: ...
        def __init__(self, **options: Any) -> None: ...

    else:

        @functools.wraps(JobSpec.__init__)
        def __init__(self, *positional, **options):
            _check_arguments(positional, options)
            super().__init__(**options)

    def plan(
        self, *, budget: str | int = "auto", workers: int | None = None, call: int | None = None
    ) -> Plan:
        """Run a few items in a worker, discard their results, and say what a run would do.

        A job's only item is never tried.

        Raises:
            NoBudget: the budget is under the smallest possible.
            ItemTooLarge: ``memory`` is more than one worker may use.
        """
        with Run(budget=budget, workers=workers, call=call) as run:
            return run.try_out(self)

    @overload
    def run(  # type: ignore[overload-overlap]  # False is a bool too: then nothing is set aside
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        set_aside: Literal[False] = False,
        **options: Unpack[JobRunKeywords],
    ) -> Report[Result]: ...
    @overload
    def run(
        self: Job[list[Item]],
        folder: str | os.PathLike[str] | None = None,
        *,
        set_aside: bool | int,
        **options: Unpack[JobRunKeywords],
    ) -> Report[list[Item | SetAside]]: ...
    @overload
    def run(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        set_aside: bool | int,
        **options: Unpack[JobRunKeywords],
    ) -> Report[Result]: ...
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
        history: bool = True,
        progress: display.Progress = None,
        output: display.Output = "show",
        observers: Sequence[Observer] = (),
        backend: str | Any = "local",
        cluster: str | Any | None = None,
        wait: str | float = "5min",
    ) -> Report[Any]:
        """Run the job; the same call again resumes it. Arguments as for :class:`penstock.Run`.

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
            history=history,
            progress=progress,
            output=output,
            observers=observers,
            backend=backend,
            cluster=cluster,
            wait=wait,
        ) as run:
            run._stage("", self)
        return run.report()


@overload
def run(
    function: Callable[..., Item],
    items: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    into: Collecting = "collect",
    batched: Literal[False] = False,
    set_aside: Literal[False] = False,
    **options: Unpack[CallKeywords],
) -> Report[list[Item]]: ...
@overload
def run(
    function: Callable[..., Item],
    items: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    into: Collecting = "collect",
    batched: Literal[False] = False,
    set_aside: bool | int,
    **options: Unpack[CallKeywords],
) -> Report[list[Item | SetAside]]: ...
@overload
def run(
    function: Callable[..., Iterable[Item]],
    items: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    into: Collecting = "collect",
    batched: bool | int,
    set_aside: Literal[False] = False,
    **options: Unpack[CallKeywords],
) -> Report[list[Item]]: ...
@overload
def run(
    function: Callable[..., Iterable[Item]],
    items: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    into: Collecting = "collect",
    batched: bool | int,
    set_aside: bool | int,
    **options: Unpack[CallKeywords],
) -> Report[list[Item | SetAside]]: ...
@overload
def run(
    function: Callable[..., Any],
    items: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    into: SinkOf[Result] | ReducerTo[Result],
    batched: bool | int = False,
    set_aside: bool | int = False,
    **options: Unpack[CallKeywords],
) -> Report[Result]: ...
@overload
def run(
    function: Callable[..., Any],
    items: Any,
    folder: str | os.PathLike[str] | None = None,
    *,
    into: str | Mapping[str, Any],
    batched: bool | int = False,
    set_aside: bool | int = False,
    **options: Unpack[CallKeywords],
) -> Report[Any]: ...
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
    history: bool = True,
    progress: display.Progress = None,
    output: display.Output = "show",
    observers: Sequence[Observer] = (),
    backend: str | Any = "local",
    cluster: str | Any | None = None,
    wait: str | float = "5min",
) -> Report[Any]:
    """Call ``function`` with every item, inside a memory budget; the report has the ``result``.

    It is a list of what ``function`` returns, in the order of the items, or what ``into`` makes of it. In a
    folder a tuple is kept as JSON keeps it, and comes back as a list.

    Args:
        function: of one item.
        items: a list, tuple, array, range, number of items, or a source.
        folder: where to keep results and journal, so that the same call resumes; None for a
            temporary run.
        into, inputs, batched, memory, threads, seed, timeout, stall: as for :class:`Job`.
        private: as for :class:`Job` and :class:`Run`.
        budget, workers, call, set_aside, accept_changes, retry_set_aside: as for :class:`Run`.
        history, progress, output, observers, backend, cluster, wait: as for :class:`Run`.

    Raises:
        PenstockError: see :mod:`penstock.errors`.
    """
    job = Job(
        source=as_source(items), function=function, into=into, batched=batched,
        inputs={} if inputs is None else inputs, memory=memory, threads=threads, seed=seed, private=private,
        timeout=timeout, stall=stall,
    )  # fmt: skip
    return job.run(
        folder, budget=budget, workers=workers, call=call, set_aside=set_aside, accept_changes=accept_changes,
        retry_set_aside=retry_set_aside, history=history, progress=progress, output=output,
        observers=observers, backend=backend, cluster=cluster, wait=wait,
    )  # fmt: skip


def _check_arguments(positional: Sequence[object], named: Mapping[str, object]) -> None:
    """Refuse what a call of ``Job`` cannot mean; Python would name a class that nobody knows.

    Raises:
        TypeError: as for any function.
    """
    if positional:
        raise TypeError(
            f"Job takes its arguments by name, and {len(positional)} came without one: write "
            "Job(source=..., function=...), or penstock.run(function, items)"
        )
    from difflib import get_close_matches

    known = JobSpec.__dataclass_fields__
    for name in named:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            said = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise TypeError(f"Job has no argument {foreign.line(name)}: {said}")
    missing = [name for name in ("source", "function") if name not in named]
    if missing:
        raise TypeError(f"Job needs {' and '.join(missing)}: write Job(source=..., function=...)")


def as_source(items: Any) -> Any:
    """Items as a source: a source is one, a range or number counts, a sequence is carried."""
    from penstock.sources.items import Items, Range

    items = foreign.as_int(items)
    if isinstance(items, range) or (isinstance(items, int) and not isinstance(items, bool)):
        return Range(items)
    return items if isinstance(items, Source) else Items(items)
