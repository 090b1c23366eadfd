"""Numbers, and items that live in the parent and travel with the batch.

Covers `Range` (nothing travels) and `Items` (a list, a tuple, an array). Large things do not
belong here: save them to files and pass the paths (:class:`penstock.sources.Files`).
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from penstock import foreign
from penstock.budget import format_size
from penstock.errors import PenstockBug, UsageError

CARGO = 1 << 20
"""Bytes that the items of one batch should take at most when pickled."""

_SCALARS = (type(None), bool, int, float, complex, str, bytes)


@dataclass(frozen=True)
class Range:
    """The numbers of a range, one per item.

    Args:
        numbers: a ``range``, or n for ``range(n)``.

    Raises:
        UsageError: a negative n, more numbers than a list could have, or no range at all.
    """

    numbers: range

    def __init__(self, numbers: range | int) -> None:
        numbers = foreign.as_int(numbers)
        if isinstance(numbers, int) and not isinstance(numbers, bool):
            if numbers < 0:
                raise UsageError(f"Range({numbers}): the number of items cannot be negative")
            numbers = range(numbers)
        if not isinstance(numbers, range):
            raise UsageError(f"Range takes a range or a number, not {type(numbers).__name__}")
        if numbers and (numbers[-1] - numbers[0]) // numbers.step >= sys.maxsize:
            raise UsageError(f"Range takes at most {sys.maxsize:,} numbers")
        object.__setattr__(self, "numbers", numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, start: int, stop: int) -> range:
        """The numbers of one call, as a ``range``."""
        return self.numbers[start:stop]

    def name(self, item: int) -> str:
        """The number itself."""
        return str(self.numbers[item])

    def fingerprint(self) -> Mapping[str, str]:
        """The range, written out."""
        r = self.numbers
        return {"range": f"range({r.start}, {r.stop}, {r.step})"}


class Items:
    """The items of a sequence in the parent: a list, a tuple, an array (along its first axis).

    It pickles without its items: each batch carries its own slice, pickled. A call reads a
    slice of the kind that was given (list, tuple, array).

    Args:
        sequence: anything with a length and indices 0, 1, ...; kept as it is, not copied.

    Raises:
        UsageError: not a sequence; later, in ``carry`` and ``fingerprint``: an item over 1 MiB
            when pickled, or one that cannot be pickled.
    """

    def __init__(self, sequence: Sequence[Any] | Any) -> None:
        if not _is_sequence(sequence):
            raise UsageError(
                f"Items takes a list, a tuple or an array, not {type(sequence).__name__}: "
                "its items must have an order, a number and indices; pass list(...) of it"
            )
        self._items: Any = sequence
        self._first = 0
        self._count = len(sequence)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Items({self._count} items)"

    def __getstate__(self) -> dict[str, Any]:
        return {"_items": (), "_first": 0, "_count": self._count}

    def read(self, start: int, stop: int) -> Any:
        """A slice of the sequence; in a worker, of the loaded cargo.

        Raises:
            PenstockBug: the cargo does not hold these items.
        """
        low, high = start - self._first, stop - self._first
        if low < 0 or high > len(self._items):
            raise PenstockBug(f"items {start} to {stop} were read, but not carried to this worker")
        return _cut(self._items, low, high)

    def name(self, item: int) -> str:
        """A path or a short word is its own name; anything else is named by its number."""
        index = item - self._first
        value = self._items[index] if 0 <= index < len(self._items) else None
        if isinstance(value, PurePath):
            return str(value)
        if isinstance(value, str) and 0 < len(value) <= 80 and not any(map(str.isspace, value)):
            return value
        return str(item)

    def fingerprint(self) -> Mapping[str, str]:
        """BLAKE2b over the items in order: over the value of plain ones, else over the pickle.

        Raises:
            UsageError: an item over 1 MiB when pickled, or one that cannot be pickled.
        """
        state = hashlib.blake2b(digest_size=16)
        state.update(f"{type(self._items).__name__}:{self._count}".encode())
        if _is_array(self._items) and not self._items.dtype.hasobject:
            state.update(f"{self._items.dtype.str}{self._items.shape}".encode())
            rows = max(CARGO // max(self.weigh(0, 1), 1), 1)
            self._pickled(0, min(self._count, 1))
            for start in range(0, self._count, rows):
                state.update(self._items[start : start + rows].tobytes())
            return {"items": state.hexdigest()}
        for item in range(self._count):
            value = self._items[item]
            if _feed(state, value, item) > CARGO:
                self._pickled(item, item + 1)
        return {"items": state.hexdigest()}

    def weigh(self, start: int, stop: int) -> int:
        """Estimated pickled bytes of these items, from up to 8 of them; in the parent, cheap."""
        count = stop - start
        if count <= 0:
            return 0
        if _is_array(self._items) and not self._items.dtype.hasobject:
            return int(self._items.nbytes) * count // max(len(self._items), 1)
        tries = sorted({start + (count - 1) * i // 7 for i in range(8)})
        sizes = [len(self._pickled(item, item + 1)) for item in tries]
        return sum(sizes) * count // len(sizes)

    def carry(self, start: int, stop: int) -> bytes:
        """The items of a batch, pickled here so that they are pickled once.

        ``weigh`` says beforehand how large this will be.

        Raises:
            UsageError: one item alone is over 1 MiB, or cannot be pickled.
        """
        return self._pickled(start, stop)

    def load(self, start: int, cargo: bytes) -> None:
        """Replace the worker's items by those of a batch."""
        self._items = pickle.loads(cargo)
        self._first = start

    def _pickled(self, start: int, stop: int) -> bytes:
        import cloudpickle

        try:
            part = _cut(self._items, start - self._first, stop - self._first)
            cargo: bytes = cloudpickle.dumps(part, protocol=5)
        except Exception as error:
            raise UsageError(
                f"one of the items {start} to {stop - 1} of the list cannot be pickled ({error}): "
                "pass what it can be made from, and make it in the function"
            ) from error
        if stop - start == 1 and len(cargo) > CARGO:
            raise UsageError(
                f"item {start} of the list is {format_size(len(cargo))} when pickled, and an item may "
                f"travel to a worker up to {format_size(CARGO)}: save it to a file and pass paths "
                "(penstock.sources.Files)"
            )
        return cargo


