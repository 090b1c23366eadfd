"""The functions of the stages: a patient's sums, a fold's weights, blends, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import penstock
from penstock.errors import BadInput
from penstock.workloads.superres import blending
from penstock.workloads.superres.headers import read_header
from penstock.workloads.superres.moments import Moments, take_moments
from penstock.workloads.superres.patients import Patient, Patients, by_number
from penstock.workloads.superres.settings import Settings
from penstock.workloads.superres.volumes import compare_patients
from penstock.workloads.superres.warming import compiles, rehearse
from penstock.workloads.superres.weights import Fitting, Weights

WEIGHTS = "weights.npz"


@dataclass(frozen=True)
class TakeMoments:
    """Computes the sums of a patient, as a file.

    Args:
        stride, gaps, operator, edge_power, mask, nan, upstream: see ``Settings.pass_key``.
        shape: of all patients.
        affine: where they lie, 16 numbers; None where that is not compared.
    """

    stride: int
    gaps: int | None
    operator: str
    edge_power: float
    mask: str
    nan: str
    upstream: bool
    shape: tuple[int, int, int]
    affine: tuple[float, ...] | None

    @property
    def settings(self) -> Settings:
        """What the sums depend on."""
        return Settings(
            patch=self.stride if self.gaps is None else self.gaps, stride=self.stride,
            operator=self.operator, edge_power=self.edge_power, mask=self.mask, nan=self.nan,
            upstream=self.upstream,
        )  # fmt: skip

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiles()

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        rehearse(self.settings)

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
        if self.affine is not None:
            expected = np.array(self.affine).reshape(4, 4)
            compare_patients(self.shape, header.affine, expected, patient.paths[-1])
        path = penstock.share().folder / f"{_safe(patient.pid)}.npz"
        take_moments(patient.paths, self.settings, patient.mask).save(path)
        return str(path)


@dataclass(frozen=True)
class FitFold:
    """A step: ``weights.npz`` of a fold, and maps of them.

    Args:
        models: the experts.
        settings: as JSON values.
    """

    models: tuple[str, ...]
    settings: Mapping[str, Any]

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiles(fits=True)

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        rehearse(Settings(**self.settings), len(self.models), fits=True)

    def __call__(
        self, folder: Path, *, moments: Sequence[Path], train: Sequence[int], names: Sequence[str],
        like: str | None,
    ) -> dict[str, Any]:  # fmt: skip
        """Fit.

        Args:
            folder: to write into.
            moments: files of all patients.
            train: numbers of those to learn from.
            names: of these.
            like: a volume with the geometry of the maps; None for no maps.
        """
        chosen = Settings(**self.settings)
        found = by_number(moments)
        paths = {name: found[number] for name, number in zip(names, train, strict=True) if number in found}
        constant: list[str] = []
        shares: dict[str, float] = {}
        fitting = Fitting(self.models, chosen)
        for name, path in paths.items():
            one = Moments.load(path)
            fitting.look_at(one)
            shares[name] = one.share
            constant.extend(f"{name}: {(*self.models, 'HR')[v]}" for v in np.flatnonzero(one.flat()))
        left_out: list[str] = []
        for name, path in paths.items():
            one = Moments.load(path)
            fitting.add(one)
            if not fitting.teaches(one):
                left_out.append(name)
        weights = fitting.solve()
        weights.save(folder / WEIGHTS)
        if like is not None:
            blending.write_maps(weights, read_header(like), folder)
        return {
            "regions": len(weights.gap),
            "uncertified": weights.uncertified if chosen.simplex else None,
            "largest_gap": float(weights.gap.max()) if chosen.simplex else None,
            "constant": constant,
            "left_out": left_out,
            "mask_share": shares,
        }


@dataclass(frozen=True)
class Evaluate:
    """Blend and measure a patient with the weights of its fold.

    Args:
        models: the experts.
        settings: as JSON values.
        keep: write the blend.
    """

    models: tuple[str, ...]
    settings: Mapping[str, Any]
    keep: bool

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiles(blends=True)

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        rehearse(Settings(**self.settings), len(self.models), blends=True)

    def __call__(self, patient: Patient, *, moments: Sequence[Path], **folds: Path) -> dict[str, Any]:
        """``metrics``: a row for the blend and one for each expert; ``blends``: the file, or None."""
        weights = Weights.load(folds[f"fold_{patient.fold}"] / WEIGHTS)
        own = Moments.load(by_number(moments)[patient.number])
        into = penstock.share().folder / f"{_safe(patient.pid)}.nii.gz" if self.keep else None
        measured = blending.evaluate(patient.paths, own, weights, into, penstock.share().folder, patient.mask)
        rows = [
            {"fold": patient.fold, "patient": patient.pid, "method": method, **metrics}
            for method, metrics in measured.items()
        ]
        return {"metrics": rows, "blends": None if into is None else str(into)}


@dataclass(frozen=True)
class BlendNew:
    """Blends a patient without a truth.

    Args:
        differs: settings that are not those of the fit, by name.
    """

    differs: Mapping[str, Any]

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiles(blends=True)

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        rehearse(Settings(**self.differs), blends=True)

    def __call__(self, patient: Patient, *, weights: Mapping[str, Any]) -> dict[str, Any]:
        """``blends``: the file; ``scales``: a row with the substitutes for the truth's scale."""
        into = penstock.share().folder / f"{_safe(patient.pid)}.nii.gz"
        learnt = Weights.of(weights)
        chosen = replace(learnt.settings, **self.differs)
        seen = blending.blend_new(
            patient.paths, replace(learnt, settings=chosen), into, penstock.share().folder, patient.mask
        )
        row = {
            "patient": patient.pid,
            "mean": float(seen.mean[-1]),
            "deviation": float(seen.deviation[-1]),
            "threshold": seen.threshold,
            "kept": seen.kept,
            "removed": seen.removed,
        }
        return {"scales": row, "blends": str(into)}


