"""Calls to plug-ins in the parent: every answer of a source, sink, reducer or backend is checked first.

Each may be a stranger's. One that raises, or answers nonsense, ends the run with one line that names the
source, what was asked, and what it did; what is journaled is kept. Its ``name`` is not here: a name is never
worth a failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from operator import index
from types import TracebackType
from typing import Any

from penstock import foreign
from penstock.abc import (
    Backend,
    Carried,
    Fingerprinted,
    Reducer,
    Sequential,
    Sink,
    Sized,
    Source,
    Spanned,
)
from penstock.errors import PenstockError, PluginError, UsageError


class Asking:
    """Context of a call to a plug-in's method: what it raises becomes an error that names the method.

    Memory that is short, and errors of ours, pass as they are.

    Raises:
        PluginError: it raised something.
    """

    __slots__ = ("_method", "_who")

    def __init__(self, who: object, method: str) -> None:
        self._who = who
        self._method = method

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not foreign.is_a(error, Exception):
            return
        if foreign.is_a(error, (PenstockError, MemoryError)) or foreign.is_of_descriptors(error):
            return
        raise PluginError(f"{called(self._who, self._method)} raised {foreign.reason_of(error)}") from error


def called(who: object, method: str) -> str:
    """What messages call a method of a plug-in."""
    return f"{method}() of {foreign.line(foreign.kind_of(who), 200)}"


def count(source: Source) -> int:
    """The number of items in a source."""
    with Asking(source, "__len__"):
        return len(source)


def hints(source: Sized, start: int, stop: int) -> tuple[float, float]:
    """(largest, sum) of the size hints of at least one item."""
    with Asking(source, "sizes"):
        sizes = source.sizes(start, stop)
        number, largest, total = len(sizes), float(max(sizes)), float(sum(sizes))
    _check_sizes(source, number, largest, total, start, stop)
    return largest, total


def largest_of_spans(source: Sized, items: int, spans: Sequence[int]) -> tuple[float, float, list[float]]:
    """Of the first items, at least one: the largest size hint, their sum, and the mean of the largest of each
    so many in a row."""
    with Asking(source, "sizes"):
        sizes = [float(size) for size in source.sizes(0, items)]
        number, largest, total = len(sizes), max(sizes), sum(sizes)
    _check_sizes(source, number, largest, total, 0, items)
    means = []
    for span in spans:
        tops = [max(sizes[start : start + span]) for start in range(0, items, span)]
        means.append(sum(tops) / len(tops))
    return largest, total, means


def largest_of(source: Sized, items: int) -> int:
    """The item with the largest size hint, among at least one."""
    with Asking(source, "sizes"):
        sizes = source.sizes(0, items)
        number, item = len(sizes), max(range(len(sizes)), key=sizes.__getitem__)
        largest, total = float(sizes[item]), float(sum(sizes))
    _check_sizes(source, number, largest, total, 0, items)
    return item


def _check_sizes(source: Sized, number: int, largest: float, total: float, start: int, stop: int) -> None:
    # Were one of them negative, or no number, the sum would be less than the largest, or none.
    if number == stop - start and 0 <= largest <= total < math.inf:
        return
    said = f"{called(source, 'sizes')}, asked for the {stop - start:,} items from {start:,} on, gave"
    if number != stop - start:
        raise PluginError(f"{said} {number:,} sizes")
    raise PluginError(
        f"{said} sizes of which the largest is {largest:g} and the sum {total:g}: bytes were expected, 0 "
        "or more for each item"
    )


def starts(source: Sequential, items: int) -> Sequence[int]:
    """The items at which reading can begin: ascending, from 0, within the source."""
    with Asking(source, "starts"):
        found = [int(each) for each in source.starts()]
    ascending = all(before < after for before, after in pairwise(found))
    if items and (not found or found[0] != 0 or not ascending or found[-1] >= items):
        raise PluginError(
            f"{called(source, 'starts')} gave {foreign.shown(found[:10], 200)}: ascending numbers of items "
            f"were expected, from 0 on, below {items:,}"
        )
    return found


def fingerprint(source: Source, how: str) -> dict[str, str]:
    """The files or parts of a source, each with its fingerprint.

    Args:
        source: it.
        how: the way, for one that has several.
    """
    method = "fingerprint_by" if isinstance(source, Fingerprinted) else "fingerprint"
    with Asking(source, method):
        found = dict(
            source.fingerprint_by(how) if isinstance(source, Fingerprinted) else source.fingerprint()
        )
    if _types(found) <= _TEXT and _types(found.values()) <= _TEXT:  # at once: there may be 10^5
        return found
    for name, text in found.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise PluginError(
                f"{called(source, method)} gave {foreign.shown(name, 100)}: {foreign.shown(text, 100)}, "
                "where a text for each name was expected"
            )
    return found


def fingerprint_kind(source: Fingerprinted) -> str:
    """The kind of fingerprint that a source chooses for itself."""
    with Asking(source, "fingerprint_kind"):
        return str(source.fingerprint_kind())


def spans(source: Source) -> Mapping[str, tuple[int, int]]:
    """Which items come from which file; empty where the source does not know."""
    if not isinstance(source, Spanned):
        return {}
    with Asking(source, "spans"):
        found = source.spans()
        # Not made anew, and looked at at once: there may be 10^5.
        values = found.values()
        plain = _types(values) <= _PAIR and set(map(len, values)) <= {2}
        if plain and _types(chain.from_iterable(values)) <= _NUMBER:
            return found
        odd = next((name for name, span in found.items() if not _is_span(span)), None)
    if odd is not None:
        raise PluginError(
            f"{called(source, 'spans')} gave {foreign.shown(odd, 100)}: {foreign.shown(found[odd], 100)}, "
            "where the numbers of its first item and of the one behind its last were expected"
        )
    return found


_TEXT, _PAIR, _NUMBER = {str}, {tuple}, {int}


def _types(values: Iterable[object]) -> set[type]:
    return set(map(type, values))


def _is_span(span: object) -> bool:
    return type(span) is tuple and len(span) == 2 and type(span[0]) is int and type(span[1]) is int


def grain(output: Sink | Reducer) -> int | None:
    """Items per part of a sink, or per state of a reducer; None where it does not matter."""
    with Asking(output, "grain"):
        found = output.grain
        items = None if found is None else index(found)
    if items is not None and items < 0:
        raise PluginError(
            f"the grain of {foreign.line(foreign.kind_of(output), 200)} is {items}: a number of items of at "
            "least 1 was expected, or None"
        )
    return items or None


def weigh(source: Carried, start: int, stop: int) -> int:
    """Estimated bytes of a batch's cargo."""
    with Asking(source, "weigh"):
        return int(source.weigh(start, stop))


