"""The items: their ids in order, their vectors and texts, read one row group at a time.

Items are kept in the ascending order of their ids, so that what is found depends on no order of the file and
the smaller number of two is the smaller id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock import foreign
from penstock.errors import BadInput
from penstock.workloads.recsys.similar import kernel, tfidf
from penstock.workloads.recsys.similar.search import COLUMNS, unit_vectors

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

IDS = "ids.parquet"
PLACES = "places.npy"
_STEP = 8192
"""Rows that are read at a time."""


def matching(names: Sequence[str], patterns: Sequence[str], file: str) -> list[str]:
    """The columns that match the patterns, in file order.

    Raises:
        BadInput: a pattern that no column matches.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            there = foreign.line(", ".join(names))
            raise BadInput(f"no column matches {pattern!r}; there are: {there}", file=file)
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def check_columns(path: str, key: str, text: Sequence[str], vectors: Sequence[str]) -> list[str]:
    """The vectors' columns, by pattern, after checking the types of all columns.

    Raises:
        BadInput: no such column, or one of a type that makes no sense.
    """
    import pyarrow as pa

    schema = penstock.sources.ParquetRows(path).schema
    for name in (key, *text):
        if name not in schema.names:
            there = foreign.line(", ".join(schema.names))
            raise BadInput(f"no such column; there are: {there}", file=path, place=f"column {name}")
    check_key(schema.field(key).type, key, path)
    for name in text:
        kind = _plain(schema.field(name).type)
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise BadInput(f"holds {kind}, and text was expected", file=path, place=f"column {name}")
    found = matching(schema.names, vectors, path) if vectors else []
    for name in found:
        kind = schema.field(name).type
        if _is_list(kind):
            if len(found) > 1:
                raise BadInput(
                    f"is a list, which is a whole vector, and --vectors names {len(found)} columns: name one "
                    "column of lists, or columns of numbers",
                    file=path, place=f"column {name}",
                )  # fmt: skip
            kind = kind.value_type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise BadInput(f"holds {kind}, and numbers were expected", file=path, place=f"column {name}")
    return found


def check_key(kind: pa.DataType, name: str, path: str) -> None:
    """Refuse float ids, which cannot tell large ones apart: ids are integers or texts."""
    import pyarrow as pa

    kind = _plain(kind)
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        advice = ": numbers above 2**53 are not exact as floats" if pa.types.is_floating(kind) else ""
        raise BadInput(
            f"holds {kind}, and ids are integers or text{advice}; write the column as one of these",
            file=path, place=f"column {name}",
        )  # fmt: skip


