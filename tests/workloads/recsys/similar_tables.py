"""Items for searches, and neighbours by brute force in float64."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import penstock
from penstock.workloads.recsys import Similar
from penstock.workloads.recsys.similar import kernel
from penstock.workloads.recsys.similar.search import Rows, unit_vectors

DATA = Path(__file__).parent / "data"
PACKAGES = DATA / "packages.parquet"
"""Descriptions and tags of 500 packages of Debian."""

CHINESE = (
    "城市交通流量数据集", "城市交通流量数据", "城市空气质量监测数据", "空气质量监测站点", "上市公司财务报表",
    "上市公司年度报告", "医院门诊量统计", "门诊量与住院量统计", "全国高速公路收费站", "高速公路车流量统计",
    "农产品批发价格", "农产品价格指数", "电商平台用户评论", "用户评论情感分析", "遥感影像土地利用",
    "土地利用分类数据", "城市轨道交通客流", "轨道交通站点客流量", "天气预报历史数据", "历史天气观测数据",
)  # fmt: skip


def run_similar(folder, *, budget="1GiB", backend="inline", **options):
    """The neighbours of a whole run, as a table."""
    with penstock.Run(folder, budget=budget, backend=backend) as run:
        Similar().run(run, **options)
    return pq.read_table(Path(folder) / "neighbors.parquet")


def write_items(path, **columns):
    """A table of items; returns its path as text."""
    pq.write_table(pa.table(columns), path)
    return str(path)


def rows_of(vectors=None, texts=None, columns=2048):
    """Rows of a search in memory: of a matrix, a CSR, or both."""
    found = {}
    if vectors is not None:
        found |= dict(zip(("vectors", "fixed", "scales"), unit_vectors(np.asarray(vectors)), strict=True))
    if texts is not None:
        texts.sort_indices()
        indptr, terms = texts.indptr.astype(np.int64), texts.indices.astype(np.int32)
        weights = texts.data.astype(np.float64)
        items, width = texts.shape
        tiles = -(-items // columns)
        pointers = np.zeros((tiles, width + 1), np.int32)
        posted, values = np.empty(len(terms), np.int32), np.empty(len(terms), np.float32)
        bases = indptr[np.minimum(np.arange(tiles + 1) * columns, items)]
        for tile in range(tiles):
            own = slice(bases[tile], bases[tile + 1])
            numbers = np.arange(tile * columns, min((tile + 1) * columns, items))
            kernel.post(indptr, terms, weights, numbers, pointers[tile], posted[own], values[own])
        found |= {
            "indptr": indptr, "terms": terms, "weights": weights, "bases": bases, "pointers": pointers,
            "posted": posted, "values": values,
        }  # fmt: skip
    return Rows(**found)


def cosines(vectors):
    """All cosines in float64; 0 for rows of zeros."""
    rows = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return rows @ rows.T


def check_neighbors(found, scores, most, threshold, *, strict=False, close=1e-9):
    """Neighbours are those of a matrix of scores, where scores nearer than ``close`` may change places.

    Args:
        found: (ids, scores, counts).
        scores: float64 (items, items), exact.
    """
    ids, values, counts = found
    for item, row in enumerate(scores):
        row = row.copy()
        row[item] = -np.inf
        own = ids[item, : counts[item]]
        assert len(set(own.tolist())) == len(own)
        assert (ids[item, counts[item] :] == -1).all()
        np.testing.assert_allclose(values[item, : counts[item]], row[own], rtol=0, atol=close)
        assert (np.diff(values[item, : counts[item]]) <= 0).all()
        tied = np.diff(values[item, : counts[item]]) == 0
        assert (np.diff(own)[tied] > 0).all()  # equal scores by id
        best = np.sort(row)[::-1]
        cut = best[most - 1] if most <= len(row) else -np.inf
        least = max(cut, threshold)
        assert (row[own] >= least - close).all()
        must = (row > least + close) & (row > threshold + close if strict else row >= threshold + close)
        assert set(np.flatnonzero(must)) <= set(own.tolist())
        assert counts[item] <= most
