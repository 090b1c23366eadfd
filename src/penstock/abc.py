"""The seams: what a source, sink, reducer, backend, limit, observer and workload must do.

Everything that can be replaced meets the engine here, and only here. Each seam has a
conformance suite in :mod:`penstock.testing`; a class that passes it is a good plug-in.
Optional powers are Protocols of their own: a class has them by having the method.

Data does not pass through the parent: down go two integers (a :class:`Batch`), up comes a
:class:`Receipt`. ``len``, ``sizes``, ``starts``, ``name`` and ``fingerprint`` are called in the
parent and must be cheap; everything else runs in a worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from penstock.budget import Budget, Ceiling
from penstock.errors import SetAside
from penstock.events import Event
from penstock.peaks import Mark

if TYPE_CHECKING:
    import click

__all__ = [
    "Backend", "Batch", "Budget", "Carried", "Ceiling", "Closed", "Death", "Event", "Expecting",
    "Fingerprinted", "Itemised", "Limit", "Message", "MoreOfABackend", "Named", "Observer", "Part",
    "Reading", "Receipt", "Reducer", "Sequential", "SetAside", "Sink", "Sized", "Source", "Spanned",
    "Workload",
]  # fmt: skip


# --------------------------------------------------------------------------- small values


@dataclass(frozen=True, slots=True)
class Batch:
    """The items ``start <= i < stop`` of a source, less those set aside before."""

    start: int
    stop: int
    without: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A file that a sink wrote, by its name inside the sink's folder."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a batch is kept: the parts written, and up to 64 KiB of value inline."""

    parts: tuple[Part, ...] = ()
    value: Any = None
    """JSON values and NumPy arrays (``penstock.values``)."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What a sink may answer when it is closed, so that ``penstock verify`` knows what must be there.

    Without an answer the parts of all receipts must be there, and nothing else is known.
    """

    parts: tuple[Part, ...] = ()
    """What ``close`` itself wrote: a few files, however many items there are."""
    replaced: bool = False
    """True: these stand in the place of the parts of all receipts, which the engine removes once that is
    journaled."""
    pattern: str = ""
    """A glob of the names of parts: what matches it and was never told of does not belong there."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one worker and its children hold at one moment, in bytes, and the CPU they have used."""

    memory: int
    """Anonymous + shared memory of the worker's whole process tree."""
    cpu: float
    """CPU seconds so far."""
    shared: int = 0
    """The shared part of ``memory``."""
    peak: int = 0
    """The most of ``memory`` since the reading before, where that is known; else 0."""
    pipes: int = 0
    """Bytes that lie in the tree's pipes, where they are told; not part of ``memory``."""
    charged: int | None = None
    """What a control group of the worker alone is charged with: anonymous + shared, each page once,
    those that it has in common with others not at all, or all. None without such a group."""
    charged_peak: int = 0
    """The most of ``charged`` since the reading before, as far as that is sure: never too high."""
    charged_bound: float = math.inf
    """More than ``charged`` was at no moment since the reading before."""
    mark: Mark | None = None
    """The kernel's own marks of the worker's process, without its children, behind ``peak``."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something a worker said."""

    worker: int
    content: Any


@dataclass(frozen=True, slots=True)
class Death:
    """A worker is gone."""

    worker: int
    signal: int | None
    """The signal that ended it, or None."""
    code: int | None
    """Its exit code, or None."""
    noted: tuple[int, int, int] = (-1, -1, -1)
    """The item, and start and stop of the call, that it was at."""
    why: str = ""
    """Why it never was, where it could not be started."""
    kernel_killed: bool | None = field(default=None, compare=False)
    """Whether the kernel took a process of it for memory since it was last sent something; None where
    that is not told."""


# --------------------------------------------------------------------------- source


@runtime_checkable
class Source(Protocol):
    """Items by number. An item is chosen so that it can be read without reading the others.

    A source is pickled to the workers: it holds paths and offsets, not data.
    """

    def __len__(self) -> int:
        """How many items there are."""
        ...

    def read(self, start: int, stop: int) -> Any:
        """Read the items of one call, in a worker: a container of them, or an iterator.

        For a job with ``batched=True`` this is what the function gets, whole. Else the call with an
        item has ended before the next item is asked for.

        Raises:
            BadInput: naming the file and the place in it.
        """
        ...

    def fingerprint(self) -> Mapping[str, str]:
        """File or part -> a text that changes when its content does; compared on resume.

        Options that change what is read (columns, a block size) belong into these texts too. There is
        at least one, also where nothing can change: ``{"numbers": "1000"}``.
        """
        ...


@runtime_checkable
class Sized(Protocol):
    """A source that knows how large its items are."""

    def sizes(self, start: int, stop: int) -> Sequence[int]:
        """Size hints in bytes, one for each item: a file's size, a row group's bytes."""
        ...


@runtime_checkable
class Named(Protocol):
    """A source that can name an item for people."""

    def name(self, item: int) -> str:
        """``"sub-031"``, ``"genomes.fa, bytes 0 to 4194304"``."""
        ...


