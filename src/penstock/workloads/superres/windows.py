"""Interpolates the weights of tiles to voxels, plane by plane.

A tile's window is a product over the axes, so the weights of a plane come from those of the tiles by three
small sums, one for each axis; no tile is ever visited.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_compiled: Any = njit(cache=True, error_model="numpy", nogil=True)


def axis_windows(n: int, patch: int, stride: int, window: str, *, zero: bool) -> Any:
    """The window of each tile at each voxel of an axis, float64 (tiles, n).

    Args:
        n: voxels.
        patch, stride: of the tiles; those at the end are cut.
        window: ``"hann"`` or ``"flat"``; flat where tiles do not overlap.
        zero: Hann is 0 at a tile's first voxel, as published; else it is nowhere 0.
    """
    tiles = -(-n // stride)
    weights = np.zeros((tiles, n))
    for t in range(tiles):
        length = min(patch, n - t * stride)
        at = np.arange(length) + (0.0 if zero else 0.5)
        bell = 0.5 - 0.5 * np.cos(2 * np.pi * at / length)
        flat = window == "flat" or stride >= patch or length == 1
        weights[t, t * stride : t * stride + length] = 1.0 if flat else bell
    return weights


@_compiled
def _along(windows, at):
    """The first tile that weighs at a voxel, and the one after the last."""
    low, high = 0, 0
    for t in range(windows.shape[0]):
        if windows[t, at] > 0:
            if high == 0:
                low = t
            high = t + 1
    return low, high


@_compiled
def weigh_plane(tiles, by_i, by_j, by_k, k, eps, out):
    """The experts' weights at the voxels of plane ``k``.

    Args:
        tiles: float64 (ti, tj, tk, M).
        by_i, by_j, by_k: of :func:`axis_windows`.
        eps: added to the sum of windows, by which is divided.
        out: float64 (nj, ni, M), filled.
    """
    ti, tj, _, experts = tiles.shape
    nj, ni = out.shape[:2]
    plane = np.zeros((tj, ti, experts))
    row = np.zeros((ti, experts))
    low, high = _along(by_k, k)
    deep = 0.0
    for t in range(low, high):
        deep += by_k[t, k]
        for a in range(ti):
            for b in range(tj):
                for m in range(experts):
                    plane[b, a, m] += by_k[t, k] * tiles[a, b, t, m]
    first, last, across = np.empty(ni, np.int64), np.empty(ni, np.int64), np.zeros(ni)
    for i in range(ni):
        first[i], last[i] = _along(by_i, i)
        for t in range(first[i], last[i]):
            across[i] += by_i[t, i]
    for j in range(nj):
        row[:] = 0.0
        high_row = 0.0
        low, high = _along(by_j, j)
        for t in range(low, high):
            high_row += by_j[t, j]
            for a in range(ti):
                for m in range(experts):
                    row[a, m] += by_j[t, j] * plane[t, a, m]
        for i in range(ni):
            total = across[i] * high_row * deep + eps
            for m in range(experts):
                weight = 0.0
                for t in range(first[i], last[i]):
                    weight += by_i[t, i] * row[t, m]
                out[j, i, m] = weight / total


@_compiled
def mix_plane(weights, experts, factors, shift, mask, out):
    """The weighted sum of the experts inside ``mask``, 0 elsewhere.

    Args:
        weights: float64 (nj, ni, M).
        experts: float32 (M, nj, ni).
        factors: float64 (M, 2): an expert counts as voxel * factor + summand.
        shift: float64, added to the sum.
        mask: bool (nj, ni).
        out: float32 (nj, ni), filled.
    """
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            value = 0.0
            if mask[j, i]:
                value = shift
                for m in range(len(experts)):
                    value += weights[j, i, m] * (experts[m, j, i] * factors[m, 0] + factors[m, 1])
            out[j, i] = value
