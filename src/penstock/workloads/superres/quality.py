"""How near volumes are to a truth: mean squared and absolute error, PSNR, and SSIM slice by slice.

Planes come one after the other. SSIM's sums over 7 x 7 voxels are running sums, along k from plane to
plane where a slice runs along k, so that memory is seven planes of each volume. Only windows that lie
wholly in a slice count, as in the mean of scikit-image's ``structural_similarity``, with its constants.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_compiled: Any = njit(cache=True, error_model="numpy", nogil=True)

WINDOW = 7
_HALF = WINDOW // 2
_FLAT = 1e-7
"""A slice whose values lie within this range has no SSIM."""


@_compiled
def _add_errors(truth, volume, errors):
    """Add squared and absolute differences where the truth is above 0."""
    squared, absolute = 0.0, 0.0
    for j in range(truth.shape[0]):
        for i in range(truth.shape[1]):
            if truth[j, i] > 0:
                difference = np.float64(volume[j, i]) - np.float64(truth[j, i])
                squared += difference * difference
                absolute += abs(difference)
    errors[0] += squared
    errors[1] += absolute


@_compiled
def _add_products(truth, volume, sign, sums):
    """Add (or take away) x, y, xx, yy and xy of one plane, as they are within the mask."""
    for j in range(truth.shape[0]):
        for i in range(truth.shape[1]):
            if truth[j, i] > 0:
                x, y = np.float64(truth[j, i]), np.float64(volume[j, i])
                sums[0, j, i] += sign * x
                sums[1, j, i] += sign * y
                sums[2, j, i] += sign * (x * x)
                sums[3, j, i] += sign * (y * y)
                sums[4, j, i] += sign * (x * y)


@_compiled
def _sum_along_i(sums, out):
    """Sums over 7 voxels along i, at the middle one."""
    for c in range(5):
        for j in range(sums.shape[1]):
            for i in range(_HALF, sums.shape[2] - _HALF):
                total = 0.0
                for step in range(i - _HALF, i + _HALF + 1):
                    total += sums[c, j, step]
                out[c, j, i] = total


@_compiled
def _slide(sums, low, high, ranges, out, single):
    """Sums over 7 along j of sums that run over 7 along another axis; SSIM of each window added to ``out``.

    ``ranges`` and ``out`` are by i, or of one slice in place 0 where ``single``.
    """
    ni = sums.shape[2]
    line = np.zeros((5, ni))
    per, unbiased = 1.0 / (WINDOW * WINDOW), WINDOW * WINDOW / (WINDOW * WINDOW - 1.0)
    for j in range(sums.shape[1]):
        for c in range(5):
            for i in range(ni):
                line[c, i] += sums[c, j, i]
                if j >= WINDOW:
                    line[c, i] -= sums[c, j - WINDOW, i]
        if j < WINDOW - 1:
            continue
        for i in range(low, high):
            place = 0 if single else i
            c1, c2 = (0.01 * ranges[place]) ** 2, (0.03 * ranges[place]) ** 2
            x, y = line[0, i] * per, line[1, i] * per
            xx = unbiased * (line[2, i] * per - x * x)
            yy = unbiased * (line[3, i] * per - y * y)
            xy = unbiased * (line[4, i] * per - x * y)
            if ranges[place] > 0:
                top = (2 * x * y + c1) * (2 * xy + c2)
                out[place] += top / ((x * x + y * y + c1) * (xx + yy + c2))


class Slices:
    """What must be known of the truth's slices before SSIM can be taken: their range, and whether they count.

    Args:
        shape: voxels along i, j and k.
        axis: across which slices are taken.
    """

    def __init__(self, shape: tuple[int, int, int], axis: int) -> None:
        self.shape, self.axis = shape, axis
        # Outside the mask a slice is 0, and every slice that counts has a voxel above 0 ...
        self._highest = np.zeros(shape[axis])
        self._lowest = np.full(shape[axis], np.inf)
        self._whole = np.ones(shape[axis], bool)
        self._k = 0

    def add(self, truth: Any) -> None:
        """The next plane of the truth, float32 (nj, ni)."""
        inside = truth > 0
        highest, lowest = np.where(inside, truth, 0), np.where(inside, truth, np.inf)
        if self.axis == 2:
            at, along = slice(self._k, self._k + 1), None
        else:
            at, along = slice(None), self.axis
        self._highest[at] = np.maximum(self._highest[at], highest.max(along))
        self._lowest[at] = np.minimum(self._lowest[at], lowest.min(along))
        self._whole[at] &= inside.all(along)
        self._k += 1

    def ranges(self) -> Any:
        """Largest less smallest value of each slice, float64; 0 where a slice does not count."""
        # ... and one below 0 or at it, unless the mask covers it.
        ranges = self._highest - np.where(self._whole, self._lowest, 0.0)
        ranges[ranges < _FLAT] = 0.0
        sides = [n for axis, n in enumerate(self.shape) if axis != self.axis]
        return ranges if min(sides) >= WINDOW else np.zeros_like(ranges)


class Quality:
    """Errors and SSIM of several volumes against one truth.

    Args:
        volumes: how many.
        slices: of the truth, all planes added.
        span: largest less smallest value of the whole truth.
    """

    def __init__(self, volumes: int, slices: Slices, span: float) -> None:
        self._axis, self._span = slices.axis, span
        ni, nj, _ = slices.shape
        self._ranges = slices.ranges()
        self._errors = np.zeros((volumes, 2))
        self._voxels = 0
        self._similar = np.zeros((volumes, len(self._ranges)))
        # A slice across j is seen with i and j changed over.
        self._plane = (ni, nj) if self._axis == 1 else (nj, ni)
        self._kept = np.zeros((WINDOW, 1 + volumes, *self._plane), np.float32)
        self._sums = np.zeros((volumes, 5, *self._plane))
        self._along = np.zeros((5, *self._plane))
        self._k = 0

    def add(self, truth: Any, volumes: Any) -> None:
        """The next plane: of the truth (nj, ni), and of the volumes (volumes, nj, ni); float32."""
        self._voxels += int((truth > 0).sum())
        for errors, volume in zip(self._errors, volumes, strict=True):
            _add_errors(truth, volume, errors)
        place = self._k % WINDOW
        kept, turn = self._kept[place], (lambda p: p.T) if self._axis == 1 else (lambda p: p)
        for v, volume in enumerate(volumes):
            sums = self._sums[v]
            if self._axis == 2:
                sums[:] = 0.0
            elif self._k >= WINDOW:
                _add_products(kept[0], kept[1 + v], -1.0, sums)
            kept[1 + v] = turn(volume)
        kept[0] = turn(truth)
        for v, similar in enumerate(self._similar):
            _add_products(kept[0], kept[1 + v], 1.0, self._sums[v])
            self._add_windows(v, similar)
        self._k += 1

    def _add_windows(self, v: int, similar: Any) -> None:
        ni = self._plane[1]
        if self._axis == 2:
            if self._ranges[self._k] > 0:
                _sum_along_i(self._sums[v], self._along)
                here = slice(self._k, self._k + 1)
                _slide(self._along, _HALF, ni - _HALF, self._ranges[here], similar[here], True)
        elif self._k >= WINDOW - 1:
            _slide(self._sums[v], 0, ni, self._ranges, similar, False)

    def told(self) -> list[dict[str, float]]:
        """``mse``, ``mae``, ``psnr`` (dB) and ``ssim`` of each volume, after the last plane."""
        rows, columns = self._plane
        windows = (rows - WINDOW + 1) * ((columns if self._axis == 2 else self._k) - WINDOW + 1)
        counting = self._ranges > 0
        told = []
        for (squared, absolute), similar in zip(self._errors, self._similar, strict=True):
            mse = squared / self._voxels
            told.append(
                {
                    "mse": mse,
                    "mae": absolute / self._voxels,
                    "psnr": float(20 * np.log10((self._span + 1e-12) / np.sqrt(mse + 1e-12))),
                    "ssim": float((similar[counting] / windows).mean()) if counting.any() else 0.0,
                }
            )
        return [{name: float(value) for name, value in each.items()} for each in told]
