"""Nearest neighbours of all items, exactly: ours beside faiss, sparse_dot_topn, NumPy and the product alone.

    python benchmarks/recsys/similarity.py [--items 20000] [--dim 64] [--terms 5000] [--top-k 200]
        [--only dense,text] [--slice 0] [--limit 1GiB] [--json FILE]

Each contestant runs in a process of its own with one thread, on the same seeded vectors and texts: CPU
seconds of its search (after one of a few rows, so that all is compiled and loaded), the most that its process
ever held, and whether its neighbours are ours. ``--slice N`` has only N queries of all items searched, for
sizes that take long. With ``--limit`` (root) every process runs in a hard memory group of that size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from penstock.budget import parse_size

PEERS = {
    "dense": ("ours", "gemm alone", "faiss", "numpy"),
    "text": ("ours", "sparse_dot_topn", "scipy"),
}
_BLOCK = 256


def make(folder: Path, items: int, dimensions: int, terms: int) -> None:
    """Clustered unit vectors and rows of TF-IDF, about 40 terms each, in which 40 % are of a topic."""
    import scipy.sparse as sp

    rng = np.random.default_rng(7)
    topic = rng.integers(0, max(items // 200, 2), items)
    centres = rng.normal(size=(max(items // 200, 2), dimensions)).astype(np.float32)
    vectors = centres[topic] + 0.7 * rng.normal(size=(items, dimensions)).astype(np.float32)
    np.save(folder / "dense.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    counts = rng.poisson(40, items).clip(1)
    rows = np.repeat(np.arange(items), counts)
    weights = np.cumsum(1 / np.arange(1, terms + 1) ** 0.9)
    columns = np.searchsorted(weights / weights[-1], rng.random(len(rows))).clip(0, terms - 1)
    own = (topic[rows] * 131 + columns % 60) % terms
    columns = np.where(rng.random(len(rows)) < 0.4, own, columns)
    matrix = sp.csr_array((np.ones(len(rows)), (rows, columns)), (items, terms))
    matrix.sum_duplicates()
    frequency = np.bincount(matrix.indices, minlength=terms)
    matrix.data *= (np.log((1 + items) / (1 + frequency)) + 1)[matrix.indices]
    lengths = np.sqrt(np.asarray(matrix.power(2).sum(axis=1))).ravel()
    matrix = sp.csr_array(sp.diags_array(1 / lengths) @ matrix)
    matrix.sort_indices()
    sp.save_npz(folder / "text.npz", sp.csr_matrix(matrix), compressed=False)


# ------------------------------------------------------------------ contestants


def _ours(folder: Path, kind: str) -> Any:
    from penstock.workloads.recsys.similar import jobs
    from penstock.workloads.recsys.similar.search import Rows, Search, Wanted

    made = folder / f"rows-{kind}"
    if not made.is_dir():
        made.mkdir()
        if kind == "dense":
            jobs.take_matrix(made, path=str(folder / "dense.npy"), zeros=False)
        else:
            jobs.take_sparse(made, path=str(folder / "text.npz"))

    def search(top_k: int, queries: int) -> Any:
        found = Search(Rows.load(made), Wanted(top_k, 0.01))
        ids = np.empty((queries, top_k), np.int32)  # held once, as the peers hold theirs
        for low in range(0, queries, _BLOCK):
            high = min(low + _BLOCK, queries)
            ids[low:high] = found.find(low, high)[0]
        return ids

    return search


def _gemm(folder: Path) -> Any:
    vectors = np.load(folder / "dense.npy")

    def search(top_k: int, queries: int) -> None:
        buffer = np.empty(_BLOCK * 2048, np.float32)
        for low in range(0, queries, _BLOCK):
            own = vectors[low : min(low + _BLOCK, queries)]
            for start in range(0, len(vectors), 2048):
                others = vectors[start : start + 2048]
                out = buffer[: len(own) * len(others)].reshape(len(own), len(others))
                np.dot(own, others.T, out=out)

    return search


def _faiss(folder: Path) -> Any:
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = np.load(folder / "dense.npy")

    def search(top_k: int, queries: int) -> Any:
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index.search(vectors[:queries], top_k + 1)[1]

    return search


def _numpy(folder: Path) -> Any:
    vectors = np.load(folder / "dense.npy")

    def search(top_k: int, queries: int) -> Any:
        found = np.empty((queries, top_k + 1), np.int64)
        for low in range(0, queries, 1024):
            scores = vectors[low : min(low + 1024, queries)] @ vectors.T
            best = np.argpartition(-scores, top_k + 1, axis=1)[:, : top_k + 1]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            found[low : low + len(scores)] = np.take_along_axis(best, order, 1)
        return found

    return search


def _sparse_dot_topn(folder: Path) -> Any:
    import scipy.sparse as sp
    from sparse_dot_topn import sp_matmul_topn

    matrix = sp.load_npz(folder / "text.npz")
    turned = matrix.T.tocsr()

    def search(top_k: int, queries: int) -> Any:
        own = matrix[:queries]
        return sp_matmul_topn(own, turned, top_n=top_k + 1, threshold=0.01, sort=True, n_threads=1)

    return search


def _scipy(folder: Path) -> Any:
    import scipy.sparse as sp

    matrix = sp.load_npz(folder / "text.npz")
    turned = matrix.T.tocsr()

    def search(top_k: int, queries: int) -> Any:
        found = np.empty((queries, top_k + 1), np.int64)
        for low in range(0, queries, 512):
            scores = (matrix[low : min(low + 512, queries)] @ turned).toarray()
            found[low : low + len(scores)] = np.argpartition(-scores, top_k + 1, axis=1)[:, : top_k + 1]
        return found

    return search


def contest(kind: str, name: str, folder: Path, top_k: int, queries: int) -> dict[str, Any]:
    """In a process of its own: what one contestant takes, and its neighbours of a few items."""
    makers = {
        "gemm alone": _gemm, "faiss": _faiss, "numpy": _numpy, "sparse_dot_topn": _sparse_dot_topn,
        "scipy": _scipy,
    }  # fmt: skip
    search = _ours(folder, kind) if name == "ours" else makers[name](folder)
    search(top_k, min(_BLOCK, queries))
    began = time.process_time()
    found = search(top_k, queries)
    cpu = time.process_time() - began
    held = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    told: dict[str, Any] = {"cpu": round(cpu, 3), "peak_mib": int(held[0]) >> 10}
    if found is not None:
        step = max(queries // 50, 1)
        rows = found[:queries:step]
        told["found"] = [
            sorted(set(row.indices.tolist() if hasattr(row, "indices") else row.tolist()) - {-1, at * step})
            for at, row in enumerate(rows)
        ]
    return told


# ------------------------------------------------------------------ all of them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--terms", type=int, default=5000)
    parser.add_argument("--top-k", type=int, default=200)
    parser.add_argument("--only", default="dense,text")
    parser.add_argument("--slice", type=int, default=0)
    parser.add_argument("--limit", default="")
    parser.add_argument("--json", default="")
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    queries = asked.slice or asked.items
    if asked.contestant:
        kind, name, folder = asked.contestant
        print(json.dumps(contest(kind, name, Path(folder), asked.top_k, queries)))
        return
    with tempfile.TemporaryDirectory(prefix="similarity-") as folder:
        make(Path(folder), asked.items, asked.dim, asked.terms)
        for kind in asked.only.split(","):
            _table(kind, folder, asked)


def _table(kind: str, folder: str, asked: argparse.Namespace) -> None:
    results = {}
    for name in PEERS[kind]:
        ended = _run(kind, name, folder, asked)
        results[name] = json.loads(ended.stdout) if ended.returncode == 0 else {"ended": ended.returncode}
    ours = results["ours"]
    print(f"\n{kind}: {asked.slice or asked.items:,} queries among {asked.items:,}, K = {asked.top_k}")
    print(f"{'':18}{'CPU s':>8}{'ours / it':>11}{'peak MiB':>10}  neighbours as ours")
    for name, told in results.items():
        if "ended" in told:
            print(f"{name:18}  ended with {told['ended']}")
            continue
        same = ""
        if "found" in told:
            pairs = list(zip(ours["found"], told["found"], strict=True))
            shared = sum(len(set(a) & set(b)) for a, b in pairs)
            same = f"{shared / max(sum(len(a) for a, _ in pairs), 1):.4f}"
        print(f"{name:18}{told['cpu']:8.2f}{ours['cpu'] / told['cpu']:11.2f}{told['peak_mib']:10}  {same}")
    if asked.json:
        with open(asked.json, "a") as file:
            for name, told in results.items():
                line = {"kind": kind, "name": name, "items": asked.items, **told}
                line.pop("found", None)
                file.write(json.dumps(line) + "\n")


def _run(kind: str, name: str, folder: str, asked: argparse.Namespace) -> subprocess.CompletedProcess[str]:
    one = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    command = [
        sys.executable, __file__, "--contestant", kind, name, folder, "--items", str(asked.items),
        "--top-k", str(asked.top_k), "--slice", str(asked.slice),
    ]  # fmt: skip
    group = None
    if asked.limit:
        sys.path.insert(0, str(Path(__file__).parents[1] / "oom"))
        from group import Group

        group = Group(parse_size(asked.limit), "container")
        command = group.command(command)
    try:
        return subprocess.run(
            command, env={**os.environ, **one}, stdout=subprocess.PIPE, text=True, check=False
        )
    finally:
        if group is not None:
            group.end()


if __name__ == "__main__":
    main()
