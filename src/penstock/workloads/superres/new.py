"""The workload ``superres-blend``: blends patients whose truth is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import penstock
from penstock import foreign
from penstock.workload_options import read_options
from penstock.workloads.superres.options import (
    mask_rule,
    need_matplotlib,
    need_numba,
    with_masks,
    with_pictures,
    with_source,
)

if TYPE_CHECKING:
    from penstock.workloads.superres.patients import Patient


@click.command()
@click.argument("weights", type=click.Path(dir_okay=False), metavar="WEIGHTS.npz")
@click.argument("manifest", type=click.Path(dir_okay=False), metavar="MANIFEST.json")
@with_source
@with_masks
@with_pictures
def _blend_command(**options: Any) -> None:
    """Blend patients whose truth is not known with weights that superres learnt.

    WEIGHTS.npz is fold-N/weights.npz of a run of superres; it names the experts. All patients of all folds of
    the manifest are blended; its "HR" is not read. Without --mask the head is where the experts' mean is at
    least a tenth of its robust maximum. Mean and deviation come from the experts, and from how the truths
    that were learnt from compare with theirs.
    """


class SuperresBlend:
    """The workload ``superres-blend``."""

    command = _blend_command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Blend; writes volumes to ``new/blends``, and substitutes for the truth's scale to ``new/scales``.

        Raises:
            BadInput: weights, manifest or a volume that is not what it should be.
            MissingExtra: a package is not installed.
        """
        from penstock.workloads.superres.calibration import SMALL
        from penstock.workloads.superres.jobs import DrawNew, drawing

        asked, weights, patients = _read(options)
        new = run.stage("new", _blending(weights, patients, asked))
        for row in new.open()["scales"].to_table().to_pylist():
            if row["kept"] < SMALL:
                foreign.warn(
                    f"{foreign.line(row['patient'])}: the mask is {row['kept']:.2%} of the "
                    f"box: is that the head? Look at the blend, or give a mask (--mask)",
                )
        if asked["pictures"]:
            inputs = {"new": new, "weights": weights}
            run.stage("pictures", drawing(patients, new, DrawNew(asked["picture_format"]), inputs))

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the stage that blends."""
        asked, weights, patients = _read(options)
        return [_blending(weights, patients, asked).plan(budget=budget, workers=workers, call=call)]


def _read(options: dict[str, Any]) -> tuple[dict[str, Any], Path, list[Patient]]:
    from penstock.workloads.superres.manifest import read_manifest
    from penstock.workloads.superres.patients import Patient
    from penstock.workloads.superres.weights import Weights

    asked = read_options(_blend_command, options)
    need_numba()
    if asked["pictures"]:
        need_matplotlib()
    weights = Path(asked["weights"]).absolute()
    manifest = read_manifest(
        asked["manifest"], root=asked["root"], spacing=asked["spacing"], pulse=asked["pulse"],
        models=Weights.load(weights).models, allow_missing=asked["allow_missing"], truth=False,
        mask=mask_rule(asked["mask"], of_files=True)[1],
    )  # fmt: skip
    patients = [Patient(pid, paths, mask=manifest.masks.get(pid)) for pid, paths in manifest.patients.items()]
    return asked, weights, patients


def _blending(weights: Path, patients: Sequence[Patient], asked: Mapping[str, Any]) -> penstock.Job:
    from penstock.workloads.superres.jobs import BlendNew
    from penstock.workloads.superres.patients import Patients

    return penstock.Job(
        source=Patients(patients),
        function=BlendNew({name: asked[name] for name in ("nan", "same_grid", "largest_component")}),
        inputs={"weights": weights}, threads=1,
        into={"scales": penstock.sinks.Parquet(grain=1, one_file=True), "blends": penstock.sinks.Files()},
    )  # fmt: skip
