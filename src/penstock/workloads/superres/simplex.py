"""Least squares over the simplex, exact and certified: min w'Qw - 2 b'w, w >= 0, sum w = 1.

Up to 8 experts every set of experts is tried, and the one with the smallest duality gap taken; above, an
active-set method walks from set to set. Q is divided by its mean diagonal first, so that nothing depends on
units, voxels or patients. The certificate of a solution is its duality gap (Frank and Wolfe's), w'g - min g
with g = 2 (Qw - b), over the trace of Q: it bounds how far the objective is from its minimum.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_compiled: Any = njit(cache=True, error_model="numpy", nogil=True)

ENUMERATED = 8
"""The most experts whose sets are all tried: 255 of them."""
CERTIFIED = 1e-12
"""A gap over trace up to which a region counts as solved."""
_PIVOT = 1e-13


@_compiled
def _on_support(Q, b, members, count, system, w):
    """Minimise over the weights of ``members[:count]`` with sum 1, signs free; False where it is singular."""
    size = count + 1
    for r in range(count):
        for c in range(count):
            system[r, c] = 2 * Q[members[r], members[c]]
        system[r, count] = 1.0
        system[r, size] = 2 * b[members[r]]
        system[count, r] = 1.0
    system[count, count] = 0.0
    system[count, size] = 1.0
    for column in range(size):
        pivot = column
        for r in range(column + 1, size):
            if abs(system[r, column]) > abs(system[pivot, column]):
                pivot = r
        if not abs(system[pivot, column]) > _PIVOT:
            return False
        if pivot != column:
            for c in range(column, size + 1):
                system[pivot, c], system[column, c] = system[column, c], system[pivot, c]
        for r in range(column + 1, size):
            factor = system[r, column] / system[column, column]
            for c in range(column, size + 1):
                system[r, c] -= factor * system[column, c]
    for r in range(size - 1, -1, -1):
        value = system[r, size]
        for c in range(r + 1, size):
            value -= system[r, c] * system[c, size]
        system[r, size] = value / system[r, r]
    w[:] = 0.0
    for r in range(count):
        w[members[r]] = system[r, size]
    return True


@_compiled
def _gap(Q, b, w):
    """The duality gap of a w in the simplex, and the expert that would lower the objective most."""
    inner, lowest, best = 0.0, np.inf, 0
    for m in range(len(b)):
        slope = -b[m]
        for o in range(len(b)):
            slope += Q[m, o] * w[o]
        slope *= 2
        inner += w[m] * slope
        if slope < lowest:
            lowest, best = slope, m
    return inner - lowest, best


@_compiled
def _into_simplex(w):
    """Take away what rounding left below 0; False where it is more than that."""
    total = 0.0
    for m in range(len(w)):
        if w[m] < -1e-12:
            return False
        w[m] = max(w[m], 0.0)
        total += w[m]
    w /= total
    return True


@_compiled
def _enumerate(Q, b, out):
    experts = len(b)
    members = np.empty(experts, np.int64)
    system = np.empty((experts + 1, experts + 2))
    w = np.empty(experts)
    least = np.inf
    for chosen in range(1, 1 << experts):
        count = 0
        for m in range(experts):
            if chosen >> m & 1:
                members[count] = m
                count += 1
        if not _on_support(Q, b, members, count, system, w) or not _into_simplex(w):
            continue
        gap = _gap(Q, b, w)[0]
        if gap < least:
            least = gap
            out[:] = w
    return least


@_compiled
def _active_set(Q, b, out):
    """From the best expert alone: let in the one that helps most, leave out those that would go below 0."""
    experts = len(b)
    members = np.empty(experts, np.int64)
    system = np.empty((experts + 1, experts + 2))
    aim = np.empty(experts)
    w = np.zeros(experts)
    first = 0
    for m in range(experts):
        if Q[m, m] - 2 * b[m] < Q[first, first] - 2 * b[first]:
            first = m
    w[first] = 1.0
    inside = w > 0
    least = np.inf
    for _ in range(50 * experts):
        gap, entering = _gap(Q, b, w)
        if gap < least:
            least = gap
            out[:] = w
        if gap <= 1e-15 * experts or inside[entering]:
            break
        inside[entering] = True
        while True:
            count = 0
            for m in range(experts):
                if inside[m]:
                    members[count] = m
                    count += 1
            if not _on_support(Q, b, members, count, system, aim):
                inside[entering] = False
                break
            step, leaving = 1.0, -1
            for m in range(experts):
                if inside[m] and aim[m] < 0 and w[m] / (w[m] - aim[m]) < step:
                    step, leaving = w[m] / (w[m] - aim[m]), m
            for m in range(experts):
                w[m] = max(w[m] + step * (aim[m] - w[m]), 0.0)
            if leaving < 0:
                break
            w[leaving] = 0.0
            inside[leaving] = False
        w /= w.sum()
    return least


@_compiled
def _solve(Q, b, W, gaps):
    for r in range(len(b)):
        if b.shape[1] <= ENUMERATED:
            gaps[r] = _enumerate(Q[r], b[r], W[r])
        else:
            gaps[r] = _active_set(Q[r], b[r], W[r])


def solve_simplex(Q: Any, b: Any, ridge: float = 0.0, *, absolute: bool = False) -> tuple[Any, Any]:
    """The weights of every region, with a certificate of optimality.

    Args:
        Q: float64 (R, M, M); only its symmetric part counts.
        b: float64 (R, M).
        ridge: added to the diagonal of Q, as a share of it: of each expert's own, so that one with a large
            diagonal does not drown the others. With identical experts the weights are then the ones of least
            length.
        absolute: ``ridge`` is added as it is.

    Returns (W, gap): weights float64 (R, M), and duality gap over trace, float64 (R,).
    """
    experts = b.shape[1]
    scaled, divided = scale(Q, b, ridge, absolute=absolute)
    W = np.full(b.shape, 1 / experts)
    gaps = np.zeros(len(b))
    _solve(scaled, divided, W, gaps)
    return W, gaps / np.maximum(np.trace(scaled, axis1=1, axis2=2), 1e-300)


def solve_free(Q: Any, b: Any, ridge: float = 0.0, *, absolute: bool = False) -> Any:
    """The unconstrained weights, (Q + ridge) w = b; the minimum-norm solution if singular."""
    scaled, divided = scale(Q, b, ridge, absolute=absolute)
    return np.stack([np.linalg.lstsq(q, v)[0] for q, v in zip(scaled, divided, strict=True)])


def scale(Q: Any, b: Any, ridge: float, *, absolute: bool) -> tuple[Any, Any]:
    """Symmetrise, add the ridge, and divide by the mean diagonal."""
    experts = b.shape[1]
    symmetric = (Q + Q.transpose(0, 2, 1)) / 2
    diagonal = np.diagonal(symmetric, axis1=1, axis2=2)
    mean = diagonal.mean(1, keepdims=True)
    added = np.full_like(diagonal, ridge) if absolute else ridge * np.where(diagonal > 0, diagonal, mean)
    symmetric = symmetric + added[:, None, :] * np.eye(experts)
    mean = np.trace(symmetric, axis1=1, axis2=2)[:, None, None] / experts
    mean[mean <= 0] = 1.0
    return np.ascontiguousarray(symmetric / mean), np.ascontiguousarray(b / mean[:, 0])
