"""k-mer counts of one file by Penstock, KMC and jellyfish: CPU, wall time, memory, and the same answer.

    python benchmarks/kmers/run.py --mb 200 --k 6 [--k 21] [--budget 800MiB] [--without TOOL] [--folder DIR]

Makes the input (seeded), runs each tool in a process of its own and prints a table.
All count every word of the forward strand; the number of different words is compared. CPU is of the whole
process tree, start included. KMC and jellyfish are the Debian packages kmc and jellyfish; what is not
installed is named and left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "codons"))

from run import Measured, made, measure

TOOLS = ("penstock", "kmc", "jellyfish")


def ours(path: Path, k: int, budget: str, folder: Path) -> tuple[Measured, int]:
    """``penstock run kmers``, and how many different words there are."""
    into = folder / "run"
    found = measure(
        [sys.executable, "-m", "penstock", "run", "kmers", str(path), "--k", str(k), "--into", str(into),
         "--budget", budget, "--workers", "2", "--quiet"]
    )  # fmt: skip
    return found, json.loads((into / "summary.json").read_text())["distinct"]


def kmc(path: Path, k: int, folder: Path) -> tuple[Measured, int]:
    """KMC with two threads."""
    found = measure(
        ["kmc", f"-k{k}", "-fm", "-ci1", "-b", "-t2", "-m2", str(path), f"{folder}/out", str(folder)]
    )
    line = next(line for line in found.out.splitlines() if "unique counted k-mers" in line)
    return found, int(line.rpartition(":")[2])


def jellyfish(path: Path, k: int, folder: Path) -> tuple[Measured, int]:
    """Jellyfish with two threads."""
    out = f"{folder}/out.jf"
    found = measure(["jellyfish", "count", "-m", str(k), "-s", "100M", "-t", "2", "-o", out, str(path)])
    told = subprocess.run(["jellyfish", "stats", out], capture_output=True, text=True, check=True).stdout
    return found, int(next(line for line in told.splitlines() if line.startswith("Distinct")).split()[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mb", type=float, default=200)
    parser.add_argument("--k", type=int, action="append")
    parser.add_argument("--budget", default="800MiB")
    parser.add_argument("--without", action="append", default=[], choices=TOOLS[1:])
    parser.add_argument("--folder", type=Path, help="where the input is kept for the next time")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="kmers-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        path = made(folder, given.mb)
        for k in given.k or [6, 21]:
            table(path, k, given.budget, [name for name in TOOLS if name not in given.without])
    finally:
        if given.folder is None:
            shutil.rmtree(folder)


def table(path: Path, k: int, budget: str, tools: list[str]) -> None:
    """Run these tools for one k."""
    print(
        f"k = {k}, {path.stat().st_size / 1e6:,.0f} MB\n"
        f"{'tool':<12}{'CPU s':>8}{'wall s':>8}{'MiB':>8}{'words':>14}"
    )
    answers = set()
    for name in tools:
        if name != "penstock" and shutil.which(name) is None:
            print(f"{name:<12}not installed: apt-get install {name}")
            continue
        with tempfile.TemporaryDirectory(dir=path.parent) as place:
            at = Path(place)
            if name == "penstock":
                found, words = ours(path, k, budget, at)
            else:
                found, words = (kmc if name == "kmc" else jellyfish)(path, k, at)
        answers.add(words)
        print(
            f"{name:<12}{found.cpu:>8.2f}{found.wall:>8.1f}{found.memory / 2**20:>8.0f}{words:>14,}",
            flush=True,
        )
    print("the same answer" if len(answers) == 1 else f"DIFFERENT: {sorted(answers)}")


if __name__ == "__main__":
    main()
