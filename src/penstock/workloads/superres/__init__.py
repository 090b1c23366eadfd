"""Super-resolution of MRI by blending experts, with weights by region.

Several programs ("experts") make a sharp volume of a blurred one, each better somewhere. Of patients whose
truth is known, the best convex weights are learnt region by region, and new volumes are blended with them.
The published program needs 1.3 GB for a patient, visits all voxels once for each region, and stops short of
the optimum. Here a patient is read once, plane by plane, and all that a fit asks of it is a file of sums
(``moments``); regions are solved exactly, and each comes with the proof (``simplex``).

    experts, truth -> TakeMoments -> moments/    one file a patient: what a killed run keeps
                                        |
                              FitFold (a step a fold) -> fold-1/weights.npz, maps
                                        |
    experts, truth -------------------> Evaluate -> test/blends, test/metrics -> metrics.json
                                        |
                              DrawTested -> pictures/   (--pictures)
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import penstock
from penstock import foreign
from penstock.errors import BadInput, UsageError
from penstock.workload_options import read_options
from penstock.workloads.superres.options import (
    UPSTREAM,
    check_compat,
    check_names,
    check_sweep,
    mask_rule,
    need_matplotlib,
    need_numba,
    split_names,
    swept,
    warn_of_people,
    warn_of_places,
    with_masks,
    with_pictures,
    with_source,
)

if TYPE_CHECKING:
    from penstock.workloads.superres.manifest import Fold, Manifest
    from penstock.workloads.superres.patients import Patient
    from penstock.workloads.superres.settings import Settings

_REMOVED = ("removed", "blend_removed")
"""What ``--largest-component`` leaves out, in voxels: of the mask measured over, and of the blend's own."""


@click.command()
@click.argument("manifest", type=click.Path(dir_okay=False), metavar="MANIFEST.json")
@with_source
@click.option("--fold", default="all", show_default=True, help="Number of a fold, from 1, or all.")
@click.option(
    "--models", callback=check_names, default="", metavar="A,B,...",
    help="The experts, in this order; all, sorted, when not given.",
)  # fmt: skip
@click.option(
    "--patch", type=click.IntRange(1), default=32, show_default=True, help="Voxels of a tile along each axis."
)
@click.option("--stride", type=click.IntRange(1), default=16, show_default=True, help="Voxels between tiles.")
@click.option("--window", type=click.Choice(["hann", "flat"]), default="hann", show_default=True,
              help="How a tile fades to its border.")  # fmt: skip
@click.option("--simplex/--no-simplex", default=True, show_default=True,
              help="Weights at least 0 that sum to 1, or any weights.")  # fmt: skip
@click.option("--ridge", type=click.FloatRange(0), default=1e-6, show_default=True,
              help="Added to the diagonal, as a share of it (upstream: as it is).")  # fmt: skip
@click.option("--tau", type=click.FloatRange(0, 1), default=0.05, show_default=True,
              help="Share of the neighbours' mean in a region's weights.")  # fmt: skip
@click.option(
    "--lambda-edge", type=click.FloatRange(0), default=0.25, show_default=True, help="More weight at edges."
)
@click.option(
    "--edge-power", type=click.FloatRange(0), default=2.0, show_default=True, help="Of the gradient at edges."
)
@click.option("--lambda-grad", type=click.FloatRange(0), default=0.2, show_default=True,
              help="Weight of derivatives, for each millimetre, beside values.")  # fmt: skip
@click.option("--operator", type=click.Choice(["sobel", "prewitt", "scharr"]), default="sobel",
              show_default=True, help="Of the derivatives.")  # fmt: skip
@click.option("--normalize", type=click.Choice(["zscore", "none"]), default="zscore", show_default=True,
              help="Standardise each volume over the mask, or not.")  # fmt: skip
@click.option("--calibration", type=click.Choice(["train", "truth"]), default="train", show_default=True,
              help="Mean and deviation of a blend: the experts' own by the contrast of the truths that were "
              "learnt from, or those of the truth that it is compared with.")  # fmt: skip
@with_masks
@click.option("--data-range", default="max", show_default=True, metavar="max|p99.9|NUMBER",
              help="The range of the truth that PSNR and SSIM go by: of all voxels of the mask, without a "
              "thousandth at both ends, or a number.")  # fmt: skip
