"""The largest connected component of a mask that is streamed plane by plane.

A row's voxels are kept as runs, and runs that touch as a tree (union-find), so that memory follows the
surface of what is there, not the volume. Voxels touch that share a face or an edge (18 neighbours).
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_compiled: Any = njit(cache=True, error_model="numpy", nogil=True)


@_compiled
def _count_runs(mask):
    count = 0
    for j in range(mask.shape[0]):
        before = False
        for i in range(mask.shape[1]):
            count += mask[j, i] and not before
            before = mask[j, i]
    return count


@_compiled
def _root(parent, at):
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


@_compiled
def _join(parent, one, other):
    one, other = _root(parent, one), _root(parent, other)
    # The earlier one wins, so that the order of the voxels decides everything.
    if one < other:
        parent[other] = one
    else:
        parent[one] = other


@_compiled
def _join_rows(parent, runs, a, a_end, b, b_end, reach):
    """Join the runs a..a_end of one row with those of another that come within ``reach`` voxels."""
    while a < a_end and b < b_end:
        if runs[a, 0] < runs[b, 1] + reach and runs[b, 0] < runs[a, 1] + reach:
            _join(parent, a, b)
        if runs[a, 1] < runs[b, 1]:
            a += 1
        else:
            b += 1


@_compiled
def _add(mask, k, first, runs, parent, rows):
    """Add the runs of plane ``k``, numbered from ``first``, and join them with those before."""
    at = first
    nj, ni = mask.shape
    for j in range(nj):
        rows[k, j] = at
        i = 0
        while i < ni:
            if not mask[j, i]:
                i += 1
                continue
            runs[at, 0] = i
            while i < ni and mask[j, i]:
                i += 1
            runs[at, 1] = i
            parent[at] = at
            at += 1
        rows[k, j + 1] = at
        if j:
            _join_rows(parent, runs, rows[k, j], at, rows[k, j - 1], rows[k, j], 1)
        if k:
            _join_rows(parent, runs, rows[k, j], at, rows[k - 1, j], rows[k - 1, j + 1], 1)
            if j:
                _join_rows(parent, runs, rows[k, j], at, rows[k - 1, j - 1], rows[k - 1, j], 0)
            if j + 1 < nj:
                _join_rows(parent, runs, rows[k, j], at, rows[k - 1, j + 1], rows[k - 1, j + 2], 0)
    return at


@_compiled
def _largest(runs, parent, count):
    sizes = np.zeros(count, np.int64)
    for at in range(count):
        sizes[_root(parent, at)] += runs[at, 1] - runs[at, 0]
    best = 0
    for at in range(count):
        if sizes[at] > sizes[best]:
            best = at
    return best


@_compiled
def _lengths(runs, parent, count, best):
    """Voxels of all components, and of that with this root."""
    every, own = 0, 0
    for at in range(count):
        length = runs[at, 1] - runs[at, 0]
        every += length
        if _root(parent, at) == best:
            own += length
    return every, own


@_compiled
def _paint(runs, parent, best, rows, mask):
    mask[:] = False
    for j in range(mask.shape[0]):
        for at in range(rows[j], rows[j + 1]):
            if _root(parent, at) == best:
                mask[j, runs[at, 0] : runs[at, 1]] = True


@_compiled
def _paint_all(runs, rows, mask):
    mask[:] = False
    for j in range(mask.shape[0]):
        for at in range(rows[j], rows[j + 1]):
            mask[j, runs[at, 0] : runs[at, 1]] = True


class Components:
    """Takes planes, and returns those of the largest component.

    Args:
        shape: voxels along i, j and k.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._rows = np.zeros((shape[2], shape[1] + 1), np.int64)
        self._runs = np.empty((4096, 2), np.int32)
        self._parent = np.empty(4096, np.int64)
        self._count = 0
        self._planes = 0
        self._best: int | None = None

    def add(self, mask: Any) -> None:
        """Add the next plane, bool (nj, ni)."""
        needed = self._count + _count_runs(mask)
        if needed > len(self._parent):
            more = max(needed, 2 * len(self._parent))
            self._runs = np.resize(self._runs, (more, 2))
            self._parent = np.resize(self._parent, more)
        self._count = _add(mask, self._planes, self._count, self._runs, self._parent, self._rows)
        self._planes += 1

    @property
    def count(self) -> int:
        """Number of runs of voxels so far; 0 if there are none."""
        return self._count

    def plane(self, k: int, mask: Any, *, every: bool = False) -> None:
        """Fill ``mask``, bool (nj, ni), with the largest component in plane k; ties go to the first.

        Where ``every``, with all that was added.
        """
        if every:
            _paint_all(self._runs, self._rows[k], mask)
            return
        _paint(self._runs, self._parent, self._largest(), self._rows[k], mask)

    def smaller(self) -> int:
        """Voxels outside the largest component."""
        every, own = _lengths(self._runs, self._parent, self._count, self._largest())
        return int(every - own)

    def _largest(self) -> int:
        if self._best is None:
            self._best = int(_largest(self._runs, self._parent, self._count)) if self._count else -1
        return self._best
