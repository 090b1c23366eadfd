"""The static type of ``report.result``: for type checkers only, without effect at run time.

A job that collects has a list of what its function returns; the place of an item that was set aside
holds its SetAside. Any other sink or reducer says it by the type that its ``result`` or ``finish`` gives.
Several of them in a dict, one that is named by a text, and one whose type says nothing, are Any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

from penstock import display
from penstock.abc import Observer

if TYPE_CHECKING:
    # Part of every type checker; at run time a default says nothing, and Python 3.13 is the first to know it.
    from typing_extensions import TypeVar

    from penstock.sinks.collect import Collect

    Result = TypeVar("Result", default=Any)
    Collecting: TypeAlias = Literal["collect"] | Collect
    """``into`` of a job whose result is a list."""
else:
    from typing import TypeVar

    Result = TypeVar("Result")

Item = TypeVar("Item")
"""What a function returns for an item."""
Opened_co = TypeVar("Opened_co", covariant=True)


class SinkOf(Protocol[Opened_co]):
    """A sink, typed by what it opens."""

    def write(self, batch: Any, results: Any, folder: Path) -> Any:
        """As :meth:`penstock.abc.Sink.write`."""
        ...

    def result(self, folder: Path) -> Opened_co:
        """As :meth:`penstock.abc.Sink.result`."""
        ...


class ReducerTo(Protocol[Opened_co]):
    """A reducer, typed by what it makes."""

    def merge(self, left: Any, right: Any) -> Any:
        """As :meth:`penstock.abc.Reducer.merge`."""
        ...

    def finish(self, states: Iterator[Any]) -> Opened_co:
        """As :meth:`penstock.abc.Reducer.finish`."""
        ...


class _CallingKeywords(TypedDict, total=False):
    """How the function is called."""

    memory: str | int | None
    threads: int | None
    seed: int
    private: bool
    timeout: str | float | None
    stall: str | float


class JobKeywords(_CallingKeywords, total=False):
    """Options of a job that do not affect the type of its result."""

    inputs: Mapping[str, Any]


class RunKeywords(TypedDict, total=False):
    """Options of a run that do not affect the type of its result; ``private`` is the job's too."""

    budget: str | int
    workers: int | None
    call: int | None
    accept_changes: bool
    retry_set_aside: bool
    history: bool
    progress: display.Progress
    output: display.Output
    observers: Sequence[Observer]
    backend: str | Any
    cluster: str | Any | None
    wait: str | float


class JobRunKeywords(RunKeywords, total=False):
    """The options of :meth:`penstock.Job.run`."""

    private: bool


class CallKeywords(RunKeywords, _CallingKeywords, total=False):
    """The options of :func:`penstock.run`, where ``inputs`` may be None too."""

    inputs: Mapping[str, Any] | None