@click.option("--ssim-axis", type=click.Choice(["axial", "coronal", "sagittal"]), default="axial",
              show_default=True, help="Slices of SSIM, by the affine.")  # fmt: skip
@click.option("--blends/--no-blends", default=True, show_default=True, help="Keep the test patients' blends.")
@click.option("--maps/--no-maps", default=True, show_default=True,
              help="Keep each fold's weights, entropy and dominant expert as volumes.")  # fmt: skip
@with_pictures
@click.option("--sweep", callback=check_sweep, multiple=True, metavar="NAME=A,B,...",
              help="Only the held-out error of all combinations of these values of lambda_edge, lambda_grad, "
              "ridge, tau; no blends. May be repeated.")  # fmt: skip
@click.option("--compat", type=click.Choice(["none", "upstream"]), default="none", show_default=True,
              help="upstream: the rules of the published program, which scales a blend by the truth of its "
              "patient.")  # fmt: skip
def _command(**options: Any) -> None:
    """Learn region by region how to blend super-resolution experts, and measure it on held-out patients.

    MANIFEST.json says which volumes (.nii, .nii.gz) belong to which patient and fold; superres-manifest
    makes it. Writes fold-N/weights.npz and maps, test/blends, test/metrics (Parquet) and metrics.json, and
    pictures/*.png with --pictures. With --set-aside all a bad patient is left out and named, and the rest
    goes on (exit code 5).
    """


