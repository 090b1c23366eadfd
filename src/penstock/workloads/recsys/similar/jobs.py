"""The functions of the stages: terms, vocabulary, texts as rows, all items' rows, their neighbours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import compiling
from penstock.workloads.recsys.similar import items, matrices, tfidf, writing

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from penstock.workloads.recsys.similar.approximate import Approximate
    from penstock.workloads.recsys.similar.search import Search, Wanted

TEXTS = 4096
"""Texts of a call: their counts are one table, so the number is part of what is kept."""
BLOCK = 256
"""Queries of an item of the last stage, and rows of its arrays."""
COMPILED = ("take_candidates", "score_candidates", "place", "scatter", "renormalise")
"""What of the kernel a search calls."""


@dataclass(frozen=True)
class CountTerms:
    """Counts the terms of some texts.

    Args:
        analyzer: ``"word"`` or ``"char"``.
    """

    analyzer: str

    def __call__(self, table: pa.Table) -> pa.Table:
        return tfidf.count_terms(tfidf.texts_of(table), self.analyzer)


def choose_terms(
    folder: Path, *, terms: Iterable[Iterable[pa.Table]], most: int, texts: int
) -> dict[str, Any]:
    """A step: ``vocabulary.parquet`` of ``term``, ``rows`` and ``idf``, terms ascending."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table, found = tfidf.choose(terms, most)
    idf = tfidf.idf(table["rows"].to_numpy(), texts)
    pq.write_table(table.append_column("idf", pa.array(idf)), folder / "vocabulary.parquet")
    return {"terms": table.num_rows, "found": found}


@dataclass
class WeighTexts:
    """Texts as unit rows: ``terms`` and ``weights``, one list each.

    Args:
        analyzer: as for :class:`CountTerms`.
    """

    analyzer: str
    _columns: Any = field(default=None, init=False, repr=False, compare=False)

    def __call__(self, table: pa.Table, *, vocabulary: Path) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._columns is None:
            known = pq.read_table(vocabulary / "vocabulary.parquet")
            self._columns = tfidf.Vocabulary.of(known["term"].to_pylist(), known["idf"].to_numpy())
        indptr, terms, weights = tfidf.weigh(tfidf.texts_of(table), self._columns, self.analyzer)
        bounds = pa.array(indptr.astype(np.int32))
        return pa.table(
            {
                "terms": pa.ListArray.from_arrays(bounds, pa.array(terms)),
                "weights": pa.ListArray.from_arrays(bounds, pa.array(weights)),
            }
        )


# ------------------------------------------------------------------ the rows of all items


def gather_vectors(
    folder: Path, *, path: str, columns: Sequence[str], ordered: Path, count: int, zeros: bool, **_: Any
) -> dict[str, Any]:
    """A step: the vectors of a table in the order of the ids, as :class:`Rows` has them.

    Args:
        folder: to write into.
        path: the items.
        columns: of numbers, or one of lists.
        ordered: what :func:`items.order_items` wrote.
        count: items.
        zeros: whether a value that is not finite is 0; else its vector is none.
    """
    places = np.load(ordered / items.PLACES)
    at = 0

    def blocks() -> Iterator[tuple[NDArray[np.int64], Any]]:
        nonlocal at
        size: int | None = None
        for table in items.tables(path, columns):
            rows = items.vectors_of(table, size, path, at)
            size = rows.shape[1] or None
            yield places[at : at + len(rows)], rows
            at += len(rows)

    size = items.dimensions(path, columns)
    return {"not_finite": items.store_vectors(folder, blocks(), count, size, zeros), "dimensions": size}


def take_matrix(folder: Path, *, path: str, zeros: bool, **_: Any) -> dict[str, Any]:
    """A step: the rows of a ``.npy`` as vectors."""
    matrix = matrices.open_dense(path)
    blocks = matrices.dense_blocks(matrix)
    broken = items.store_vectors(folder, blocks, len(matrix), matrix.shape[1], zeros)
    return {"not_finite": broken, "dimensions": matrix.shape[1]}


