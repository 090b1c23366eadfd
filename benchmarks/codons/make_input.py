"""Organelle-like FASTA, the same bytes for the same arguments.

    python benchmarks/codons/make_input.py OUT.fa --mb 200 --seed 1 [--width 80] [--dirty 0.02]

Mostly animal mitochondria (about 16.5 kb), plastids (about 150 kb), a few plant mitochondria (200 to 800
kb) and plasmids. Bases are drawn from a first-order mix by GC content, and a third of each record is
replaced by reading frames with a codon bias of their own, on both strands, so that the frames differ. A
share of the records is dirty: runs of N, IUPAC letters, lower case.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bases = NDArray[np.uint8]

_ACGT = np.frombuffer(b"ACGT", np.uint8)
_COMPLEMENT = np.zeros(256, np.uint8)
_COMPLEMENT[_ACGT] = _ACGT[::-1]
_CODONS = np.array([[a, b, c] for a in _ACGT for b in _ACGT for c in _ACGT], np.uint8)
_SENSE = _CODONS[[bytes(codon) not in (b"TAA", b"TAG", b"TGA") for codon in _CODONS]]
# Share of the records, smallest and largest length, mean GC content.
_KINDS = {
    "mitochondrion": (0.85, 14_000, 19_000, 0.38),
    "plastid": (0.12, 120_000, 180_000, 0.37),
    "plant mitochondrion": (0.02, 200_000, 800_000, 0.45),
    "plasmid": (0.01, 1_000, 9_000, 0.48),
}


def records(draw: np.random.Generator, dirty: float) -> Iterator[tuple[str, Bases]]:
    """Kind and bases of one record after the other, without end."""
    kinds, shares = list(_KINDS), [kind[0] for kind in _KINDS.values()]
    while True:
        kind = kinds[draw.choice(len(kinds), p=shares)]
        _, low, high, mean = _KINDS[kind]
        gc = float(np.clip(draw.normal(mean, 0.04), 0.2, 0.6))
        bases = _random(draw, int(draw.integers(low, high)), gc)
        _add_genes(draw, bases, gc)
        if draw.random() < dirty:
            _soil(draw, bases)
        yield kind, bases


def _random(draw: np.random.Generator, length: int, gc: float) -> Bases:
    shares = np.cumsum([(1 - gc) / 2, gc / 2, gc / 2])
    return _ACGT[np.searchsorted(shares, draw.random(length))]


def _add_genes(draw: np.random.Generator, bases: Bases, gc: float) -> None:
    """Replace stretches by reading frames, half of them on the other strand."""
    strong = np.isin(_SENSE, np.frombuffer(b"CG", np.uint8))
    weights = np.where(strong, gc, 1 - gc).prod(axis=1) * draw.lognormal(0, 0.6, len(_SENSE))
    shares = np.cumsum(weights / weights.sum())[:-1]
    at = 100
    while at + 2_000 < len(bases):
        gene = _SENSE[np.searchsorted(shares, draw.random(int(draw.integers(80, 500))))].ravel()
        bases[at : at + len(gene)] = _COMPLEMENT[gene[::-1]] if draw.random() < 0.5 else gene
        at += len(gene) + int(draw.exponential(1_500))


def _soil(draw: np.random.Generator, bases: Bases) -> None:
    at = int(draw.integers(0, len(bases) - 500))
    stretch = bases[at : at + int(draw.integers(1, 400))]
    match draw.integers(3):
        case 0:
            stretch[:] = ord("N")
        case 1:
            stretch[0] = draw.choice(np.frombuffer(b"RYSWKMBDHV", np.uint8))
        case _:
            stretch |= 0x20


def write(path: Path, *, size: int, seed: int = 1, width: int = 80, dirty: float = 0.02) -> None:
    """Write whole records until the file has ``size`` bytes."""
    draw = np.random.default_rng(seed)
    with open(path, "wb", buffering=1 << 20) as file:
        for number, (kind, bases) in enumerate(records(draw, dirty), 1):
            if file.tell() >= size:
                return
            file.write(f">NC_{number:06}.1 synthetic {kind}, complete genome\n".encode())
            full = len(bases) // width * width
            lines = np.full((full // width, width + 1), ord("\n"), np.uint8)
            lines[:, :-1] = bases[:full].reshape(-1, width)
            file.write(lines.tobytes())
            if full < len(bases):
                file.write(bases[full:].tobytes() + b"\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mb", type=float, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=80)
    parser.add_argument("--dirty", type=float, default=0.02)
    given = parser.parse_args()
    write(given.out, size=int(given.mb * 1e6), seed=given.seed, width=given.width, dirty=given.dirty)
