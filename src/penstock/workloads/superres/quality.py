"""Image metrics over a mask: mean squared and absolute error, PSNR, and SSIM.

Planes come one after the other. SSIM's sums over 7 x 7 voxels of a slice are running sums, along k from plane
to plane where a slice runs along k, so that memory is seven planes of each volume. The constants are those of
scikit-image's ``structural_similarity``; outside the mask, and beyond the border, everything is 0.

The mean is over the voxels of the mask, with one range for the whole volume: background, of which there may
be any amount, would be alike in all volumes. As published it is over whole slices, each with a range of its
own, and only windows that lie wholly in a slice count.
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
def _add_errors(truth, volume, mask, errors):
    """Add squared and absolute differences in the mask."""
    squared, absolute = 0.0, 0.0
    for j in range(truth.shape[0]):
        for i in range(truth.shape[1]):
            if mask[j, i]:
                difference = np.float64(volume[j, i]) - np.float64(truth[j, i])
                squared += difference * difference
                absolute += abs(difference)
    errors[0] += squared
    errors[1] += absolute


@_compiled
def _add_products(truth, volume, mask, sign, sums):
    """Add (or take away) x, y, xx, yy and xy of one plane, as they are within the mask."""
    for j in range(truth.shape[0]):
        for i in range(truth.shape[1]):
            if mask[j, i]:
                x, y = np.float64(truth[j, i]), np.float64(volume[j, i])
                sums[0, j, i] += sign * x
                sums[1, j, i] += sign * y
                sums[2, j, i] += sign * (x * x)
                sums[3, j, i] += sign * (y * y)
                sums[4, j, i] += sign * (x * y)


@_compiled
def _sum_along_i(sums, out):
    """Sums over 7 voxels along i, at the middle one; what is beyond the border is 0."""
    ni = sums.shape[2]
    for c in range(5):
        for j in range(sums.shape[1]):
            row, total = sums[c, j], 0.0
            for i in range(min(_HALF, ni)):
                total += row[i]
            for i in range(ni):
                if i + _HALF < ni:
                    total += row[i + _HALF]
                if i > _HALF:
                    total -= row[i - _HALF - 1]
                out[c, j, i] = total


@_compiled
def _similarity(x, y, xx, yy, xy, c1, c2):
    """SSIM of a window from its sums."""
    per, unbiased = 1.0 / (WINDOW * WINDOW), WINDOW * WINDOW / (WINDOW * WINDOW - 1.0)
    x, y = x * per, y * per
    xx, yy, xy = unbiased * (xx * per - x * x), unbiased * (yy * per - y * y), unbiased * (xy * per - x * y)
    return (2 * x * y + c1) * (2 * xy + c2) / ((x * x + y * y + c1) * (xx + yy + c2))


@_compiled
def _slide_mask(sums, mask, c1, c2):
    """The sum of SSIM over the voxels of a mask, from sums that run over 7 along another axis than j."""
    nj, ni = mask.shape
    line = np.zeros((5, ni))
    total = 0.0
    for j in range(-_HALF, nj):
        for c in range(5):
            for i in range(ni):
                if j + _HALF < nj:
                    line[c, i] += sums[c, j + _HALF, i]
                if j - _HALF - 1 >= 0:
                    line[c, i] -= sums[c, j - _HALF - 1, i]
        if j < 0:
            continue
        for i in range(ni):
            if mask[j, i]:
                total += _similarity(line[0, i], line[1, i], line[2, i], line[3, i], line[4, i], c1, c2)
    return total


@_compiled
def _add_row(truth, volume, inside, sign, line):
    """Add (or take away) x, y, xx, yy and xy of a row, as they are within the mask."""
    for i in range(len(inside)):
        x = np.float64(truth[i]) if inside[i] else 0.0
        y = np.float64(volume[i]) if inside[i] else 0.0
        line[0, i] += sign * x
        line[1, i] += sign * y
        line[2, i] += sign * (x * x)
        line[3, i] += sign * (y * y)
        line[4, i] += sign * (x * y)


@_compiled
def _slide_plane(truth, volume, mask, c1, c2):
    """The sum of SSIM over the voxels of a mask, of windows of 7 x 7 voxels within one plane.

    Sums run along j, for all i at once; the seven along i are added anew, as a sum that runs along i would
    wait at each voxel for the one before. Only the columns of the mask are gone through.
    """
    columns = np.flatnonzero(_any_row(mask))
    if len(columns) == 0:
        return 0.0
    low, high = columns[0], columns[-1] + 1
    n = high - low
    line, box, similar = np.zeros((5, n + 2 * _HALF)), np.empty((5, n)), np.empty(n)
    total = 0.0
    for j in range(-_HALF, len(mask)):
        for row, sign in ((j + _HALF, 1.0), (j - _HALF - 1, -1.0)):
            if 0 <= row < len(mask):
                inside = mask[row, low:high]
                _add_row(
                    truth[row, low:high], volume[row, low:high], inside, sign, line[:, _HALF : _HALF + n]
                )
        if j < 0:
            continue
        for c in range(5):
            _add_sevens(line[c], box[c])
        x, y, xx, yy, xy = box
        for i in range(n):
            similar[i] = _similarity(x[i], y[i], xx[i], yy[i], xy[i], c1, c2)
        inside = mask[j, low:high]
        for i in range(n):
            if inside[i]:
                total += similar[i]
    return total


@_compiled
def _any_row(mask):
    """Which columns have a voxel in the mask."""
    found = np.zeros(mask.shape[1], np.bool_)
    for j in range(mask.shape[0]):
        found |= mask[j]
    return found


@_compiled
def _add_sevens(row, out):
    """Sums of seven neighbours."""
    for i in range(len(out)):
        out[i] = row[i] + row[i + 1] + row[i + 2] + row[i + 3] + row[i + 4] + row[i + 5] + row[i + 6]


@_compiled
def _slide(sums, low, high, ranges, out, single):
    """Sums over 7 along j of sums that run over 7 along another axis; SSIM of each window added to ``out``.

    ``ranges`` and ``out`` are by i, or of one slice in place 0 where ``single``.
    """
    ni = sums.shape[2]
    line = np.zeros((5, ni))
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
            if ranges[place] > 0:
                out[place] += _similarity(line[0, i], line[1, i], line[2, i], line[3, i], line[4, i], c1, c2)


class Slices:
    """What must be known of the truth's slices before the published SSIM can be taken: which count, their
    range.

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
        """Add the next plane of the truth, float32 (nj, ni)."""
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
        """Range of values in each slice, float64; 0 where a slice does not count."""
        # ... and one below 0 or at it, unless the mask covers it.
        ranges = self._highest - np.where(self._whole, self._lowest, 0.0)
        ranges[ranges < _FLAT] = 0.0
        sides = [n for axis, n in enumerate(self.shape) if axis != self.axis]
        return ranges if min(sides) >= WINDOW else np.zeros_like(ranges)