@runtime_checkable
class Fingerprinted(Protocol):
    """A source that can tell its files in several ways, of which the key keeps the one that was taken."""

    def fingerprint_kind(self) -> str:
        """The way that it takes when nothing was done yet: ``"content"``, ``"stat"``, a word of its own."""
        ...

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """As ``fingerprint``, told in this way; ``"sample"`` is that of folders of an earlier version."""
        ...


@runtime_checkable
class Spanned(Protocol):
    """A source that knows which items come from which file of its fingerprint."""

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """File or part, as in ``fingerprint()`` -> its items ``(start, stop)``."""
        ...


@runtime_checkable
class Sequential(Protocol):
    """A source that reads streams which cannot be entered in the middle.

    One worker works a stretch (from one start to the next) in order and keeps its cursor
    between batches. ``read`` must still be right from anywhere, only slower.
    """

    def starts(self) -> Sequence[int]:
        """The items where reading may begin without reading what lies before, ascending, from 0."""
        ...


@runtime_checkable
class Carried(Protocol):
    """A source whose items live in the parent and travel with the batch (a list).

    In a worker ``read`` gives items of the cargo that was loaded last: ``load(start, carry(start, stop))``
    comes before the reads of a batch, and these ask for nothing outside it.
    """

    def weigh(self, start: int, stop: int) -> int:
        """Estimated bytes of what ``carry`` would give, in the parent; batches are cut by it."""
        ...

    def carry(self, start: int, stop: int) -> Any:
        """The items of a batch, in the parent; at most about 1 MiB when pickled."""
        ...

    def load(self, start: int, cargo: Any) -> None:
        """Take what ``carry`` gave, in the worker, before ``read``."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """A source that may fetch ahead what a batch is going to read."""

    def expect(self, start: int, stop: int) -> None:
        """Hear, in the worker, of the items that come next; once a batch, before its first read.

        It returns at once. It is advice: fewer of them may be read, or others, and what is read is the same
        as without it. What it holds counts as the worker's, and what it fetched for a batch before
        and was not read may go. What it raises is not heard of: reading tells what is wrong.
        """
        ...


@runtime_checkable
class Itemised(Protocol):
    """A source whose containers do not iterate over their items (an Arrow table gives columns)."""

    def each(self, container: Any) -> Iterable[Any]:
        """The items of what ``read`` gave, one by one."""
        ...


# --------------------------------------------------------------------------- sink and reducer


@runtime_checkable
class Sink(Protocol):
    """Keeps results. Called in workers only; the same batch written twice leaves the same part.

    ``unit`` says what the results iterator yields: ``"item"`` one result (or
    :class:`SetAside`) for each item, ``"call"`` whatever the function returned, call by call
    (a SetAside still stands for one item). Without the attribute it is ``"item"``.
    """

    @property
    def grain(self) -> int | None:
        """Items per part, fixed by options and the shape of the data, never by the budget.

        None when the result does not depend on how items are grouped. Then the iterator may end
        before ``batch.stop``: the engine cuts such batches by time and memory.
        """
        ...

    def open(self, folder: Path, items: int) -> None:
        """Prepare the folder, once, before the first write. The folder exists."""
        ...

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Keep one batch (exactly one grain, where there is one) and say what was kept."""
        ...

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed | None:
        """Finish, once, given every receipt in item order. Streams, never gathers.

        A sink that writes, joins or removes files here says so in its answer.
        """
        ...

    def result(self, folder: Path) -> Any:
        """Open what is kept, after a run and after a resume alike."""
        ...


@runtime_checkable
class Reducer(Protocol):
    """Folds results into one value. A state is made of JSON values and NumPy arrays.

    ``order="any"``: ``merge`` is commutative and exact (integers, counters).
    ``order="items"``: neighbours are merged left to right. ``grain`` is None when ``merge`` is
    exactly associative; else states are folded per grain, so that floats do not depend on batches.
    ``unit`` is as for a sink. A SetAside is never passed to ``step``.
    """

    @property
    def order(self) -> Literal["any", "items"]:
        """Whether states may be merged in any order."""
        ...

    @property
    def grain(self) -> int | None:
        """Items per state; None where grouping does not matter."""
        ...

    def start(self) -> Any:
        """The state before any result."""
        ...

    def step(self, state: Any, result: Any) -> Any:
        """Fold one result in; may change and return the same state."""
        ...

    def merge(self, left: Any, right: Any) -> Any:
        """Put two states together; may change and return ``left``."""
        ...

    def finish(self, states: Iterator[Any]) -> Any:
        """Fold the states (in item order where ``order="items"``) into the kept value."""
        ...


# --------------------------------------------------------------------------- backend


