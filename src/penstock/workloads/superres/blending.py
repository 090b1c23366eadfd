"""Blends of patients, in two passes over the planes: the mask first, then the experts mixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.superres.headers import Header, read_header
from penstock.workloads.superres.settings import SMALLEST_SD
from penstock.workloads.superres.volumes import PlaneWriter, compare_grids, read_planes
from penstock.workloads.superres.weights import Weights, entropy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.superres.components import Components
    from penstock.workloads.superres.moments import Moments

FOREGROUND = 0.1
"""Value of the truth from which a voxel may belong to the head."""
SHARE = 0.1
"""The same without a truth: as a share of the largest value of the experts' mean."""


def evaluate(
    paths: Sequence[str | Path], moments: Moments, weights: Weights, into: Path | None
) -> list[dict[str, float]]:
    """Blend a patient whose truth is known, and measure the blend and each expert.

    Args:
        paths: the experts' volumes in the order of the weights, then the truth.
        moments: of this patient: means and deviations.
        weights: of a fit that need not have seen it.
        into: a ``.nii.gz`` to write the blend to, or None.

    Returns the metrics of the blend, then of each expert (see ``quality``).

    Raises:
        BadInput: see :func:`take_moments`; shapes differ from the fit's; nothing is above 0.1.
    """
    from penstock.workloads.superres.components import Components
    from penstock.workloads.superres.quality import Quality, Slices

    header = _check(paths, weights)
    shape = header.shape
    slices, components = Slices(shape, weights.settings.ssim_axis), Components(shape)
    found = False
    for (truth,) in read_planes(paths[-1:], shape):
        slices.add(truth)
        components.add(truth >= FOREGROUND)
        found |= bool((truth >= FOREGROUND).any())
    if not found:
        raise BadInput(f"no voxel is at least {FOREGROUND}: no head to evaluate", file=paths[-1])
    quality = Quality(len(paths), slices, moments.highest - moments.lowest)
    scale = moments.scale() if weights.settings.normalize == "zscore" else None
    shown = np.empty((len(paths), shape[1], shape[0]), np.float32)
    with ExitStack() as stack:
        writer = stack.enter_context(PlaneWriter(into, header)) if into is not None else None
        for planes, blend in _mix(paths, weights, scale, components, shape):
            shown[0], shown[1:] = blend, planes[:-1]
            quality.add(planes[-1], shown)
            if writer is not None:
                writer.write(blend)
    return quality.told()


@dataclass(frozen=True, slots=True)
class Guess:
    """What stands in for a truth.

    Attributes:
        mean, deviation: of each expert over the mask, then those of the truth, as the training patients'
            contrast makes them expected; float64 (M + 1,).
        threshold: of the mask, for the experts' mean.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    threshold: float


def blend_new(paths: Sequence[str | Path], weights: Weights, into: Path) -> Guess:
    """Blend a patient without a truth: the mask comes from the experts' mean, its scale from theirs.

    Args:
        paths: the experts' volumes in the order of the weights.
        weights: of a fit.
        into: a ``.nii.gz`` to write to.

    Raises:
        BadInput: see :func:`evaluate`.
    """
    from penstock.workloads.superres.components import Components

    header = _check(paths, weights)
    shape, count = header.shape, len(paths)
    highest = max(float(planes.mean(0).max()) for planes in read_planes(paths, shape))
    if highest <= 0:
        raise BadInput("no voxel of the experts' mean is above 0", file=paths[0])
    threshold = SHARE * highest
    components = Components(shape)
    voxels, sums = 0, np.zeros((2, count))
    for planes in read_planes(paths, shape):
        mean = planes.mean(0)
        mask = mean >= threshold
        components.add(mask)
        voxels += int(mask.sum())
        for v, plane in enumerate(planes):
            values = plane[mask].astype(np.float64)
            sums[:, v] += values.sum(), (values * values).sum()
    mean, squares = sums / voxels
    deviation = np.maximum(np.sqrt(np.maximum(squares - mean**2, 0)), SMALLEST_SD)
    expected = weights.contrast * (mean.mean(), deviation.mean())
    guess = Guess(np.append(mean, expected[0]), np.append(deviation, expected[1]), threshold)
    scale = (guess.mean, guess.deviation) if weights.settings.normalize == "zscore" else None
    with PlaneWriter(into, header) as writer:
        for _, blend in _mix(paths, weights, scale, components, shape):
            writer.write(blend)
    return guess


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
    return headers[-1]


def _mix(
    paths: Sequence[str | Path], weights: Weights, scale: Any, components: Components, shape: Any
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """(planes of all volumes, plane of the blend) one after the other; the same arrays each time."""
    from penstock.workloads.superres.windows import mix_plane

    experts = len(weights.models)
    mean, deviation = scale if scale is not None else (np.zeros(experts + 1), np.ones(experts + 1))
    factors = np.stack([1 / deviation[:-1], -mean[:-1] / deviation[:-1]], 1) * deviation[-1]
    mask = np.empty((shape[1], shape[0]), bool)
    blend = np.empty((shape[1], shape[0]), np.float32)
    weigh = weigher(weights)
    for k, planes in enumerate(read_planes(paths, shape)):
        components.plane(k, mask)
        mix_plane(weigh(k), planes[:experts], factors, float(mean[-1]), mask, blend)
        yield planes, blend


def weigher(weights: Weights) -> Any:
    """The weights of a plane, float64 (nj, ni, M), by its number; the same array each time."""
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
