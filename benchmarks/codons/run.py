"""Codon counts of one file by Penstock and by other tools: CPU, wall time, memory, and the same answer.

    python benchmarks/codons/run.py --mb 1000 [--budget 256MiB] [--folder DIR] [--peers-mb 40]

Makes the input (seeded), runs each tool in a process of its own and prints a table. Slow tools get the
first --peers-mb of the input; MB/s are megabytes of uncompressed text per CPU second of the whole process
tree, start included. Memory is the highest sum of anonymous and shared memory of the tree, read every 20 ms
(PSS).
Tools that are not installed are named and left out. An answer is compared with what was counted of the same
question: codons of frame 0; words of three at every place, which is what compseq counts without a frame and
equals the sum of our three frames. cusp reads letters that are no base as A, so its answer differs by just
these codons.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import make_input

HERE = Path(__file__).parent


@dataclass
class Measured:
    """What a process tree took."""

    cpu: float
    wall: float
    memory: int
    out: str


def measure(command: list[str]) -> Measured:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    # Byte code is kept, as after any installation.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, began = os.times(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environ)
        peak = 0
        while process.poll() is None:
            peak = max(peak, held(process.pid))
            time.sleep(0.02)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command[0]} failed: {err.read()[-1000:]}")
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Measured(cpu, time.perf_counter() - began, peak, out.read())


def held(pid: int) -> int:
    """Anonymous and shared bytes of a process and all below it; what they share is counted once."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            own = sum(
                int(line.split()[1]) << 10 for line in file if line.startswith(("Pss_Anon", "Pss_Shmem"))
            )
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in below(task)]
    except (OSError, ValueError):
        return 0
    return own + sum(map(held, children))


def below(task: Path) -> list[int]:
    """Children of one thread."""
    return [int(pid) for pid in (task / "children").read_text().split()]


# ------------------------------------------------------------------ the tools


def ours(path: Path, budget: str, workers: int, *options: str) -> tuple[Measured, dict[str, int]]:
    """``penstock run codons``; counts of all frames asked for."""
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        into = Path(folder) / "run"
        command = "import sys; from penstock.cli import main; sys.exit(main())"
        found = measure(
            [sys.executable, "-c", command, "run", "codons", str(path), "--into", str(into),
             "--budget", budget, "--workers", str(workers), *options]
        )  # fmt: skip
        rows = pq.read_table(into / "codons.parquet").to_pylist()
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row["codon"]] += row["count"]
    return found, {codon: count for codon, count in counts.items() if count}


def python_peer(name: str) -> Callable[[Path], tuple[Measured, dict[str, int]]]:
    """One of ``peers.py``."""

    def run(path: Path) -> tuple[Measured, dict[str, int]]:
        found = measure([sys.executable, str(HERE / "peers.py"), name, str(path)])
        return found, json.loads(found.out.splitlines()[-1])

    return run


def compseq(path: Path) -> tuple[Measured, dict[str, int]]:
    """EMBOSS compseq, words of 3 at every place."""
    out = path.with_suffix(".comp")
    found = measure(
        ["compseq", "-sequence", str(path), "-word", "3", "-frame", "0", "-outfile", str(out), "-auto"]
    )
    words = (line.split() for line in out.read_text().splitlines())
    counts = {w[0]: int(w[1]) for w in words if len(w) >= 2 and len(w[0]) == 3 and set(w[0]) <= set("ACGT")}
    return found, {codon: count for codon, count in counts.items() if count}


def cusp(path: Path) -> tuple[Measured, dict[str, int]]:
    """EMBOSS cusp."""
    out = path.with_suffix(".cusp")
    found = measure(["cusp", "-sequence", str(path), "-outfile", str(out), "-auto"])
    words = (line.split() for line in out.read_text().splitlines() if line and line[0] != "#")
    return found, {each[0]: int(each[4]) for each in words if int(each[4])}


def codonw(path: Path) -> tuple[Measured, dict[str, int]]:
    """codonW, the pooled table."""
    out = path.with_suffix(".blk")
    out.unlink(missing_ok=True)
    found = measure(
        [
            "codonw",
            str(path),
            str(path.with_suffix(".out")),
            str(out),
            "-cutot",
            "-nomenu",
            "-silent",
            "-nowarn",
        ]
    )
    pairs = re.findall(
        r"\b([ACGU]{3}) *(\d+)", out.read_text()
    )  # a count of five digits has no blank before it
    counts = {codon.replace("U", "T"): int(count) for codon, count in pairs}
    return found, {codon: count for codon, count in counts.items() if count}


