"""Exact nearest neighbours of some items among all: float32 tiles, and exact scores of the best."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.similar import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ROWS = 256
"""Queries whose scores with a tile are computed together."""
COLUMNS = 2048
"""Items of a tile: with the rows it takes 2 MiB, which a core's cache holds."""
_TINY = float(np.finfo(np.float64).tiny)
TEXT, VECTOR = 1, 2
"""Bits of the modalities that an item has."""
_LEAST_SAMPLE, _SHARE_SAMPLE, _MOST_SAMPLE = 1024, 16, 16384
"""Items of the sample: a share of all, in these limits."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """All items as unit vectors, mapped or in memory, ordered by id.

    Attributes:
        vectors: float32 (items, dimensions), of unit length; rows of zeros have none.
        fixed: int32, the same times 2 ** 31.
        scales: float64 (items): 1 / the length of each row of ``fixed``, 0 for rows of zeros.
        indptr, terms, weights: the texts in CSR: int64, int32 ascending in a row, float64 of unit length.
        bases: int64 (tiles + 1): where the postings of each tile begin.
        pointers: int32 (tiles, terms + 1): where those of a term begin, from there.
        posted, values: int32 and float32: an item's number in its tile, and the term's weight there.
    """

    vectors: NDArray[np.float32] | None = None
    fixed: NDArray[np.int32] | None = None
    scales: NDArray[np.float64] | None = None
    indptr: NDArray[np.int64] | None = None
    terms: NDArray[np.int32] | None = None
    weights: NDArray[np.float64] | None = None
    bases: NDArray[np.int64] | None = None
    pointers: NDArray[np.int32] | None = None
    posted: NDArray[np.int32] | None = None
    values: NDArray[np.float32] | None = None

    @classmethod
    def load(cls, *folders: Path) -> Rows:
        """Map ``NAME.npy`` files from some folders."""
        found = {}
        for each in fields(cls):
            paths = [folder / f"{each.name}.npy" for folder in folders]
            for path in paths:
                if path.is_file():
                    found[each.name] = _mapped(path)
        return cls(**found)

    def __len__(self) -> int:
        if self.scales is not None:
            return len(self.scales)
        return len(self.indptr) - 1 if self.indptr is not None else 0

    def modalities(self) -> NDArray[np.uint8]:
        """The modalities of each item: the bits :data:`TEXT` and :data:`VECTOR`."""
        found = np.zeros(len(self), np.uint8)
        if self.scales is not None:
            found |= np.where(self.scales > 0, VECTOR, 0).astype(np.uint8)
        if self.indptr is not None:
            found |= np.where(np.diff(self.indptr) > 0, TEXT, 0).astype(np.uint8)
        return found


@dataclass(frozen=True)
class Wanted:
    """The wanted neighbours.

    Attributes:
        most: at most so many of each item.
        threshold: the least score of a neighbour.
        strict: its score must be more than that.
        text, vector: the shares of both in the score; 1 and 0 where there is only one.
        renormalise: where one of two items lacks a text or a vector, the other modality is the score.
    """

    most: int
    threshold: float
    strict: bool = False
    text: float = 1.0
    vector: float = 1.0
    renormalise: bool = True

    def shares(self, both: bool) -> NDArray[np.float64]:
        """The shares of text and vector by the bits that two items have in common: float64 (4, 2)."""
        if not both:
            return np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.float64)
        text, vector = (1.0, 1.0) if self.renormalise else (self.text, self.vector)
        return np.array([[0, 0], [text, 0], [0, vector], [self.text, self.vector]], np.float64)


@dataclass(frozen=True)
class _Tile:
    """The columns of a tile, each part empty where there is none."""

    start: int
    width: int
    vectors: NDArray[np.float32] | None
    pointers: NDArray[np.int32] | None
    posted: NDArray[np.int32] | None
    values: NDArray[np.float32] | None
    modalities: NDArray[np.uint8]


@dataclass
class Search:
    """Finds neighbours, block by block.

    Args:
        rows: all items.
        wanted: which neighbours.
    """

    rows: Rows
    wanted: Wanted
    _modalities: NDArray[np.uint8] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows, wanted = self.rows, self.wanted
        self._modalities = rows.modalities()
        self._both = rows.scales is not None and rows.indptr is not None
        self._shares = wanted.shares(self._both)
        self._most = max(min(wanted.most, len(rows) - 1), 1)
        self._slack = 2 * rounding(rows)
        self._floor = np.float32(wanted.threshold - self._slack)
        self._sample = _sample_of(rows, self._modalities, self._most)
        width = COLUMNS if self._sample is None else max(COLUMNS, self._sample[0].width)
        self._buffer = np.empty(ROWS * width, np.float32)
        self._size = 4 * (self._most + 1) + kernel.SPARE
        self._ids = np.empty((ROWS, self._size), np.int32)
        self._candidate_scores = np.empty((ROWS, self._size), np.float32)
        self._lost = np.empty((ROWS, self._size))
        terms = 0 if rows.pointers is None else rows.pointers.shape[1] - 1
        self._spread = np.zeros(terms)

    def find(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]:
        """The neighbours of the items ``start <= i < stop``.

        Returns (ids, scores, counts): int32 and float64 (items, ``wanted.most``) by score descending, then by
        number ascending, -1 and 0 where there are no more; int64 (items).
        """
        most = self.wanted.most
        ids = np.full((stop - start, most), -1, np.int32)
        scores = np.zeros((stop - start, most))
        counts = np.zeros(stop - start, np.int64)
        for low in range(start, stop, ROWS):
            high = min(low + ROWS, stop)
            part = slice(low - start, high - start)
            self._find(low, high, ids[part], scores[part], counts[part])
        return ids, scores, counts

    def score(
        self, start: int, found: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]:
        """The best of given candidates of the items from ``start``, as :meth:`find` returns them.

        Args:
            start: number of the first item.
            found: how many candidates each item has, their numbers and their float32 scores.
        """
        shape = (len(found[0]), self.wanted.most)
        ids, scores, counts = np.empty(shape, np.int32), np.empty(shape), np.zeros(shape[0], np.int64)
        self._finish(start, found, ids, scores, counts)
        return ids, scores, counts

    # ------------------------------------------------------------------ one block of queries

    def _find(self, start: int, stop: int, ids: Any, scores: Any, counts: Any) -> None:
        thresholds = np.full(stop - start, self._floor, np.float32)
        if self._sample is not None:
            tile, rank = self._sample
            thresholds[:] = sampled_thresholds(self._scores(start, stop, tile), rank, self._floor)
        guessed = thresholds > self._floor
        found = self._candidates(start, stop, thresholds, self._size)
        wrong = (found[0] < 0) | ((found[0] <= self._most) & guessed)
        found[0][wrong] = 0
        self._finish(start, found, ids, scores, counts)
        for row in np.flatnonzero(wrong):
            self._again(start + int(row), ids[row : row + 1], scores[row : row + 1], counts[row : row + 1])

    def _again(self, query: int, ids: Any, scores: Any, counts: Any) -> None:
        """Find one item's neighbours without a guess; with room for all where many tie."""
        for size in (self._size, len(self.rows) + kernel.SPARE):
            thresholds = np.full(1, self._floor, np.float32)
            found = self._candidates(query, query + 1, thresholds, size)
            if found[0][0] >= 0:
                self._finish(query, found, ids, scores, counts)
                return

    def _candidates(self, start: int, stop: int, thresholds: Any, size: int) -> tuple[Any, Any, Any]:
        counts = np.zeros(stop - start, np.int64)
        if size == self._size:
            ids, scores = self._ids[: stop - start], self._candidate_scores[: stop - start]
        else:
            ids = np.empty((stop - start, size), np.int32)
            scores = np.empty((stop - start, size), np.float32)
        room = np.empty(size + 1, np.float32)
        most, slack = self._most + 1, np.float32(self._slack)  # the query itself is among them
        for tile in self._tiles():
            found = self._scores(start, stop, tile)
            kernel.take_candidates(found, tile.start, most, slack, thresholds, counts, ids, scores, room)
        return counts, ids, scores

    def _finish(self, start: int, found: tuple[Any, Any, Any], ids: Any, scores: Any, counts: Any) -> None:
        rows, wanted = self.rows, self.wanted
        numbers, candidates, approximate = found
        size = candidates.shape[1]
        lost = self._lost[: len(numbers)] if size == self._size else np.empty(candidates.shape)
        kernel.score_candidates(
            start, self._most, np.float32(self._slack), wanted.threshold, wanted.strict, numbers, candidates,
            approximate, np.empty(size + 1, np.float32),
            _or(rows.fixed, (0, 0), np.int32), _or(rows.scales, 0, np.float64),
            _or(rows.indptr, 0, np.int64), _or(rows.terms, 0, np.int32), _or(rows.weights, 0, np.float64),
            self._spread, self._modalities, self._shares, lost,
        )  # fmt: skip
        order = np.argsort(lost[:, : int(numbers.max(initial=1))], axis=1)
        kernel.place(order, lost, candidates, numbers, wanted.most, ids, scores)
        counts[:] = numbers

    # ------------------------------------------------------------------ tiles

    def _tiles(self) -> Iterator[_Tile]:
        rows = self.rows
        for number, start in enumerate(range(0, len(rows), COLUMNS)):
            stop = min(start + COLUMNS, len(rows))
            vectors = None if rows.vectors is None else rows.vectors[start:stop]
            postings: Any = (None, None, None)
            if rows.bases is not None:
                assert rows.pointers is not None
                assert rows.posted is not None
                assert rows.values is not None
                own = slice(int(rows.bases[number]), int(rows.bases[number + 1]))
                postings = rows.pointers[number], rows.posted[own], rows.values[own]
            pointers, posted, values = postings
            own_modalities = self._modalities[start:stop]
            yield _Tile(start, stop - start, vectors, pointers, posted, values, own_modalities)

    def _scores(self, start: int, stop: int, tile: _Tile) -> NDArray[np.float32]:
        """The float32 scores of some queries with the items of a tile, until the next call."""
        rows, wanted = self.rows, self.wanted
        scores = self._buffer[: (stop - start) * tile.width].reshape(stop - start, tile.width)
        if rows.vectors is not None:
            queries = rows.vectors[start:stop]
            if self._both:
                queries = queries * np.float32(wanted.vector)
            assert tile.vectors is not None
            np.dot(queries, tile.vectors.T, out=scores)
        else:
            scores[:] = 0
        if rows.indptr is not None:
            share = np.float32(wanted.text if self._both else 1.0)
            kernel.scatter(
                rows.indptr, rows.terms, rows.weights, share, start, tile.pointers, tile.posted, tile.values,
                scores,
            )  # fmt: skip
        if self._both and wanted.renormalise:
            factors = np.array([1, 1 / wanted.text, 1 / wanted.vector, 1], np.float32)
            kernel.renormalise(scores, self._modalities[start:stop], tile.modalities, factors)
        return scores


