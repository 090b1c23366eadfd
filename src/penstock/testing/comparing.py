"""Converts values of any of our kinds to values that ``==`` can compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def comparable(value: Any) -> Any:
    """Convert arrays, Arrow tables, containers and exceptions to plain values; consumes iterators.

    Floats become their hexadecimal text, so that the last bit counts and NaN equals NaN.
    """
    home = type(value).__module__.partition(".")[0]
    if isinstance(value, float):
        return float(value).hex()
    if home == "numpy" and hasattr(value, "dtype"):
        return (value.dtype.str, value.shape, value.tobytes())
    if home == "pyarrow" and hasattr(value, "to_pydict"):
        return {"schema": str(value.schema), "columns": comparable(value.to_pydict())}
    if isinstance(value, Mapping):
        return {key: comparable(part) for key, part in value.items()}
    if home == "penstock" and hasattr(value, "schema") and hasattr(value, "table"):  # a partition
        return comparable(value.table())
    if isinstance(value, Sequence | Iterator) and not isinstance(value, str | bytes):
        return [comparable(part) for part in value]
    if isinstance(value, BaseException):
        return (type(value).__qualname__, value.args)
    return value
