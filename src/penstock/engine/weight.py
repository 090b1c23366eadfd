"""What results weigh, estimated from a sample."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Collection
from itertools import islice
from typing import Any

_SAMPLE = 16
"""Values that are weighed for all of a container's."""
_LOOKS = 1024
"""Values that are looked at in all, shared out evenly among the values of each container."""
_DEPTH = 8
"""Containers in containers: so many levels deep, as one may hold itself."""
_CONTAINERS: tuple[Any, ...] = (tuple, set, frozenset, deque)
"""Of whose values the first are weighed."""
_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
"""Values that hold no others and say rightly what they take."""


def weight(results: Any) -> int:
    """Estimated bytes of a list of results, or of what a function gave for several items."""
    return _weight(results, _LOOKS, _DEPTH) if results is not None else 0


def _weight(value: Any, looks: int, levels: int) -> int:
    """Bytes of a value; what it says of itself is not relied on."""
    if type(value) in _PLAIN:
        return sys.getsizeof(value)
    try:
        size, data = sys.getsizeof(value), getattr(value, "nbytes", 0)
        if type(data) is int and data:
            return max(size, data)
        count, some = _some(value, min(_SAMPLE, looks)) if levels else (0, ())
    except Exception:
        return 0
    if some:
        share = looks // len(some)
        size += count * sum(_weight(each, share, levels - 1) for each in some) // len(some)
    return size


def _some(value: Any, most: int) -> tuple[int, Collection[Any]]:
    """How many values one holds, and some of them; methods of a subclass are not called."""
    if isinstance(value, list):
        count = list.__len__(value)
        return count, list.__getitem__(value, slice(None, None, max(count // max(most, 1), 1)))
    for kind in _CONTAINERS:
        if isinstance(value, kind):
            return kind.__len__(value), list(islice(kind.__iter__(value), most))
    fields = value if isinstance(value, dict) else _fields(value)
    return dict.__len__(fields), list(islice(dict.values(fields), most))


def _fields(value: Any) -> dict[str, Any]:
    """The fields of an object whose size is not said to be with them."""
    made: Any = type(value)
    if isinstance(value, type) or made.__sizeof__ is not object.__sizeof__:
        return {}
    fields = dict(getattr(value, "__dict__", {}))
    for kind in made.__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                fields[name] = getattr(value, name)
    return fields