class Backend(Protocol):
    """Starts, watches and stops workers on one node.

    A worker is known by a small number. Nothing here waits for a worker without an end: one that does
    not answer, or what starts them, is given up and told of as dead. This is all that a backend must have;
    what it may have besides is in :class:`MoreOfABackend`, and the engine does without.

    What ``open`` is given unpickles to an object with ``warm()``, called once where workers are forked from;
    ``serve(channel, words)``, a worker's whole life; and ``worker(words)``, for a backend that has no
    processes: its ``prepare()`` gives the first message, its ``answer(content)`` the answer to each that is
    sent, None when it leaves. ``channel`` has ``send(content)`` and ``receive()``, which raises EOFError
    when the parent is gone. ``words`` is its note (:mod:`penstock.worker_note`): at least eight 64-bit
    words, shared with the parent and kept when the worker dies, from which ``noted`` reads and into which
    ``cut`` writes.
    """

    @property
    def cpu(self) -> float:
        """CPU seconds of the workers that have ended, and of what the backend runs beside them."""
        ...

    def open(self, setup: bytes, environment: Mapping[str, str], log: Path | None) -> None:
        """Make ready to start workers for one job.

        Args:
            setup: the pickled job; read by the engine's worker loop.
            environment: variables to set before anything is imported (thread counts).
            log: file that takes the workers' stdout and stderr, or None to drop them.

        Raises:
            PenstockError: the job cannot be loaded in a worker (a module not found).
        """
        ...

    def start(self) -> int:
        """Start a worker and return its number; what ``prepare()`` gave arrives when it is ready."""
        ...

    def send(self, worker: int, content: Any) -> None:
        """Queue a message to a worker."""
        ...

    def wait(self, timeout: float) -> list[Message | Death]:
        """What workers said, and who died, since the last call; waits at most ``timeout`` s."""
        ...

    def wake(self) -> None:
        """Make a waiting ``wait`` return at once; callable from any thread."""
        ...

    def noted(self, worker: int) -> tuple[int, int, int]:
        """(item, start and stop of its call) that a worker is at, or -1s; read from shared memory."""
        ...

    def cut(self, worker: int) -> None:
        """Ask a worker to end its batch at the next possible place."""
        ...

    def read(self) -> Mapping[int, Reading]:
        """What every living worker holds now; called from the governor's thread."""
        ...

    def io(self, worker: int) -> int:
        """Bytes that a worker has read and written so far; 0 where that is not told."""
        ...

    def overhead(self) -> int:
        """Anonymous + shared bytes that the backend holds beside the workers, now."""
        ...

    def pause(self, worker: int) -> None:
        """Stop a worker's whole process tree from running, keeping its memory."""
        ...

    def resume(self, worker: int) -> None:
        """Let a paused worker run on."""
        ...

    def kill(self, worker: int) -> None:
        """End a worker's whole process tree at once; its Death arrives through ``wait``."""
        ...

    def close(self) -> None:
        """End everything and leave no process behind."""
        ...


class MoreOfABackend(Protocol):
    """What a backend may have besides; what it does not have, the engine does without."""

    governs: bool
    """False: there is nobody to pause or kill, so memory is only watched. Taken for True."""
    output: bool
    """Set to True to have workers write to this process's stdout and stderr, where no log takes it."""

    def early(self, worker: int) -> tuple[int, bytes]:
        """The seventh word of a worker's note; then what stands behind the eight, as long as the sixth says.

        Of a batch of an executor's calls these are the results so far. Without it, or without room behind
        the words, they come when the batch ends.
        """
        ...

    def preload(self, modules: Iterable[str]) -> None:
        """Import what workers were seen to import where workers are forked from, so that they share it."""
        ...

    def shared(self) -> int:
        """Bytes of shared memory that workers and backend hold, each page once, now.

        Takes the place of the ``shared`` parts of the readings, which are added up without it: what
        two workers map is in both of these. Without what this process maps, which counts with it.
        """
        ...

    def total(self) -> int | None:
        """Bytes that workers and backend hold together, where a counter tells that exactly; else None.

        Where it tells, it is believed before any sum.
        """
        ...

    def top(self) -> int:
        """The most that ``total`` was between its last two calls."""
        ...

    def fence(self, worker: int, most: int) -> None:
        """Have the kernel end a worker, and no other, rather than let it hold more bytes."""
        ...

    @property
    def measure(self) -> str:
        """How memory is measured here, and what that way cannot see: a sentence for people."""
        ...


# --------------------------------------------------------------------------- limit, observer, workload


class Limit(Protocol):
    """A place where someone may have set a ceiling on memory."""

    def read(self) -> Sequence[Ceiling]:
        """The ceilings as they stand now; empty when there are none here. Never raises."""
        ...


class Observer(Protocol):
    """Called with every event, in order, in the parent. Must be quick."""

    def __call__(self, event: Event) -> None: ...


class Workload(Protocol):
    """A job with a name, for the command line: ``penstock run NAME ...``.

    With an attribute ``private = True`` its runs are private, as ``penstock.Run(private=True)`` is. With
    ``incidental = ("fetch",)`` these options may be others when a run goes on: nothing that is made depends
    on them.
    """

    command: click.Command
    """Its arguments and options; its docstring is the help. The callback is not used."""

    def run(self, run: Any, **options: Any) -> None:
        """Do it, inside an open :class:`penstock.Run`."""
        ...

    def plan(self, budget: str | int, **options: Any) -> list[Any]:
        """The plans of its stages, as far as they can be known without running them."""
        ...
