"""Calibrates a patient's blend from its experts alone: mask of the head, mean and deviation.

Nothing of a truth enters here. A truth has more contrast than experts, which blur, so mean and deviation are
the experts' own times what the truths of the training patients had of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.superres.moments import FLAT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.superres.weights import Weights

_SHARE = 0.1
"""The head is where the experts' mean is at least this share of its robust maximum."""
_ROBUST = 0.99
"""The share of the positive voxels up to that maximum: a spike or a vessel lies above it."""
SMALL = 0.02
"""Share of the box under which a mask is reported as suspicious."""


class Calibration:
    """A patient's mask, means and deviations.

    Args:
        planes: of the experts, float32 (M, nj, ni), and of the mask behind them where there is one; gone
            through up to three times.
        weights: of a fit.
        masked: whether the last volume is the mask.
        file: for errors.

    Attributes:
        mean, deviation: of each expert in the mask, then those that the blend gets, float64 (M + 1,).
        flat: which experts have one value in the mask.
        threshold: of the experts' mean; None where a mask was given.
        kept: share of the box that the mask is.
        removed: voxels that are not in its largest component, where only that is wanted.

    Raises:
        BadInput: no voxel is in the mask; without a mask, none is above 0.
    """

    def __init__(
        self, planes: Iterable[NDArray[np.float32]], weights: Weights, *, masked: bool, file: object
    ) -> None:
        from penstock.workloads.superres.components import Components

        self._experts = len(weights.models)
        self._lively = weights.lively
        self._masked, self._whole = masked, not weights.settings.largest_component
        self._components = Components(weights.shape)
        self._plane = np.empty((weights.shape[1], weights.shape[0]), bool)
        self.threshold = None if masked else self._find_threshold(planes, file)
        mean, self.deviation, largest, voxels = self._sums(planes)
        if not voxels:
            raise BadInput("no voxel is in the mask", file=file)
        self.flat = self.deviation <= FLAT * largest
        self.removed = 0 if self._whole else self._components.smaller()
        self.kept = float((voxels - self.removed) / np.prod(weights.shape))
        self.flat |= ~self._lively
        lively = ~self.flat if (~self.flat).any() else np.ones(self._experts, bool)
        expected = weights.contrast * (mean[lively].mean(), self.deviation[lively].mean())
        self.mean = np.append(mean, expected[0])
        self.deviation = np.append(self.deviation, expected[1])

    def inside(self, k: int) -> NDArray[np.bool_]:
        """The mask's plane k, bool (nj, ni); the same buffer each time."""
        self._components.plane(k, self._plane, every=self._whole)
        return self._plane

    def _mean(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the experts that say something."""
        experts = planes[: self._experts]
        mean: NDArray[np.float32] = (experts if self._lively.all() else experts[self._lively]).mean(0)
        return mean

    def _find_threshold(self, planes: Iterable[NDArray[np.float32]], file: object) -> float:
        """From the exact quantile of the positive voxels: its upper bits first, then the lower ones."""
        upper = np.zeros(1 << 15, np.int64)
        for each in planes:
            upper += np.bincount(_bits(self._mean(each)) >> 16, minlength=len(upper))
        rank = int(np.ceil(_ROBUST * upper.sum()))
        if not rank:
            raise BadInput("no voxel of the experts' mean is above 0; give a mask (--mask)", file=file)
        high = int(np.searchsorted(np.cumsum(upper), rank))
        lower = np.zeros(1 << 16, np.int64)
        for each in planes:
            bits = _bits(self._mean(each))
            lower += np.bincount(bits[bits >> 16 == high] & 0xFFFF, minlength=len(lower))
        low = int(np.searchsorted(np.cumsum(lower), rank - int(upper[:high].sum())))
        return _SHARE * float(np.int32(high << 16 | low).view(np.float32))

    def _sums(self, planes: Iterable[NDArray[np.float32]]) -> tuple[Any, Any, Any, int]:
        """Means, deviations and largest absolute values of the experts in the mask, and its voxels."""
        origin = np.zeros(self._experts)
        voxels, sums, largest = 0, np.zeros((2, self._experts)), np.zeros(self._experts)
        for each in planes:
            experts = each[: self._experts]
            inside = each[-1] != 0 if self._masked else self._mean(each) >= np.float32(self.threshold)
            self._components.add(inside)
            values = experts[:, inside].astype(np.float64)
            if not values.size:
                continue
            if not voxels:  # squares of values near each other and far from 0 would leave nothing
                origin = values[:, 0].copy()
            largest = np.maximum(largest, np.abs(values).max(1))
            values -= origin[:, None]
            voxels += values.shape[1]
            sums += values.sum(1), (values * values).sum(1)
        mean, squares = sums / max(voxels, 1)
        return mean + origin, np.sqrt(np.maximum(squares - mean**2, 0)), largest, voxels


def _bits(mean: NDArray[np.float32]) -> NDArray[np.int32]:
    """Positive voxels as integers, which are in the same order."""
    bits: NDArray[np.int32] = mean[mean > 0].view(np.int32)
    return bits
