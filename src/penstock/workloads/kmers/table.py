"""The result, rows (kmer, count) in the order of words: how it is written, and its summary."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penstock.workloads.kmers import words

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1 << 20


def schema() -> pa.Schema:
    """The schema of the result; non-nullable columns take half the time to write."""
    import pyarrow as pa

    columns = (("kmer", pa.string()), ("count", pa.int64()))
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


def rows(codes: NDArray[Any], counts: NDArray[np.int64], k: int) -> pa.Table:
    """Rows of the result; at most a few million."""
    return of_text(words.text_of(codes, k), counts, k)


def of_text(text: NDArray[np.uint8], counts: NDArray[np.int64], k: int) -> pa.Table:
    """The same, of the words' letters, ``k`` for each."""
    import pyarrow as pa

    offsets = np.arange(len(counts) + 1, dtype=np.int32) * np.int32(k)
    texts = pa.StringArray.from_buffers(len(counts), pa.py_buffer(offsets), pa.py_buffer(text))
    return pa.table([texts, pa.array(counts, pa.int64())], schema=schema())


STATISTICS = ["count"]
"""Columns of which row groups tell the extremes: those of words take a third of the time of writing, and rows
are in the order of words."""
WRITTEN: dict[str, Any] = {
    "compression": "snappy", "use_dictionary": ["count"], "write_statistics": STATISTICS,
}  # fmt: skip
"""Words seldom repeat; counts do."""


class Writer:
    """Writes a file of the result, row groups of 2**20 rows."""

    def __init__(self, path: Path, k: int) -> None:
        import pyarrow.parquet as pq

        self._k = k
        self._writer = pq.ParquetWriter(path, schema(), **WRITTEN)
        self._held: list[tuple[NDArray[Any], NDArray[np.int64]]] = []
        self._rows = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush(self._rows)
        finally:
            self._writer.close()

    def add(self, codes: NDArray[Any], counts: NDArray[np.int64]) -> None:
        """Write the next rows."""
        self._held.append((codes, counts))
        self._rows += len(codes)
        while self._rows >= _ROWS:
            self._flush(_ROWS)

    def _flush(self, count: int) -> None:
        if not count:
            return
        codes = np.concatenate([each for each, _ in self._held])
        counts = np.concatenate([each for _, each in self._held])
        self._held.clear()
        self._writer.write_table(rows(codes[:count], counts[:count], self._k), row_group_size=_ROWS)
        self._held, self._rows = [(codes[count:].copy(), counts[count:].copy())], self._rows - count


# ------------------------------------------------------------------ in short


def in_short(paths: Iterable[str], top: int) -> dict[str, Any]:
    """The number of distinct words and their total, and the most frequent, from files of the result.

    Counts are read everywhere, words only where the most frequent may be.
    """
    import pyarrow.parquet as pq

    distinct = total = most = 0
    least = None
    best: list[tuple[int, int, str]] = []  # a heap: (count, -place, word), the least of the best first
    for path in paths:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                counts = file.read_row_group(group, columns=["count"], use_threads=False).column(0).to_numpy()
                if not len(counts):
                    continue
                place = distinct
                distinct, total = distinct + len(counts), total + int(counts.sum())
                most = max(most, int(counts.max()))
                least = int(counts.min()) if least is None else min(least, int(counts.min()))
                if len(best) < top or counts.max() > best[0][0]:
                    _take_best(best, counts, place, _words(file, group), top)
    ordered = sorted(best, reverse=True)
    return {
        "distinct": distinct, "counted": total, "most": most, "least": least or 0,
        "mean": total / distinct if distinct else 0.0,
        "top": [{"kmer": word, "count": count} for count, _, word in ordered],
    }  # fmt: skip


def _words(file: Any, group: int) -> Any:
    return file.read_row_group(group, columns=["kmer"], use_threads=False).column(0)


def _take_best(
    best: list[tuple[int, int, str]], counts: NDArray[Any], place: int, texts: Any, top: int
) -> None:
    # Equal counts: the first in the order of words.
    order = np.lexsort((np.arange(len(counts)), -counts))[:top]
    for at in order.tolist():
        entry = (int(counts[at]), -(place + at), texts[at].as_py())
        if len(best) < top:
            heapq.heappush(best, entry)
        elif entry > best[0]:
            heapq.heapreplace(best, entry)


def files_of(dataset: Any) -> Iterator[str]:
    """The files of a dataset, in order."""
    yield from getattr(dataset, "files", [])
