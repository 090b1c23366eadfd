"""Approximate neighbours from a faiss inverted index, used where its measured recall is high enough.

The recall is that of some drawn items, beside their exact neighbours. It is believed as far as the empirical
Bernstein bound allows (Maurer and Pontil 2009, "Empirical Bernstein bounds and sample variance penalization",
theorem 4), with 95 % confidence: 2,000 items whose recall is 1 prove 0.995.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.similar.search import Rows, Search, Wanted

if TYPE_CHECKING:
    from numpy.typing import NDArray

INDEX = "index.faiss"
QUERIES = 2000
"""Items whose recall is measured."""
_DOUBT = 0.05
_TRAINED, _ADDED = 64, 65_536
"""Vectors of a list that it is learnt from, and vectors that are added at a time."""
_MOST_PROBED = 0.25
"""Share of the lists: where more are asked for, the exact search is as fast."""


def lower_bound(recalls: NDArray[np.float64]) -> float:
    """Lower 95 % confidence bound of the mean of values between 0 and 1."""
    size = len(recalls)
    if size < 2:
        return 0.0
    doubt = math.log(2 / _DOUBT)
    spread = math.sqrt(2 * float(recalls.var(ddof=1)) * doubt / size)
    return float(recalls.mean()) - spread - 7 * doubt / (3 * (size - 1))


@dataclass
class Approximate:
    """Finds neighbours among the nearest lists; their scores are exact.

    Args:
        search: of all items.
        index: of faiss.
        probes: lists that are looked at.
    """

    search: Search
    index: Any
    probes: int

    def find(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]:
        """As :meth:`Search.find`."""
        vectors = self.search.rows.vectors
        assert vectors is not None
        self.index.nprobe = self.probes
        wanted = self.search.wanted.most + 1  # the query itself is among them
        scores, found = self.index.search(np.ascontiguousarray(vectors[start:stop]), wanted)
        order = np.argsort(found, axis=1, kind="stable")  # ascending, the missing (-1) first
        found, scores = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
        counts = (found >= 0).sum(axis=1)
        ids, values = np.zeros(found.shape, np.int32), np.zeros(found.shape, np.float32)
        for row, count in enumerate(counts.tolist()):
            ids[row, :count] = found[row, wanted - count :]
            values[row, :count] = scores[row, wanted - count :]
        return self.search.score(start, (counts.astype(np.int64), ids, values))


def open_index(folder: Path, search: Search, probes: int) -> Approximate:
    """Map what :func:`build` wrote."""
    import faiss

    faiss.omp_set_num_threads(1)
    return Approximate(search, faiss.read_index(str(folder / INDEX), faiss.IO_FLAG_MMAP), probes)


def build(folder: Path, *, vectors: Path, wanted: Wanted, recall: float) -> dict[str, Any]:
    """A step: build an index, and find how many lists to probe for the wanted recall.

    Args:
        folder: to write into.
        vectors: what the step before wrote.
        wanted: which neighbours.
        recall: the least that must be proven.

    Returns ``probes``, 0 where the search must be exact; ``lists``, ``recall`` as measured and ``proven`` of
    ``queries`` drawn items.
    """
    import faiss

    faiss.omp_set_num_threads(1)  # sums of several threads come in any order
    rows = Rows.load(vectors)
    search = Search(rows, wanted)
    facts: dict[str, Any] = {"probes": 0, "lists": 0, "recall": 0.0, "proven": 0.0, "queries": 0}
    if len(rows) < 4 * QUERIES:
        return facts
    assert rows.vectors is not None
    draw = np.random.default_rng(len(rows))
    lists = int(4 * math.sqrt(len(rows)))
    trained = np.sort(draw.choice(len(rows), min(_TRAINED * lists, len(rows)), replace=False))
    quantizer = faiss.IndexFlatIP(rows.vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, rows.vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(rows.vectors[trained])
    for start in range(0, len(rows), _ADDED):
        index.add(rows.vectors[start : start + _ADDED])
    drawn = np.sort(draw.choice(len(rows), QUERIES, replace=False)).tolist()
    exact = [search.find(item, item + 1)[0][0] for item in drawn]
    probes = 1
    while probes <= max(_MOST_PROBED * lists, 1):
        tried = Approximate(search, index, probes)
        recalls = np.array(
            [_recall(tried.find(item, item + 1)[0][0], each) for item, each in zip(drawn, exact, strict=True)]
        )
        proven = lower_bound(recalls)
        facts |= {
            "lists": lists, "recall": float(recalls.mean()), "proven": proven, "queries": QUERIES,
            "probes": probes if proven >= recall else 0,
        }  # fmt: skip
        if facts["probes"]:
            faiss.write_index(index, str(folder / INDEX))
            break
        probes *= 2
    return facts


def _recall(found: NDArray[np.int32], exact: NDArray[np.int32]) -> float:
    """The share of the exact neighbours that were found."""
    wanted = exact[exact >= 0]
    return float(np.isin(wanted, found).mean()) if len(wanted) else 1.0