def gather_texts(folder: Path, *, texts: Any, ordered: Path, count: int, terms: int) -> dict[str, Any]:
    """A step: the rows of the texts in the order of the ids, and their postings, as :class:`Rows` has them.

    Args:
        folder: to write into.
        texts: the dataset of ``terms`` and ``weights``, by row of the file.
        ordered: what :func:`items.order_items` wrote.
        count: items.
        terms: columns.
    """
    places = np.load(ordered / items.PLACES)
    lengths = np.zeros(count, np.int64)
    at = 0
    for batch in texts.to_batches(columns=["terms"], use_threads=False):
        own = np.diff(batch["terms"].offsets.to_numpy())
        here = places[at : at + len(own)]
        lengths[here[here >= 0]] = own[here >= 0]
        at += len(own)
    rows = items.SparseFiles(folder, lengths, terms)
    at = 0
    for batch in texts.to_batches(use_threads=False):
        bounds = batch["terms"].offsets.to_numpy().astype(np.int64)
        own = batch["terms"].values.to_numpy(), batch["weights"].values.to_numpy()
        rows.put(places[at : at + len(bounds) - 1], bounds, *own)
        at += len(bounds) - 1
    return rows.finish()


def take_sparse(folder: Path, *, path: str, **_: Any) -> dict[str, Any]:
    """A step: the rows of a ``.npz`` as texts, and their postings."""
    shape = matrices.sparse_shape(path)
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    arrays = matrices.unpack(path, unpacked)
    lengths = np.zeros(shape[0], np.int64)
    at = 0
    for indptr, _columns, _values in matrices.sparse_blocks(arrays, shape, path):
        lengths[at : at + len(indptr) - 1] = np.diff(indptr)
        at += len(indptr) - 1
    rows = items.SparseFiles(folder, lengths, shape[1])
    at = 0
    for indptr, columns, values in matrices.sparse_blocks(arrays, shape, path):
        rows.put(np.arange(at, at + len(indptr) - 1), indptr, columns, values)
        at += len(indptr) - 1
    shutil.rmtree(unpacked)
    return rows.finish()


# ------------------------------------------------------------------ neighbours


@dataclass
class FindNeighbors:
    """Finds the neighbours of a block of items.

    Args:
        wanted: which neighbours.
        probes: lists of an index that are looked at; 0 for an exact search.
    """

    wanted: Wanted
    probes: int = 0
    _search: Any = field(default=None, init=False, repr=False, compare=False)
    _items: int = field(default=0, init=False, repr=False, compare=False)

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiling.note(Path(__file__).with_name("kernel.py"), *COMPILED)

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.recsys.similar.search import rehearse

        rehearse()

    def __call__(self, block: int, **folders: Path) -> dict[str, NDArray[Any]]:
        """``ids``, ``scores`` and ``counts`` of the block; rows beyond the last item have none.

        Args:
            block: its number.
            folders: what the steps before wrote.
        """
        if self._search is None:
            self._search = self._open(folders)
        start = block * BLOCK
        ids, scores, counts = self._search.find(start, min(start + BLOCK, self._items))
        return {"ids": _filled(ids, -1), "scores": _filled(scores, 0), "counts": _filled(counts, 0)}

    def _open(self, folders: Mapping[str, Path]) -> Search | Approximate:
        from penstock.workloads.recsys.similar.search import Rows, Search

        self._items = len(rows := Rows.load(*folders.values()))
        search = Search(rows, self.wanted)
        if not self.probes:
            return search
        from penstock.workloads.recsys.similar.approximate import open_index

        return open_index(folders["index"], search, self.probes)


def _filled(rows: NDArray[Any], value: int) -> NDArray[Any]:
    """A whole block, whatever rows there are."""
    if len(rows) == BLOCK:
        return rows
    block = np.full((BLOCK, *rows.shape[1:]), value, rows.dtype)
    block[: len(rows)] = rows
    return block


def write_neighbors(
    folder: Path, *, found: Any, count: int, export: Sequence[str], about: Mapping[str, Any],
    ordered: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A step: write the neighbours as a table and in other requested forms; ``similar.json`` describes them.

    Args:
        folder: to write into.
        found: the arrays of all blocks.
        count: items.
        export: ``"json"``, ``"csr"``.
        about: what is counts.
        ordered: what :func:`items.order_items` wrote; None where ids are numbers from 0.
    """
    import pyarrow.parquet as pq

    ids = None if ordered is None else pq.read_table(ordered / items.IDS)["item_id"]
    counts = writing.write_table(folder / writing.TABLE, found, ids, count)
    if "json" in export:
        writing.write_json(folder / writing.JSON, found, ids, count)
    if "csr" in export:
        writing.write_csr(folder / writing.CSR, found, count)
    text = json.dumps({**about, **counts}, indent=1, ensure_ascii=False)
    (folder / "similar.json").write_text(text + "\n", encoding="utf-8")
    return counts
