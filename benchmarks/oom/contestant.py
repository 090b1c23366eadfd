"""Inside the group: one peer works on one mix, and what it gives is written down as it comes.

``python contestant.py PEER MIX SCALE WORKERS FOLDER`` writes ``FOLDER/results``: lines "item checksum",
"item ! name of the exception" for an item named as failed, and "end" when the peer came to its end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import mixes
from peers import PEERS, Task

_FLUSH_SECONDS = 0.1


def main() -> None:
    """Do it. What a peer raises ends this program, as it would end a user's."""
    peer, mix, scale, workers, folder = sys.argv[1:]
    task = Task(mix, float(scale), Path(folder), int(workers))
    flushed = time.monotonic()
    with open(task.folder / "results", "w") as results:
        for item, outcome in PEERS[peer](task):
            failed = isinstance(outcome, BaseException)
            told = f"! {type(outcome).__name__}" if failed else mixes.checksum_of(outcome)
            results.write(f"{item} {told}\n")
            if time.monotonic() - flushed > _FLUSH_SECONDS:
                results.flush()
                flushed = time.monotonic()
        results.write("end\n")


if __name__ == "__main__":
    main()
