"""An LRU cache bounded in bytes; entries are evicted before a new one comes in."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar, cast

from penstock import foreign, forks
from penstock.budget import parse_size
from penstock.errors import UsageError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def weigh_value(value: Any) -> int:
    """Bytes of an array, of a bytes-like object, or of any other object without what it refers to."""
    if isinstance(value, bytes | bytearray):
        return len(value)
    bytes_ = getattr(value, "nbytes", None)
    return bytes_ if isinstance(bytes_, int) else sys.getsizeof(value)


class ByteLRU(Generic[K, V]):
    """An LRU cache of values by key, bounded in bytes.

    Room is made before a value is kept, so that ``bytes`` is at no moment above the limit. Threads that ask
    for one key at once have it loaded once. A value above the limit is handed out and not kept. In a process
    it may be used by many threads; it is pickled empty, and a forked child goes on with a copy of its own.

    Args:
        limit: bytes, or a text such as ``"64MiB"``.
        weigh: the bytes of a value; by default ``nbytes`` of an array, the length of bytes, and else what
            the object takes by itself, without what it refers to.

    Raises:
        UsageError: a limit that is none.
    """

    def __init__(self, limit: int | str, weigh: Callable[[V], int] = weigh_value) -> None:
        self.limit = parse_size(limit) if isinstance(limit, str) else foreign.as_int(limit)
        if not foreign.is_number(self.limit) or self.limit < 0:
            raise UsageError(f"ByteLRU(limit={limit!r}): bytes were expected, or a text such as '64MiB'")
        self._weigh = weigh
        self.hits = 0
        """Gets that did not load."""
        self.misses = 0
        """Loads that were begun."""
        self.bytes = 0
        """Bytes of the values that are kept."""
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, _Flight] = {}
        self._forks = forks.count

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit, self._weigh)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def __repr__(self) -> str:
        return f"ByteLRU({self.limit}, bytes={self.bytes}, hits={self.hits}, misses={self.misses})"

    def get(self, key: K, load: Callable[[], V]) -> V:
        """The value of a key, loaded if it is not cached.

        Args:
            key: its key.
            load: gives the value. What it raises is raised here, to all who wait for it, and nothing is kept.

        Raises:
            UsageError: ``load`` asked this cache for the key that it is loading.
        """
        while True:
            with self._locked():
                if key in self._kept:
                    self.hits += 1
                    self._kept.move_to_end(key)
                    return self._kept[key][0]
                flight = self._flights.get(key)
                if flight is None:
                    self.misses += 1
                    mine = self._flights[key] = _Flight()
                    break
                if flight.loader == threading.get_ident():
                    raise UsageError(f"loading {key!r} asked for {key!r} itself, which would wait for ever")
                self.hits += 1
            flight.ended.wait()
            if not flight.given_up:
                return cast(V, flight.result())
            with self._locked():
                self.hits -= 1  # counted when it is had
        return self._load(key, load, mine)

    def discard(self, key: K) -> None:
        """Drop a key; a load in progress for it is not cached."""
        with self._locked():
            self._drop(key)
            self._flights.pop(key, None)

    def clear(self) -> None:
        """Drop everything; loads in progress are not cached."""
        with self._locked():
            self._kept.clear()
            self._flights.clear()
            self.bytes = 0

    def _locked(self) -> threading.Lock:
        if self._forks != forks.count:  # another thread of the parent's may have held the lock
            self._begin()
        return self._lock

    def _load(self, key: K, load: Callable[[], V], flight: _Flight) -> V:
        try:
            value = load()
            weight = self._weigh(value)
            if weight < 0:
                raise UsageError(f"weigh gave {weight} bytes for {key!r}: 0 or more were expected")
        except BaseException as error:
            with self._locked():
                self._end(key, flight)
            flight.fail(error)
            raise
        with self._locked():
            if self._end(key, flight) and weight <= self.limit:
                while self.bytes + weight > self.limit:
                    self._drop(next(iter(self._kept)))
                self._kept[key] = value, weight
                self.bytes += weight
        flight.land(value)
        return value

    def _end(self, key: K, flight: _Flight) -> bool:
        """Whether the value may still be kept: nobody forgot the key meanwhile."""
        if self._flights.get(key) is not flight:
            return False
        del self._flights[key]
        return True

    def _drop(self, key: K) -> None:
        if key in self._kept:
            self.bytes -= self._kept.pop(key)[1]


class _Flight:
    """A load that is under way, and what came of it."""

    def __init__(self) -> None:
        self.loader = threading.get_ident()
        self.ended = threading.Event()
        self.given_up = False
        self._value: Any = None
        self._error: Exception | None = None

    def land(self, value: Any) -> None:
        self._value = value
        self.ended.set()

    def fail(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self._error = error
        else:  # the thread was interrupted: nothing is known of the value
            self.given_up = True
        self.ended.set()

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value
