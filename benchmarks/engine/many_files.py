"""How long a run over 10^5 files takes to begin, to be resumed, and to find that it is finished.

    python benchmarks/engine/many_files.py [files]

Prints CPU seconds of this process, each start in a process of its own, without the items themselves: the
function is done in this process, on tiny files. Files are made in a temporary folder and removed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

_FILES = 100_000


def size(path: Path) -> int:
    """The function: as little as can be done."""
    return 1


def begin(pattern: str, folder: str) -> None:
    """Print the CPU seconds until the first item, and those of the whole."""
    import penstock
    from penstock import events

    began = time.process_time()
    first = None

    def heard(event: events.Event) -> None:
        nonlocal first
        if isinstance(event, events.Looking):
            print(f"    {event.message}")
        if isinstance(event, events.StageStarted):
            first = time.process_time() - began

    source = penstock.sources.Files(pattern)
    made = time.process_time() - began
    into = penstock.reducers.Sum()
    penstock.run(size, source, folder, into=into, backend="inline", observers=[heard])
    whole = time.process_time() - began
    started = "nothing was left to do" if first is None else f"{first:.2f} s until the first item"
    print(f"    files found in {made:.2f} s, {started}, {whole:.2f} s in all")


def main(files: int) -> None:
    """Make the files, and start three times."""
    with tempfile.TemporaryDirectory(prefix="penstock-many-") as made:
        inputs, folder = Path(made) / "in", Path(made) / "run"
        inputs.mkdir()
        for number in range(files):
            (inputs / f"scan-{number:06}.txt").write_bytes(b"x")
        for what in ("a new run", "the finished run again", "and again"):
            print(f"{what} over {files:,} files, CPU:", flush=True)
            subprocess.run(
                [sys.executable, __file__, "begin", str(inputs / "*"), str(folder)], check=True, timeout=600
            )
        journal = folder / ".penstock" / "job" / "journal"
        print(f"journal {journal.stat().st_size:,} bytes; beside it:")
        for beside in journal.parent.glob("files-*.z"):
            print(f"    {beside.name} {beside.stat().st_size:,} bytes")


if __name__ == "__main__":
    if sys.argv[1:2] == ["begin"]:
        begin(sys.argv[2], sys.argv[3])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else _FILES)