def sampled_thresholds(scores: NDArray[np.float32], rank: int, floor: np.float32) -> NDArray[np.float32]:
    """The ``rank``-th largest of each row of ``scores``, which is reordered, but at least ``floor``."""
    at = scores.shape[1] - rank
    scores.partition(at, axis=1)
    found: NDArray[np.float32] = np.maximum(scores[:, at], floor)
    return found


def unit_vectors(
    given: NDArray[np.floating],
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float64]]:
    """Rows as ``vectors``, ``fixed`` and ``scales`` of :class:`Rows`; non-finite rows become zeros.

    Args:
        given: (items, dimensions), of any lengths.
    """
    wide = given.astype(np.float64)
    wide[~np.isfinite(wide).all(axis=1)] = 0
    wide /= np.abs(wide).max(axis=1, keepdims=True, initial=_TINY)  # or squares overflow
    wide /= np.sqrt(np.square(wide).sum(axis=1, keepdims=True)).clip(_TINY)
    fixed = np.rint(wide * 2.0**31).clip(-(2**31 - 1), 2**31 - 1).astype(np.int32)
    scales = np.empty(len(fixed))
    kernel.measure(fixed, scales)
    return (fixed * 2.0**-31).astype(np.float32), fixed, scales


def rounding(rows: Rows) -> float:
    """The bound of the rounding error of a float32 score of two rows."""
    products = 10  # of rounding the factors themselves, and weights
    if rows.vectors is not None:
        products += rows.vectors.shape[1]
    if rows.indptr is not None:
        products += int(np.diff(rows.indptr).max(initial=0))
    return products * kernel.ROUNDOFF / (1 - products * kernel.ROUNDOFF)


