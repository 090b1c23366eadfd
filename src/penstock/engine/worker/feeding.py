"""The stream of results to an output: by grain, one per item, or handed to a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

from penstock import forks
from penstock.plurals import plural

Entry = tuple[int, int, Any]
"""(start, stop, results of these items)."""


class OutputPlace:
    """The item whose result an output was given last."""

    at = -1


class GrainEntries:
    """The entries of one grain, taken from a longer stream."""

    def __init__(self, stream: Iterator[Entry], start: int, stop: int) -> None:
        self._stream = stream
        self._stop = stop
        self.at = start
        self._next = next(stream, None)
        self.begun = self._next is not None

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        entry = self._next
        if entry is None:
            raise StopIteration
        self.at = entry[1]
        self._next = next(self._stream, None) if self.at < self._stop else None
        return entry


def one_each(results: Any, items: int) -> Iterator[Any]:
    """A batched function's results, one per item; never more, even from an endless iterator."""
    if isinstance(results, str | bytes | Mapping) or not isinstance(results, Iterable):
        raise TypeError(f"the function gave a {type(results).__qualname__} {_wanted(items)}")
    if isinstance(results, Sized) and len(results) != items:
        raise TypeError(f"the function gave {len(results)} results {_wanted(items)}")
    here = forks.Here()
    given = iter(results)
    for count in range(items):
        try:
            result = next(given)
        except StopIteration:
            here.stay()
            raise TypeError(f"the function gave {count} results {_wanted(items)}") from None
        except BaseException as error:
            here.stay(error)
            raise
        if forks.count != here.count:  # a child that the function forked must not write the rest too
            forks.end()
        yield result
    if next(given, given) is not given:
        raise TypeError(f"the function gave more than {items} results {_wanted(items)}")


def _wanted(items: int) -> str:
    return (
        f"for a call of {plural(items, 'item')}: with batched=True it returns one result for "
        "each item, in order"
    )


class Feed:
    """Hands entries to an output's thread, one at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = OutputPlace()
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self._queue: queue.Queue[Entry | None] = queue.Queue(maxsize=1)
        self._stopped: BaseException | None = None

    def put(self, entry: Entry) -> None:
        """Hand over an entry.

        Raises:
            BaseException: what the output raised.
        """
        self._offer(entry)
        if self.error is not None:
            raise self.error

    def stop(self, error: BaseException | None) -> None:
        """End the feed; with an error, the output's write fails and leaves nothing behind."""
        self._stopped = error
        self._offer(None)

    def let_go(self) -> None:
        """Drop the exceptions."""
        self.error = self._stopped = None

    def _offer(self, entry: Entry | None) -> None:
        while not self.ended.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._queue.get()) is not None:
            yield entry
        if self._stopped is not None:
            raise _Abandoned


class _Abandoned(Exception):
    """The batch failed elsewhere; this output's part of it is dropped."""
