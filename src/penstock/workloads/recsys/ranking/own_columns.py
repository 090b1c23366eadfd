"""The ranking table's own columns, not looked up anywhere, as column chunks of Parquet files.

Ids come in runs, and categories are few: their different values are found without a hash table of each
value. Columns of other types (times) are left to pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.ranking import pages as p
from penstock.workloads.recsys.ranking.pages import Numbered, RowGroup
from penstock.workloads.recsys.ranking.survey import starts_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_LONGEST = 4096
"""A text that is longer is not told as the least or the largest, as pyarrow does not."""


def add_column(group: RowGroup, field: pa.Field, column: Any, how: Mapping[str, Any]) -> bool:
    """Write a column of ids or numbers; False where it is neither.

    Args:
        group: to be written to.
        field: name, type, and whether there may be nulls.
        column: Arrow.
        how: ``use_dictionary``, ``use_byte_stream_split``, ``write_statistics``: names of columns, or False.
    """
    import pyarrow as pa

    kind = _kind(field.type)
    if kind is None:
        return False
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    nulls, before = values.null_count, b""
    if field.nullable:
        before = p.levels(values.is_valid().to_numpy(zero_copy_only=False) if nulls else None, len(values))
        values = values.drop_null() if nulls else values
    some = len(values) > 0
    coded = field.name in (how.get("use_dictionary") or ()) and some
    wanted = field.name in (how.get("write_statistics") or ())
    if kind == p.BYTE_ARRAY:
        starts = starts_of(values)  # each text that comes up is the first of a run
        statistics = _text_statistics(values.take(starts), nulls) if wanted else b""
        group.add(field.name, kind, _text_pages(group, values, starts, before, coded), statistics)
        return True
    numbers = values.to_numpy(zero_copy_only=False)
    statistics = _number_statistics(numbers, nulls) if wanted else b""
    split = field.name in (how.get("use_byte_stream_split") or ())
    group.add(field.name, kind, _number_pages(group, numbers, before, coded, split), statistics)
    return True


def _kind(kind: pa.DataType) -> int | None:
    import pyarrow as pa

    kinds = {
        pa.string(): p.BYTE_ARRAY, pa.int64(): p.INT64, pa.uint64(): p.INT64, pa.int32(): p.INT32,
        pa.float32(): p.FLOAT,
    }  # fmt: skip
    return kinds.get(kind)


def _number_pages(
    group: RowGroup, numbers: NDArray[Any], before: bytes, coded: bool, split: bool
) -> list[p.Page]:
    if coded:
        found = Numbered.of_any(numbers)
        page = found.page()
        if numbers.itemsize * len(found.different) + len(page) <= p.WORTH * numbers.nbytes:
            values = group.dictionary(_stored(found.different), len(found.different))
            return [values, group.data(before + page, p.DICTIONARY)]
    if split:
        bytes_of = np.frombuffer(_stored(numbers), np.uint8).reshape(-1, numbers.itemsize)
        return [group.data(before + bytes_of.T.tobytes(), p.SPLIT)]
    return [group.data(before + _stored(numbers), p.PLAIN)]


def _text_pages(
    group: RowGroup, values: Any, starts: NDArray[np.int64], before: bytes, coded: bool
) -> list[p.Page]:
    if coded:
        found = values.take(starts).dictionary_encode()
        numbers = found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        runs = np.diff(np.append(starts, len(values)))
        page = Numbered(np.arange(len(found.dictionary)), np.repeat(numbers, runs)).page()
        body = _texts(found.dictionary)
        if len(body) + len(page) <= p.WORTH * (4 * len(values) + _bytes_of(values)):
            return [group.dictionary(body, len(found.dictionary)), group.data(before + page, p.DICTIONARY)]
    return [group.data(before + _texts(values), p.PLAIN)]


def _stored(numbers: NDArray[Any]) -> bytes:
    return numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes()


def _offsets(values: Any) -> NDArray[np.int32]:
    return np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, values.offset * 4)


def _bytes_of(values: Any) -> int:
    offsets = _offsets(values)
    return int(offsets[-1] - offsets[0])


def _texts(values: Any) -> bytes:
    if not len(values):
        return b""
    data = values.buffers()[2]
    return p.texts(_offsets(values), np.frombuffer(data if data is not None else b"", np.uint8))


def _text_statistics(values: Any, nulls: int) -> bytes:
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = pc.min_max(values.cast(pa.binary())).as_py()
    least, most = ends["min"], ends["max"]
    if least is None or max(len(least), len(most)) > _LONGEST:
        return p.statistics(None, nulls)
    return p.statistics((least, most), nulls)


def _number_statistics(numbers: NDArray[Any], nulls: int) -> bytes:
    if not len(numbers) or (numbers.dtype.kind == "f" and np.isnan(numbers).any()):
        return p.statistics(None, nulls)
    ends = np.array([numbers.min(), numbers.max()])
    if numbers.dtype.kind == "f":  # which of the two zeros is there is not told
        ends = np.where(ends == 0, np.array([-0.0, 0.0], ends.dtype), ends)
    return p.statistics((_stored(ends[:1]), _stored(ends[1:])), nulls)
