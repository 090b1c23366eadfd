"""The workload ``superres-blend``: patients whose truth is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import penstock
from penstock.workloads.superres.options import defaults, need_numba, with_source


@click.command()
@click.argument("weights", type=click.Path(dir_okay=False), metavar="WEIGHTS.npz")
@click.argument("manifest", type=click.Path(dir_okay=False), metavar="MANIFEST.json")
@with_source
def _blend_command(**options: Any) -> None:
    """Blend patients whose truth is not known with weights that superres learnt.

    WEIGHTS.npz is fold-N/weights.npz of a run of superres; it names the experts. All patients of all folds of
    the manifest are blended; its "HR" is not read. Mask, mean and deviation come from the experts' mean.
    """


class SuperresBlend:
    """The workload ``superres-blend``."""

    command = _blend_command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Blend; ``new/blends`` has the volumes, ``new/scales`` what stood in for the truth.

        Raises:
            BadInput: weights, manifest or a volume that is not what it should be.
        """
        run.stage("new", self._job(options))

    def plan(self, budget: str | int, **options: Any) -> list[Any]:
        """The plan of its stage."""
        wishes = {name: options.get(name) for name in ("workers", "call")}
        return [self._job(options).plan(budget=budget, **wishes)]

    def _job(self, options: dict[str, Any]) -> penstock.Job:
        from penstock.workloads.superres.jobs import BlendNew
        from penstock.workloads.superres.manifest import read_manifest
        from penstock.workloads.superres.patients import Patient, Patients
        from penstock.workloads.superres.weights import Weights

        need_numba()
        asked = defaults(_blend_command) | options
        path = Path(asked["weights"]).absolute()
        manifest = read_manifest(
            asked["manifest"], root=asked["root"], spacing=asked["spacing"], pulse=asked["pulse"],
            models=Weights.load(path).models, allow_missing=asked["allow_missing"], truth=False,
        )  # fmt: skip
        items = [Patient(pid, paths) for pid, paths in manifest.patients.items()]
        return penstock.Job(
            source=Patients(items), function=BlendNew(), inputs={"weights": path},
            into={"scales": penstock.sinks.Parquet(one_file=True), "blends": penstock.sinks.Files()},
        )  # fmt: skip
