"""Runs of the workload on small tables, and what they left."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import penstock
from penstock.workloads.snv import Snv

DATA = Path(__file__).parent / "data"
EXPECTED = json.loads((DATA / "expected.json").read_text())


def coverage(path, medians):
    """A coverage of two positions with these medians."""
    doubled = np.round(2 * np.array(medians)).astype(np.uint64)
    low = doubled // 2
    np.savez_compressed(path, all_coverage_per_bp=np.asfortranarray(np.stack([low, doubled - low], axis=1)))
    return str(path)


def run(folder, backend="inline", **options):
    """Rows and summary of a run."""
    with penstock.Run(folder, budget="1GiB", backend=backend) as opened:
        Snv().run(opened, **options)
    return rows_of(folder), json.loads((folder / "summary.json").read_text())


def rows_of(folder):
    columns = pq.read_table(folder / "positions.parquet").to_pydict()
    return {name: np.array(values, object) for name, values in columns.items()}


def positions(rows, mask):
    return rows["pos"][np.array(mask, bool)].tolist()


def tensor(folder):
    """The Zarr array, read by its own description."""
    told = json.loads((folder / "tensor.zarr" / "zarr.json").read_text())
    shape = told["chunk_grid"]["configuration"]["chunk_shape"]
    chunks = []
    for number in range(-(-told["shape"][0] // shape[0])):
        packed = (folder / "tensor.zarr" / f"c/{number}/0/0/0").read_bytes()
        raw = pa.Codec("zstd").decompress(packed, 4 * int(np.prod(shape)))
        chunks.append(np.frombuffer(raw, "<f4").reshape(shape))
    return np.concatenate(chunks)[: told["shape"][0]]


def small_table(**changes):
    """The members of a real-looking table of 12 samples and 60 positions."""
    with np.load(DATA / "s1_small40_cmt.npz") as saved:
        made = {name: saved[name] for name in saved.files}
    for name in ("counts", "quals", "indel_counter"):
        made[name] = np.asfortranarray(made[name][:, :60])
    return made | {"p": made["p"][:60]} | changes


def changed(name, place, value, dtype=None):
    array = small_table()[name]
    array = array.astype(dtype or array.dtype)
    array[place] = value
    return {name: array}


def digests(folder):
    names = ("positions.parquet", "summary.json", "candidate_mutation_table_final.npz", "tensor.zarr")
    files = [f for name in names for f in [folder / name, *(folder / name).rglob("*")] if f.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