class Errors:
    """Squared and absolute errors of several volumes, and PSNR.

    Args:
        volumes: how many.
        span: the range of the truth that PSNR goes by.
        published: with the small numbers that the published program adds.
    """

    def __init__(self, volumes: int, span: float, *, published: bool) -> None:
        self._span, self._little = span, 1e-12 if published else 0.0
        self._sums = np.zeros((volumes, 2))
        self._voxels = 0

    def add(self, truth: Any, volumes: Any, mask: Any) -> None:
        """Add the next plane: of the truth (nj, ni), of the volumes (volumes, nj, ni), and of the mask."""
        self._voxels += int(np.count_nonzero(mask))
        for sums, volume in zip(self._sums, volumes, strict=True):
            _add_errors(truth, volume, mask, sums)

    def metrics(self) -> list[dict[str, float | None]]:
        """``mse``, ``mae`` and ``psnr`` (dB; None where there is no error) of each volume."""
        metrics: list[dict[str, float | None]] = []
        for squared, absolute in self._sums / max(self._voxels, 1):
            below = np.sqrt(squared + self._little)
            known = below > 0 and self._span + self._little > 0
            psnr = float(20 * np.log10((self._span + self._little) / below)) if known else None
            metrics.append({"mse": float(squared), "mae": float(absolute), "psnr": psnr})
        return metrics


