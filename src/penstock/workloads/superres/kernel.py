"""The sums that a fit needs of a patient, in one pass over the planes of its volumes.

Every volume is standardised by a mean and a deviation that are known only after the pass. Standardising is
affine and a derivative forgets constants, so sums over the raw voxels are enough: for each region the sums
of the products of u = (experts, truth, 1), and of the products of the derivatives, each once plain and
once weighted with the power of the truth's gradient. ``moments`` makes of them what the fit asks for. Of
each volume one value is taken away first: sums of squares of values that are far from 0 and near each other
would leave nothing of their spread.

A derivative is that of the voxels of the head alone: it counts where all 27 voxels that it takes lie in the
mask, so that the border between head and background, which no expert has to get right, is no edge.

Planes are float32 (voxels along j, voxels along i). Sums are float64, voxel after voxel in the order of
the file, so that they depend on nothing else.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_compiled: Any = njit(cache=True, error_model="numpy", nogil=True)

OPERATORS = {"sobel": (2.0, 1.0), "prewitt": (1.0, 1.0), "scharr": (10.0, 3.0)}
"""Centre and side of the smoothing across the derivative [-1, 0, 1]."""
GAINS = {name: 2 * (centre + 2 * side) ** 2 for name, (centre, side) in OPERATORS.items()}
"""What an operator gives for a slope of 1 for each voxel: 32, 18 and 512."""
DEPTH = 4
"""Planes in a ring: three that the derivative takes, and the one that is read."""


@_compiled
def derive(plane, centre, side, smooth, along_i, along_j):
    """The in-plane parts of a 3D derivative; beyond the border is the nearest voxel.

    Args:
        plane: float32 (nj, ni).
        centre, side: float32, see :data:`OPERATORS`.
        smooth, along_i, along_j: float32 (nj, ni), filled: smoothed twice, and derived along one
            axis and smoothed along the other.
    """
    nj, ni = plane.shape
    across = np.empty(ni + 2, np.float32)
    change = np.empty(ni + 2, np.float32)
    for j in range(nj):
        low, row, high = plane[max(j - 1, 0)], plane[j], plane[min(j + 1, nj - 1)]
        for i in range(ni):
            across[i + 1] = side * (low[i] + high[i]) + centre * row[i]
            change[i + 1] = high[i] - low[i]
        across[0], across[ni + 1] = across[1], across[ni]
        change[0], change[ni + 1] = change[1], change[ni]
        for i in range(ni):
            smooth[j, i] = side * (across[i] + across[i + 2]) + centre * across[i + 1]
            along_i[j, i] = across[i + 2] - across[i]
            along_j[j, i] = side * (change[i] + change[i + 2]) + centre * change[i + 1]


@_compiled
def _gradient(smooth, along_i, along_j, at, v, j, centre, side, out):
    """The three derivatives of a row of volume ``v`` into ``out`` (3, ni); ``at``: its planes in the ring."""
    i0, i1, i2 = along_i[at[0], v, j], along_i[at[1], v, j], along_i[at[2], v, j]
    j0, j1, j2 = along_j[at[0], v, j], along_j[at[1], v, j], along_j[at[2], v, j]
    k0, k2 = smooth[at[0], v, j], smooth[at[2], v, j]
    for i in range(out.shape[1]):
        out[0, i] = side * (i0[i] + i2[i]) + centre * i1[i]
        out[1, i] = side * (j0[i] + j2[i]) + centre * j1[i]
        out[2, i] = k2[i] - k0[i]


@_compiled
def _find_inner(masks, j, sides, inner):
    """Which voxels of a row have all 27 around them in the mask; what is beyond the border is not."""
    nj, ni = masks.shape[1:]
    inner[:] = False
    if j == 0 or j == nj - 1:
        return
    for i in range(ni):
        sides[i] = (
            masks[0, j - 1, i] and masks[0, j, i] and masks[0, j + 1, i]
            and masks[1, j - 1, i] and masks[1, j, i] and masks[1, j + 1, i]
            and masks[2, j - 1, i] and masks[2, j, i] and masks[2, j + 1, i]
        )  # fmt: skip
    for i in range(1, ni - 1):
        inner[i] = sides[i - 1] and sides[i] and sides[i + 1]


@_compiled
def add_plane(
    ring, masks, smooth, along_i, along_j, at, centre, side, slopes, edge, edge_slopes, power, whole, cells,
    k, origin, sums, counts, largest,
):  # fmt: skip
    """Add one plane's voxels inside the mask to the sums of their regions.

    Args:
        ring: float32 (DEPTH, volumes, nj, ni): experts, then the truth.
        masks: bool (3, nj, ni): before, at and after k; False beyond the ends.
        smooth, along_i, along_j: what :func:`derive` gave of them, with one volume more where the
            edges are of another operator than the gradients: the truth, derived by Sobel.
        at: places in the ring of the planes before, at and after k, the nearest at the ends.
        centre, side: of the operator of the gradients.
        slopes: float32 (3,): what makes slopes for each millimetre of what the operator gives along i, j, k.
        edge: the volume from which the edges are taken.
        edge_slopes: float32 (3,): ``slopes`` for it.
        power: of the gradient's length in the second weight.
        whole: derivatives count wherever the mask is.
        cells: regions' numbers along i, j and k, int64 arrays; negative in a gap. The last region
            takes the voxels in gaps.
        k: the plane.
        origin: float64 (volumes,): taken away from each value.
        sums: float64 (regions, 2, terms), see ``moments``; added to.
        counts: int64 (regions,); added to.
        largest: float64 (volumes,): largest absolute values in the mask; raised.

    Returns the largest squared gradient (Sobel) of the truth among the voxels where it counts; among all
    voxels of the plane where ``whole``.
    """
    volumes, nj, ni = ring.shape[1:]
    cell_i, cell_j, cell_k = cells
    many_j, many_k = cell_j.max() + 1, cell_k.max() + 1
    gap = len(counts) - 1
    gradients = np.empty((volumes, 3, ni), np.float32)
    edges = np.empty((3, ni), np.float32)
    length = np.empty(ni, np.float32)
    u, gx, gy, gz = np.ones(volumes + 1), np.empty(volumes), np.empty(volumes), np.empty(volumes)
    two, one = np.float32(2), np.float32(1)
    steepest = np.float32(0)
    inner, sides = np.ones(ni, np.bool_), np.empty(ni, np.bool_)
    for j in range(nj):
        row, used = masks[1, j], False
        for i in range(ni):
            used |= row[i]
        if not (used or whole):
            continue
        _gradient(smooth, along_i, along_j, at, edge, j, two, one, edges)
        if not whole:
            _find_inner(masks, j, sides, inner)
        for i in range(ni):
            x, y, z = edges[0, i] * edge_slopes[0], edges[1, i] * edge_slopes[1], edges[2, i] * edge_slopes[2]
            length[i] = x**2 + y**2 + z**2
            if inner[i]:
                steepest = max(steepest, length[i])
        if not used:
            continue
        for v in range(volumes):
            _gradient(smooth, along_i, along_j, at, v, j, centre, side, gradients[v])
        for i in range(ni):
            if not row[i]:
                continue
            region = gap
            if cell_i[i] >= 0 and cell_j[j] >= 0 and cell_k[k] >= 0:
                region = (cell_i[i] * many_j + cell_j[j]) * many_k + cell_k[k]
            weight = np.float64(length[i]) if inner[i] else 0.0
            if power != 2.0 and inner[i]:
                weight = weight ** (0.5 * power)
            for v in range(volumes):
                u[v] = ring[at[1], v, j, i]
                largest[v] = max(largest[v], abs(u[v]))
                u[v] -= origin[v]
                gx[v], gy[v] = gradients[v, 0, i] * slopes[0], gradients[v, 1, i] * slopes[1]
                gz[v] = gradients[v, 2, i] * slopes[2]
            counts[region] += 1
            plain, weighted = sums[region, 0], sums[region, 1]
            term = 0
            for a in range(volumes + 1):
                for b in range(a, volumes + 1):
                    product = u[a] * u[b]
                    plain[term] += product
                    weighted[term] += weight * product
                    term += 1
            if not inner[i]:
                continue
            for a in range(volumes):
                for b in range(a, volumes):
                    product = gx[a] * gx[b] + gy[a] * gy[b] + gz[a] * gz[b]
                    plain[term] += product
                    weighted[term] += weight * product
                    term += 1
    return steepest
