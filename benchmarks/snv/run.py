"""What snv takes: CPU, wall time and memory of whole runs at several shapes, and the speed of its parts.

    python benchmarks/snv/run.py [--shapes 100x20000,700x8000,700x16000] [--budget 512MiB] [--group 512MiB]
                                 [--model WEIGHTS] [--folder DIR]

Makes the input (seeded; kept with --folder), runs ``penstock run snv`` in a process of its own and prints a
line for each run: cells (samples x positions), CPU of the whole process tree, start included, and the memory
that the run measured itself. The first run compiles, and is not shown. With --group each run is inside
a hard memory group (root and cgroups), and the last column counts who the kernel killed there. --model runs
the network too; without it the network is timed with random weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import make_input
import numpy as np

from penstock.budget import parse_size

sys.path.insert(0, str(Path(__file__).parent.parent / "oom"))


def whole(folder: Path, given: argparse.Namespace, *, workers: int | None = None) -> dict[str, Any]:
    """One run."""
    into = folder / "run"
    shutil.rmtree(into, ignore_errors=True)
    command = [sys.executable, "-c", "import sys; from penstock.cli import main; sys.exit(main())"]
    command += ["run", "snv", "--table", str(folder / "cmt.npz"), "--coverage", str(folder / "cov.npz")]
    command += ["--into", str(into), "--budget", given.budget]
    command += ["--model", given.model] if given.model else []
    command += ["--workers", str(workers)] if workers else []
    group = None
    if given.group:
        from group import Group

        group = Group(parse_size(given.group), "container")
        command = group.command(command)
    before, began = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            if group is not None:
                group.look()
            time.sleep(0.02)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"the run failed: {said.read()[-2000:]}")
    after = getrusage(RUSAGE_CHILDREN)
    found = {
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall": time.perf_counter() - began,
        "peak": json.loads((into / "report.json").read_text())["peak"],
        "kept": json.loads((into / "summary.json").read_text())["kept"],
        "kills": "",
    }
    if group is not None:
        group.look()
        found |= {"cpu": group.cpu, "peak": group.peak, "kills": group.kills}
        group.end()
    shutil.rmtree(into)
    return found


def rate(cells: int, work: Callable[[], Any]) -> float:
    """Mcell a CPU second, the best of five."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return cells / best / 1e6


def parts(folder: Path, model: str | None) -> None:
    """Print the speed of each part, on one core, in memory."""
    from dataclasses import replace

    from penstock.workloads.snv import kernel, network, reading
    from penstock.workloads.snv.jobs import JudgePositions, MakeFeatures
    from penstock.workloads.snv.table import Blocks, open_table
    from penstock.workloads.snv.weights import SHAPES, load_weights

    table = open_table(str(folder / "cmt.npz"), str(folder / "cov.npz"))
    samples, cells = len(table.names), len(table.names) * table.positions
    copies = folder / "copies"
    copies.mkdir(exist_ok=True)
    names = ("counts", "quals", "indel", "p")

    def copy() -> dict[str, Any]:
        return {name: reading._copy(name, getattr(table, name), copies / f"{name}.npy") for name in names}

    lines = [
        ("inflate alone", rate(cells, lambda: [sum(map(len, getattr(table, n).pieces())) for n in names]))
    ]
    lines.append(("inflate, check and copy", rate(cells, copy)))
    blocks = Blocks(reading.mapped(table, copy(), copies), features=True)
    medians = reading.medians(table.coverage)
    judge = JudgePositions(medians, np.ones(samples, bool), True)
    features = MakeFeatures(medians, np.ones(samples, bool))
    some = [blocks.block(i) for i in range(min(len(blocks), 40))]
    seen = sum(len(block.rows) for block in some) * samples
    keep, zero = np.zeros(blocks.rows, bool), np.zeros(samples, np.int64)
    first = rate(seen, lambda: [kernel.first_filter(b.counts, keep[: len(b.rows)], zero) for b in some])
    lines.append(("read blocks of the copy", rate(seen, lambda: [blocks.block(i) for i in range(len(some))])))
    lines.append(("first filter", first))
    lines.append(("all filters, both states", rate(seen, lambda: [judge(block) for block in some])))
    lines.append(("tensor", rate(seen, lambda: [features(block) for block in some])))
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype("f4")
        for name, shape in SHAPES.items()
    }
    if model:
        weights = load_weights(model)
    tensor = features(replace(some[0]))
    what = "network" if model else "network, random weights (not sparse)"
    lines.append((what, rate(tensor.shape[0] * samples, lambda: network.probabilities(tensor, weights))))
    for name, speed in lines:
        print(f"{name:40} {speed:8.2f} Mcell/s per core")
    shutil.rmtree(copies)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", default="100x20000,700x8000,700x16000")
    parser.add_argument("--budget", default="512MiB")
    parser.add_argument("--group", help="a hard limit around each run")
    parser.add_argument("--model")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    root = given.folder or Path(tempfile.mkdtemp(prefix="snv-"))
    print(f"{'samples x positions':>20} {'workers':>8} {'Mcell':>7} {'kept':>8} {'CPU s':>7} {'wall s':>7} "
          f"{'Mcell/s wall':>13} {'peak MiB':>9} kills")  # fmt: skip
    try:
        for number, shape in enumerate(given.shapes.split(",")):
            samples, positions = map(int, shape.split("x"))
            folder = root / shape
            if not (folder / "cov.npz").exists():
                make_input.write(folder, samples, positions)
            if not number:
                whole(folder, given)
            for workers in (1, 2):
                found = whole(folder, given, workers=workers)
                mega = samples * positions / 1e6
                print(
                    f"{shape:>20} {workers:8} {mega:7.1f} {found['kept']:8} {found['cpu']:7.2f} "
                    f"{found['wall']:7.2f} {mega / found['wall']:13.2f} {found['peak'] / 2**20:9.0f} "
                    f"{found['kills']}",
                    flush=True,
                )
        print()
        parts(folder, given.model)
    finally:
        if given.folder is None:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
