"""A column's statistics, and the narrowest type that holds all its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

_FLOAT32 = 3.4e38
"""Between this and its negative the original takes any value for a float32."""


def look(values: Any) -> dict[str, Any]:
    """Statistics of some rows of a column; see ``together``.

    Args:
        values: an Arrow array.

    Returns ``rows``, ``nulls``, and of numbers ``least`` and ``largest`` (of those that are finite; integers
    as texts, which no JSON rounds), ``nan``, ``infinite``, ``whole`` and ``exact`` (as float32).
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    statistics: dict[str, Any] = {"rows": len(values), "nulls": values.null_count}
    kind = values.type
    there = values.drop_null()
    if pa.types.is_integer(kind):
        if len(there):
            ends = pc.min_max(there).as_py()
            statistics |= {"least": str(ends["min"]), "largest": str(ends["max"])}
    elif pa.types.is_floating(kind):
        floats = there.cast(pa.float64()).to_numpy(zero_copy_only=False)
        finite = floats[np.isfinite(floats)]
        if len(finite):
            statistics |= {"least": float(finite.min()), "largest": float(finite.max())}
        with np.errstate(over="ignore"):
            exact = bool((finite.astype(np.float32) == finite).all())
        whole = bool((finite == np.floor(finite)).all()) and not np.signbit(finite[finite == 0]).any()
        statistics |= {
            "nan": int(np.isnan(floats).sum()), "infinite": int(np.isinf(floats).sum()),
            "whole": whole, "exact": exact,
        }  # fmt: skip
    return statistics


def together(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the statistics of two parts."""
    both = {name: left.get(name, 0) + right.get(name, 0) for name in ("rows", "nulls", "nan", "infinite")}
    for name, choose in (("least", min), ("largest", max)):
        found = [each[name] for each in (left, right) if name in each]
        if found:
            number = int if isinstance(found[0], str) else float
            both[name] = choose(found, key=number)
    for name in ("whole", "exact"):
        found = [each[name] for each in (left, right) if name in each]
        if found:
            both[name] = all(found)
    return both


def narrowest(
    kind: pa.DataType, seen: Mapping[str, Any], *, lossy: bool, key: bool
) -> tuple[pa.DataType, str]:
    """(type, reason): the type that holds every value, exactly unless ``lossy``.

    Args:
        kind: the column's own type.
        seen: of all rows.
        lossy: whether floats may lose digits.
        key: whether the column has ids: they are never floats that lose digits.
    """
    import pyarrow as pa

    if pa.types.is_integer(kind):
        found = _integer(int(seen["least"]), int(seen["largest"]), kind) if "least" in seen else kind
        return found, "every value fits" if found != kind else "no narrower integer holds every value"
    if not pa.types.is_floating(kind):
        return kind, "no numbers"
    if seen["whole"] and not seen["infinite"] and not seen["nan"] and "least" in seen:
        if max(abs(seen["least"]), abs(seen["largest"])) >= 2.0**53:
            return kind, "from 2^53 on float64 does not tell whole numbers apart"
        return _integer(int(seen["least"]), int(seen["largest"]), pa.int64()), "whole numbers"
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return kind, "narrow already"
    if seen["exact"]:
        return pa.float32(), "no value loses a digit"
    if lossy and not key:
        return pa.float32(), "digits are lost, as asked for: a relative error of 6e-8 at most"
    return kind, "a float32 would lose digits"


def _integer(least: int, largest: int, kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    unsigned = pa.types.is_unsigned_integer(kind)
    kinds = ["uint8", "uint16", "uint32", "uint64"] if unsigned else ["int8", "int16", "int32", "int64"]
    for name in kinds:
        bounds = np.iinfo(name)
        if bounds.min <= least and largest <= bounds.max:
            found = getattr(pa, name)()
            return found if found.bit_width < kind.bit_width else kind
    return kind


def upstream(kind: pa.DataType, seen: Mapping[str, Any]) -> tuple[pa.DataType, str]:
    """The type that the original chooses: for integers the narrowest with strict bounds, else float32."""
    import pyarrow as pa

    if pa.types.is_signed_integer(kind) and not seen["nulls"] and "least" in seen:
        for name in ("int8", "int16", "int32"):
            bounds = np.iinfo(name)
            if bounds.min < int(seen["least"]) and int(seen["largest"]) < bounds.max:
                return getattr(pa, name)(), "as the original"
        return pa.int64(), "as the original"
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not numbers:
        return kind, "no numbers"
    if pa.types.is_boolean(kind):
        return pa.float32(), "as the original"
    ends = [float(seen[name]) for name in ("least", "largest") if name in seen]
    fits = bool(ends) and not seen.get("infinite") and ends[0] > -_FLOAT32 and ends[1] < _FLOAT32
    return (pa.float32() if fits else pa.float64()), "as the original"
