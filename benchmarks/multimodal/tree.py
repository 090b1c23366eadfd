"""Whole runs over a tree of N people and one of 4 N: memory must not grow with records.

    python benchmarks/multimodal/tree.py [--subjects 1250] [--factor 4] [--budget 256MiB] [--json FILE]

Small films (a tenth of the size in each direction, 16 different ones), shards of 8 MB. Of each stage: the
records, the highest memory of the whole process tree, and CPU seconds; then the bytes that ``tables`` and
``plan`` take for each record more, and the CPU seconds of the same command again, with nothing left to do.
At full size, ``--subjects 20000``, a tree of 59,602 films and one of four times as many take some 20 minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STAGES = ("tables", "plan", "train", "val", "test")


def make(folder: Path, subjects: int) -> None:
    """Make a tree."""
    make_input = [sys.executable, str(HERE / "make_input.py"), str(folder), "--subjects", str(subjects)]
    more = ["--distinct-images", "16", "--scale", "0.1", "--defects", "0"]
    subprocess.run([*make_input, *more], check=True, stdout=subprocess.DEVNULL)


def run(tree: Path, folder: Path, budget: str) -> float:
    """One run, or the same again; CPU seconds of all its processes."""
    command = [sys.executable, "-m", "penstock", "run", "multimodal", str(tree), "--into", str(folder), "-q"]
    command += ["--split", "quota", "--window", "24h", "--image-size", "64", "--shard-size", "8MB"]
    before = _cpu()
    subprocess.run([*command, "--budget", budget], check=True)
    return _cpu() - before


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(tree: Path, folder: Path, budget: str) -> dict[str, Any]:
    """A run, and the same command again."""
    whole = run(tree, folder, budget)
    report = json.loads((folder / "report.json").read_text())
    stages = {stage["stage"]: stage for stage in report["stages"] if stage["stage"] in STAGES}
    records = json.loads((folder / "metadata.json").read_text())["total_records"]
    return {
        "records": records, "cpu": whole, "again": run(tree, folder, budget),
        "stages": {
            name: {"items": stages[name]["items"], "peak": stages[name]["peak"], "cpu": stages[name]["cpu"]}
            for name in STAGES
        },
    }  # fmt: skip


def main() -> None:
    """Both trees, and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=1250)
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--budget", default="256MiB")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, subjects in enumerate((given.subjects, given.subjects * given.factor)):
            tree, folder = (Path(temporary) / f"{name}-{number}" for name in ("tree", "run"))
            make(tree, subjects)
            found.append(measured(tree, folder, given.budget))
    small, large = found
    print(f"{'':10} {small['records']:>9,} records {'':7} {large['records']:>9,} records")
    print(f"{'stage':10} {'peak MiB':>9} {'CPU s':>7} {'':9} {'peak MiB':>9} {'CPU s':>7}")
    for name in STAGES:
        columns = [
            f"{each['stages'][name]['peak'] / (1 << 20):9.0f} {each['stages'][name]['cpu']:7.1f}"
            for each in found
        ]
        print(f"{name:10} {columns[0]} {'':9} {columns[1]}")
    more = large["records"] - small["records"]
    for name in ("tables", "plan"):
        grown = large["stages"][name]["peak"] - small["stages"][name]["peak"]
        print(f"{name}: {grown / more / 1024:.2f} KiB for each record more")
    print(f"the same again: {small['again']:.1f} and {large['again']:.1f} CPU s")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
