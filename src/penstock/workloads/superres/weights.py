"""The weights of a fold: solved, smoothed, stored in one file with all that using or refitting takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.foreign_arrays import load_npz
from penstock.workloads.superres.moments import Moments, Statistics, Total, statistics_of
from penstock.workloads.superres.settings import Settings, grid_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ARRAYS = (
    "rids", "n", "Q", "B", "Y", "W", "W_exact", "gap", "contrast", "affine", "lively", "shape", "models",
    "config",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Weights:
    """The result of training a fold.

    Attributes:
        statistics: of the regions with voxels: cells under ``--compat upstream``, else tiles.
        W: weights, float64 (R, M), smoothed.
        W_exact: before smoothing.
        gap: duality gap over trace, (R,); NaN where weights are not in a simplex.
        contrast: mean and deviation of the truth, each as a multiple of the experts' average, float64
            (2,): what a patient without a truth is scaled by.
        lively: which experts had more than one value, in some patient; the others have no weight.
        shape: voxels of the volumes.
        affine: voxel indices to millimetres of the patients that were learnt from, float64 (4, 4).
        models: names of the experts, in the order of W's columns.
        settings: of the fit.
    """

    statistics: Statistics
    W: NDArray[np.float64]
    W_exact: NDArray[np.float64]
    gap: NDArray[np.float64]
    contrast: NDArray[np.float64]
    affine: NDArray[np.float64]
    lively: NDArray[np.bool_]
    shape: tuple[int, int, int]
    models: tuple[str, ...]
    settings: Settings

    @property
    def uncertified(self) -> int:
        """Regions whose gap is larger than 1e-12 of the trace."""
        from penstock.workloads.superres.simplex import CERTIFIED

        return int((self.gap > CERTIFIED).sum())

    def tiles(self) -> NDArray[np.float64]:
        """Weights of all tiles, float64 (ti, tj, tk, M); tiles without voxels weight all experts alike."""
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
            contrast=self.contrast, affine=self.affine, lively=self.lively, shape=np.array(self.shape),
            models=np.array(self.models), config=json.dumps(self.settings.as_json()),
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
            kept["affine"],
            kept["lively"],
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
            return cls.of(load_npz(path, needed=_ARRAYS))
        except FileNotFoundError:
            raise BadInput("no such file", file=path) from None
        except MemoryError:
            raise
        except Exception as error:  # what is missing, or of another shape, shows in many ways
            raise BadInput(f"is no weights.npz of a fit: {error}", file=path) from error


def fit(patients: Iterable[Moments], models: Sequence[str], settings: Settings) -> Weights:
    """Fit weights to the sums of patients, added in the given order in two passes. Reads no voxel.

    An expert that has one value everywhere, in every patient, has no weight. A patient in which the truth or
    an expert that counts elsewhere has one value everywhere teaches nothing, and is left out.

    Raises:
        BadInput: no patient is left, or patients have different shapes.
    """
    fitting = Fitting(models, settings)
    twice = list(patients) if isinstance(patients, Iterator) else patients
    for moments in twice:
        fitting.look_at(moments)
    for moments in twice:
        fitting.add(moments)
    return fitting.solve()


class Fitting:
    """A fit in two passes over the patients: first which volumes are informative, then the sums.

    Args:
        models: the experts.
        settings: of the fit.
    """

    def __init__(self, models: Sequence[str], settings: Settings) -> None:
        self._models, self._settings = models, settings
        self._lively = np.zeros(len(models), bool)
        self._shape: tuple[int, int, int] | None = None
        self._affine = np.eye(4)
        self._total: Total | None = None
        self._contrasts: list[NDArray[np.float64]] = []

    def look_at(self, moments: Moments) -> None:
        """The first pass over a patient.

        Raises:
            BadInput: its shape is not that of those before.
        """
        if self._shape is None:
            self._shape, self._affine = moments.shape, moments.affine
        elif moments.shape != self._shape:
            raise BadInput(
                f"patients have shapes {self._shape} and {moments.shape}: one grid of regions needs one shape"
            )
        self._lively |= ~moments.flat()[:-1]

    def teaches(self, moments: Moments) -> bool:
        """Whether a patient is informative about the truth and every expert that counts."""
        flat = moments.flat()
        return not (flat[-1] or (flat[:-1] & self._lively).any())

    def add(self, moments: Moments) -> None:
        """The second pass over a patient, after the first over all."""
        if not self.teaches(moments):
            return
        if self._total is None:
            regions = int(np.prod(grid_of(moments.shape, self._settings.stride)))
            self._total = Total(regions, len(self._models))
        self._total.add(statistics_of(moments, self._settings))
        self._contrasts.append(contrast_of(moments))

    def solve(self) -> Weights:
        """Solve every region, then smooth.

        Raises:
            BadInput: no patient is left.
        """
        if self._shape is None:
            raise BadInput("no patient is left to learn from: all were set aside")
        if self._total is None:
            raise BadInput(
                "no patient is left to learn from: in each the truth or an expert has one value everywhere"
            )
        settings = self._settings
        grid = grid_of(self._shape, settings.stride)
        statistics = (
            self._total.cells() if settings.upstream
            else self._total.tiles(grid, settings.patch // settings.stride)
        )  # fmt: skip
        exact, gap = _solve(statistics, self._lively, settings)
        W = smooth(exact, statistics.regions, grid, settings)
        contrast = np.mean(self._contrasts, axis=0)
        return Weights(
            statistics, W, exact, gap, contrast, self._affine, self._lively, self._shape,
            tuple(self._models), settings,
        )  # fmt: skip


def contrast_of(moments: Moments) -> NDArray[np.float64]:
    """Mean and deviation of a patient's truth, relative to the experts' average; float64 (2,)."""
    mean, deviation = moments.scale()
    lively = ~moments.flat()[:-1]
    experts = np.zeros(2)
    if lively.any():
        experts[:] = mean[:-1][lively].mean(), deviation[:-1][lively].mean()
    truth = np.array([mean[-1], deviation[-1]])
    # Experts without a mean of their own say nothing about the truth's.
    tiny = 1e-6 * np.abs(moments.largest).max()
    contrast: NDArray[np.float64] = np.divide(truth, experts, out=np.ones(2), where=np.abs(experts) > tiny)
    return contrast


def _solve(
    statistics: Statistics, lively: NDArray[np.bool_], settings: Settings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of all experts, those that say nothing at 0, and duality gaps; float64 (R, M) and (R,)."""
    from penstock.workloads.superres import simplex

    Q, b = statistics.Q[:, lively][:, :, lively], statistics.b[:, lively]
    upstream = settings.upstream
    gap = np.full(len(statistics.n), np.nan)
    if settings.simplex:
        found, gap = simplex.solve_simplex(Q, b, settings.ridge, absolute=upstream)
    else:
        found = simplex.solve_free(Q, b, settings.ridge, absolute=upstream)
    exact = np.zeros(statistics.b.shape)
    exact[:, lively] = found
    return exact, gap


def smooth(
    W: NDArray[np.float64], regions: NDArray[np.int64], grid: tuple[int, ...], settings: Settings
) -> NDArray[np.float64]:
    """One step towards the mean of face neighbours that have voxels.

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
    """-sum p log p of the weights' shares p along the last axis; 0 if one expert has all."""
    shares = np.maximum(weights, 0)
    shares = shares / np.maximum(shares.sum(-1, keepdims=True), 1e-300)
    return -(shares * np.log(np.maximum(shares, 1e-300))).sum(-1)
