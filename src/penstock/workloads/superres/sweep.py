"""The function of the stage ``sweep``: errors of other settings on held-out patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from penstock.workloads.superres.moments import Moments, Total, statistics_of
from penstock.workloads.superres.patients import by_number
from penstock.workloads.superres.settings import Settings, grid_of
from penstock.workloads.superres.warming import compiles, rehearse
from penstock.workloads.superres.weights import Weights, fit


@dataclass(frozen=True)
class Sweep:
    """Computes the held-out error of other settings, from the sums alone.

    Args:
        settings: as JSON values; an item says what differs.
        models: the experts.
        folds: (number, numbers of the training patients, numbers of the test patients).
    """

    settings: Mapping[str, Any]
    models: tuple[str, ...]
    folds: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiles(fits=True)

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        rehearse(Settings(**self.settings), len(self.models), fits=True)

    def __call__(self, differs: Mapping[str, Any], *, moments: Sequence[Path]) -> list[dict[str, Any]]:
        """One row per fold: mean squared errors of the regions' predictions, in deviations of the truth.

        ``error`` is the mean over the ``patients`` that are tested; ``inner_error`` that over the patients
        that are learnt from, each predicted by the others of them: what a choice may look at.
        """
        chosen = replace(Settings(**self.settings), **differs)
        found = by_number(moments)
        rows = []
        for number, train, test in self.folds:
            weights = self._fit(found, train, chosen)
            errors = [held_out(Moments.load(found[p]), weights) for p in test if p in found]
            inner = []
            for _, _, left_out in self.folds:
                inside = [p for p in left_out if p in train and p in found]
                rest = [p for p in train if p not in inside]
                if inside and any(p in found for p in rest):
                    fitted = self._fit(found, rest, chosen)
                    inner += [held_out(Moments.load(found[p]), fitted) for p in inside]
            uncertified = weights.uncertified if chosen.simplex else None
            rows.append({
                **differs, "fold": number, "error": _mean(errors), "patients": len(errors),
                "inner_error": _mean(inner), "uncertified": uncertified,
            })  # fmt: skip
        return rows

    def _fit(self, found: Mapping[int, Path], train: Sequence[int], chosen: Settings) -> Weights:
        return fit(_Kept([found[p] for p in train if p in found]), self.models, chosen)


@dataclass(frozen=True)
class _Kept:
    """Sums of patients, read when they are asked for."""

    paths: Sequence[Path]

    def __iter__(self) -> Iterator[Moments]:
        return (Moments.load(path) for path in self.paths)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def held_out(moments: Moments, weights: Weights) -> float:
    """Mean squared error of a patient's regions under weights that need not have seen it.

    In squared deviations of the truth, over the voxels of each region and its weights, before windows
    blend tiles. Exact, from the sums alone.
    """
    plain = replace(weights.settings, lambda_edge=0.0, lambda_grad=0.0)
    grid, experts = grid_of(moments.shape, plain.stride), len(weights.models)
    total = Total(int(np.prod(grid)), experts)
    total.add(statistics_of(moments, plain))
    seen = total.cells() if plain.upstream else total.tiles(grid, plain.patch // plain.stride)
    learnt = np.full((int(np.prod(grid)) + 1, experts), 1 / experts)
    learnt[weights.statistics.regions + 1] = weights.W
    w = learnt[seen.regions + 1]
    errors = np.einsum("ri,rij,rj->", w, seen.Q, w) - 2 * np.einsum("ri,ri->", w, seen.b) + seen.y.sum()
    return float(errors / seen.n.sum())