class _Drawing:
    form: str

    def warming(self) -> str:
        """What to say before it is compiled."""
        return compiles(blends=True)

    def warm(self) -> None:
        """Load matplotlib and the compiled code, once for all workers."""
        from penstock.workloads.superres import pictures  # noqa: F401

        rehearse(Settings(), blends=True)

    def _draw(
        self, patient: Patient, blends: Sequence[Path], weights: Weights, title: str, best: int | None = None
    ) -> str:
        from penstock.workloads.superres.pictures import draw

        path = penstock.share().folder / f"{_safe(patient.pid)}.{self.form}"
        draw(path, (*patient.paths, by_number(blends)[patient.number]), weights, title, best)
        return str(path)


@dataclass(frozen=True)
class DrawTested(_Drawing):
    """Draws a patient that the stage ``test`` blended and measured.

    Args:
        models: the experts.
        form: ``"png"``, ``"svg"`` or ``"pdf"``.
    """

    models: tuple[str, ...]
    form: str = "png"

    def __call__(self, patient: Patient, *, test: Mapping[str, Any], **folds: Path) -> str:
        """The file."""
        from pyarrow.dataset import field

        weights = Weights.load(folds[f"fold_{patient.fold}"] / WEIGHTS)
        rows = test["metrics"].to_table(filter=field("patient") == patient.pid).to_pylist()
        row_of = {row["method"]: row for row in rows}
        best = min(self.models, key=lambda model: row_of[model]["mse"])
        title = [f"{patient.pid}, fold {patient.fold}"]
        for name, row in (("blend", row_of["blend"]), (f"best expert, {best}", row_of[best])):
            title.append(f"{name}: PSNR {_number(row['psnr'], 2)} dB, SSIM {_number(_ssim(row), 3)}")
        return self._draw(patient, test["blends"], weights, " · ".join(title), self.models.index(best))


@dataclass(frozen=True)
class DrawNew(_Drawing):
    """Draws a patient that the stage ``new`` blended, without a truth; ``form`` as above."""

    form: str = "png"

    def __call__(self, patient: Patient, *, new: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
        """The file."""
        return self._draw(patient, new["blends"], Weights.of(weights), patient.pid)


def drawing(
    patients: Sequence[Patient], blended: penstock.Stored, function: Any, inputs: Mapping[str, Any]
) -> penstock.Job:
    """The stage of pictures: one per patient whose blend is kept.

    Args:
        patients: those that were to be blended.
        blended: the stage that did it.
        function: draws one.
        inputs: of the function.
    """
    kept = [replace(each, number=at) for at, each in enumerate(patients) if at not in blended.missing]
    into = penstock.sinks.Files()
    return penstock.Job(source=Patients(kept), function=function, into=into, inputs=inputs, threads=1)


def _ssim(row: Mapping[str, Any]) -> float | None:
    found: float | None = row["ssim"] if "ssim" in row else row["ssim_slices"]
    return found


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _safe(pid: str) -> str:
    return pid.replace("/", "_")


def write_manifest(folder: Path, *, content: Mapping[str, Any]) -> dict[str, Any]:
    """A step: ``manifest.json``."""
    (folder / "manifest.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    return {"folds": len(content["folds"])}
