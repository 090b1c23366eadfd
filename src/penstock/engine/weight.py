"""What results weigh, estimated from a sample."""

from __future__ import annotations

import sys
from collections.abc import Collection
from itertools import islice
from typing import Any

_SAMPLE = 16
"""Values that are weighed for all of a list's."""
_DEPTH = 3
"""A list of results that are lists: so many levels deep."""


def weight(results: Any) -> int:
    """Estimated bytes of a list of results, or of what a function gave for several items."""
    return _weight(results, _DEPTH) if results is not None else 0


def _weight(value: Any, levels: int) -> int:
    """Bytes of a value; what it says of itself is not relied on."""
    try:
        size, data = sys.getsizeof(value), getattr(value, "nbytes", 0)
    except Exception:
        return 0
    size = max(size, data) if type(data) is int else size
    if levels and type(value) in (list, tuple, dict, set) and value:
        some = _some(value)
        size += len(value) * sum(_weight(each, levels - 1) for each in some) // len(some)
    return size


def _some(values: Collection[Any]) -> Collection[Any]:
    """Values spread over a list; of what cannot be indexed the first."""
    if type(values) is list or type(values) is tuple:
        return values[:: max(len(values) // _SAMPLE, 1)]
    return list(islice(values.values() if type(values) is dict else values, _SAMPLE))
