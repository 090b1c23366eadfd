"""Input tables: Parquet files, a folder of them, or patterns; and the types of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.errors import BadInput, UsageError
from penstock.files import is_folder

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_EXACT = 2.0**53
"""From here on float64 does not tell whole numbers apart."""


def opened(
    option: str,
    given: str | Sequence[str] | None,
    columns: Sequence[str] | None = None,
    dictionary: Sequence[str] = (),
) -> penstock.sources.ParquetRows:
    """Open the rows of a table.

    Args:
        option: for messages, ``"--samples"``.
        given: paths, patterns or folders.
        columns: those to be read; None for all.
        dictionary: those of them that come as Arrow dictionaries.

    Raises:
        UsageError: nothing is given, or no file fits.
        BadInput: a file is not Parquet or cut off, columns are missing or of types that do not agree.
    """
    names = [given] if isinstance(given, str) else [str(each) for each in given or ()]
    if not names:
        raise UsageError(f"{option} is not given: name a Parquet file, or a folder of them")
    paths = [
        str(Path(name).absolute() / "*.parquet") if is_folder(name) else str(Path(name).absolute())
        for name in names
    ]
    return penstock.sources.ParquetRows(paths, columns, dictionary=dictionary)


def is_key(kind: pa.DataType) -> bool:
    """Whether values of a type can be ids: integers, texts; floats if they hold whole numbers."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)


def key_kind(kind: pa.DataType) -> str:
    """``"text"`` or ``"number"``: ids match only within one kind."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return "text" if _is_text(kind) else "number"


def is_numeric(kind: pa.DataType, *, booleans: bool = True) -> bool:
    """Whether a column of this type can be a feature as it is."""
    import pyarrow as pa

    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or (booleans and pa.types.is_boolean(kind))
    )


def is_time(kind: pa.DataType) -> bool:
    """Whether values of a type are times."""
    import pyarrow as pa

    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def microseconds_of(column: Any) -> NDArray[np.int64]:
    """Times as microseconds since 1970, UTC; the minimum int64 for nulls.

    Args:
        column: an Arrow column of times or dates.
    """
    import pyarrow as pa

    zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    micro = column.cast(pa.timestamp("us", zone), safe=False)
    micro = micro.combine_chunks() if isinstance(micro, pa.ChunkedArray) else micro
    found: NDArray[np.int64] = micro.view(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
    return found


def keys_of(column: Any, place: str, file: object = None) -> Any:
    """Ids as integers or texts, never as floats; null if missing.

    Args:
        column: an Arrow column of integers, texts, or of floats that hold whole numbers.
        place: for messages: ``"column dataset_id"``.
        file: for messages.

    Returns an Arrow array of int64, uint64 or string.

    Raises:
        BadInput: ids that float64 cannot tell apart, that are no whole numbers, or of another type.
    """
    import pyarrow as pa

    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_uint64(kind):
        return values
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return values.cast(pa.int64())
    if _is_text(kind):
        return values.cast(pa.string())
    if not pa.types.is_floating(kind):
        raise BadInput(f"is {kind}; ids are integers or texts", file=file, place=place)
    return _whole(values.cast(pa.float64()), place, file)


def _whole(values: Any, place: str, file: object) -> Any:
    import pyarrow as pa

    floats: NDArray[np.float64] = values.to_numpy(zero_copy_only=False)
    missing = np.isnan(floats)
    if (np.abs(floats[~missing]) >= _EXACT).any():
        found = float(floats[~missing][np.abs(floats[~missing]) >= _EXACT][0])
        raise BadInput(
            f"is float64 and holds the id {found:.0f}; from 2^53 on it cannot tell an id from the next: "
            "write ids as integers or texts",
            file=file,
            place=place,
        )
    odd = floats[~missing] != np.floor(floats[~missing])
    if odd.any():
        raise BadInput(
            f"holds {floats[~missing][odd][0]}; ids are whole numbers or texts", file=file, place=place
        )
    return pa.array(np.where(missing, 0, floats).astype(np.int64), mask=missing)


def texts_of(column: Any, place: str, file: object = None) -> list[str | None]:
    """A column of texts as Python strings.

    Args:
        column: Arrow.
        place: for messages: ``"column description"``.
        file: for messages.

    Raises:
        BadInput: a text is not UTF-8.
    """
    try:
        found: list[str | None] = column.to_pylist()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"holds a text that is not UTF-8: {error.object[:20]!r}; write it anew in UTF-8, as Parquet's "
            "texts are",
            file=file, place=place,
        ) from None  # fmt: skip
    return found


def floats_of(column: Any, *, zero: bool) -> NDArray[np.float32]:
    """A numeric column as features: float32, rounded once.

    Args:
        column: an Arrow column of numbers or booleans.
        zero: whether what is missing or infinite is 0, and not NaN.
    """
    import pyarrow as pa

    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    elif pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    if values.null_count:
        values = values.cast(pa.float64()) if pa.types.is_integer(values.type) else values
        numbers = values.to_numpy(zero_copy_only=False)  # null is NaN
    else:
        numbers = values.to_numpy()
    with np.errstate(over="ignore"):
        found: NDArray[np.float32] = numbers.astype(np.float32)
    odd = ~np.isfinite(found)
    if odd.any():
        found[odd] = 0 if zero else np.nan
    return found


def is_rounded(column: Any, features: NDArray[np.float32]) -> bool:
    """Whether float32 does not hold the column exactly, missing and infinite values aside.

    Args:
        column: an Arrow column of numbers or booleans.
        features: of :func:`floats_of`.
    """
    import pyarrow as pa

    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = values.type
    if pa.types.is_boolean(kind) or pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return False
    if pa.types.is_integer(kind) and kind.bit_width <= 16:
        return False
    if not pa.types.is_integer(kind):
        values = values.cast(pa.float64())
    there = values.is_valid().to_numpy(zero_copy_only=False) & np.isfinite(features)
    kept = values.filter(pa.array(there)).to_numpy(zero_copy_only=False)
    # As float64: from 2^53 on an integer that float32 holds is held by it too.
    return bool((features[there].astype(np.float64) != kept.astype(np.float64)).any())


def numbers_of(keys: Any) -> NDArray[Any]:
    """Ids as lookup keys: int64 or uint64 unchanged, texts by their hash; without nulls."""
    import pyarrow as pa

    from penstock.hashing import hashes

    if pa.types.is_string(keys.type):
        return hashes(keys, np.uint64(0))
    found: NDArray[Any] = keys.to_numpy(zero_copy_only=False)
    return found


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
