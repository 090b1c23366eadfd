"""Metrics of blends and experts against a truth, all over the truth's mask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.superres.components import Components
from penstock.workloads.superres.masks import Masks
from penstock.workloads.superres.quality import Errors, Slices, Ssim

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.superres.moments import Moments
    from penstock.workloads.superres.settings import Settings

FOREGROUND = 0.1
"""Value of the truth from which a voxel may belong to the head, under ``--compat upstream``."""
_BINS = 1 << 16


class Truth:
    """What must be known of a truth before anything is measured: mask, range and slices.

    Args:
        planes: of the truth, float32 (nj, ni), in order.
        masks: of its mask.
        moments: of the patient.
        settings: of the fit.
        axis: across which slices of SSIM are taken.
        file: for errors.

    Attributes:
        span: the range that PSNR and SSIM go by.
        slices: their own ranges, under ``--compat upstream``; else None.

    Raises:
        BadInput: under ``--compat upstream``, nothing is at least 0.1.
    """

    def __init__(
        self, planes: Iterable[NDArray[np.float32]], masks: Masks, moments: Moments, settings: Settings,
        axis: int, file: object,
    ) -> None:  # fmt: skip
        shape = moments.shape
        self.shape, self.axis = shape, axis
        self.whole = settings.upstream or not settings.largest_component
        self.slices = Slices(shape, axis) if settings.upstream else None
        self._mask, self._head = Components(shape), Components(shape)
        self._planes = np.empty((2, shape[1], shape[0]), bool)
        low, high = moments.lowest, moments.highest
        counts = np.zeros(_BINS, np.int64)
        for k, truth in enumerate(planes):
            inside = masks.read(k, truth)
            self._mask.add(inside)
            if self.slices is not None:
                self.slices.add(truth)
                self._head.add(truth >= FOREGROUND)
            elif settings.data_range == "p99.9":
                counts += np.histogram(truth[inside], _BINS, (low, high))[0]
        if settings.upstream and not self._head.count:
            raise BadInput(f"no voxel is at least {FOREGROUND}: no head to evaluate", file=file)
        if settings.data_range == "max":
            self.span = high - low
        elif settings.data_range == "p99.9":
            at = np.searchsorted(np.cumsum(counts), [0.001 * counts.sum(), 0.999 * counts.sum()])
            self.span = float(at[1] + 1 - at[0]) * (high - low) / _BINS
        else:
            self.span = float(settings.data_range)

    def mask(self, k: int) -> NDArray[np.bool_]:
        """Plane k of the compared voxels, bool (nj, ni); the same buffer each time."""
        self._mask.plane(k, self._planes[0], every=self.whole)
        return self._planes[0]  # type: ignore[no-any-return]

    def removed(self) -> int:
        """Voxels outside the mask's largest component, if only that is compared."""
        return 0 if self.whole else self._mask.smaller()

    def head(self, k: int) -> NDArray[np.bool_]:
        """Plane k of where the published program allows a blend; the same buffer each time."""
        self._head.plane(k, self._planes[1])
        return self._planes[1]  # type: ignore[no-any-return]


class Measure:
    """Metrics of several volumes.

    Args:
        truth: what they are compared with.
        volumes: how many.
    """

    def __init__(self, truth: Truth, volumes: int) -> None:
        self._truth = truth
        upstream = truth.slices is not None
        self._errors = Errors(volumes, truth.span, published=upstream)
        self._ssim = Ssim(volumes, truth.shape, truth.axis, truth.span, truth.slices)
        self._key = "ssim_slices" if upstream else "ssim"

    def add(self, k: int, truth: NDArray[np.float32], volumes: NDArray[np.float32]) -> None:
        """Add plane k of the truth (nj, ni), and of the volumes (volumes, nj, ni)."""
        inside = self._truth.mask(k)
        self._errors.add(truth, volumes, inside)
        self._ssim.add(truth, volumes, inside)

    def metrics(self) -> list[dict[str, float | None]]:
        """``mse``, ``mae``, ``psnr`` (dB), and ``ssim`` or ``ssim_slices``, of each volume, after the "
        "last plane."""
        return [
            {**errors, self._key: similar}
            for errors, similar in zip(self._errors.metrics(), self._ssim.values(), strict=True)
        ]
