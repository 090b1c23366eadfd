"""The weights of a fold: solved, smoothed, kept in one file with all that is needed to use or refit them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import foreign
from penstock.errors import BadInput
from penstock.workloads.superres.moments import Moments, Statistics, Total, statistics_of
from penstock.workloads.superres.settings import SMALLEST_SD, Settings, grid_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Weights:
    """What a fold learnt.

    Attributes:
        statistics: of the regions with voxels: cells under ``--compat upstream``, else tiles.
        W: weights, float64 (R, M), smoothed.
        W_exact: before smoothing.
        gap: duality gap over trace, (R,); NaN where weights are not in a simplex.
        contrast: mean and deviation of the truth, each as a multiple of the experts' average, float64
            (2,): what a patient without a truth is scaled by.
        shape: voxels of the volumes.
        models: names of the experts, in the order of W's columns.
        settings: of the fit.
    """

    statistics: Statistics
    W: NDArray[np.float64]
    W_exact: NDArray[np.float64]
    gap: NDArray[np.float64]
    contrast: NDArray[np.float64]
    shape: tuple[int, int, int]
    models: tuple[str, ...]
    settings: Settings

    @property
    def uncertified(self) -> int:
        """Regions whose gap is larger than 1e-12 of the trace."""
        from penstock.workloads.superres.simplex import CERTIFIED

        return int((self.gap > CERTIFIED).sum())

    def tiles(self) -> NDArray[np.float64]:
        """Weights of all tiles, float64 (ti, tj, tk, M); a tile that saw no voxel mixes all alike."""
        grid = grid_of(self.shape, self.settings.stride)
        tiles = np.full((int(np.prod(grid)), len(self.models)), 1 / len(self.models))
        real = self.statistics.regions >= 0
        tiles[self.statistics.regions[real]] = self.W[real]
        return tiles.reshape(*grid, -1)

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        s = self.statistics
        np.savez(
            path, rids=s.regions, n=s.n, Q=s.Q, B=s.b, Y=s.y, W=self.W, W_exact=self.W_exact, gap=self.gap,
            contrast=self.contrast, shape=np.array(self.shape), models=np.array(self.models),
            config=json.dumps(self.settings.told()),
        )  # fmt: skip

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Weights:
        """From the arrays of such a file."""
        i, j, k = kept["shape"].tolist()
        return cls(
            Statistics(*(kept[name] for name in ("rids", "n", "Q", "B", "Y"))),
            kept["W"],
            kept["W_exact"],
            kept["gap"],
            kept["contrast"],
            (i, j, k),
            tuple(kept["models"].tolist()),
            Settings(**json.loads(str(kept["config"]))),
        )

    @classmethod
    def load(cls, path: str | Path) -> Weights:
        """Read what :meth:`save` wrote.

        Raises:
            BadInput: it is something else.
        """
        try:
            return cls.of(foreign.load_npz(path))
        except FileNotFoundError:
            raise BadInput("no such file", file=path) from None
        except MemoryError:
            raise
        except Exception as error:  # what is missing, or of another shape, shows in many ways
            raise BadInput(f"is no weights.npz of a fit: {error}", file=path) from error


def fit(patients: Iterator[Moments], models: Sequence[str], settings: Settings) -> Weights:
    """The weights from the sums of patients, added in the order given. Reads no voxel.

    Raises:
        BadInput: no patient, or patients of different shapes.
    """
    total, shape = None, (0, 0, 0)
    contrasts = []
    for moments in patients:
        if total is None:
            shape = moments.shape
            total = Total(int(np.prod(grid_of(shape, settings.stride))), len(models))
        elif moments.shape != shape:
            raise BadInput(
                f"patients have shapes {shape} and {moments.shape}: one grid of regions needs one shape"
            )
        total.add(statistics_of(moments, settings))
        contrasts.append(contrast_of(moments))
    if total is None:
        raise BadInput("no patient is left to learn from: all were set aside")
    return _solve(total, np.mean(contrasts, axis=0), shape, models, settings)


def contrast_of(moments: Moments) -> NDArray[np.float64]:
    """Mean and deviation of a patient's truth, as multiples of the experts' average; float64 (2,)."""
    mean, deviation = moments.scale()
    experts = np.array([mean[:-1].mean(), deviation[:-1].mean()])
    truth = np.array([mean[-1], deviation[-1]])
    # Experts without a mean or contrast of their own say nothing about the truth's.
    contrast: NDArray[np.float64] = np.divide(truth, experts, out=np.ones(2), where=experts > SMALLEST_SD)
    return contrast


def _solve(
    total: Total, contrast: NDArray[np.float64], shape: tuple[int, int, int], models: Sequence[str],
    settings: Settings,
) -> Weights:  # fmt: skip
    """Solve every region, then smooth."""
    from penstock.workloads.superres import simplex

    grid = grid_of(shape, settings.stride)
    upstream = settings.upstream
    statistics = total.cells() if upstream else total.tiles(grid, settings.patch // settings.stride)
    gap = np.full(len(statistics.n), np.nan)
    if settings.simplex:
        exact, gap = simplex.solve_simplex(statistics.Q, statistics.b, settings.ridge, absolute=upstream)
    else:
        exact = simplex.solve_free(statistics.Q, statistics.b, settings.ridge, absolute=upstream)
    W = smooth(exact, statistics.regions, grid, settings)
    return Weights(statistics, W, exact, gap, contrast, shape, tuple(models), settings)


def smooth(
    W: NDArray[np.float64], regions: NDArray[np.int64], grid: tuple[int, ...], settings: Settings
) -> NDArray[np.float64]:
    """One step towards the mean of the neighbours that share a face and have voxels.

    Args:
        W: float64 (R, M).
        regions: numbers of the rows of W; -1 has no neighbours.
        grid: regions along each axis.
        settings: ``tau`` and the constraints.
    """
    if settings.tau <= 0:
        return W
    real = regions >= 0
    weights, there = np.zeros((int(np.prod(grid)), W.shape[1])), np.zeros(int(np.prod(grid)))
    weights[regions[real]], there[regions[real]] = W[real], 1.0
    weights, there = weights.reshape(*grid, -1), there.reshape(grid)
    around, count = np.zeros_like(weights), np.zeros_like(there)
    for axis, n in enumerate(grid):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(0, n - 1), slice(1, n)
        for here, beside in ((tuple(low), tuple(high)), (tuple(high), tuple(low))):
            around[here] += weights[beside]
            count[here] += there[beside]
    mixed = (1 - settings.tau) * weights + settings.tau * around / np.maximum(count, 1)[..., None]
    mixed = np.where(count[..., None] > 0, mixed, weights).reshape(-1, W.shape[1])
    out = W.copy()
    out[real] = mixed[regions[real]]
    if settings.simplex or settings.upstream:
        out = np.maximum(out, 0)
        out /= out.sum(1, keepdims=True) + (1e-8 if settings.upstream else 0.0)
    return out


def entropy(weights: Any) -> Any:
    """-sum p log p of weights along the last axis, p being their shares; 0 where one expert has all."""
    shares = np.maximum(weights, 0)
    shares = shares / np.maximum(shares.sum(-1, keepdims=True), 1e-300)
    return -(shares * np.log(np.maximum(shares, 1e-300))).sum(-1)
