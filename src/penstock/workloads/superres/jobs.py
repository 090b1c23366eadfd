"""The functions of the stages: sums of a patient, weights of a fold, blends, new blends, pictures, sweeps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import penstock
from penstock.errors import BadInput
from penstock.workloads.superres import blending
from penstock.workloads.superres.headers import read_header
from penstock.workloads.superres.moments import Moments, Total, statistics_of, take_moments
from penstock.workloads.superres.patients import Patient, Patients
from penstock.workloads.superres.settings import SMALLEST_SD, Settings, grid_of
from penstock.workloads.superres.weights import Weights, fit

WEIGHTS = "weights.npz"


@dataclass(frozen=True)
class TakeMoments:
    """The sums of a patient, as a file.

    Args:
        stride, gaps, operator, edge_power: see ``Settings.pass_key``.
        shape: of all patients.
    """

    stride: int
    gaps: int | None
    operator: str
    edge_power: float
    shape: tuple[int, int, int]

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.superres import kernel  # noqa: F401

    def __call__(self, patient: Patient) -> str:
        """Read the patient once.

        Raises:
            BadInput: see :func:`take_moments`; or its shape is not that of the others.
        """
        header = read_header(patient.paths[-1])
        if header.shape != self.shape:
            raise BadInput(
                f"its shape is {header.shape}, that of most patients is {self.shape}: regions are places "
                "in one grid",
                file=patient.paths[-1],
            )
        settings = Settings(
            patch=self.stride if self.gaps is None else self.gaps, stride=self.stride,
            operator=self.operator, edge_power=self.edge_power, upstream=True,
        )  # fmt: skip
        path = penstock.share().folder / f"{_safe(patient.pid)}.npz"
        take_moments(patient.paths, settings).save(path)
        return str(path)


def fit_fold(
    folder: Path, *, moments: Sequence[Path], train: Sequence[int], names: Sequence[str],
    models: Sequence[str], settings: Mapping[str, Any], like: str | None,
) -> dict[str, Any]:  # fmt: skip
    """A step: ``weights.npz`` of a fold, and maps of them on the grid of ``like``.

    Args:
        folder: to write into.
        moments: files of all patients.
        train: numbers of those to learn from.
        names: of these.
        models: the experts.
        settings: as told.
        like: a volume with the geometry of the maps; None for no maps.
    """
    chosen = Settings(**settings)
    found = _by_number(moments)
    learnt = [number for number in train if number in found]
    constant: list[str] = []

    def each() -> Iterator[Moments]:
        for number in learnt:
            one = Moments.load(found[number])
            flat = np.flatnonzero(one.scale()[1] <= SMALLEST_SD)
            constant.extend(f"{names[train.index(number)]}: {(*models, 'HR')[v]}" for v in flat)
            yield one

    weights = fit(each(), models, chosen)
    weights.save(folder / WEIGHTS)
    if like is not None:
        blending.write_maps(weights, read_header(like), folder)
    return {
        "regions": len(weights.gap),
        "uncertified": weights.uncertified if chosen.simplex else None,
        "largest_gap": float(weights.gap.max()) if chosen.simplex else None,
        "constant": constant,
    }


@dataclass(frozen=True)
class Evaluate:
    """Blend and measure a patient with the weights of its fold.

    Args:
        models: the experts.
        keep: write the blend.
    """

    models: tuple[str, ...]
    keep: bool

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.superres import components, quality, windows  # noqa: F401

    def __call__(self, patient: Patient, *, moments: Sequence[Path], **folds: Path) -> dict[str, Any]:
        """``metrics``: a row for the blend and one for each expert; ``blends``: the file, or None."""
        weights = Weights.load(folds[f"fold_{patient.fold}"] / WEIGHTS)
        own = Moments.load(_by_number(moments)[patient.number])
        into = penstock.share().folder / f"{_safe(patient.pid)}.nii.gz" if self.keep else None
        told = blending.evaluate(patient.paths, own, weights, into)
        rows = [
            {"fold": patient.fold, "patient": patient.pid, "method": method, **metrics}
            for method, metrics in zip(("blend", *self.models), told, strict=True)
        ]
        return {"metrics": rows, "blends": None if into is None else str(into)}


@dataclass(frozen=True)
class BlendNew:
    """Blend a patient without a truth."""

    def __call__(self, patient: Patient, *, weights: Mapping[str, Any]) -> dict[str, Any]:
        """``blends``: the file; ``scales``: a row with what stood in for the truth."""
        into = penstock.share().folder / f"{_safe(patient.pid)}.nii.gz"
        guess = blending.blend_new(patient.paths, Weights.of(weights), into)
        row = {
            "patient": patient.pid,
            "mean": float(guess.mean[-1]),
            "deviation": float(guess.deviation[-1]),
            "threshold": guess.threshold,
        }
        return {"scales": row, "blends": str(into)}


class _Drawing:
    def warm(self) -> None:
        """Load matplotlib and the compiled code, once for all workers."""
        from penstock.workloads.superres import pictures, windows  # noqa: F401

    def _draw(
        self, patient: Patient, blends: Sequence[Path], weights: Weights, title: str, best: int | None = None
    ) -> str:
        from penstock.workloads.superres.pictures import draw

        path = penstock.share().folder / f"{_safe(patient.pid)}.png"
        draw(path, (*patient.paths, _by_number(blends)[patient.number]), weights, title, best)
        return str(path)


@dataclass(frozen=True)
class DrawTested(_Drawing):
    """A picture of a patient that the stage ``test`` blended and measured.

    Args:
        models: the experts.
    """

    models: tuple[str, ...]

    def __call__(self, patient: Patient, *, test: Mapping[str, Any], **folds: Path) -> str:
        """The file."""
        from pyarrow.dataset import field

        weights = Weights.load(folds[f"fold_{patient.fold}"] / WEIGHTS)
        rows = test["metrics"].to_table(filter=field("patient") == patient.pid).to_pylist()
        told = {row["method"]: row for row in rows}
        best = max(self.models, key=lambda model: told[model]["psnr"])
        title = [f"{patient.pid}, fold {patient.fold}"]
        for name, row in (("blend", told["blend"]), (f"best expert, {best}", told[best])):
            title.append(f"{name}: PSNR {row['psnr']:.2f} dB, SSIM {row['ssim']:.3f}")
        return self._draw(patient, test["blends"], weights, " · ".join(title), self.models.index(best))


@dataclass(frozen=True)
class DrawNew(_Drawing):
    """A picture of a patient that the stage ``new`` blended, without a truth."""

    def __call__(self, patient: Patient, *, new: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
        """The file."""
        return self._draw(patient, new["blends"], Weights.of(weights), patient.pid)


@dataclass(frozen=True)
class Sweep:
    """The held-out error of other settings, from the sums alone.

    Args:
        settings: as told; an item says what differs.
        models: the experts.
        folds: (number, numbers of the training patients, numbers of the test patients).
    """

    settings: Mapping[str, Any]
    models: tuple[str, ...]
    folds: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]

    def __call__(self, differs: Mapping[str, Any], *, moments: Sequence[Path]) -> list[dict[str, Any]]:
        """A row for each fold: mean squared error of the regions' predictions, in deviations of the truth."""
        chosen = replace(Settings(**self.settings), **differs)
        found = _by_number(moments)
        rows = []
        for number, train, test in self.folds:
            weights = fit((Moments.load(found[p]) for p in train if p in found), self.models, chosen)
            errors = [held_out(Moments.load(found[p]), weights) for p in test if p in found]
            error = float(np.mean(errors)) if errors else math.nan
            uncertified = weights.uncertified if chosen.simplex else None
            rows.append({**differs, "fold": number, "error": error, "uncertified": uncertified})
        return rows


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


def drawing(
    patients: Sequence[Patient], blended: penstock.Stored, function: Any, inputs: Mapping[str, Any]
) -> penstock.Job:
    """The stage of pictures: one of each patient whose blend is kept.

    Args:
        patients: those that were to be blended.
        blended: the stage that did it.
        function: draws one.
        inputs: of the function.
    """
    kept = [replace(each, number=at) for at, each in enumerate(patients) if at not in blended.missing]
    into = penstock.sinks.Files()
    return penstock.Job(source=Patients(kept), function=function, into=into, inputs=inputs, threads=1)


def _by_number(paths: Sequence[Path]) -> dict[int, Path]:
    # The sink names files by the numbers of their items; those set aside have none.
    return {int(path.name.partition("-")[0]): path for path in paths}


def _safe(pid: str) -> str:
    return pid.replace("/", "_")


def write_manifest(folder: Path, *, content: Mapping[str, Any]) -> dict[str, Any]:
    """A step: ``manifest.json``."""
    (folder / "manifest.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    return {"folds": len(content["folds"])}
