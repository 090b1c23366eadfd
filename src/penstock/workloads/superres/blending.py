"""Blends of patients: calibrated by their experts, mixed plane by plane, measured if a truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.superres.calibration import Calibration
from penstock.workloads.superres.headers import Header, read_header
from penstock.workloads.superres.masks import Masks
from penstock.workloads.superres.settings import Settings
from penstock.workloads.superres.views import find_views
from penstock.workloads.superres.volumes import (
    Planes,
    PlaneWriter,
    Unpacked,
    compare_grids,
    compare_patients,
)
from penstock.workloads.superres.weights import Weights, entropy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.superres.moments import Moments


def evaluate(
    paths: Sequence[str | Path], moments: Moments, weights: Weights, into: Path | None, scratch: Path,
    mask: str | Path | None = None,
) -> dict[str, dict[str, float | None]]:  # fmt: skip
    """Blend a patient whose truth is known, and measure the blend and each expert.

    All are measured over the mask of the truth. Nothing else of the truth enters the blend, unless the
    calibration is by the truth.

    Args:
        paths: the experts' volumes in the order of the weights, then the truth.
        moments: of this patient.
        weights: of a fit that need not have seen it.
        into: a ``.nii.gz`` to write the blend to, or None.
        scratch: a folder for the unzipped volumes.
        mask: the volume of the mask, where that is the rule.

    Returns the metrics (see ``measuring``) of ``"blend"``, of each expert as it is, and, where volumes are
    standardised, of each expert given the same mean and deviation as the blend, as ``NAME@train-scale`` or
    ``NAME@truth-scale``. Where only the largest component counts, each also has ``removed``, the voxels left
    out of the mask that all are measured over, and ``blend_removed``, those left out of the blend's.

    Raises:
        BadInput: see :func:`take_moments`; shapes or places differ from the fit's.
    """
    from penstock.workloads.superres.measuring import Measure, Truth

    settings = weights.settings
    header = _check(paths, weights)
    given = [mask] if mask is not None else []
    count = len(paths)
    planes = Unpacked([*paths, *given], header.shape, settings.nan, scratch)
    with ExitStack() as stack:
        volumes = [stack.enter_context(closing(Planes(each, settings.nan))) for each in given]
        masks = Masks(settings.mask, volumes, (header.shape[1], header.shape[0]))
        axis = ssim_axis(settings, header)
        truth = Truth((each[count - 1] for each in planes), masks, moments, settings, axis, paths[-1])
    # The experts, and the mask behind them where there is one: the truth is left out.
    alone = [*range(count - 1), *range(count, len(planes.paths))]
    seen = Calibration(planes.only(alone), weights, masked=bool(given), file=paths[0])
    mean, deviation = moments.scale() if settings.by_truth else (seen.mean, seen.deviation)
    mixer = Mixer(weights, mean, deviation, seen.flat)
    measure = Measure(truth, mixer.volumes)
    with ExitStack() as stack:
        writer = stack.enter_context(PlaneWriter(into, header)) if into is not None else None
        for k, each in enumerate(planes):
            experts = each[: count - 1]
            inside = truth.head(k) if settings.upstream else seen.inside(k)
            # As published, a blend is measured as it is written; else where the truth is, as experts are.
            blend = mixer.blend(k, experts, inside if settings.upstream else None)
            measure.add(k, each[count - 1], mixer.all(experts, blend))
            if writer is not None:
                writer.write(np.where(inside, blend, np.float32(0)))
    names = ("blend", *weights.models, *(f"{name}@{settings.calibration}-scale" for name in mixer.rescaled))
    measured = dict(zip(names, measure.metrics(), strict=True))
    if truth.whole:
        return measured
    removed = {"removed": truth.removed(), "blend_removed": seen.removed}
    return {name: {**metrics, **removed} for name, metrics in measured.items()}


def blend_new(
    paths: Sequence[str | Path], weights: Weights, into: Path, scratch: Path,
    mask: str | Path | None = None,
) -> Calibration:  # fmt: skip
    """Blend a patient without a truth: mask, mean and deviation come from its experts alone.

    Args:
        paths: the experts' volumes in the order of the weights.
        weights: of a fit.
        into: a ``.nii.gz`` to write to.
        scratch: a folder for the unzipped volumes.
        mask: a volume that is not 0 where the head is; None: where the experts' mean is a tenth of its robust
            maximum or more.

    Raises:
        BadInput: see :func:`evaluate`; nothing is above 0.
    """
    header = _check(paths, weights)
    given = [mask] if mask is not None else []
    planes = Unpacked([*paths, *given], header.shape, weights.settings.nan, scratch)
    seen = Calibration(planes, weights, masked=bool(given), file=paths[0])
    mixer = Mixer(weights, seen.mean, seen.deviation, seen.flat)
    with PlaneWriter(into, header) as writer:
        for k, each in enumerate(planes):
            writer.write(mixer.blend(k, each[: len(paths)], seen.inside(k)))
    return seen


def ssim_axis(settings: Settings, header: Header) -> int:
    """The array axis across which SSIM slices are taken."""
    if settings.upstream:
        return ("axial", "coronal", "sagittal").index(settings.ssim_axis)
    return next(view.axis for view in find_views(header.affine) if view.name == settings.ssim_axis)


def write_maps(weights: Weights, like: Header, folder: Path) -> None:
    """Write a fold's weights at each voxel: ``weights.nii.gz`` (4D), ``entropy`` and ``dominant``."""
    nk = weights.shape[2]
    experts = len(weights.models)
    weigh = weigher(weights)
    with PlaneWriter(folder / "weights.nii.gz", like, volumes=experts) as writer:
        for m in range(experts):
            for k in range(nk):
                writer.write(weigh(k)[:, :, m])
    with (
        PlaneWriter(folder / "entropy.nii.gz", like) as unsure,
        PlaneWriter(folder / "dominant.nii.gz", like) as dominant,
    ):
        for k in range(nk):
            plane = weigh(k)
            unsure.write(entropy(plane))
            dominant.write(plane.argmax(-1))


