"""A cohort of real size through ``penstock run superres`` in a hard memory group, with one and two workers.

    python benchmarks/superres/run.py [--patients 16] [--limit 512MiB] [--shape 240 240 155] [--json FILE]

Makes the volumes (seeded; the same patient under several names, as only sizes count here), fits fold 1 of 4
and evaluates its patients, once for each number of workers, and prints CPU and wall seconds, the highest
anonymous + shared memory of the group (read every 20 ms) and what the kernel killed. The weights must be the
same bytes. Needs root, for the group.

Then the same patient in this process, CPU seconds of a fit, of a blend that is measured and of a picture,
after one of each, so that all is compiled and loaded.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from penstock.budget import format_size, parse_size
from penstock.workloads.superres import blending, pictures
from penstock.workloads.superres.headers import Header
from penstock.workloads.superres.moments import take_moments
from penstock.workloads.superres.settings import Settings
from penstock.workloads.superres.volumes import PlaneWriter
from penstock.workloads.superres.weights import fit

sys.path.insert(0, str(Path(__file__).parents[1] / "oom"))
from group import Group

MODELS = ("A", "B", "C", "D")


def make_volumes(folder: Path, shape: tuple[int, int, int]) -> list[Path]:
    """Four experts and the truth: an ellipsoid with structure, and blurs and noise of it; float32."""
    rng = np.random.default_rng(7)
    raw = bytearray(348)
    struct.pack_into("<i", raw, 0, 348)
    struct.pack_into("<8f", raw, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<h", raw, 254, 1)
    struct.pack_into("<12f", raw, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    raw[344:348] = b"n+1\0"
    header = Header(shape, np.dtype("<f4"), 1.0, 0.0, 352, np.eye(4), bytes(raw))
    i, j, k = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]
    inside = (i / 0.8) ** 2 + (j / 0.85) ** 2 + (k / 0.8) ** 2 < 1
    waves = np.sin(23 * i) * np.sin(19 * j) * np.sin(17 * k) + np.sin(6 * i + 4 * j * k)
    noise = rng.normal(0, 9, shape).astype(np.float32)
    truth = np.where(inside, 420 + 150 * waves.astype(np.float32) + noise, 0).astype(np.float32)
    paths = []
    for model in (*MODELS, "HR"):
        volume = truth
        if model != "HR":
            axis = MODELS.index(model) % 3
            volume = (truth + np.roll(truth, 1, axis) + np.roll(truth, -1, axis)) / 3
            volume = np.clip(volume + rng.normal(0, 14, shape), 0, None).astype(np.float32)
        paths.append(folder / f"{model}.nii.gz")
        with PlaneWriter(paths[-1], header) as writer:
            for plane in volume.transpose(2, 1, 0):
                writer.write(plane)
    return paths


def make_manifest(folder: Path, paths: list[Path], patients: int) -> Path:
    """The same volumes as many patients in four folds."""
    entry = {name: {"3mm": {"t1c": str(path)}} for name, path in zip((*MODELS, "HR"), paths, strict=True)}
    pids = [f"P{n:02d}" for n in range(patients)]
    folds = [
        {"train": dict.fromkeys(set(pids) - set(test), entry), "test": dict.fromkeys(test, entry)}
        for test in (pids[n::4] for n in range(4))
    ]
    (folder / "manifest.json").write_text(json.dumps({"folds": folds}))
    return folder / "manifest.json"


def run_in_group(manifest: Path, into: Path, workers: int, limit: int) -> dict[str, Any]:
    """One run, and what it took."""
    group = Group(limit, "container")
    command = [
        str(Path(sys.executable).with_name("penstock")), "run", "superres", str(manifest), "--fold", "1",
        "--workers", str(workers), "--no-maps", "--quiet", "--into", str(into),
    ]  # fmt: skip
    began = time.monotonic()
    try:
        process = subprocess.Popen(group.command(command))
        while process.poll() is None:
            group.look()
            time.sleep(0.02)
        group.look()
        wall, cpu = time.monotonic() - began, group.cpu
    finally:
        group.end()
    return {
        "workers": workers, "limit": limit, "code": process.returncode, "wall": round(wall, 2),
        "cpu": round(cpu, 2), "peak": group.peak, "kernel_kills": group.kills,
    }  # fmt: skip


def time_one(paths: list[Path], folder: Path) -> dict[str, float]:
    """CPU seconds of one patient in this process."""
    settings, blend = Settings(), folder / "blend.nii.gz"
    weights = fit([take_moments(paths, settings)], MODELS, settings)
    for _ in range(2):
        times = [time.process_time()]
        moments = take_moments(paths, settings)
        times.append(time.process_time())
        blending.evaluate(paths, moments, weights, blend, folder)
        times.append(time.process_time())
        pictures.draw(folder / "picture.png", [*paths, blend], weights, "P00", best=0)
        times.append(time.process_time())
    names = ("fit", "blend_and_metrics", "picture")
    return {name: round(b - a, 2) for name, a, b in zip(names, times, times[1:], strict=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--limit", type=parse_size, default=parse_size("512MiB"))
    parser.add_argument("--shape", type=int, nargs=3, default=(240, 240, 155))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as name:
        folder = Path(name)
        paths = make_volumes(folder, tuple(options.shape))
        manifest = make_manifest(folder, paths, options.patients)
        rows = []
        for workers in (1, 2):
            rows.append(run_in_group(manifest, folder / f"run-{workers}", workers, options.limit))
            row = rows[-1]
            print(
                f"{workers} workers in {format_size(options.limit)}: exit code {row['code']}, "
                f"wall {row['wall']} s, CPU {row['cpu']} s, peak {format_size(row['peak'])}, "
                f"{row['kernel_kills']} kernel kills"
            )
        one, two = ((folder / f"run-{n}/fold-1/weights.npz").read_bytes() for n in (1, 2))
        print(f"wall of 2 workers / of 1: {rows[1]['wall'] / rows[0]['wall']:.2f}")
        print("weights: the same bytes" if one == two else "weights: DIFFERENT")
        rows.append(time_one(paths, folder))
        told = ", ".join(f"{name.replace('_', ' ')} {seconds}" for name, seconds in rows[-1].items())
        print(f"one patient, CPU s: {told}")
    if options.json:
        with open(options.json, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
