"""The source protocol, and the optional protocols that a source may implement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Source(Protocol):
    """Items by number. Each item can be read without reading the others.

    A source is pickled to the workers: it holds paths and offsets, not data.
    """

    def __len__(self) -> int:
        """How many items there are."""
        ...

    def read(self, start: int, stop: int) -> Any:
        """Read the items of one call, in a worker: return a container of them, or an iterator.

        For a job with ``batched=True`` this is what the function gets, whole. Else the call with an
        item has ended before the next item is asked for.

        Raises:
            BadInput: naming the file and the place in it.
        """
        ...

    def fingerprint(self) -> Mapping[str, str]:
        """File or part -> a text that changes when its content changes; compared on resume.

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
    """A source with several ways to fingerprint its files; the key records which one was used."""

    def fingerprint_kind(self) -> str:
        """The kind it uses for a new run: ``"content"``, ``"stat"``, or a name of its own."""
        ...

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """``fingerprint`` of this kind; ``"sample"`` is the kind in folders of an earlier version."""
        ...


@runtime_checkable
class Spanned(Protocol):
    """A source that knows which items come from which file of its fingerprint."""

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """File or part, as in ``fingerprint()`` -> its items ``(start, stop)``."""
        ...


@runtime_checkable
class Sequential(Protocol):
    """A source of streams that cannot be entered in the middle.

    One worker works a stretch (from one start to the next) in order and keeps its cursor
    between batches. ``read`` must still be right from anywhere, only slower.
    """

    def starts(self) -> Sequence[int]:
        """The items at which reading can begin without reading what comes before; ascending, from 0."""
        ...


@runtime_checkable
class Carried(Protocol):
    """A source whose items live in the parent and travel with the batch (a list).

    In a worker ``read`` gives items of the cargo that was loaded last: ``load(start, carry(start, stop))``
    comes before the reads of a batch, and these ask for nothing outside it. On a node of a cluster
    ``weigh`` and ``carry`` are asked the same way for parts of a lease's items, which were loaded before.
    """

    def weigh(self, start: int, stop: int) -> int:
        """Estimated bytes that ``carry`` would return; called in the parent, to limit the size of batches."""
        ...

    def carry(self, start: int, stop: int) -> Any:
        """The items of a batch, in the parent; at most about 1 MiB when pickled."""
        ...

    def load(self, start: int, cargo: Any) -> None:
        """Take what ``carry`` returned, in the worker, before ``read``."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """A source that can prefetch what a batch is going to read."""

    def expect(self, start: int, stop: int) -> None:
        """Announce, in the worker, the items that come next; called once a batch, before its first read.

        It returns at once. It is advice: fewer of them may be read, or others, and what is read is the same
        as without it. What it holds counts as the worker's, and what it fetched for a batch before
        and was not read may go. What it raises is not heard of: reading tells what is wrong.
        """
        ...


@runtime_checkable
class Itemised(Protocol):
    """A source whose containers do not iterate over items (an Arrow table iterates over columns)."""

    def each(self, container: Any) -> Iterable[Any]:
        """The items of what ``read`` returned, one by one."""
        ...