def tables(path: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of some columns, a few thousand at a time."""
    rows = penstock.sources.ParquetRows(path, list(columns))
    for start in range(0, len(rows), _STEP):
        yield rows.read(start, min(start + _STEP, len(rows)))


# ------------------------------------------------------------------ ids


def order_items(
    folder: Path, *, path: str, key: str, text: Sequence[str], survey: bool, **_: Any
) -> dict[str, Any]:
    """A step: the ids in ascending order, and each row's index among them.

    Writes ``ids.parquet`` and ``places.npy`` (int64 by row of the file, -1 for rows that are left out:
    without an id, or with one that an earlier row has).

    Args:
        folder: to write into.
        path: the items.
        key: column of ids.
        text: columns of texts.
        survey: whether to count what characters they have.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pieces: list[pa.Array] = []
    counted = np.zeros(2, np.int64)
    for table in tables(path, list(dict.fromkeys([key, *text]))):
        pieces.extend(plain_key(table[key]).chunks)
        if survey:
            for each in tfidf.texts_of(table.select(list(text))):
                counted += tfidf.count_cjk(each)
    ids = pa.chunked_array(pieces, None if pieces else pa.int64())
    places, kept = places_of(ids)
    np.save(folder / PLACES, places)
    pq.write_table(pa.table({"item_id": ids.take(pa.array(kept))}), folder / IDS)
    null = ids.null_count
    return {
        "rows": len(ids), "ids": len(kept), "without_id": null,
        "duplicates": len(ids) - null - len(kept),
        "cjk_share": float(counted[0] / max(counted[1], 1)),
    }  # fmt: skip


def plain_key(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as int64, uint64 or string."""
    import pyarrow as pa

    kind = _plain(column.type)
    if pa.types.is_uint64(kind):
        return column.cast(pa.uint64())
    return column.cast(pa.int64() if pa.types.is_integer(kind) else pa.string())


def places_of(ids: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(index of each row among the distinct ids, ascending; row of each index).

    The first row of an id counts; later ones have the place -1, and so have rows without an id.
    """
    import pyarrow.compute as pc

    codes = ids.combine_chunks().dictionary_encode() if len(ids) else None
    places = np.full(len(ids), -1, np.int64)
    if codes is None:
        return places, np.zeros(0, np.int64)
    order = pc.sort_indices(codes.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    known = np.flatnonzero(codes.indices.is_valid().to_numpy(zero_copy_only=False))
    found, first = np.unique(codes.indices.drop_null().to_numpy(), return_index=True)
    rows = known[first]
    places[rows] = rank[found]
    kept = np.empty(len(order), np.int64)
    kept[rank[found]] = rows
    return places, kept


# ------------------------------------------------------------------ vectors


def store_vectors(
    folder: Path, blocks: Iterator[tuple[NDArray[np.int64], Any]], items: int, size: int, zeros: bool
) -> int:
    """Write ``vectors``, ``fixed`` and ``scales`` of :class:`Rows`; returns the number of non-finite rows.

    Args:
        folder: to write into.
        blocks: (places, vectors): where the rows belong, and the rows.
        items: of all.
        size: dimensions.
        zeros: whether a value that is not finite is 0; else its vector is none.
    """
    shape = (items, size)
    vectors = _map(folder / "vectors.npy", np.float32, shape)
    fixed = _map(folder / "fixed.npy", np.int32, shape)
    scales = _map(folder / "scales.npy", np.float64, (items,))
    broken = 0
    for places, rows in blocks:
        here = np.flatnonzero(places >= 0)
        given = rows[here]
        broken += int((~np.isfinite(given).all(axis=1)).sum())
        if zeros:
            given = np.where(np.isfinite(given), given, 0)
        vectors[places[here]], fixed[places[here]], scales[places[here]] = unit_vectors(given)
    for each in (vectors, fixed, scales):
        if isinstance(each, np.memmap):
            each.flush()
    return broken


def vectors_of(table: pa.Table, size: int | None, path: str, start: int) -> NDArray[np.float64]:
    """The vectors of some rows: float64 (rows, dimensions), NaN for nulls.

    Raises:
        BadInput: lists of different lengths.
    """
    if table.num_columns == 1 and _is_list(table.column(0).type):
        return _of_lists(table.column(0), size, path, start)
    columns = [column.to_numpy() for column in table.columns]
    found: NDArray[np.float64] = np.array([np.asarray(column, np.float64) for column in columns]).T
    return found


def _of_lists(column: pa.ChunkedArray, size: int | None, path: str, start: int) -> NDArray[np.float64]:
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column)
    known = lengths.drop_null().to_numpy()
    size = int(known[0]) if size is None and len(known) else (size or 0)
    odd = np.flatnonzero(pc.fill_null(pc.not_equal(lengths, size), False).to_numpy())
    if len(odd):
        raise BadInput(
            f"a vector of {lengths[int(odd[0])].as_py()} numbers, and those before have {size}",
            file=path, place=f"row {start + int(odd[0])}",
        )  # fmt: skip
    found = np.full((len(column), size), np.nan)
    valid = pc.is_valid(column).to_numpy()
    flat = pc.list_flatten(column).to_numpy(zero_copy_only=False) if size else np.zeros(0)
    found[valid] = np.asarray(flat, np.float64).reshape(-1, size)
    return found


def dimensions(path: str, columns: Sequence[str]) -> int:
    """The length of a table's vectors; for lists, the length of the first non-null one."""
    import pyarrow.compute as pc

    kind = penstock.sources.ParquetRows(path, list(columns)).schema.field(0).type
    if not _is_list(kind):
        return len(columns)
    for table in tables(path, columns):
        lengths = pc.list_value_length(table.column(0)).drop_null()
        if len(lengths):
            return int(lengths[0].as_py())
    return 0


# ------------------------------------------------------------------ texts


class SparseFiles:
    """Writes sparse rows in order into files: ``indptr``, ``terms``, ``weights``, then the postings.

    Args:
        folder: to write into.
        lengths: int64: entries of each row, by place.
        terms: columns.
    """

    def __init__(self, folder: Path, lengths: NDArray[np.int64], terms: int) -> None:
        self._folder, self._size = folder, terms
        self._indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        np.save(folder / "indptr.npy", self._indptr)
        entries = (int(self._indptr[-1]),)
        self._terms = _map(folder / "terms.npy", np.int32, entries)
        self._weights = _map(folder / "weights.npy", np.float64, entries)

    def put(self, places: Any, bounds: Any, terms: Any, weights: Any) -> None:
        """Write some rows of a CSR at their indices; -1 skips a row."""
        lengths = np.diff(bounds)
        starts = np.where(places >= 0, self._indptr[places], -1)
        within = np.arange(bounds[-1] - bounds[0]) - np.repeat(bounds[:-1] - bounds[0], lengths)
        begins = np.repeat(starts, lengths)
        here = begins >= 0
        to = (begins + within)[here]
        self._terms[to] = terms[bounds[0] : bounds[-1]][here]
        self._weights[to] = weights[bounds[0] : bounds[-1]][here]

    def finish(self) -> dict[str, Any]:
        """Write the postings, tile by tile; returns the sizes."""
        items = len(self._indptr) - 1
        tiles = -(-items // COLUMNS)
        pointers = _map(self._folder / "pointers.npy", np.int32, (tiles, self._size + 1))
        posted = _map(self._folder / "posted.npy", np.int32, (int(self._indptr[-1]),))
        values = _map(self._folder / "values.npy", np.float32, (int(self._indptr[-1]),))
        bases = self._indptr[np.minimum(np.arange(tiles + 1) * COLUMNS, items)]
        np.save(self._folder / "bases.npy", bases)
        for tile in range(tiles):
            own = slice(bases[tile], bases[tile + 1])
            numbers = np.arange(tile * COLUMNS, min((tile + 1) * COLUMNS, items))
            kernel.post(
                self._indptr, np.asarray(self._terms), np.asarray(self._weights), numbers,
                np.asarray(pointers[tile]), np.asarray(posted[own]), np.asarray(values[own]),
            )  # fmt: skip
        for each in (self._terms, self._weights, pointers, posted, values):
            if isinstance(each, np.memmap):
                each.flush()
        return {"entries": int(self._indptr[-1]), "terms": self._size}


def _map(path: Path, dtype: Any, shape: tuple[int, ...]) -> Any:
    """An array in a file, to be filled."""
    if 0 in shape:  # nothing can be mapped
        np.save(path, np.zeros(shape, dtype))
        return np.zeros(shape, dtype)
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_one(kind) for is_one in kinds)
