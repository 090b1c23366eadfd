"""Indices of codon usage from counts of codons: GC by position, Nc, CAI, RSCU. Pure.

Counts are int arrays of shape (n, 64), by code of the codon (see ``summary``). They are summed codon by
codon, which is fastest where those of one lie together in memory (``np.asfortranarray``). Synonymous are the
codons of families of at least two sense codons *in the genetic code that is asked for*: M and W are not left
out by name, and stops always are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.workloads.codons import genetic_codes
from penstock.workloads.codons.summary import CODONS

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_BASE = np.array([[at >> shift & 3 for shift in (0, 2, 4)] for at in range(64)])
_STRONG = [np.flatnonzero(_BASE[:, place] & 1) for place in range(3)]
"""The codes of codons with a C or G at each position."""


@cache
def families(code: int) -> dict[str, tuple[int, ...]]:
    """The codes of the codons of each amino acid; ``*`` for stops."""
    meaning = genetic_codes.translation(code)
    found: dict[str, list[int]] = {}
    for at, codon in enumerate(CODONS):
        found.setdefault(meaning[codon], []).append(at)
    return {amino_acid: tuple(codons) for amino_acid, codons in sorted(found.items())}


@cache
def sense(code: int) -> tuple[int, ...]:
    """The codes of codons that are not stops."""
    return tuple(at for amino_acid, codons in families(code).items() if amino_acid != "*" for at in codons)


@cache
def synonymous(code: int) -> tuple[int, ...]:
    """The codes of codons whose family has another member."""
    return tuple(
        at
        for amino_acid, codons in families(code).items()
        if amino_acid != "*" and len(codons) > 1
        for at in codons
    )


def share(part: Any, whole: Any) -> Floats:
    """Their ratio, NaN for an empty total."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    found: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return found


def gc_by_position(counts: Counts) -> Floats:
    """Shape (n, 3): the share of C and G at each position of the counted codons."""
    strong = np.stack([counts.T[codons].sum(axis=0) for codons in _STRONG], axis=1)
    return share(strong, counts.T.sum(axis=0)[:, None])


def gc3s(counts: Counts, code: int) -> Floats:
    """The share of C and G at the third position of synonymous codons (as codonW), shape (n,)."""
    codons = list(synonymous(code))
    strong = [at for at in codons if _BASE[at, 2] & 1]
    return share(counts.T[strong].sum(axis=0), counts.T[codons].sum(axis=0))


def rscu(counts: Counts, code: int) -> Floats:
    """Count x family size / family total (Sharp and Li 1987), stops a family too; NaN without, (n, 64)."""
    found = np.full(counts.shape, np.nan)
    for codons in families(code).values():
        at = list(codons)
        total = counts[:, at].sum(axis=1, keepdims=True)
        found[:, at] = share(counts[:, at] * len(at), total)
    return found


def nc(counts: Counts, code: int) -> Floats:
    """Effective number of codons (Wright 1990), shape (n,).

    The sum, over the sizes of families, of their number divided by the mean homozygosity
    F = (n sum p^2 - 1) / (n - 1) of those seen more than once with F > 0. Families of one codon count 1.
    Where no family of three is left, its F is the mean of those of two and four; where another size is
    missing, NaN. Never above the number of sense codons.
    """
    means: dict[int, Floats] = {}
    for size, members in classes(code).items():
        total, known = np.zeros(len(counts)), np.zeros(len(counts), np.int64)
        for codons in members:
            x = counts.T[codons].astype(np.float64)
            n = _summed(x)
            squares = share(_summed(x * x), n * n)
            f = share(n * squares - 1, n - 1)
            is_known = (n > 1) & (f > 0)
            total += np.where(is_known, f, 0)
            known += is_known
        means[size] = share(total, known)
    if 3 in means and {2, 4} <= means.keys():
        means[3] = np.where(np.isnan(means[3]), (means[2] + means[4]) / 2, means[3])
    total = np.full(len(counts), float(singles(code)))
    for size, members in classes(code).items():
        total += share(np.full(len(counts), len(members)), np.nan_to_num(means[size]))
    return np.asarray(np.minimum(total, len(sense(code))))


def nc_weighted(counts: Counts, code: int) -> Floats:
    """Effective number of codons that is stable for short genes too (Sun, Yang and Xia 2013), shape (n,).

    With one added to each count, F = sum p^2 of each family; their mean is weighted by the families' counts.
    """
    total = np.full(len(counts), float(singles(code)))
    for members in classes(code).values():
        seen = weighted = np.zeros(len(counts))
        for codons in members:
            x = counts.T[codons] + 1.0
            n = _summed(x)
            seen = seen + n
            weighted = weighted + _summed(x * x) / n
        total += len(members) * seen / weighted
    return np.where(counts.T[list(sense(code))].sum(axis=0) > 0, total, np.nan)


def _summed(rows: NDArray[Any]) -> Floats:
    """Their sum, one after the other: NumPy's own order depends on how many values a row has."""
    found: Floats = reduce(np.add, rows)
    return found


def weights(reference: Counts, code: int, *, compat: bool = False) -> Floats:
    """Relative adaptiveness of each codon (Sharp and Li 1987) by a reference set, shape (64,).

    A count of zero in the reference set counts as 0.5. NaN where a codon has no part in the CAI: stops,
    and families of one codon.

    Args:
        reference: counts of the set, shape (64,).
        code: number of the genetic code.
        compat: as Biopython 1.88: stops are a family among the others, and ATG and TGG are left out by name.
    """
    found = np.full(64, np.nan)
    x = np.where(reference == 0, 0.5, reference.astype(np.float64))
    for amino_acid, codons in families(code).items():
        at = list(codons)
        if compat or (amino_acid != "*" and len(at) > 1):
            found[at] = x[at] / x[at].max()
    if compat:
        found[[CODONS.index("ATG"), CODONS.index("TGG")]] = np.nan
    return found


def cai(counts: Counts, adaptiveness: Floats) -> Floats:
    """Codon adaptation index: the geometric mean of the weights of a gene's codons, shape (n,)."""
    at = np.flatnonzero(~np.isnan(adaptiveness))
    logs = share((counts[:, at] * np.log(adaptiveness[at])).sum(axis=1), counts[:, at].sum(axis=1))
    return np.exp(logs)


@cache
def classes(code: int) -> dict[int, list[list[int]]]:
    """Families of sense codons of two and more, by size."""
    found: dict[int, list[list[int]]] = {}
    for amino_acid, codons in families(code).items():
        if amino_acid != "*" and len(codons) > 1:
            found.setdefault(len(codons), []).append(list(codons))
    return dict(sorted(found.items()))


def singles(code: int) -> int:
    """How many amino acids have one codon."""
    return sum(amino_acid != "*" and len(codons) == 1 for amino_acid, codons in families(code).items())


def of_one(counts: Counts, code: int, adaptiveness: Floats | None = None) -> Mapping[str, float | None]:
    """The indices of one set of counts, shape (64,), by name; None for those that are undefined."""
    rows = counts[None]
    by_position = gc_by_position(rows)[0]
    found = {
        "gc1": by_position[0], "gc2": by_position[1], "gc3": by_position[2], "gc3s": gc3s(rows, code)[0],
        "nc": nc(rows, code)[0], "nc_weighted": nc_weighted(rows, code)[0],
    }  # fmt: skip
    if adaptiveness is not None:
        found["cai"] = cai(rows, adaptiveness)[0]
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}
