"""What a small count costs above the smallest run there is: CPU seconds, one beside the other.

    python benchmarks/codons/start.py [--runs 3] [--folder DIR]

Prints the least of several runs of the whole process tree: `penstock.run` of 3 trivial items into Parquet;
`penstock run codons` of all frames and both strands on 1 and 40 MB, as it is and with compiled code whatever
the size; EMBOSS compseq's one pass (one frame) over 40 MB, where it is installed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from run import made, measure

TRIVIAL = """
import sys, penstock
def row(item): return {"item": item, "square": item * item}
penstock.run(row, [1, 2, 3], folder=sys.argv[1], into=penstock.sinks.Parquet())
"""
COUNT = """
import sys
from penstock.sequences import inputs
if sys.argv[1] == "compiled": inputs._SMALL = 0
from penstock.cli import main
sys.exit(main(sys.argv[2:]))
"""


def least(runs: int, command: list[str], into: Path) -> float:
    """CPU seconds of the cheapest run."""
    found = []
    for _ in range(runs):
        shutil.rmtree(into, ignore_errors=True)
        found.append(measure(command).cpu)
    return min(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the inputs are kept for the next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codons-start-") as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        into = Path(scratch) / "run"
        script = Path(scratch) / "trivial.py"
        script.write_text(TRIVIAL)
        base = least(given.runs, [sys.executable, str(script), str(into)], into)
        print(
            f"{'run':44} {'CPU s':>6} {'above':>6}\n{'penstock.run, 3 trivial items':44} {base:6.2f}",
            flush=True,
        )
        for mb in (1, 40):
            path = made(folder, mb)
            for how in ("as it is", "compiled"):
                command = [
                    sys.executable, "-c", COUNT, how.split()[0], "run", "codons", str(path),
                    "--into", str(into), "--frame", "all", "--strand", "both", "--budget", "512MiB",
                ]  # fmt: skip
                cpu = least(given.runs, command, into)
                print(f"{f'codons, {mb} MB, {how}':44} {cpu:6.2f} {cpu - base:6.2f}", flush=True)
        if shutil.which("compseq"):
            out = str(Path(scratch) / "out")
            command = ["compseq", "-sequence", str(made(folder, 40)), "-word", "3", "-outfile", out, "-auto"]
            print(f"{'compseq, 40 MB, one pass':44} {least(given.runs, command, into):6.2f}")
        else:
            print(f"{'compseq':44} not installed")


if __name__ == "__main__":
    main()
