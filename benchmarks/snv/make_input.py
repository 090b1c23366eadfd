"""Candidate mutation tables of any number of positions, in flat memory: seeded, like real ones in layout.

    python benchmarks/snv/make_input.py FOLDER --samples 700 --positions 80000

Writes cmt.npz and cov.npz into the folder: compressed, Fortran order, 64-bit integers. Two tiles of 4,000
positions are made and repeated in turn, their positions shifted.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

TILE = 4000
GENOME = 20_000
_SPACE = 7


def tile(samples: int, depth: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """A tile: reads (8, positions, samples), FQ (positions, samples), indels (2, positions, samples)."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 4, TILE)
    second = (first + rng.integers(1, 4, TILE)) % 4
    # A clade is a run of samples; at a seventh of the positions nobody has the second allele.
    size = np.where(rng.random(TILE) < 0.15, 0, rng.geometric(8 / samples, TILE))
    start = rng.integers(0, samples, TILE)
    number = np.arange(samples)
    carries = (number - start[:, None]) % samples < size[:, None]
    base = np.where(carries, second[:, None], first[:, None])
    other = np.where(carries, first[:, None], second[:, None])
    noise = np.where(rng.random((TILE, 1)) < 0.1, rng.uniform(0.05, 0.4, (TILE, samples)), 0.004)
    empty = (rng.random((TILE, 1)) < 0.03) & (rng.random((TILE, samples)) < 0.6)
    counts = np.zeros((8, TILE, samples), np.uint16)
    total = np.zeros((TILE, samples), np.int64)
    rows, columns = np.indices((TILE, samples))
    for strand in (0, 4):
        reads = np.where(empty, 0, rng.poisson(depth / 2, (TILE, samples)))
        wrong = rng.binomial(reads, noise)
        counts[base + strand, rows, columns] = reads - wrong
        counts[other + strand, rows, columns] = wrong
        total += reads
    quals = -np.minimum(30 + total * 1.6 + rng.normal(0, 8, total.shape), 282).clip(0).astype(np.int16)
    indels = np.where(rng.random((2, TILE, samples)) < 0.03, rng.poisson(total * 0.2), 0)
    p = np.sort(rng.choice(TILE * _SPACE, TILE, replace=False)) + 1
    return {"counts": counts, "quals": np.where(total == 0, 0, quals)[None], "indel": indels, "p": p}


def write(folder: Path, samples: int, positions: int, seed: int = 1) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    depth = 40 * rng.lognormal(0, 0.25, samples)
    depth[:: max(samples // 3, 1)] *= 0.02  # a few samples with hardly any reads
    tiles = [tile(samples, depth, seed + k) for k in (1, 2)]
    sizes = [(i, min(TILE, positions - at)) for i, at in enumerate(range(0, positions, TILE))]

    def planes(name: str, count: int) -> Iterable[np.ndarray]:
        for k in range(count):
            for i, size in sizes:
                yield tiles[i % 2][name][k, :size]

    with zipfile.ZipFile(folder / "cmt.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        _member(archive, "sample_names", (samples,), "<U6", [np.array([f"s{i:05d}" for i in range(samples)])])
        shifted = (tiles[i % 2]["p"][:size] + i * TILE * _SPACE for i, size in sizes)
        _member(archive, "p", (positions,), "<i8", shifted)
        _member(archive, "in_outgroup", (samples,), "|b1", [np.zeros(samples, bool)])
        _member(archive, "quals", (samples, positions), "<i8", planes("quals", 1))
        _member(archive, "indel_counter", (samples, positions, 2), "<u8", planes("indel", 2))
        _member(archive, "counts", (samples, positions, 8), "<u8", planes("counts", 8))
    with zipfile.ZipFile(folder / "cov.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        blocks = (rng.poisson(depth, (min(TILE, GENOME - at), samples)) for at in range(0, GENOME, TILE))
        _member(archive, "all_coverage_per_bp", (samples, GENOME), "<u8", blocks)


def _member(
    archive: zipfile.ZipFile, name: str, shape: Any, dtype: str, blocks: Iterable[np.ndarray]
) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
        header = {"descr": dtype, "fortran_order": len(shape) > 1, "shape": shape}
        np.lib.format.write_array_header_2_0(out, header)
        for block in blocks:
            out.write(np.ascontiguousarray(block, dtype).data)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=700)
    parser.add_argument("--positions", type=int, default=80_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    write(given.folder, given.samples, given.positions, given.seed)
