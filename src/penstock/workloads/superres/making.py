"""The workload ``superres-manifest``: writes a manifest of the files in some folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import penstock
from penstock.workload_options import read_options
from penstock.workloads.superres.options import check_names, split_names, warn_of_people


@click.command()
@click.argument("hr_root", type=click.Path(file_okay=False), metavar="HR_ROOT")
@click.argument("models_root", type=click.Path(file_okay=False), metavar="MODELS_ROOT")
@click.option("--models", callback=check_names, required=True, metavar="A,B,...", help="The experts.")
@click.option("--spacings", callback=check_names, default="3mm", show_default=True, metavar="A,B,...")
@click.option("--pulses", callback=check_names, default="t1c", show_default=True, metavar="A,B,...")
@click.option("--folds", type=click.IntRange(min=1), default=5, show_default=True, help="Folds.")
@click.option(
    "--seed", type=click.IntRange(0), default=42, show_default=True, help="Of the shuffle into folds."
)
@click.option(
    "--group", default="", metavar="REGEX|FILE.csv",



    help="Whose scans are whose, so that nobody is learnt from and tested: a regular expression whose first "
    "group is the person, or a file with lines SCAN,PERSON.",
)  # fmt: skip
@click.option("--allow-missing", is_flag=True, help="Leave patients out whose files are not right.")
def _manifest_command(**options: Any) -> None:
    """Write manifest.json for superres, after looking at the header of every file.

    The truth lies in HR_ROOT/PATIENT/PATIENT-PULSE.nii.gz, an expert's volume in
    MODELS_ROOT/MODEL/SPACING/output_volumes/PATIENT-PULSE.nii.gz.
    """


class SuperresManifest:
    """The workload ``superres-manifest``."""

    command = _manifest_command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Write ``manifest/manifest.json``.

        Raises:
            BadInput: files that are missing, unreadable or on another grid, all of them named.
            UsageError: fewer patients than folds.
        """
        from penstock.workloads.superres.jobs import write_manifest
        from penstock.workloads.superres.manifest import build_manifest

        asked = read_options(_manifest_command, options)
        models, spacings, pulses = (split_names(asked[name]) for name in ("models", "spacings", "pulses"))
        content = build_manifest(
            Path(asked["hr_root"]).absolute(), Path(asked["models_root"]).absolute(), models=models,
            spacings=spacings, pulses=pulses, folds=asked["folds"], seed=asked["seed"],
            allow_missing=asked["allow_missing"], group=asked["group"] or None,
        )  # fmt: skip
        for number, fold in enumerate(content["folds"], 1):
            warn_of_people(number, fold["train"], fold["test"])
        run.step("manifest", write_manifest, inputs={"content": content}, threads=1)

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """Empty: nothing needs a plan."""
        read_options(_manifest_command, options)
        return []
