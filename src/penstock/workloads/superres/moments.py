"""The sums over a patient (one pass over its volumes), and Q and b that follow from them.

A patient's :class:`Moments` is all that a fit ever asks of it: other weights of edges and gradients, another
ridge, smoothing, patch or fold are refitted from it without reading a voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.superres.settings import SMALLEST_SD, Settings, cells_of, grid_of
from penstock.workloads.superres.volumes import Planes, compare_grids

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the voxels of a patient where the truth is above 0, region by region.

    Attributes:
        shape: voxels along i, j and k.
        regions: numbers of the regions with such voxels, ascending, int64 (R,); -1 is the voxels in gaps.
        counts: voxels of each, int64 (R,).
        sums: float64 (R, 2, terms): plain and weighted with the gradient's power; the terms are the
            upper triangle of u u' for u = (experts, truth, 1), then that of the derivatives' products.
        steepest: largest gradient (Sobel) of the truth.
        lowest, highest: of the truth among all voxels.
    """

    shape: tuple[int, int, int]
    regions: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    steepest: float
    lowest: float
    highest: float

    @property
    def volumes(self) -> int:
        """Experts and the truth."""
        terms = self.sums.shape[2]
        return int(np.sqrt(terms)) - 1 if terms else 0

    def scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation (at least 1e-8) of each volume over the mask, the truth last; float64."""
        volumes = self.volumes
        total = _square(self.sums[:, 0].sum(0)[: _terms(volumes + 1)][None], volumes + 1)[0]
        mean = total[:volumes, volumes] / total[volumes, volumes]
        variance = np.diag(total)[:volumes] / total[volumes, volumes] - mean**2
        return mean, np.maximum(np.sqrt(np.maximum(variance, 0)), SMALLEST_SD)

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        one = np.array([self.steepest, self.lowest, self.highest])
        np.savez(
            path, shape=np.array(self.shape), regions=self.regions, counts=self.counts, sums=self.sums,
            truth=one,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Moments:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as kept:
            i, j, k = kept["shape"].tolist()
            return cls((i, j, k), kept["regions"], kept["counts"], kept["sums"], *kept["truth"].tolist())


def take_moments(paths: Sequence[str | Path], settings: Settings) -> Moments:
    """Read a patient once.

    Memory is four planes of each volume and the sums; it does not grow with the planes.

    Args:
        paths: the experts' volumes, then the truth.
        settings: see ``Settings.pass_key``.

    Raises:
        BadInput: a file is missing, damaged, not on the grid of the truth, holds voxels that are not
            finite, or a truth that is nowhere above 0.
    """
    with ExitStack() as stack:
        volumes = [stack.enter_context(closing(Planes(path))) for path in paths]
        for each in volumes[:-1]:
            compare_grids(each.header, each.path, volumes[-1].header, volumes[-1].path)
        moments = _pass(volumes, settings)
    if not moments.counts.sum():
        raise BadInput("no voxel is above 0: an empty volume", file=paths[-1])
    return moments


def _pass(volumes: Sequence[Planes], settings: Settings) -> Moments:
    from penstock.workloads.superres import kernel

    shape = volumes[-1].header.shape
    ni, nj, nk = shape
    count = len(volumes)
    centre, side = (np.float32(each) for each in kernel.OPERATORS[settings.operator])
    edge = count - 1 if settings.operator == "sobel" else count
    ring = np.empty((kernel.DEPTH, count, nj, ni), np.float32)
    parts = [np.empty((kernel.DEPTH, edge + 1, nj, ni), np.float32) for _ in range(3)]
    gaps = settings.pass_key()["gaps"]
    cells = cells_of(shape, settings.stride, gaps)
    regions = int(np.prod(grid_of(shape, settings.stride)))
    sums = np.zeros((regions + 1, 2, _terms(count + 1) + _terms(count)))
    counts = np.zeros(regions + 1, np.int64)
    extremes = [np.float32(np.inf), np.float32(-np.inf)]

    def read(k: int) -> None:
        place = k % kernel.DEPTH
        for v, volume in enumerate(volumes):
            plane = ring[place, v]
            volume.read_into(plane)
            kernel.derive(plane, centre, side, *(part[place, v] for part in parts))
        if edge == count:
            sobel = (np.float32(each) for each in kernel.OPERATORS["sobel"])
            kernel.derive(ring[place, -1], *sobel, *(part[place, edge] for part in parts))
        extremes[0] = min(extremes[0], ring[place, -1].min())
        extremes[1] = max(extremes[1], ring[place, -1].max())

    steepest = 0.0
    read(0)
    for k in range(nk):
        if k + 1 < nk:
            read(k + 1)
        at = np.array([max(k - 1, 0), k, min(k + 1, nk - 1)]) % kernel.DEPTH
        squared = kernel.add_plane(
            ring, *parts, at, centre, side, edge, float(settings.edge_power), cells, k, sums, counts
        )
        steepest = max(steepest, float(np.sqrt(np.float64(squared))))
    numbers = np.append(-1, np.arange(regions))
    order = np.append(regions, np.arange(regions))  # the gap first, as its number is the lowest
    order, numbers = order[counts[order] > 0], numbers[counts[order] > 0]
    return Moments(
        shape, numbers, counts[order], sums[order], steepest, float(extremes[0]), float(extremes[1])
    )


# ------------------------------------------------------------------ Q and b


@dataclass(frozen=True, slots=True)
class Statistics:
    """The quadratic objective w'Qw - 2 b'w + y of each region.

    Attributes:
        regions: their numbers, ascending, int64 (R,).
        n: voxels, int64 (R,).
        Q: float64 (R, M, M), symmetric.
        b: float64 (R, M).
        y: float64 (R,), the objective of weights that are 0.
    """

    regions: NDArray[np.int64]
    n: NDArray[np.int64]
    Q: NDArray[np.float64]
    b: NDArray[np.float64]
    y: NDArray[np.float64]


def statistics_of(moments: Moments, settings: Settings) -> Statistics:
    """Q and b of one patient: standardised, edges and gradients weighted."""
    volumes = moments.volumes
    experts = volumes - 1
    mean, deviation = np.zeros(volumes), np.ones(volumes)
    if settings.normalize == "zscore":
        mean, deviation = moments.scale()
    edge = 0.0
    if settings.lambda_edge > 0:
        steepest = moments.steepest / deviation[-1] + 1e-6
        edge = settings.lambda_edge / (steepest * deviation[-1]) ** settings.edge_power
    sums = moments.sums[:, 0] + edge * moments.sums[:, 1]
    values = _square(sums[:, : _terms(volumes + 1)], volumes + 1)
    first, total = values[:, :volumes, volumes], values[:, volumes, volumes]
    centred = (
        values[:, :volumes, :volumes]
        - first[:, :, None] * mean
        - mean[:, None] * first[:, None, :]
        + np.outer(mean, mean) * total[:, None, None]
    )
    if settings.lambda_grad > 0:
        centred += settings.lambda_grad * _square(sums[:, _terms(volumes + 1) :], volumes)
    centred /= np.outer(deviation, deviation)
    return Statistics(
        moments.regions, moments.counts, centred[:, :experts, :experts], centred[:, :experts, experts],
        centred[:, experts, experts],
    )  # fmt: skip


class Total:
    """Statistics of several patients added up, in the order in which they are given.

    Args:
        regions: how many there can be, without the gap.
        experts: M.
    """

    def __init__(self, regions: int, experts: int) -> None:
        self._n = np.zeros(regions + 1, np.int64)
        self._Q = np.zeros((regions + 1, experts, experts))
        self._b = np.zeros((regions + 1, experts))
        self._y = np.zeros(regions + 1)

    def add(self, more: Statistics) -> None:
        """Add a patient."""
        at = more.regions + 1
        self._n[at] += more.n
        self._Q[at] += more.Q
        self._b[at] += more.b
        self._y[at] += more.y

    def cells(self) -> Statistics:
        """Of the cells, those with voxels."""
        return _used(np.arange(-1, len(self._n) - 1), self._n, self._Q, self._b, self._y)

    def tiles(self, grid: tuple[int, ...], reach: int) -> Statistics:
        """Of the tiles, each of up to ``reach`` cells along each axis; its number is its first cell's."""
        made: list[Any] = [self._n[1:], self._Q[1:], self._b[1:], self._y[1:]]
        for at, each in enumerate(made):
            spread = each.reshape(*grid, *each.shape[1:])
            for axis, n in enumerate(grid):
                summed = np.zeros_like(spread)
                for step in range(min(reach, n)):
                    target, source = [slice(None)] * axis, [slice(None)] * axis
                    summed[(*target, slice(0, n - step))] += spread[(*source, slice(step, n))]
                spread = summed
            made[at] = spread.reshape(each.shape)
        return _used(np.arange(len(made[0])), *made)


def _used(regions: NDArray[np.int64], n: Any, *sums: Any) -> Statistics:
    used = n > 0
    return Statistics(regions[used], n[used], *(each[used] for each in sums))


def _terms(count: int) -> int:
    return count * (count + 1) // 2


def _square(triangle: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Upper triangles (R, terms) as symmetric matrices (R, count, count)."""
    matrices = np.empty((len(triangle), count, count))
    a, b = np.triu_indices(count)
    matrices[:, a, b] = triangle
    matrices[:, b, a] = triangle
    return matrices
