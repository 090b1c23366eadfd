"""JSON values and NumPy arrays as text, and back: the format of all small results in a run folder.

Nothing here can run code on reading. Arrays are kept as base64 of little-endian bytes with
their dtype and shape; object arrays are refused.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any

from penstock import foreign

_ARRAY, _ESCAPE = "__array__", "__dict__"
_MARK = '"__'
"""A text without it holds neither."""
_LONG = 10_000
"""Bits from which an int is kept as hexadecimal: Python refuses to read one of 4,300 digits or more."""


_DTYPE = re.compile(r"[<|][?bhilqBHILQefdgFDGiucSUVmM]\d{0,9}(\[\d{0,9}[a-zA-Z]{1,9}\])?")
"""Types of elements that are read: little-endian as they are written, none made of others, no objects."""


def dumps(value: Any, *, deepest: int = foreign.DEEPEST) -> str:
    """Serialise a value made of JSON values and NumPy arrays or scalars to one line of text.

    Args:
        value: the value.
        deepest: lists and dicts within each other, at most.

    Raises:
        TypeError: something in it is neither, or lies too deep; the message names its type and place.
    """
    return json.dumps(_plain(value, "the value", deepest), separators=(",", ":"), allow_nan=True)


def loads(text: str | bytes) -> Any:
    """Parse what :func:`dumps` wrote.

    Raises:
        ValueError: not such text, whatever else it is.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        value = json.loads(text)
        return _rich(value) if _MARK in text else value
    except RecursionError:
        raise ValueError("nested too deep") from None
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"no value that was kept: {error}") from error


def _plain(value: Any, place: str, depth: int) -> Any:
    if type(value) is int and value.bit_length() > _LONG:
        return {_ESCAPE: hex(value)}
    if value is None or (isinstance(value, bool | int | str) and type(value).__module__ == "builtins"):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {_ESCAPE: repr(value)}
    if isinstance(value, list | tuple | dict) and depth == 0:
        raise TypeError("the value is nested too deep: keep it in fewer lists and dicts within each other")
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{i}]", depth - 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        plain = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {foreign.shown(key, 200)}: keys must be strings")
            plain[key] = _plain(item, f"{place}[{key!r}]", depth - 1)
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
    """Arrays and escapes in JSON values as what they stand for; in place, and without recursion."""
    root = [value]
    left: list[Any] = [root]
    while left:
        box = left.pop()
        for place, each in list(enumerate(box) if isinstance(box, list) else box.items()):
            if isinstance(each, dict):
                if _ARRAY in each:
                    box[place] = _array(each)
                    continue
                if _ESCAPE in each:
                    each = box[place] = _escaped(each[_ESCAPE])
            if isinstance(each, list | dict):
                left.append(each)
    return root[0]


def _escaped(inner: Any) -> Any:
    if isinstance(inner, dict):
        return inner
    return int(inner, 16) if "0x" in inner else float(inner)


def _array(kept: dict[str, Any]) -> Any:
    import numpy as np

    dtype, shape, text = kept[_ARRAY]
    if not _DTYPE.fullmatch(dtype) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"no array that was kept: {foreign.shown(dtype, 100)}")
    array = np.frombuffer(base64.b64decode(text, validate=True), np.dtype(dtype)).reshape(shape).copy()
    if array.dtype.kind == "U" and array.size and array.reshape(-1).view("<u4").max() > 0x10FFFF:
        raise ValueError("no array that was kept: letters that there are not")
    return array[()] if kept.get("scalar") else array
