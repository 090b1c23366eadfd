"""The verdict on each position: the global switch, clusters, reasons.

The judged positions come as parts of bits; weak gaps and verdicts are arrays in files, mapped, one byte or
a few for each position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.plurals import plural
from penstock.workloads.snv import bits as b
from penstock.workloads.snv.reading.arrays import Array

if TYPE_CHECKING:
    from numpy.typing import NDArray

REASONS = (
    "", "one_allele", "minor_allele_lost", "low_quality", "filtered_calls", "gap", "no_variation",
    "set_aside",
)  # fmt: skip
"""Why a position went, by its code; 0 is kept. In the order of the filters."""
KEPT, ONE_ALLELE, MINOR_LOST, LOW_QUALITY, FILTERED_CALLS, GAP, NO_VARIATION, SET_ASIDE = range(8)
NEAR = 100
"""Bases within which weak gaps make a cluster."""
NEIGHBOURS = 3
"""Other weak gaps that make one."""


def uses_low_depth(alive: Mapping[str, int]) -> bool:
    """The global switch: whether the low-depth filter applies.

    Args:
        alive: ``positions`` that passed the first filters, and how many of them ask for it.
    """
    positions, switch = alive.get("positions", 0), alive.get("switch", 0)
    return switch > 10 or (positions > 0 and switch / positions >= 0.1)


def settle(
    folder: Path, *, told: Any, rows: int, p: Array, low_depth: bool, contigs: Sequence[int] = ()
) -> dict[str, Any]:
    """Decide on each position, as a step.

    Args:
        folder: gets ``codes.npy`` (uint8, see ``REASONS``), ``kept.npy`` (int64, numbers of those kept).
        told: bits of blocks of positions, uint16 (rows,) each, as parts.
        rows: positions of a block.
        p: the positions.
        low_depth: the global switch.
        contigs: lengths of the contigs in their order, over which positions are numbered: positions of two
            contigs are not near each other. Without them, the genome counts as one.

    Returns counts by reason, and how many are kept.

    Raises:
        BadInput: the last position lies behind the last contig.
    """
    positions = p.shape[0]
    codes = _create(folder / "codes.npy", np.uint8, positions)
    codes[:] = SET_ASIDE
    shift = 4 if low_depth else 0
    with open(folder / "weak", "wb") as weak:
        for first, _, blocks in told.parts():
            bits = blocks.reshape(-1)[: positions - first * rows]
            found = _codes(bits, shift)
            codes[first * rows : first * rows + len(bits)] = found
            alone = (bits >> shift) & b.WEAK != 0
            passed = (found == KEPT) | (found == NO_VARIATION) | (found == GAP)
            weak.write((first * rows + np.flatnonzero(alone & passed)).astype(np.int64).tobytes())
    _cluster(folder / "weak", p, codes, _ends(contigs, p))
    (folder / "weak").unlink()
    counts = np.zeros(len(REASONS), np.int64)
    with open(folder / "kept", "wb") as file:
        for at in range(0, positions, 1 << 16):
            piece = np.asarray(codes[at : at + (1 << 16)])
            counts += np.bincount(piece, minlength=len(REASONS))
            file.write((at + np.flatnonzero(piece == KEPT)).astype(np.int64).tobytes())
    _with_header(folder / "kept", folder / "kept.npy", int(counts[KEPT]))
    return {
        "kept": int(counts[KEPT]),
        "removed": {REASONS[code]: int(counts[code]) for code in range(1, len(REASONS)) if counts[code]},
    }


def _codes(bits: NDArray[np.uint16], shift: int) -> NDArray[np.uint8]:
    ours = bits >> shift
    conditions = [
        (bits & b.UNKNOWN != 0, SET_ASIDE),
        (bits & b.VARIES == 0, ONE_ALLELE),
        (bits & b.MINOR_LOST != 0, MINOR_LOST),
        (bits & b.LOW_QUALITY != 0, LOW_QUALITY),
        (ours & b.CALLED == 0, FILTERED_CALLS),
        (ours & b.STRONG != 0, GAP),
        (ours & b.ALLELES == 0, NO_VARIATION),
    ]
    return np.select([each for each, _ in conditions], [code for _, code in conditions], KEPT).astype(
        np.uint8
    )


def _ends(contigs: Sequence[int], p: Array) -> NDArray[np.int64]:
    """The last position of each contig."""
    ends = np.cumsum(np.asarray(contigs, np.int64))
    last = int(p.map()[-1]) if p.shape[0] else 0
    if len(ends) and last > ends[-1]:
        raise BadInput(
            f"has {plural(len(ends), 'contig')} of {plural(int(ends[-1]), 'base')} together, and the last "
            f"position of the table is {last}: are they of another genome?",
            file="--contigs",
        )
    return ends


def _cluster(path: Path, p: Array, codes: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
    """Mark as gaps the weak positions with three others near them, on the same contig."""
    count = path.stat().st_size // 8
    if not count:
        return
    rows = np.memmap(path, np.int64, "r")
    places = np.memmap(path.with_name("places"), np.int64, "w+", shape=count)
    mapped = p.map()
    for at in range(0, count, 1 << 16):
        here = mapped[rows[at : at + (1 << 16)]].astype(np.int64)
        # Contigs are moved apart, so that no two of their positions are near.
        places[at : at + (1 << 16)] = here + 2 * NEAR * np.searchsorted(ends, here)
    for at in range(0, count, 1 << 16):
        here = np.asarray(places[at : at + (1 << 16)])
        low, high = np.searchsorted(places, here - NEAR), np.searchsorted(places, here + NEAR, "right")
        codes[rows[at : at + (1 << 16)][high - low - 1 >= NEIGHBOURS]] = GAP
    path.with_name("places").unlink()


def _create(path: Path, dtype: Any, count: int) -> NDArray[Any]:
    if not count:  # nothing can be mapped
        np.save(path, np.empty(0, dtype))
        return np.empty(0, dtype)
    return np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (count,))


def _with_header(raw: Path, path: Path, count: int) -> None:
    """The same numbers as an .npy file."""
    out = _create(path, np.int64, count)
    if count:
        out[:] = np.memmap(raw, np.int64, "r")
    raw.unlink()