class Ssim:
    """SSIM of several volumes.

    Args:
        volumes: how many.
        shape: voxels along i, j and k.
        axis: across which the slices are.
        span: the range of the truth.
        slices: of the truth, all planes added, for the published mean; else None.
    """

    def __init__(
        self, volumes: int, shape: tuple[int, int, int], axis: int, span: float, slices: Slices | None
    ) -> None:
        ni, nj, self._nk = shape
        self._axis = axis
        self._c1, self._c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        self._ranges: Any = None if slices is None else slices.ranges()
        self._similar = np.zeros((volumes, 1 if slices is None else shape[axis]))
        # A slice across j is seen with i and j changed over.
        self._plane = (ni, nj) if axis == 1 else (nj, ni)
        self._kept = np.zeros((WINDOW, 1 + volumes, *self._plane), np.float32)
        self._masks = np.zeros((WINDOW, *self._plane), bool)
        self._sums = np.zeros((volumes, 5, *self._plane))
        self._along = np.zeros((5, *self._plane))
        self._voxels = self._k = 0

    def add(self, truth: Any, volumes: Any, mask: Any) -> None:
        """Add the next plane: of the truth (nj, ni), of the volumes (volumes, nj, ni), and of the mask."""
        self._voxels += int(np.count_nonzero(mask))
        if self._axis == 2 and self._ranges is None:
            for volume, similar in zip(volumes, self._similar, strict=True):
                similar[0] += _slide_plane(truth, volume, mask, self._c1, self._c2)
            return
        place = self._leave()
        turn = (lambda plane: plane.T) if self._axis == 1 else (lambda plane: plane)
        kept = self._kept[place]
        kept[0], self._masks[place] = turn(truth), turn(mask)
        for v, volume in enumerate(volumes):
            kept[1 + v] = turn(volume)
            _add_products(kept[0], kept[1 + v], self._masks[place], 1.0, self._sums[v])
        self._take()
        self._k += 1
        if self._k == self._nk and self._ranges is None:
            for _ in range(_HALF):  # behind the last plane everything is 0
                self._masks[self._leave()] = False
                self._take()
                self._k += 1

    def _leave(self) -> int:
        """Take the plane away that leaves the window; the place of the one that comes."""
        place = self._k % WINDOW
        if self._axis == 2:
            self._sums[:] = 0.0
        elif self._k >= WINDOW:
            kept = self._kept[place]
            for v, sums in enumerate(self._sums):
                _add_products(kept[0], kept[1 + v], self._masks[place], -1.0, sums)
        return place

    def _take(self) -> None:
        """Add the windows that are whole now."""
        if self._ranges is not None:
            for v, similar in enumerate(self._similar):
                self._take_slices(v, similar)
            return
        if self._k < _HALF:
            return
        mask = self._masks[(self._k - _HALF) % WINDOW]
        for sums, similar in zip(self._sums, self._similar, strict=True):
            similar[0] += _slide_mask(sums, mask, self._c1, self._c2)

    def _take_slices(self, v: int, similar: Any) -> None:
        ni = self._plane[1]
        if self._axis == 2:
            if self._ranges[self._k] > 0:
                _sum_along_i(self._sums[v], self._along)
                here = slice(self._k, self._k + 1)
                _slide(self._along, _HALF, ni - _HALF, self._ranges[here], similar[here], True)
        elif self._k >= WINDOW - 1:
            _slide(self._sums[v], 0, ni, self._ranges, similar, False)

    def values(self) -> list[float | None]:
        """SSIM of each volume, after the last plane; None if the truth is constant."""
        if self._ranges is None:
            known = self._c2 > 0 and self._voxels
            return [float(each[0] / self._voxels) if known else None for each in self._similar]
        rows, columns = self._plane
        windows = (rows - WINDOW + 1) * ((columns if self._axis == 2 else self._nk) - WINDOW + 1)
        counting = self._ranges > 0
        return [float((each[counting] / windows).mean()) if counting.any() else 0.0 for each in self._similar]
