"""JSON values and NumPy arrays as text, and back: all that a run folder keeps of small results.

Nothing here can run code on reading. Arrays are kept as base64 of little-endian bytes with
their dtype and shape; object arrays are refused.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

_ARRAY, _ESCAPE = "__array__", "__dict__"
_LONG = 10_000
"""Bits from which an int is kept as hexadecimal: Python refuses to read one of 4,300 digits or more."""


def dumps(value: Any) -> str:
    """Write a value made of JSON values and NumPy arrays or scalars as one line of text.

    Raises:
        TypeError: something in it is neither; the message names its type and place.
    """
    return json.dumps(_plain(value, "the value"), separators=(",", ":"), allow_nan=True)


def loads(text: str | bytes) -> Any:
    """Read what :func:`dumps` wrote.

    Raises:
        ValueError: not such text.
    """
    return _rich(json.loads(text))


def _plain(value: Any, place: str) -> Any:
    if type(value) is int and value.bit_length() > _LONG:
        return {_ESCAPE: hex(value)}
    if value is None or (isinstance(value, bool | int | str) and type(value).__module__ == "builtins"):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {_ESCAPE: repr(value)}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}: keys must be strings")
            plain[key] = _plain(item, f"{place}[{key!r}]")
        return {_ESCAPE: plain} if _ARRAY in plain or _ESCAPE in plain else plain
    if type(value).__module__ == "numpy":
        return _numpy(value, place)
    raise TypeError(f"{place} is a {type(value).__qualname__}: only JSON values and NumPy arrays are kept")


def _numpy(value: Any, place: str) -> Any:
    import numpy as np

    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(
            f"{place} is a NumPy array of objects: only numbers, booleans, strings and times are kept"
        )
    if array.dtype.names is not None:
        raise TypeError(f"{place} is a structured NumPy array: keep its fields as separate arrays")
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    kept = [little.dtype.str, list(array.shape), base64.b64encode(little.tobytes()).decode("ascii")]
    return {_ARRAY: kept, "scalar": True} if isinstance(value, np.generic) else {_ARRAY: kept}


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return [_rich(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        import numpy as np

        dtype, shape, text = value[_ARRAY]
        array = np.frombuffer(base64.b64decode(text), np.dtype(dtype)).reshape(shape).copy()
        return array[()] if value.get("scalar") else array
    if _ESCAPE in value:
        inner = value[_ESCAPE]
        if isinstance(inner, str):
            return int(inner, 16) if "0x" in inner else float(inner)
        return {key: _rich(item) for key, item in inner.items()}
    return {key: _rich(item) for key, item in value.items()}
