"""Prefetching: several fetches at once, never holding more bytes than a bound."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from penstock import forks
from penstock.budget import parse_size
from penstock.errors import UsageError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Prefetcher(Generic[K, V]):
    """Prefetches what is expected, in order, on threads that exit when there is nothing to fetch.

    What is held and what is under way counts, by the sizes that were told; together it is never above
    the bound. A value is let go when it was had as often as it was expected. What is larger than the
    bound is not fetched ahead, nor what comes after it; when it is asked for, nothing else is held.
    Made for one consumer, in one process: it is pickled empty, and a forked child begins anew.

    Args:
        load: gives the value of a key; called in threads, ``fetch`` at once.
        fetch: how many are fetched at once.
        bound: bytes, or a text such as ``"64MiB"``.

    Raises:
        UsageError: a bound or number that is none.
    """

    def __init__(self, load: Callable[[K], V], *, fetch: int = 4, bound: int | str = "64MiB") -> None:
        self.bound = parse_size(bound) if isinstance(bound, str) else bound
        if self.bound < 0 or fetch < 1:
            raise UsageError(f"Prefetcher(fetch={fetch}, bound={bound!r}): at least 1, and 0 or more bytes")
        self._load, self.fetch = load, fetch
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._forks = forks.count
        self._coming: deque[K] = deque()
        self._uses: Counter[K] = Counter()
        self._size: dict[K, int] = {}
        self._place: dict[K, int] = {}
        self._slots: dict[K, _Slot] = {}
        self._working = 0
        self.bytes = 0
        """Bytes that are held or under way."""
        self.most = 0
        """The most of them there ever were."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), self._load, self.fetch, self.bound)

    def expect(self, wanted: Iterable[tuple[K, int]]) -> None:
        """Announce what comes next, in order, with the size of each; replaces earlier announcements.

        Returns at once. A key that comes several times is kept until it was had so often.
        """
        with self._locked():
            self._coming.clear()
            self._uses.clear()
            self._size.clear()
            self._place.clear()
            for key, size in wanted:
                self._uses[key] += 1
                self._size[key] = max(size, 0)
                if self._uses[key] == 1:
                    self._place[key] = len(self._place)
                    self._coming.append(key)
            for key in [key for key, slot in self._slots.items() if slot.ended and not self._uses[key]]:
                self._release(key)
            self._start()

    def get(self, key: K, size: int = 0) -> V:
        """The value of a key: prefetched, being fetched, or fetched now.

        Args:
            key: its key.
            size: its bytes, where it was not expected.

        Raises:
            Exception: what ``load`` raised.
        """
        with self._locked():
            place = self._place.get(key, -1)
            while self._coming and self._place.get(self._coming[0], -1) < place:
                self._coming.popleft()  # it was left out
            slot = self._slots.get(key)
            if slot is None:
                with suppress(ValueError):
                    self._coming.remove(key)  # no thread may begin it as well, while room is made here
                slot = self._make_room(key, self._size.get(key, max(size, 0)))
                mine = True
            else:
                mine = False
                self._changed.wait_for(lambda: slot.ended)
        if mine:
            self._fill(key, slot)
        with self._locked():
            self._uses[key] -= 1
            if self._uses[key] <= 0:
                del self._uses[key]
                if self._slots.get(key) is slot:
                    self._release(key)
            self._start()
        if slot.error is not None:
            raise slot.error
        return cast(V, slot.value)

    # ------------------------------------------------------------------ all below: with the lock

    def _locked(self) -> threading.Condition:
        if self._forks != forks.count:  # threads of the parent are not here, and may have held the lock
            self._begin()
        return self._changed

    def _start(self) -> None:
        """Start threads while there is something to begin that has room."""
        while self._working < self.fetch and (key := self._next()) is not None:
            slot = self._take(key)
            self._working += 1
            threading.Thread(target=self._work, args=(key, slot), daemon=True, name="prefetch").start()

    def _next(self) -> K | None:
        """The next key to begin, if there is room for it."""
        while self._coming:
            key = self._coming[0]
            if key in self._slots or not self._uses[key]:
                self._coming.popleft()  # held already, or had already
            elif self.bytes + self._size[key] > self.bound:
                return None
            else:
                self._coming.popleft()
                return key
        return None

    def _take(self, key: K, size: int | None = None) -> _Slot:
        slot = self._slots[key] = _Slot(self._size[key] if size is None else size)
        self.bytes += slot.size
        self.most = max(self.most, self.bytes)
        return slot

    def _make_room(self, key: K, size: int) -> _Slot:
        """A slot for what is asked for now: what is held for later goes, and what is under way is awaited."""
        needed = min(size, self.bound)
        while self.bytes + needed > self.bound:
            ended = [other for other, slot in self._slots.items() if slot.ended]
            here = self._place.get(key, -1)
            passed = [other for other in ended if self._place.get(other, -1) < here]
            if passed:  # it was left out
                self._release(passed[0])
            elif ended:
                if self._uses[ended[-1]]:
                    self._coming.appendleft(ended[-1])  # to be fetched again
                self._release(ended[-1])
            else:
                self._changed.wait()
        return self._take(key, needed)

    def _release(self, key: K) -> None:
        self.bytes -= self._slots.pop(key).size
        self._changed.notify_all()

    # ------------------------------------------------------------------ without it

    def _work(self, key: K, slot: _Slot) -> None:
        """Be a thread: fetch, and what comes next, until nothing does."""
        own: K | None = key
        while own is not None:
            self._fill(own, slot)
            with self._changed:
                if not self._uses[own] and self._slots.get(own) is slot:
                    self._release(own)  # nobody expects it any more
                own = self._next()
                if own is None:
                    self._working -= 1
                else:
                    slot = self._take(own)

    def _fill(self, key: K, slot: _Slot) -> None:
        try:
            slot.value = self._load(key)
        except BaseException as error:
            slot.error = error
        with self._changed:
            slot.ended = True
            self._changed.notify_all()


class _Slot:
    """A value that is held or under way."""

    __slots__ = ("ended", "error", "size", "value")

    def __init__(self, size: int) -> None:
        self.size = size
        self.ended = False
        self.value: Any = None
        self.error: BaseException | None = None


def _made(kind: Any, load: Any, fetch: int, bound: int) -> Any:
    return kind(load, fetch=fetch, bound=bound)