def _is_sequence(value: Any) -> bool:
    if isinstance(value, str | bytes | bytearray | memoryview):
        return False
    return isinstance(value, Sequence) or (_is_array(value) and value.ndim > 0)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")  # an array exists only where it was imported
    return numpy is not None and isinstance(value, numpy.ndarray)


def _cut(items: Any, start: int, stop: int) -> Any:
    try:
        return items[start:stop]
    except TypeError:  # a deque, a sequence of one's own
        return [items[index] for index in range(start, stop)]


def _feed(state: Any, value: Any, item: int) -> int:
    """Hash a value so that equal values hash alike in every process; return its bytes, about."""
    # Not simply its pickle: that depends on which equal strings happen to be one object, and on
    # the order in which this process iterates a set.
    if isinstance(value, PurePath) or type(value) in _SCALARS:
        text = f"{type(value).__name__}:{value!r};".encode(errors="surrogatepass")
        state.update(text)
        return len(text)
    if type(value) in (list, tuple):
        state.update(f"{type(value).__name__}:{len(value)}(".encode())
        return sum(_feed(state, part, item) for part in value)
    if type(value) is dict:
        state.update(f"dict:{len(value)}(".encode())
        return sum(_feed(state, key, item) + _feed(state, part, item) for key, part in value.items())
    if type(value) in (set, frozenset):
        state.update(f"set:{len(value)}(".encode())
        return sum(_feed(state, part, item) for part in sorted(value, key=repr))
    if _is_array(value) and not value.dtype.hasobject:
        state.update(f"{value.dtype.str}{value.shape}:".encode())
        state.update(value.tobytes())
        return int(value.nbytes)
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(value, protocol=5)
    except Exception as error:
        raise UsageError(
            f"item {item} of the list cannot be pickled ({error}): "
            "pass what it can be made from, and make it in the function"
        ) from error
    state.update(pickled)
    return len(pickled)