def carry(source: Carried, start: int, stop: int) -> Any:
    """The cargo of a batch."""
    with Asking(source, "carry"):
        return source.carry(start, stop)


def whole(backend: Any) -> Any:
    """A backend of somebody's, with all that one must have.

    Raises:
        UsageError: something of that is missing.
    """
    needed = [name for name in vars(Backend) if not name.startswith("_")]
    has = {*dir(type(backend)), *getattr(backend, "__dict__", {})}
    # What is not found without asking may still be passed on to another object.
    if missing := [name for name in needed if name not in has and not _answers(backend, name)]:
        raise UsageError(
            f"backend is a {foreign.kind_of(backend)}, which has no {', '.join(missing)}: name one, such as "
            "'local', or see penstock.abc.Backend"
        )
    return backend


def _answers(backend: Any, name: str) -> bool:
    try:
        return hasattr(backend, name)
    except Exception:
        return False


class BackendPowers:
    """The optional methods of a backend (:class:`penstock.abc.MoreOfABackend`), with defaults.

    Args:
        backend: whose.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.governs: bool = getattr(backend, "governs", True)
        self.early: Callable[[int], tuple[int, bytes]] = getattr(backend, "early", lambda _: (0, b""))
        self.preload: Callable[[Iterable[str]], None] = getattr(backend, "preload", lambda _: None)
        self.shared: Callable[[], int | None] = getattr(backend, "shared", lambda: None)
        self.total: Callable[[], int | None] = getattr(backend, "total", lambda: None)
        self.top: Callable[[], int] = getattr(backend, "top", lambda: 0)
        self.fence: Callable[[int, int], None] = getattr(backend, "fence", lambda *_: None)

    def tell_short(self, short: bool) -> None:
        """Tell the backend whether memory is short now."""
        if hasattr(self._backend, "short"):
            self._backend.short = short