def rehearse() -> None:
    """Search among a few items with every feature, so that workers have nothing left to compile."""
    items = 8
    vectors, fixed, scales = unit_vectors(np.eye(items, 4) + 1)
    indptr, terms, weights = np.arange(items + 1), np.zeros(items, np.int32), np.ones(items)
    pointers, posted, values = (
        np.zeros((1, 2), np.int32),
        np.empty(items, np.int32),
        np.empty(items, np.float32),
    )
    kernel.post(indptr, terms, weights, np.arange(items), pointers[0], posted, values)
    rows = Rows(
        vectors=vectors, fixed=fixed, scales=scales, indptr=indptr, terms=terms, weights=weights,
        bases=np.array([0, items]), pointers=pointers, posted=posted, values=values,
    )  # fmt: skip
    search = Search(rows, Wanted(most=3, threshold=-1.0))
    search.find(0, items)


def _mapped(path: Path) -> NDArray[Any]:
    """An array of a file; copied on write, as compiled code takes only what it may write to."""
    try:
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except ValueError:  # what holds nothing cannot be mapped
        found: NDArray[Any] = np.load(path, allow_pickle=False)
        return found


def _or(array: Any, shape: Any, dtype: Any) -> Any:
    return np.empty(shape, dtype) if array is None else array


