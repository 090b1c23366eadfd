"""Concatenates several sources into one."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, TypeVar

from penstock.abc import Carried, Expecting, Fingerprinted, Named, Sequential, Sized, Source, Spanned
from penstock.errors import BadInput, UsageError

T = TypeVar("T")


class Chain:
    """The items of several sources, one source after the other: ``Chain(a, b)`` or ``Chain([a, b])``.

    It has each optional power that it can keep: ``sizes`` when all sources have them (a guess
    for the rest would mislead the predictions), ``name`` when any has, ``starts``, ``carry``,
    ``expect`` and ``each`` likewise; ``spans`` always. A call that crosses a border reads both
    sides: iterators are chained lazily, Arrow tables and arrays concatenated, other containers
    become a list.

    Args:
        sources: one or more; or one iterable of them.

    Raises:
        UsageError: no sources, or something that is not one.
    """

    def __init__(self, *sources: Source | Iterable[Source]) -> None:
        self._sources: tuple[Any, ...] = _flat(sources)
        if not self._sources:
            raise UsageError("Chain() needs at least one source")
        for source in self._sources:
            if not isinstance(source, Source):
                raise UsageError(
                    f"Chain takes sources, not {type(source).__name__}: wrap a list in penstock.sources.Items"
                )
        self._ends = list(accumulate(map(len, self._sources)))
        # Optional powers are found by the engine as methods of the object, so they are there or not.
        if all(isinstance(source, Sized) for source in self._sources):
            self.sizes = self._sizes
        if any(isinstance(source, Named) for source in self._sources):
            self.name = self._name
        if any(isinstance(source, Sequential) for source in self._sources):
            self.starts = self._starts
        if any(isinstance(source, Carried) for source in self._sources):
            self.carry, self.load, self.weigh = self._carry, self._load, self._weigh
        if any(isinstance(source, Expecting) for source in self._sources):
            self.expect = self._expect
        if any(isinstance(source, Fingerprinted) for source in self._sources):
            self.fingerprint_kind, self.fingerprint_by = self._kind, self._by
        if any(hasattr(source, "each") for source in self._sources):
            self.each = self._each

    def __len__(self) -> int:
        return self._ends[-1]

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self._sources))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Chain, self._sources

    def read(self, start: int, stop: int) -> Any:
        """The items of one call, in the container of their source."""
        places = list(self._places(start, stop))
        if not places:
            return self._sources[0].read(0, 0)
        reads = (self._sources[i].read(low, high) for i, low, high in places)
        first = next(reads)
        if len(places) == 1:
            return first
        if isinstance(first, Iterator):
            rest = zip((self._sources[i] for i, _, _ in places[1:]), reads, strict=True)
            return chain(first, chain.from_iterable(_each(source, container) for source, container in rest))
        containers = [first, *reads]
        kinds = {f"{type(each).__module__}.{type(each).__name__}" for each in containers}
        if kinds == {"pyarrow.lib.Table"}:
            return _one_table(containers, start, stop)
        if kinds == {"numpy.ndarray"}:
            import numpy as np

            return np.concatenate(containers)
        return [
            item
            for (i, _, _), container in zip(places, containers, strict=True)
            for item in _each(self._sources[i], container)
        ]

    def fingerprint(self) -> Mapping[str, str]:
        """The fingerprints of the sources; a key that occurred before is numbered: ``"range (2)"``."""
        return _numbered([source.fingerprint() for source in self._sources])

    def _kind(self) -> str:
        """Those of the sources, as JSON."""
        kinds = [each.fingerprint_kind() if isinstance(each, Fingerprinted) else "" for each in self._sources]
        return json.dumps(kinds)

    def _by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint, each source told in its way of ``kind``; one that has come since in its own."""
        kinds = zip(self._sources, _kinds(kind, len(self._sources)), strict=True)
        return _numbered(
            [
                source.fingerprint_by(each or source.fingerprint_kind())
                if isinstance(source, Fingerprinted)
                else source.fingerprint()
                for source, each in kinds
            ]
        )

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """The spans of the sources; all items of a source that has none."""
        found = []
        for i, source in enumerate(self._sources):
            offset = self._offset(i)
            whole = (0, len(source))
            own = (
                source.spans() if isinstance(source, Spanned) else dict.fromkeys(source.fingerprint(), whole)
            )
            found.append({key: (offset + low, offset + high) for key, (low, high) in own.items()})
        return _numbered(found)

    def _offset(self, i: int) -> int:
        return self._ends[i - 1] if i else 0

    def _place(self, item: int) -> tuple[int, int]:
        """Which source an item is in, and its number there."""
        i = bisect_right(self._ends, item)
        return i, item - self._offset(i)

    def _places(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Source by source, the interval of its own items."""
        i = bisect_right(self._ends, start)
        while i < len(self._sources) and self._offset(i) < stop:
            offset = self._offset(i)
            low, high = max(start - offset, 0), min(stop, self._ends[i]) - offset
            if low < high:
                yield i, low, high
            i += 1

    def _sizes(self, start: int, stop: int) -> list[int]:
        """Size hints in bytes, those of the sources."""
        places = self._places(start, stop)
        return list(chain.from_iterable(self._sources[i].sizes(low, high) for i, low, high in places))

    def _name(self, item: int) -> str:
        """The name in its source, or the number in the chain."""
        i, own = self._place(item)
        source = self._sources[i]
        return source.name(own) if isinstance(source, Named) else str(item)

    def _starts(self) -> Sequence[int]:
        """The starts of the sources; every item of a source that can be read from anywhere."""
        return _Starts(
            [
                source.starts() if isinstance(source, Sequential) else range(len(source))
                for source in self._sources
            ],
            [self._offset(i) for i in range(len(self._sources))],
        )

    def _carry(self, start: int, stop: int) -> list[tuple[int, int, Any]]:
        """The cargo of every source that carries."""
        return [
            (i, low, source.carry(low, high))
            for i, low, high in self._places(start, stop)
            if isinstance(source := self._sources[i], Carried)
        ]

    def _load(self, start: int, cargo: list[tuple[int, int, Any]]) -> None:
        """Hand each cargo to its source."""
        for i, low, part in cargo:
            self._sources[i].load(low, part)

    def _expect(self, start: int, stop: int) -> None:
        """Tell each source which of its items come next; one with none of them drops what it holds."""
        coming = {i: (low, high) for i, low, high in self._places(start, stop)}
        for i, source in enumerate(self._sources):
            if isinstance(source, Expecting):
                source.expect(*coming.get(i, (0, 0)))

    def _weigh(self, start: int, stop: int) -> int:
        """Estimated bytes of what ``carry`` would give."""
        places = self._places(start, stop)
        return sum(
            source.weigh(low, high)
            for i, low, high in places
            if isinstance(source := self._sources[i], Carried)
        )

    def _each(self, container: Any) -> Iterator[Any]:
        """The items of what ``read`` gave, one by one."""
        if type(container).__module__.partition(".")[0] == "pyarrow":
            yield from next(source for source in self._sources if hasattr(source, "each")).each(container)
        else:
            yield from container


def _flat(sources: tuple[Any, ...]) -> tuple[Any, ...]:
    """The sources, also where they came as one list of them."""
    one = sources[0] if len(sources) == 1 else None
    return tuple(one) if isinstance(one, Iterable) and not isinstance(one, Source) else sources


def _numbered(each: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """The values of all sources by their keys, made different from all before."""
    found: dict[str, T] = {}
    for values in each:
        for key, value in values.items():
            unique, count = key, 1
            while unique in found:
                count += 1
                unique = f"{key} ({count})"
            found[unique] = value
    return found


def _kinds(text: str, count: int) -> list[str]:
    """The kinds that a chain of so many sources was told by; empty for those that were not there."""
    try:
        told = json.loads(text)
    except ValueError:  # one word for all: of an earlier version
        told = [text] * count
    kinds = [each if isinstance(each, str) else "" for each in told] if isinstance(told, list) else []
    return (kinds + [""] * count)[:count]


class _Starts(Sequence[int]):
    """Ascending numbers of several sequences, each with an offset, without copying them."""

    def __init__(self, parts: list[Sequence[int]], offsets: list[int]) -> None:
        self._parts = parts
        self._offsets = offsets
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, index)
        before = self._ends[part - 1] if part else 0
        return self._offsets[part] + self._parts[part][index - before]


def _one_table(tables: list[Any], start: int, stop: int) -> Any:
    import pyarrow as pa

    if any(set(table.column_names) != set(tables[0].column_names) for table in tables):
        names = "; ".join(dict.fromkeys(", ".join(table.column_names) for table in tables))
        raise BadInput(
            f"the sources of this chain have different columns ({names}): give them the same columns=",
            place=f"items {start} to {stop - 1}",
        )
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise BadInput(
            f"the sources of this chain have columns of different types ({error})",
            place=f"items {start} to {stop - 1}",
        ) from error


def _each(source: Any, container: Any) -> Iterable[Any]:
    """The items of what a source read: an iterator gives them, a container as the source says."""
    return container if isinstance(container, Iterator) else getattr(source, "each", iter)(container)