class Superres:
    """The workload ``superres``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Fit and evaluate the requested folds, or sweep.

        Raises:
            BadInput: a manifest or volume that is not what it should be, naming file and place.
            UsageError: options that make no sense together.
            MissingExtra: a package is not installed.
        """
        from penstock.workloads.superres.jobs import DrawTested, drawing

        asked, settings, manifest = _read(options)
        pids = sorted({pid for fold in manifest.folds for pid in (*fold.train, *fold.test)})
        for fold in manifest.folds:
            warn_of_people(fold.number, fold.train, fold.test)
        moments = run.stage("moments", _taking(manifest, pids, settings))
        missing = {pids[number] for number in moments.missing}
        if asked["sweep"]:
            _sweep(run, manifest, pids, moments, settings, swept(asked["sweep"]))
            return
        fits = {
            f"fold_{fold.number}": _fit(run, manifest, pids, missing, moments, settings, fold, asked["maps"])
            for fold in manifest.folds
        }
        patients = _tested(manifest, pids, missing)
        test = _evaluate(run, manifest, patients, moments, fits, settings, asked["blends"])
        _write_metrics(run, manifest, settings, missing, fits, test)
        if asked["pictures"]:
            function, inputs = DrawTested(manifest.models, asked["picture_format"]), {"test": test, **fits}
            run.stage("pictures", drawing(patients, test, function, inputs))
            _write_metrics(run, manifest, settings, missing, fits, test)  # pictures can be set aside too

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the stage that computes the sums; blends need about as much."""
        _, settings, manifest = _read(options)
        pids = sorted(manifest.patients)
        return [_taking(manifest, pids, settings).plan(budget=budget, workers=workers, call=call)]


def _read(options: dict[str, Any]) -> tuple[dict[str, Any], Settings, Manifest]:
    from penstock.workloads.superres.manifest import read_manifest
    from penstock.workloads.superres.settings import Settings

    asked = read_options(_command, options)
    need_numba()
    if asked["pictures"]:
        need_matplotlib()
        if not asked["blends"] or asked["sweep"]:
            other = "--sweep" if asked["sweep"] else "--no-blends"
            raise UsageError(f"--pictures shows blends, and with {other} none are kept: give one of the two")
    fields = ("patch", "stride", "window", "simplex", "ridge", "tau", "lambda_edge", "edge_power",
              "lambda_grad", "operator", "normalize", "calibration", "nan", "same_grid",
              "largest_component", "data_range", "ssim_axis")  # fmt: skip
    upstream = asked["compat"] == "upstream"
    rule, pattern = mask_rule(asked["mask"], of_files=False)
    given = {name: asked[name] for name in fields}
    if upstream:
        check_compat(asked, read_options(_command, {"manifest": asked["manifest"]}))
        rule, pattern = UPSTREAM["mask"], None
        given |= {name: value for name, value in UPSTREAM.items() if name in fields}
    settings = Settings(**given, mask=rule, upstream=upstream)
    manifest = read_manifest(
        asked["manifest"], root=asked["root"], spacing=asked["spacing"], pulse=asked["pulse"],
        fold=str(asked["fold"]), models=split_names(asked["models"]), allow_missing=asked["allow_missing"],
        mask=pattern,
    )  # fmt: skip
    return asked, settings, manifest


# ------------------------------------------------------------------ stages


def _taking(manifest: Manifest, pids: Sequence[str], settings: Settings) -> penstock.Job:
    from penstock.workloads.superres.headers import read_header
    from penstock.workloads.superres.jobs import TakeMoments
    from penstock.workloads.superres.patients import Patient, Patients

    places: Counter[tuple[tuple[int, int, int], tuple[float, ...]]] = Counter()
    first: dict[Any, Any] = {}
    for pid in pids:
        try:
            header = read_header(manifest.patients[pid][-1])
        except BadInput:  # reported when the patient's turn comes
            continue
        # Rounded to find which is the most frequent; compared is one as it is, since rounding a slope moves
        # the far corner of a head by more than a millimetre.
        place = header.shape, tuple(header.affine.round(2).ravel().tolist())
        places[place] += 1
        first.setdefault(place, tuple(header.affine.ravel().tolist()))
    most = places.most_common(1)[0][0] if places else ((1, 1, 1), ())
    shape, affine = most[0], first.get(most)
    if settings.same_grid == "index" and not settings.upstream:
        warn_of_places(shape, [(np.reshape(first[each], (4, 4)), n) for each, n in places.most_common()])
    patients = [
        Patient(pid, manifest.patients[pid], number, mask=manifest.masks.get(pid))
        for number, pid in enumerate(pids)
    ]
    return penstock.Job(
        source=Patients(patients),
        function=TakeMoments(
            **settings.pass_key(), shape=shape, affine=affine if settings.same_grid == "affine" else None
        ),
        into=penstock.sinks.Files(),
        threads=1,
    )


def _fit(
    run: penstock.Run, manifest: Manifest, pids: Sequence[str], missing: set[str], moments: penstock.Stored,
    settings: Settings, fold: Fold, maps: bool,
) -> penstock.Stored:  # fmt: skip
    from penstock.workloads.superres.jobs import FitFold

    there = [pid for pid in pids if pid not in missing]
    return run.step(
        f"fold-{fold.number}", FitFold(manifest.models, settings.as_json()), threads=1,
        inputs={
            "moments": moments, "train": [pids.index(pid) for pid in fold.train], "names": list(fold.train),
            "like": manifest.patients[there[0]][-1] if maps and there else None,
        },
    )  # fmt: skip


def _tested(manifest: Manifest, pids: Sequence[str], missing: set[str]) -> list[Patient]:
    from penstock.workloads.superres.patients import Patient

    return [
        Patient(pid, manifest.patients[pid], pids.index(pid), fold.number, manifest.masks.get(pid))
        for fold in manifest.folds
        for pid in fold.test
        if pid not in missing
    ]


def _evaluate(
    run: penstock.Run, manifest: Manifest, patients: Sequence[Patient], moments: penstock.Stored,
    fits: dict[str, penstock.Stored], settings: Settings, keep: bool,
) -> penstock.Stored:  # fmt: skip
    from penstock.workloads.superres.jobs import Evaluate
    from penstock.workloads.superres.patients import Patients

    return run.stage(
        "test",
        penstock.Job(
            source=Patients(patients), function=Evaluate(manifest.models, settings.as_json(), keep),
            # Each patient is a grain: kept as soon as it is done, and a worker's own.
            into={
                "metrics": penstock.sinks.Parquet(schema=_metrics_schema(settings), grain=1, one_file=True),
                "blends": penstock.sinks.Files(),
            },
            inputs={"moments": moments, **fits}, threads=1,
        ),
    )  # fmt: skip


def _metrics_schema(settings: Settings) -> Any:
    """Of ``test/metrics``: a metric may be unknown, so types do not follow from values."""
    import pyarrow as pa

    names = ("mse", "mae", "psnr", "ssim_slices" if settings.upstream else "ssim")
    counts = _REMOVED if settings.largest_component else ()
    return pa.schema(
        [("fold", pa.int64()), ("patient", pa.string()), ("method", pa.string())]
        + [(name, pa.float64()) for name in names]
        + [(name, pa.int64()) for name in counts]
    )


def _sweep(
    run: penstock.Run, manifest: Manifest, pids: Sequence[str], moments: penstock.Stored, settings: Settings,
    values: dict[str, list[float]],
) -> None:  # fmt: skip
    from penstock.workloads.superres.sweep import Sweep

    number = {pid: at for at, pid in enumerate(pids)}
    folds = tuple(
        (fold.number, tuple(number[pid] for pid in fold.train), tuple(number[pid] for pid in fold.test))
        for fold in manifest.folds
    )
    combinations = [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]
    stored = run.stage(
        "sweep",
        penstock.Job(
            source=penstock.sources.Items(combinations),
            function=Sweep(settings.as_json(), manifest.models, folds),
            into=penstock.sinks.Parquet(grain=1, one_file=True), inputs={"moments": moments}, threads=1,
        ),
    )  # fmt: skip
    from penstock.workloads.superres.summary import choose

    rows = stored.open().to_table().to_pylist()
    _publish(run, "sweep", "summary", {
        "schema": 2, "settings": settings.as_json(), **choose(rows, combinations), "folds": rows,
    })  # fmt: skip


def _write_metrics(
    run: penstock.Run, manifest: Manifest, settings: Settings, missing: set[str],
    fits: dict[str, penstock.Stored], test: penstock.Stored,
) -> None:  # fmt: skip
    from penstock.workloads.superres.calibration import SMALL
    from penstock.workloads.superres.summary import means, notes, paired

    rows: list[dict[str, Any]] = test.open()["metrics"].to_table().to_pylist()
    folds: list[dict[str, Any]] = []
    for fold, fit in zip(manifest.folds, fits.values(), strict=True):
        own = [row for row in rows if row["fold"] == fold.number]
        folds.append(
            {
                "fold": fold.number,
                "train": [pid for pid in fold.train if pid not in missing],
                "test": sorted({row["patient"] for row in own}),
                **fit.facts,
                "removed": _removed(own),
                "means": means(own),
            }
        )
    aside = [
        {"stage": report.stage, "patient": each.name, "reason": each.message}
        for report in run.reports
        for each in report.set_aside
    ]
    _publish(run, "metrics", "metrics", {
        "schema": 2, "models": list(manifest.models), "settings": settings.as_json(), "folds": folds,
        "means": means(rows), "blend_against": paired(rows),
        "notes": notes(len({row["patient"] for row in rows})), "missing": list(manifest.missing),
        "set_aside": aside,
    })  # fmt: skip
    for each in folds:
        label = foreign.line(str(each["fold"]))
        for name in each["constant"]:
            foreign.warn(f"fold {label}: {foreign.line(name)} has one value everywhere")
        for pid in each["left_out"]:
            foreign.warn(
                f"fold {label}: {foreign.line(pid)} teaches nothing, and is left out",
            )
        for pid, share in each["mask_share"].items():
            if share < SMALL:
                foreign.warn(
                    f"fold {label}: the mask of {foreign.line(pid)} is {share:.2%} of the box",
                )
        if each["uncertified"]:
            foreign.warn(f"fold {label}: {each['uncertified']} regions are not certified")


def _removed(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Patient -> what the largest component left out; empty where it was not asked for."""
    return {row["patient"]: {name: row[name] for name in _REMOVED} for row in rows if "removed" in row}


def _publish(run: penstock.Run, name: str, step: str, content: dict[str, Any]) -> None:
    """Put ``NAME.json`` at the top, kept by a step, so that ``penstock verify`` knows what it should be."""
    inputs = {"name": f"{name}.json", "text": json.dumps(content, indent=1) + "\n"}
    run.publish(run.step(step, _write_text, threads=1, inputs=inputs))


def _write_text(folder: Path, *, name: str, text: str) -> dict[str, Any]:
    (folder / name).write_text(text, encoding="utf-8")
    return {}
