"""A patient's sums (one pass over its volumes), and Q and b derived from them.

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

from penstock.workloads.superres.masks import Masks
from penstock.workloads.superres.settings import Settings, cells_of, grid_of
from penstock.workloads.superres.views import voxel_sizes
from penstock.workloads.superres.volumes import Planes, compare_grids

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLAT = 1e-6
"""Of a volume whose deviation is at most this share of its largest value, rounding is all that is left."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the voxels of a patient's mask, region by region.

    Attributes:
        shape: voxels along i, j and k.
        affine: voxel indices to millimetres, float64 (4, 4).
        regions: numbers of the regions with such voxels, ascending, int64 (R,); -1 is the voxels in gaps.
        counts: voxels of each, int64 (R,).
        sums: float64 (R, 2, terms): plain and weighted with the gradient's power; the terms are the
            upper triangle of u u' for u = (experts, truth, 1), then that of the derivatives' products.
        origin: what was taken away from each volume's values in u, the truth last, float64 (M + 1,).
        largest: absolute values of each volume in the mask, float64 (M + 1,).
        steepest: largest gradient (Sobel) of the truth.
        lowest, highest: of the truth in the mask; among all voxels under ``--compat upstream``.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    regions: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    origin: NDArray[np.float64]
    largest: NDArray[np.float64]
    steepest: float
    lowest: float
    highest: float

    @property
    def volumes(self) -> int:
        """Number of experts plus the truth."""
        terms = self.sums.shape[2]
        return int(np.sqrt(terms)) - 1 if terms else 0

    @property
    def share(self) -> float:
        """The mask's share of the box."""
        return float(self.counts.sum() / np.prod(self.shape))

    def scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of each volume over the mask, the truth last; float64. See :meth:`flat`."""
        mean, deviation = self._centred()
        return self.origin + mean, deviation

    def flat(self) -> NDArray[np.bool_]:
        """Which volumes are constant in the mask: a deviation of at most a millionth of the largest."""
        return self._centred()[1] <= FLAT * self.largest

    def _centred(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        volumes = self.volumes
        total = _square(self.sums[:, 0].sum(0)[: _terms(volumes + 1)][None], volumes + 1)[0]
        mean = total[:volumes, volumes] / total[volumes, volumes]
        variance = np.diag(total)[:volumes] / total[volumes, volumes] - mean**2
        return mean, np.sqrt(np.maximum(variance, 0))

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        one = np.array([self.steepest, self.lowest, self.highest])
        np.savez(
            path, shape=np.array(self.shape), affine=self.affine, regions=self.regions, counts=self.counts,
            sums=self.sums, origin=self.origin, largest=self.largest, truth=one,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Moments:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as kept:
            i, j, k = kept["shape"].tolist()
            names = ("affine", "regions", "counts", "sums", "origin", "largest")
            return cls((i, j, k), *(kept[name] for name in names), *kept["truth"].tolist())


def take_moments(paths: Sequence[str | Path], settings: Settings, mask: str | Path | None = None) -> Moments:
    """Read a patient once and compute the sums.

    Memory is four planes of each volume and the sums; it does not grow with the planes.

    Args:
        paths: the experts' volumes, then the truth.
        settings: see ``Settings.pass_key``.
        mask: a volume that is not 0 where the head is, for ``settings.mask`` ``"file"``.

    Raises:
        BadInput: a file is missing, damaged, not on the grid of the truth, holds voxels that are not
            finite, or the mask has no voxel or cannot be determined.
    """
    with ExitStack() as stack:
        every = [*paths] if mask is None else [*paths, mask]
        volumes = [stack.enter_context(closing(Planes(path, settings.nan))) for path in every]
        truth = volumes[len(paths) - 1]
        for each in volumes:
            compare_grids(each.header, each.path, truth.header, truth.path)
        return _Pass(volumes[: len(paths)], volumes[len(paths) :], settings).take()


class _Pass:
    """One pass over the planes of a patient."""

    def __init__(self, volumes: Sequence[Planes], mask: Sequence[Planes], settings: Settings) -> None:
        from penstock.workloads.superres import kernel

        self._volumes, self._settings = volumes, settings
        header = volumes[-1].header
        self._shape, self._affine = header.shape, header.affine
        ni, nj, _ = header.shape
        count = len(volumes)
        self._operator = [np.float32(each) for each in kernel.OPERATORS[settings.operator]]
        # Where gradients are of another operator, the truth is derived by Sobel once more, for the edges.
        self._edge = count - 1 if settings.operator == "sobel" else count
        self._ring = np.empty((kernel.DEPTH, count, nj, ni), np.float32)
        self._masks = Masks(settings.mask, mask, (nj, ni), kernel.DEPTH)
        self._parts = [np.empty((kernel.DEPTH, self._edge + 1, nj, ni), np.float32) for _ in range(3)]
        self._regions = int(np.prod(grid_of(header.shape, settings.stride)))
        self._sums = np.zeros((self._regions + 1, 2, _terms(count + 1) + _terms(count)))
        self._counts = np.zeros(self._regions + 1, np.int64)
        self._origin: NDArray[np.float64] | None = None
        self._largest = np.zeros(count)
        self._extremes = [np.float32(np.inf), np.float32(-np.inf)]

    def take(self) -> Moments:
        from penstock.workloads.superres import kernel

        settings, nk = self._settings, self._shape[2]
        cells = cells_of(self._shape, settings.stride, settings.pass_key()["gaps"])
        sizes = np.ones(3) if settings.upstream else voxel_sizes(self._affine)
        slopes = self._slopes(settings.operator, sizes)
        edges = self._slopes("sobel", sizes)
        steepest = 0.0
        self._read(0)
        for k in range(nk):
            if k + 1 < nk:
                self._read(k + 1)
            masks = self._masks.around(k, nk)
            if self._origin is None and masks[1].any():
                self._origin = self._first(k, masks[1])
            at = np.array([max(k - 1, 0), k, min(k + 1, nk - 1)]) % kernel.DEPTH
            squared = kernel.add_plane(
                self._ring, masks, *self._parts, at, *self._operator, slopes, self._edge, edges,
                float(settings.edge_power), settings.upstream, cells, k,
                np.zeros(len(self._volumes)) if self._origin is None else self._origin, self._sums,
                self._counts, self._largest,
            )  # fmt: skip
            steepest = max(steepest, float(np.sqrt(np.float64(squared))))
        return self._moments(steepest)

    def _slopes(self, operator: str, sizes: NDArray[np.float64]) -> NDArray[np.float32]:
        from penstock.workloads.superres import kernel

        gain = 1.0 if self._settings.upstream else kernel.GAINS[operator]
        return (1 / (gain * sizes)).astype(np.float32)

    def _first(self, k: int, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The values of the first voxel in the mask."""
        j, i = np.unravel_index(int(mask.argmax()), mask.shape)
        return self._ring[k % len(self._ring), :, j, i].astype(np.float64)

    def _read(self, k: int) -> None:
        from penstock.workloads.superres import kernel

        place = k % kernel.DEPTH
        for v, volume in enumerate(self._volumes):
            plane = self._ring[place, v]
            volume.read_into(plane)
            kernel.derive(plane, *self._operator, *(part[place, v] for part in self._parts))
        truth = self._ring[place, -1]
        if self._edge == len(self._volumes):
            sobel = (np.float32(each) for each in kernel.OPERATORS["sobel"])
            kernel.derive(truth, *sobel, *(part[place, self._edge] for part in self._parts))
        mask = self._masks.read(k, truth)
        seen = truth if self._settings.upstream else truth[mask]
        if seen.size:
            self._extremes[0] = min(self._extremes[0], seen.min())
            self._extremes[1] = max(self._extremes[1], seen.max())

    def _moments(self, steepest: float) -> Moments:
        self._masks.check(self._volumes[-1].path)
        assert self._origin is not None  # a mask without voxels is refused
        regions, counts = self._regions, self._counts
        numbers = np.append(-1, np.arange(regions))
        order = np.append(regions, np.arange(regions))  # the gap first, as its number is the lowest
        order, numbers = order[counts[order] > 0], numbers[counts[order] > 0]
        low, high = (float(each) for each in self._extremes)
        return Moments(
            self._shape, self._affine, numbers, counts[order], self._sums[order], self._origin, self._largest,
            steepest, low, high,
        )  # fmt: skip


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
        # A volume with one value says nothing: standardised, it is its mean everywhere.
        deviation = np.where(moments.flat(), np.inf, deviation)
    mean = mean - moments.origin
    edge = _edge_weight(moments, settings, float(deviation[-1]))
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


def _edge_weight(moments: Moments, settings: Settings, deviation: float) -> float:
    """What the power of the gradient is multiplied by: lambda_edge at the steepest edge."""
    steepest = moments.steepest
    if settings.upstream and settings.lambda_edge > 0:
        steepest += 1e-6 * deviation if np.isfinite(deviation) else 0.0
    if settings.lambda_edge == 0 or steepest == 0:
        return 0.0
    return float(settings.lambda_edge / steepest**settings.edge_power)


class Total:
    """Sum of several patients' statistics, in the order in which they are added.

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
        """Which cells have voxels."""
        return _used(np.arange(-1, len(self._n) - 1), self._n, self._Q, self._b, self._y)

    def tiles(self, grid: tuple[int, ...], reach: int) -> Statistics:
        """The tiles, each of up to ``reach`` cells along each axis, numbered by their first cell."""
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
