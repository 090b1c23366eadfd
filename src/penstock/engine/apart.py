"""Calls that are batched but independent: each result is sent at once, calls not yet begun can be taken back.

A batch of an executor's calls is sent as one message and answered by one, so that trivial calls are cheap.
Should one of them take long after all, the others must not wait for it. So the worker lays each result down
beside its note before it begins the next call, and asks its note whether it may begin. Covers the worker's
side, and what both sides must agree on. What is done about it is decided in
:mod:`penstock.engine.parent.overdue`.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any

from penstock import worker_note as note

_SIZE = struct.Struct("=i")


def frame(result: Any) -> bytes:
    """A framed result; a negative length if it is not a bytes object."""
    if type(result) is bytes:
        return _SIZE.pack(len(result)) + result
    data = pickle.dumps(result, protocol=5)
    return _SIZE.pack(-len(data)) + data


def frames(data: bytes) -> list[Any]:
    """The results of a batch so far, in order."""
    results: list[Any] = []
    at = 0
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        piece = data[at : at + abs(size)]
        results.append(piece if size >= 0 else pickle.loads(piece))
        at += abs(size)
    return results


class Apart:
    """The calls of one batch, in its worker.

    Args:
        words: the worker's note.
        start: the batch's first item, which is always worked.
    """

    def __init__(self, words: MutableSequence[int], start: int) -> None:
        self._words = words
        self._area = words[note.HEAD :].cast("B") if isinstance(words, memoryview) else b""
        self._start = self._next = start
        self._size = 0
        self._full = False
        self.ended = False
        """Whether no more may begin: somebody else will work them, or there is no room for their results."""

    def feed(self, start: int, items: Iterable[Any], results: list[Any]) -> Iterator[Any]:
        """The items from ``start`` on, while they may begin; publishes the results of those before first.

        Args:
            start: of these items.
            items: to be worked.
            results: of the items from ``start - len(results)`` on, growing as they are worked.
        """
        base = start - len(results)
        for item, each in enumerate(items, start):
            self.lay_down(base, results)
            # First told, then asked: who forbids, waits a moment and then reads this.
            self._words[note.ITEM] = item
            if item > self._start and (self.ended or self._words[note.CUT]):
                self.ended = True
                return
            yield each

    def lay_down(self, base: int, results: list[Any]) -> None:
        """Publish the results of the items from ``base`` on that are not published yet."""
        while not self._full and self._next < base + len(results):
            data = frame(results[self._next - base])
            if self._size + len(data) > len(self._area):
                self._full = self.ended = True  # it goes up with the batch, now
                return
            self._area[self._size : self._size + len(data)] = data  # type: ignore[index]
            self._size += len(data)
            self._next += 1
            self._words[note.EARLY] = self._size
