"""The indices of many sets of counts by compiled code: what ``indices`` reckons, in the same numbers.

Each row is looked at once, where NumPy passes over all rows some three hundred times, a few values in each.
Sums are taken in the same order. What is given is told by ``reckoning``, by which it is called.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from penstock.sequences.vectors import unowned
from penstock.workloads.codons.reckoning import CLASSES, GC1, GC3S, NC, NC_WEIGHTED, SENSE, SINGLES

_compiled: Any = njit
_inner = _compiled(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")


@_inner
def _share(part, whole):
    return part / whole if whole > 0 else np.nan


@_inner
def _by_position(row, out, at):
    """The share of C and G at each position: bits 0, 2 and 4 of a codon's code."""
    total = first = second = third = 0
    for codon in range(64):
        count = row[codon]
        total += count
        first += count * (codon & 1)
        second += count * (codon >> 2 & 1)
        third += count * (codon >> 4 & 1)
    out[GC1, at] = _share(float(first), float(total))
    out[GC1 + 1, at] = _share(float(second), float(total))
    out[GC1 + 2, at] = _share(float(third), float(total))


@_inner
def _family(row, layout, place, count):
    """Of one family: its homozygosity, 0 where unknown; its sum; its C and G; sum and share for Sun's."""
    n = squares = strong = n_more = squares_more = 0.0
    for i in range(place, place + count):
        x = float(row[layout[i]])
        n += x
        squares += x * x
        strong += x * (layout[i] >> 4 & 1)
        n_more += x + 1.0
        squares_more += (x + 1.0) * (x + 1.0)
    f = _share(n * _share(squares, n * n) - 1, n - 1)
    return f if n > 1 and f > 0 else 0.0, n, strong, n_more, squares_more / n_more


@_inner
def _number(layout, means):
    """Effective number of codons by the mean homozygosity of each size of families."""
    if np.isnan(means[3]):
        means[3] = (means[2] + means[4]) / 2
    total, place = float(layout[SINGLES]), CLASSES + 1
    for _ in range(layout[CLASSES]):
        size, members = layout[place], layout[place + 1]
        total += _share(float(members), means[size])
        place += 2 + size * members
    return min(total, float(layout[SENSE])) if total == total else np.nan


@_inner
def _by_family(row, layout, means, out, at):
    """What depends on the families of the genetic code."""
    means[:] = np.nan
    synonymous = strong = 0.0
    number, place = float(layout[SINGLES]), CLASSES + 1
    for _ in range(layout[CLASSES]):
        size, members = layout[place], layout[place + 1]
        place += 2
        total = seen = weighted = 0.0
        known = 0
        for _ in range(members):
            f, n, of_strong, more, share = _family(row, layout, place, size)
            total += f
            known += f > 0
            synonymous += n
            strong += of_strong
            seen += more
            weighted += share
            place += size
        means[size] = _share(total, float(known))
        number += members * seen / weighted
    out[GC3S, at] = _share(strong, synonymous)
    out[NC, at] = _number(layout, means)
    out[NC_WEIGHTED, at] = number


def reckon(counts, layout, ends, means, out, stops):
    """Reckon the indices of each row.

    Args:
        counts: int64, rows of 64 counts.
        layout: int64, the families of the genetic code, see ``reckoning``.
        ends: int64, the codes of its stops.
        means: float64, room for a number for each size of families.
        out: float64, by index and row; written.
        stops: int64, stop codons of each row; written.
    """
    rows, families, codes = unowned(counts), unowned(layout), unowned(ends)
    room, found, ended = unowned(means), unowned(out), unowned(stops)
    for at in range(len(rows)):
        row = rows[at]
        _by_position(row, found, at)
        _by_family(row, families, room, found, at)
        total = stopping = 0
        for codon in range(64):
            total += row[codon]
        for i in range(len(codes)):
            stopping += row[codes[i]]
        ended[at] = stopping
        if total == stopping:
            found[NC_WEIGHTED, at] = np.nan