# ------------------------------------------------------------------ planes


def _check(paths: Sequence[str | Path], weights: Weights) -> Header:
    headers = [read_header(path) for path in paths]
    for path, header in zip(paths, headers, strict=True):
        compare_grids(header, path, headers[-1], paths[-1])
    if headers[-1].shape != weights.shape:
        raise BadInput(
            f"its shape is {headers[-1].shape}, and the weights were learnt on {weights.shape}",
            file=paths[-1],
        )
    if weights.settings.same_grid == "affine":
        compare_patients(weights.shape, headers[-1].affine, weights.affine, paths[-1])
    return headers[-1]


class Mixer:
    """Blends planes, and rescales experts to the blend's mean and deviation.

    Args:
        weights: of a fit.
        mean, deviation: of each expert, then those that the blend gets, float64 (M + 1,).
        flat: experts with one value everywhere, which have no part in a blend of standardised volumes.

    Attributes:
        rescaled: names of the experts that are given the blend's mean and deviation too.
        volumes: the blend, the experts, and the rescaled ones.
    """

    def __init__(self, weights: Weights, mean: Any, deviation: Any, flat: NDArray[np.bool_]) -> None:
        experts, shape = len(weights.models), weights.shape
        standardised = weights.settings.normalize == "zscore"
        self._lively = ~flat if standardised else np.ones(experts, bool)
        self._mean = float(mean[-1]) if standardised else 0.0
        factors = np.ones(experts)
        if standardised:
            factors = np.divide(deviation[-1], deviation[:-1], out=np.zeros(experts), where=self._lively)
            self._factors = np.stack([factors, -mean[:-1] * factors], 1)
        else:
            self._factors = np.stack([factors, np.zeros(experts)], 1)
        self._simplex = weights.settings.simplex
        self._weigh = weigher(weights)
        self._everywhere = np.ones((shape[1], shape[0]), bool)
        self._blend = np.empty((shape[1], shape[0]), np.float32)
        live = zip(weights.models, self._lively, strict=True)
        self.rescaled = [name for name, on in live if on and standardised]
        self.volumes = 1 + experts + len(self.rescaled)
        self._all = np.empty((self.volumes, shape[1], shape[0]), np.float32)

    def blend(
        self, k: int, experts: NDArray[np.float32], inside: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """The blend's plane k, float32 (nj, ni), 0 outside; the same buffer each time."""
        from penstock.workloads.superres.windows import mix_plane

        weights = self._weigh(k)
        if not self._lively.all():
            weights = np.where(self._lively, weights, 0.0)
            if self._simplex:
                weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
        mask = self._everywhere if inside is None else inside
        mix_plane(weights, experts, self._factors, self._mean, mask, self._blend)
        return self._blend

    def all(self, experts: NDArray[np.float32], blend: NDArray[np.float32]) -> NDArray[np.float32]:
        """Blend, experts and rescaled experts, float32 (volumes, nj, ni); the same buffer each time."""
        count = len(experts)
        self._all[0], self._all[1 : 1 + count] = blend, experts
        if self.rescaled:
            on = np.flatnonzero(self._lively)
            for at, expert in enumerate(on, 1 + count):
                factor, summand = self._factors[expert]
                self._all[at] = experts[expert] * factor + (summand + self._mean)
        return self._all


def weigher(weights: Weights) -> Any:
    """The weights of a plane, float64 (nj, ni, M), by number; the same buffer each time."""
    from penstock.workloads.superres.windows import axis_windows, weigh_plane

    s = weights.settings
    along = [axis_windows(n, s.patch, s.stride, s.window, zero=s.upstream) for n in weights.shape]
    tiles = weights.tiles()
    out = np.empty((weights.shape[1], weights.shape[0], len(weights.models)))
    eps = 1e-8 if s.upstream else 0.0

    def weigh(k: int) -> Any:
        weigh_plane(tiles, *along, k, eps, out)
        return out

    return weigh