def _sample_of(rows: Rows, modalities: NDArray[np.uint8], most: int) -> tuple[_Tile, int] | None:
    """A tile of some items, the same for all queries, and which of its best scores is the guess.

    The guess is right where at least as many items reach it as are wanted. Of the ``most`` best, a sample of
    the share f holds about f ``most``, with a deviation of its root; three of these are allowed for.
    """
    items = len(rows)
    size = min(max(_LEAST_SAMPLE, items // _SHARE_SAMPLE), _MOST_SAMPLE)
    expected = size / max(items, 1) * (most + 1)
    rank = int(expected + 3 * expected**0.5 + 2)
    if 4 * size > items or rank > size // 2:
        return None
    chosen = np.sort(np.random.default_rng(items).choice(items, size, replace=False))
    vectors = None if rows.vectors is None else np.ascontiguousarray(rows.vectors[chosen])
    pointers = posted = values = None
    if rows.indptr is not None:
        assert rows.pointers is not None
        entries = int((rows.indptr[chosen + 1] - rows.indptr[chosen]).sum())
        pointers = np.zeros(rows.pointers.shape[1], np.int32)
        posted, values = np.empty(entries, np.int32), np.empty(entries, np.float32)
        kernel.post(rows.indptr, rows.terms, rows.weights, chosen, pointers, posted, values)
    return _Tile(0, size, vectors, pointers, posted, values, modalities[chosen]), rank