def jellyfish(path: Path) -> tuple[Measured, dict[str, int]]:
    """jellyfish, k = 6 in all positions: another question, whose answer is not compared."""
    out = path.with_suffix(".jf")
    return measure(["jellyfish", "count", "-m", "6", "-s", "1M", "-t", "2", "-o", str(out), str(path)]), {}


def kmc(path: Path) -> tuple[Measured, dict[str, int]]:
    """KMC, k = 6 in all positions: another question, whose answer is not compared."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        return measure(["kmc", "-k6", "-fm", "-ci1", "-b", "-t2", str(path), f"{folder}/out", folder]), {}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mb", type=float, default=1000)
    parser.add_argument("--peers-mb", type=float, default=40)
    parser.add_argument("--budget", default="256MiB")
    parser.add_argument("--folder", type=Path, help="where the input is kept for the next time")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="codons-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        table(folder, given)
    finally:
        if given.folder is None:
            shutil.rmtree(folder)


def made(folder: Path, mb: float) -> Path:
    """The input of this size."""
    path = folder / f"organelles-{mb:g}mb.fa"
    if not path.exists():
        make_input.write(path, size=int(mb * 1e6))
    return path


def table(folder: Path, given: argparse.Namespace) -> None:
    """Run everything and print a line for each."""
    large, small = made(folder, given.mb), made(folder, min(given.peers_mb, given.mb))
    packed = large.with_suffix(".fa.gz")
    if not packed.exists():
        with open(large, "rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
    print(f"{'tool':34} {'input':>9} {'CPU s':>7} {'wall s':>7} {'MB/s cpu':>9} {'memory':>9}  answer")
    answers: dict[tuple[Path, str], dict[str, int]] = {}

    def line(
        name: str, text: Path, run: Callable[[], tuple[Measured, dict[str, int]]], asked: str = "codons"
    ) -> None:
        found, counts = run()
        mb = text.stat().st_size / 1e6
        first = answers.setdefault((text, asked), counts)
        same = "" if not counts else "same" if first == counts else "DIFFERENT"
        if same == "DIFFERENT" and name == "EMBOSS cusp":
            same += f", {sum(counts.values()) - sum(first.values())} more: odd letters are A there"
        print(
            f"{name:34} {mb:6.0f} MB {found.cpu:7.2f} {found.wall:7.2f} {mb / found.cpu:9.1f} "
            f"{found.memory / 2**20:5.0f} MiB  {same}",
            flush=True,
        )

    ours(small, given.budget, 1)  # compiles, the first time on a machine
    for workers in (1, 2):
        for path in (large, packed):
            what = "gzip" if path == packed else "plain"
            name = f"penstock, {what}, {workers} worker{'s' * (workers > 1)}"
            line(name, large, lambda path=path, workers=workers: ours(path, given.budget, workers))
    line("penstock, plain, 1 worker", small, lambda: ours(small, given.budget, 1))
    every = ("--frame", "all")
    line("penstock, all frames", small, lambda: ours(small, given.budget, 1, *every), "words of three")
    tables = ("--per-record", "--per-file")
    line("penstock, a row for each record", large, lambda: ours(large, given.budget, 1, *tables))
    peers = {
        "Biopython, a loop": (find_spec("Bio"), small, python_peer("biopython")),
        "Spark, the document's batches": (
            find_spec("pyspark") and find_spec("Bio"),
            small,
            python_peer("spark"),
        ),
        "EMBOSS compseq, words of three": (shutil.which("compseq"), small, compseq),
        "EMBOSS cusp": (shutil.which("cusp"), small, cusp),
        "codonW": (shutil.which("codonw"), small, codonw),
        "jellyfish, k = 6, 2 threads": (shutil.which("jellyfish"), large, jellyfish),
        "KMC, k = 6, 2 threads": (shutil.which("kmc"), large, kmc),
    }
    for name, (there, text, run) in peers.items():
        if there:
            asked = "words of three" if run is compseq else "codons"
            line(name, text, lambda text=text, run=run: run(text), asked)
        else:
            print(f"{name:34} not installed")


if __name__ == "__main__":
    main()
