"""The protocols of a sink, which keeps results, and of a reducer, which folds them into one value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from penstock.abc.batches import Batch, Closed, Receipt


@runtime_checkable
class Sink(Protocol):
    """Keeps results. Called in workers only; writing the same batch twice leaves the same part (idempotent).

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
        """Keep one batch (exactly one grain, if the sink has grains) and return its receipt."""
        ...

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed | None:
        """Finish, once, given every receipt in item order. Must stream them, never collect them.

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
        """``"any"`` if states may be merged in any order, else ``"items"``."""
        ...

    @property
    def grain(self) -> int | None:
        """Items per state; None where grouping does not matter."""
        ...

    def start(self) -> Any:
        """The initial state."""
        ...

    def step(self, state: Any, result: Any) -> Any:
        """Fold one result in; may change and return the same state."""
        ...

    def merge(self, left: Any, right: Any) -> Any:
        """Merge two states; may change and return ``left``."""
        ...

    def finish(self, states: Iterator[Any]) -> Any:
        """Fold the states (in item order where ``order="items"``) into the kept value."""
        ...
