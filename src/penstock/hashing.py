"""Hashes of values that are identical on every machine, in every version, for any batch.

splitmix64's finaliser (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"); of
texts over their bytes in words of eight. Not for secrets: whoever chooses the values can choose the hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_NULL = np.uint64(0x6E756C6C)


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijective mix of each 64-bit number: splitmix64's finaliser alone."""
    x = numbers
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's step and finaliser of each word: a permutation of all 64-bit words."""
    mixed = words + _GOLDEN
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hashes(values: Any, start: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """The hash of each value.

    Args:
        values: an array of integers, or an Arrow array of integers, floats, booleans, dates, times, texts,
            bytes, or a dictionary of these.
        start: what came before: one word for all (another one gives other hashes), or one for each value.

    Returns uint64 of the length of ``values``. An integer's hash is that of its 64-bit two's complement
    whatever the width of its type; -0.0 and 0.0 are one value, and so are all NaN, and all nulls.

    Raises:
        TypeError: a column of another type.
    """
    if isinstance(values, np.ndarray):
        words = np.asarray(values.astype(np.int64, copy=False).view(np.uint64), np.uint64)
        return mix(words ^ start)
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.DictionaryArray):
        if values.null_count or np.ndim(start):
            return hashes(values.cast(values.type.value_type), start)
        numbers: NDArray[np.int64] = values.indices.to_numpy(zero_copy_only=False)
        return hashes(values.dictionary, start)[numbers]
    if values.null_count:
        return _with_nulls(values, start)
    return _without_nulls(values, start)


def hashes_of_rows(table: pa.Table, names: Sequence[str], start: np.uint64 = _GOLDEN) -> NDArray[np.uint64]:
    """The hash of each row by some of its columns, in this order.

    Raises:
        KeyError: a column that the table does not have.
        TypeError: a column of a type that has no hash; names it.
    """
    state: Any = start
    for name in names:
        try:
            state = hashes(table.column(name), state)
        except TypeError as error:
            raise TypeError(f"column {name!r}: {error}") from None
    return np.broadcast_to(np.asarray(state, np.uint64), (table.num_rows,))


def _with_nulls(values: Any, start: Any) -> NDArray[np.uint64]:
    there = values.is_valid().to_numpy(zero_copy_only=False)
    state = np.broadcast_to(np.asarray(start, np.uint64), (len(values),))
    found = mix(state ^ _NULL)
    found[there] = _without_nulls(values.drop_null(), state[there])
    return found


def _without_nulls(values: Any, start: Any) -> NDArray[np.uint64]:
    import pyarrow as pa

    kind, types = values.type, pa.types
    if types.is_integer(kind):
        return hashes(values.to_numpy(zero_copy_only=False), start)
    if types.is_floating(kind):
        floats = values.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0  # -0.0 becomes 0.0
        floats[np.isnan(floats)] = np.nan
        return mix(floats.view(np.uint64) ^ start)
    if types.is_boolean(kind):
        return hashes(values.cast(pa.int8()), start)
    if types.is_temporal(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        return hashes(values.view(width).cast(pa.int64()), start)
    if any(is_(kind) for is_ in (types.is_string, types.is_large_string, types.is_string_view,
                                 types.is_binary, types.is_large_binary, types.is_binary_view)):  # fmt: skip
        return _of_bytes(values.cast(pa.large_binary()), start)
    if types.is_decimal(kind):
        return hashes(values.cast(pa.string()), start)
    raise TypeError(f"values of type {kind} have no hash; cast them to numbers or texts")


def _of_bytes(values: Any, start: Any) -> NDArray[np.uint64]:
    """Chained over words of eight bytes, the last filled with zeros; the length is the first word."""
    buffers = values.buffers()
    offsets = np.frombuffer(buffers[1], np.int64, len(values) + 1, values.offset * 8)
    data = np.frombuffer(buffers[2], np.uint8) if buffers[2] is not None else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    state = mix(lengths.view(np.uint64) ^ start)
    for at in range(0, int(lengths.max(initial=0)), 8):
        rows = np.flatnonzero(lengths > at)
        word = np.zeros(len(rows), np.uint64)
        for byte in range(8):
            there = lengths[rows] > at + byte
            found = data[offsets[rows[there]] + at + byte].astype(np.uint64)
            word[there] |= found << np.uint64(8 * byte)
        state[rows] = mix(state[rows] ^ word)
    return state
