"""What `penstock exec` costs: its CPU against the command's, its memory, and its peak against the group's.

    python benchmarks/exec/overhead.py [--seconds 60]

Four programs: one process, eight busy ones, a pool of forked ones that takes and gives memory, and one that
starts a child every 10 ms. The CPU of exec counts all of it: starting, reading, drawing the page. Where a
memory group can be made (root, cgroup v1) a second run in one compares the peaks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from penstock.budget import format_size
from penstock.proc import find

PROGRAMS = {
    "one process": """
import sys, time
end = time.time() + float(sys.argv[1])
kept = bytearray(b"x") * (300 << 20)
while time.time() < end: sum(range(20000))
""",
    "8 processes": """
import subprocess, sys
work = "import sys, time\\nend = time.time() + float(sys.argv[1])\\nkept = bytearray(b'x') * (30 << 20)\\n" \
       "while time.time() < end: sum(range(20000))"
for each in [subprocess.Popen([sys.executable, "-c", work, sys.argv[1]]) for _ in range(8)]: each.wait()
""",
    "forked pool": """
import multiprocessing, sys, time
kept = bytearray(b"x") * (150 << 20)
def work(number):
    more = bytearray(b"x") * (10 * (number % 12) << 20)
    end = time.time() + 0.4
    while time.time() < end: sum(range(20000))
if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    with multiprocessing.Pool(3) as pool:
        pool.map(work, range(int(float(sys.argv[1]) / 0.4 * 3)), chunksize=1)
""",
    "short children": """
import subprocess, sys, time
end = time.time() + float(sys.argv[1])
while time.time() < end:
    subprocess.run(["true"]); sum(range(200000))
""",
}
GROUPS = Path("/sys/fs/cgroup/memory")


def main() -> None:
    """Print one row for each program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    print(
        "| program | CPU of it | CPU of exec | share | memory of exec | peak | in a group | its peak | off |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, program in PROGRAMS.items():
        told = run(program, seconds)
        row = [name, f"{told['cpu']:.1f} s", f"{told['own_cpu']:.2f} s"]
        row += [f"{100 * told['own_cpu'] / told['cpu']:.2f} %", format_size(told["own_memory"])]
        row += [format_size(told["peak"]), *compared(program, min(seconds, 10.0))]
        print(f"| {' | '.join(row)} |", flush=True)


def run(program: str, seconds: float, group: Path | None = None) -> dict[str, float]:
    """Supervise one program, in a group if given; what exec wrote at its end."""

    def enter() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program, str(seconds)]
        start = "from penstock.cli import main; main(prog_name='penstock')"
        subprocess.run(
            [sys.executable, "-c", start, "exec", "-q", "--into", folder, "--", *command],
            check=True, preexec_fn=enter,
        )  # fmt: skip
        facts: dict[str, float] = json.loads(Path(folder, ".penstock", "exec.json").read_text())
        return facts


def compared(program: str, seconds: float) -> list[str]:
    """The peak that exec tells (and its own memory), the peak that the group had, how far they are apart."""
    try:
        with watched_group() as (group, highest):
            told = run(program, seconds, group)
    except OSError:
        return ["no group can be made here", "", ""]
    ours = told["peak"] + told["own_memory"]
    return [format_size(ours), format_size(highest[0]), f"{100 * (ours / highest[0] - 1):+.1f} %"]


@contextmanager
def watched_group() -> Iterator[tuple[Path, list[int]]]:
    """A new memory group, and the most anonymous + shared memory seen in it, looked at every 2 ms."""
    group = GROUPS / f"penstock-overhead-{os.getpid()}"
    group.mkdir()
    highest, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            stat = (group / "memory.stat").read_bytes()
            highest[0] = max(
                highest[0], (find(stat, b"total_rss ") or 0) + (find(stat, b"total_shmem ") or 0)
            )

    looks = threading.Thread(target=look)
    looks.start()
    try:
        yield group, highest
    finally:
        over.set()
        looks.join()
        for _ in range(100):
            with suppress(OSError):
                group.rmdir()
                break
            over.wait(0.02)


if __name__ == "__main__":
    main()
