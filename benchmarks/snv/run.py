"""What snv takes: CPU, wall time and memory of whole runs at several shapes, and the speed of its parts.

    python benchmarks/snv/run.py [--shapes 100x20000,700x8000,700x16000] [--budget 512MiB] [--group 512MiB]
                                 [--model WEIGHTS] [--folder DIR]

Makes the input (seeded; kept with --folder), runs ``penstock run snv`` in a process of its own and prints a
line for each run: cells (samples x positions), CPU of the whole process tree, start included, and the memory
that the run measured itself. The first run compiles, and is not shown. With --group each run is inside
a hard memory group (root and cgroups), and the last column counts who the kernel killed there. --model runs
the network too (beside others: ``network.py``); ``--scratch never`` reads streams, not a copy. "filters" is
the wall time of the stages from reading to the last verdict, "final" that of compressing the final table.
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
from dataclasses import replace
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
    command += ["--scratch", given.scratch]
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
    events = map(json.loads, (into / ".penstock" / "events.jsonl").read_text().splitlines())
    stages = {each["stage"]: each["seconds"] for each in events if each["event"] == "stage_ended"}
    found["filters"] = sum(stages[name] for name in ("read", "survey", "judge", "settle"))
    found["final"] = stages["final"]
    if group is not None:
        group.look()
        found |= {"cpu": group.cpu, "peak": group.peak, "kills": group.kills}
        group.end()
    shutil.rmtree(into)
    return found


def rate(cells: int, work: Callable[[], Any], times: int = 5) -> float:
    """Mcell a CPU second, the best of several times."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return cells / best / 1e6


def parts(folder: Path) -> None:
    """Print the speed of each part, on one core, in memory."""
    from penstock.workloads.snv import kernel, members
    from penstock.workloads.snv.coverage_unit import Cover
    from penstock.workloads.snv.jobs import JudgePositions, MakeFeatures
    from penstock.workloads.snv.reading import copying, medians
    from penstock.workloads.snv.results.final import PackBlock
    from penstock.workloads.snv.table import Blocks, open_table

    table = open_table(str(folder / "cmt.npz"), str(folder / "cov.npz"))
    samples, cells = len(table.names), len(table.names) * table.positions
    copies = folder / "copies"
    copies.mkdir(exist_ok=True)
    names = ("counts", "quals", "indel", "p")

    def copy() -> dict[str, Any]:
        return {name: copying.copy(name, getattr(table, name), copies / f"{name}.npy") for name in names}

    lines = [
        ("inflate alone", rate(cells, lambda: [sum(map(len, getattr(table, n).pieces())) for n in names]))
    ]
    lines.append(("inflate, check and copy", rate(cells, copy)))
    copied = members.mapped(table, copy(), copies)
    blocks = Blocks(copied, features=True)
    streams = Blocks(replace(table, p=copied.p), features=True)
    median, _ = medians.medians(table.coverage)
    cover = Cover(np.zeros(0, np.int64), np.zeros((samples, 0), np.int64))
    judge = JudgePositions(median, np.ones(samples, bool), True, blocks.rows, cover)
    features = MakeFeatures(median, np.ones(samples, bool))
    number = min(len(blocks), 40)
    some = [blocks.block(i) for i in range(number)]
    seen = sum(len(block.numbers) for block in some) * samples
    keep, zero = np.zeros(blocks.rows, bool), np.zeros(samples, np.int64)
    pack = PackBlock(copied.p, blocks.rows, predicted=False, fast=False, own_rows=blocks.rows)
    for name, work in {
        "read blocks of the copy": lambda: sum(1 for _ in blocks.read(0, number)),
        "first filter": lambda: [kernel.first_filter(b.counts, keep[: len(b.numbers)], zero) for b in some],
        "all filters, both states": lambda: [judge(block) for block in some],
        "tensor": lambda: [features(block) for block in some],
        "compress for the final table": lambda: [pack(block, kept=None) for block in some],
    }.items():
        lines.append((name, rate(seen, work)))
    all_of_it = rate(cells, lambda: [streams.block(i) for i in range(len(streams))], 1)
    lines.append(("read as streams in lockstep", all_of_it))
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
    parser.add_argument("--scratch", default="auto")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    root = given.folder or Path(tempfile.mkdtemp(prefix="snv-"))
    print(f"{'samples x positions':>20} {'workers':>7} {'Mcell':>6} {'kept':>7} {'CPU s':>7} {'wall s':>7} "
          f"{'filters s':>9} {'Mcell/s':>7} {'final s':>7} {'peak MiB':>8} kills")  # fmt: skip
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
                    f"{shape:>20} {workers:7} {mega:6.1f} {found['kept']:7} {found['cpu']:7.2f} "
                    f"{found['wall']:7.2f} {found['filters']:9.2f} {mega / found['filters']:7.2f} "
                    f"{found['final']:7.2f} {found['peak'] / 2**20:8.0f} {found['kills']}",
                    flush=True,
                )
        print()
        parts(folder)
    finally:
        if given.folder is None:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
