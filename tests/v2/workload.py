"""What runs in the guest's groups: ``workload.py MIX`` works one mix of items and prints JSON.

The mixes are those of the benchmarks, cut to a group of 256 MiB and an emulated machine. What an item takes
is known, and so is its result.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import penstock

MiB = 1 << 20
MIXES = {
    "uniform": (24, "32 MiB each: all four workers fit"),
    "wide": (10, "90 MiB each: one at once, with luck two, never four"),
    "leak": (160, "each call keeps 2 MiB for ever: 320 MiB in all"),
    "poison": (24, "6 MiB each, item 11 needs 700 MiB: under the fence on one process, can never fit"),
    "stopped": (
        12,
        "1 MiB each; the first time, item 5 stops the parent, governor and all, and takes 500 MiB",
    ),
}

_kept = []


def need(mix: str, item: int) -> int:
    """Bytes that an item takes."""
    if mix == "poison" and item == 11:
        return 700 * MiB
    return {"uniform": 32, "wide": 90, "leak": 2, "poison": 6, "stopped": 1}[mix] * MiB


def expected(mix: str, item: int) -> int:
    """Its result."""
    return -(-need(mix, item) // 4096) * (item % 251)


def work(item: int, mix: str, parent: int, flag: str) -> int:
    """Take memory, touch all of it, and prove it."""
    if mix == "stopped" and item == 5 and not Path(flag).exists():
        Path(flag).touch()
        os.kill(parent, signal.SIGSTOP)
        bytearray(b"x") * (500 * MiB)  # under the fence on one process, over the group's limit
    block = bytearray([item % 251]) * need(mix, item)
    if mix == "leak":
        _kept.append(block)
    else:
        time.sleep(0.2)  # emulated CPUs are slow: let calls meet
    return sum(block[::4096])


def main(mix: str) -> None:
    """Run a mix, and say what happened."""
    count = MIXES[mix][0]
    inputs = {"mix": mix, "parent": os.getpid(), "flag": f"/tmp/flag-{os.getpid()}"}
    report = penstock.run(work, range(count), inputs=inputs, workers=4, set_aside=True)
    result = report.result
    aside = [item for item in range(count) if isinstance(result[item], penstock.SetAside)]
    answer = {
        "wrong": [item for item in range(count) if item not in aside and result[item] != expected(mix, item)],
        "set_aside": {item: result[item].reason for item in aside},
        "failures": dict(report.failures),
        "budget": report.budget,
        "peak": report.peak,
        "seconds": round(report.seconds, 1),
        "workers_started": report.workers_started,
        "recycled": report.recycled,
        "paused": report.paused,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
