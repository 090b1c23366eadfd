"""The neighbours as files: a Parquet table, a sparse matrix, JSON, each streamed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.shared.tables import texts_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

TABLE, JSON, CSR = "neighbors.parquet", "neighbors.json", "neighbors.npz"
_GROUP = 1 << 20
"""Rows of a row group, at least; parts of the search are not divided."""


def blocks(found: Any, items: int) -> Iterator[tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """(first item, ids, scores, counts) of all items, a few blocks at a time."""
    at = 0
    for first, _, arrays in found.parts():
        ids, scores, counts = (arrays[name] for name in ("ids", "scores", "counts"))
        size, width = ids.shape[1:]
        yield from _without(at, first * size, width)
        rows = min(counts.size, items - first * size)
        yield (
            first * size, ids.reshape(-1, width)[:rows], scores.reshape(-1, width)[:rows],
            counts.reshape(-1)[:rows],
        )  # fmt: skip
        at = first * size + rows
    yield from _without(at, items, 1)


def _without(start: int, stop: int, width: int) -> Iterator[tuple[int, Any, Any, Any]]:
    """Items whose blocks were set aside."""
    for low in range(start, stop, 4096):
        rows = min(4096, stop - low)
        yield low, np.zeros((rows, width), np.int32), np.zeros((rows, width)), np.zeros(rows, np.int64)


def write_table(path: Path, found: Any, ids: pa.ChunkedArray | None, items: int) -> dict[str, Any]:
    """Write ``item_id``, ``rank`` from 1, ``neighbor_id`` and ``score``, by item and rank.

    Args:
        path: of the file.
        found: arrays of the last stage.
        ids: of the items, ascending; None where they are numbers from 0.
        items: how many.

    Returns how many rows there are, how many items have no neighbours, and how many as many as were wanted.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = None if ids is None else ids.combine_chunks()
    kind = pa.int64() if known is None else known.type
    schema = pa.schema(
        [("item_id", kind), ("rank", pa.int32()), ("neighbor_id", kind), ("score", pa.float64())]
    )
    totals = {"neighbors": 0, "without": 0, "full": 0}
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["item_id", "rank"]) as writer:
        for start, numbers, scores, counts in blocks(found, items):
            width = numbers.shape[1]
            here = np.arange(width) < counts[:, None]
            own = np.repeat(np.arange(start, start + len(counts)), counts)
            others = numbers[here].astype(np.int64)
            table = pa.table(
                [
                    _named(known, own), pa.array(np.nonzero(here)[1].astype(np.int32) + 1),
                    _named(known, others), pa.array(scores[here]),
                ],
                schema,
            )  # fmt: skip
            writer.write_table(table, row_group_size=_GROUP)
            totals["neighbors"] += len(own)
            totals["without"] += int((counts == 0).sum())
            totals["full"] += int((counts == width).sum())
    return totals


_IDS = "column of ids"


def write_json(path: Path, found: Any, ids: pa.ChunkedArray | None, items: int) -> None:
    """Write ``{item: {neighbor: score, ...}, ...}``, without items that have no neighbours."""
    known = None if ids is None else ids.combine_chunks()
    with open(path, "w", encoding="utf-8") as file:
        file.write("{")
        comma = "\n"
        for start, numbers, scores, counts in blocks(found, items):
            for row in np.flatnonzero(counts).tolist():
                count = counts[row]
                names = map(str, texts_of(_named(known, numbers[row, :count].astype(np.int64)), _IDS))
                (own,) = texts_of(_named(known, np.array([start + row])), _IDS)
                values = dict(zip(names, scores[row, :count].tolist(), strict=True))
                file.write(f"{comma}{json.dumps(str(own))}: {json.dumps(values, ensure_ascii=False)}")
                comma = ",\n"
        file.write("\n}\n")


def write_csr(path: Path, found: Any, items: int) -> None:
    """Write a file for ``scipy.sparse.load_npz``: scores by item index, in order of ids."""
    total = sum(int(counts.sum()) for *_, counts in blocks(found, items))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _member(archive, "format", np.array(b"csr"))
        _member(archive, "shape", np.array([items, items], np.int64))
        with _opened(archive, "indptr", np.int64, items + 1) as file:
            file.write(np.zeros(1, np.int64).tobytes())
            before = 0
            for *_, counts in blocks(found, items):
                ends = before + np.cumsum(counts, dtype=np.int64)
                file.write(ends.tobytes())
                before = int(ends[-1]) if len(ends) else before
        for name, dtype, which in (("indices", np.int32, 0), ("data", np.float64, 1)):
            with _opened(archive, name, dtype, total) as file:
                for _, numbers, scores, counts in blocks(found, items):
                    here = np.arange(numbers.shape[1]) < counts[:, None]
                    order = np.argsort(np.where(here, numbers, np.iinfo(np.int32).max), axis=1, kind="stable")
                    chosen = (numbers, scores)[which]
                    ordered = np.take_along_axis(chosen, order, axis=1)
                    file.write(ordered[here].astype(dtype, copy=False).tobytes())


def _named(known: Any, numbers: NDArray[np.int64]) -> Any:
    import pyarrow as pa

    return pa.array(numbers) if known is None else known.take(pa.array(numbers))


def _member(archive: zipfile.ZipFile, name: str, value: NDArray[Any]) -> None:
    with archive.open(_info(name), "w") as file:
        np.lib.format.write_array(file, value, allow_pickle=False)


def _opened(archive: zipfile.ZipFile, name: str, dtype: Any, count: int) -> Any:
    file = archive.open(_info(name), "w", force_zip64=True)
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def _info(name: str) -> zipfile.ZipInfo:
    """A member with the same time always, so that the file has the same bytes."""
    return zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
