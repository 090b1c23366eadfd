"""Who finishes inside a hard memory group? Penstock and others on mixes of items that exhaust memory.

    python benchmarks/oom/run.py --limit 1GiB --workers 4 --runs 5 --views container,slurm

Needs root and Linux (cgroup v1 or v2), numpy, and ``unshare`` and ``mount``. Each run is one process
tree in a fresh group with that limit; every result is checked. Peers take turns on the same mix.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import mixes
from group import VIEWS, Group
from mixes import MIXES, MiB
from peers import BEFORE, NOT_FOR, PEERS, installed

from penstock.budget import parse_size

_LOOK_SECONDS = 0.02
_COLUMNS = (
    "mix", "peer", "complete", "lost", "kernel kills", "hangs", "timeouts", "orphans", "repeated",
    "CPU s", "x ours", "wall s", "x ours", "held", "peak MiB",
)  # fmt: skip
_GRACE_SECONDS = 1.0
"""Children may take so long to end after the first process has; later ones are orphans."""


@dataclass(frozen=True)
class Outcome:
    """What one run gave; one line of JSON."""

    peer: str
    mix: str
    view: str
    limit: int
    workers: int
    scale: float
    complete: bool
    """It ended by itself, every result is right, and exactly the items that never fit are named."""
    lost: int
    """Items that fit and have no right result."""
    named: int
    """Items named as failed."""
    kernel_kills: int
    hang: bool
    """No call begun and no result written for so long that it was stopped."""
    timeout: bool
    """It went on for so long that it was stopped."""
    orphans: int
    """Processes left behind after it ended."""
    repeated: int
    """Calls begun beyond one for each item."""
    cpu: float
    """CPU seconds of the group."""
    wall: float
    peak: int
    """Anonymous + shared bytes of the group."""
    held: float
    """Share of the limit that was held, over time."""
    error: str
    """The last line it wrote to stderr, if it failed."""


def main() -> None:
    """Run what was asked for, and print the tables."""
    options = _options()
    os.environ.setdefault("PENSTOCK_HISTORY", "off")  # each run is a first one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the group is removed on the way out
    outcomes: list[Outcome] = []
    for number in range(options.runs):
        for view in options.views:
            for mix in options.mixes:
                for peer in options.peers:
                    other = peer not in ("penstock", BEFORE)
                    if (peer, mix) in NOT_FOR or (other and number >= options.peer_runs):
                        continue
                    outcome = _run(peer, mix, view, options)
                    outcomes.append(outcome)
                    print(_line(outcome), file=sys.stderr, flush=True)
                    if options.json:
                        with open(options.json, "a") as file:
                            file.write(json.dumps(asdict(outcome)) + "\n")
    for table in _tables(outcomes, options):
        print("\n" + table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer for peer in PEERS if installed(peer)]
    parser.add_argument("--limit", type=parse_size, default="1GiB", help="of the group")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--scale", type=float, default=1.0, help="times the memory of every item")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--peer-runs", type=int, default=1, help="runs of the others")
    parser.add_argument("--views", type=_names(VIEWS), default=list(VIEWS))
    parser.add_argument("--mixes", type=_names(MIXES), default=list(MIXES))
    parser.add_argument("--peers", type=_names(names), default=names, help=f"here: {', '.join(names)}")
    parser.add_argument(
        "--before", type=Path, metavar="SRC", help="the sources of another penstock take part, in turns"
    )
    parser.add_argument("--stall", type=float, default=20, help="seconds without progress that are a hang")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for one run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a line for each run")
    options = parser.parse_args()
    if options.before:
        options.peers = ["penstock", BEFORE, *(peer for peer in options.peers if peer != "penstock")]
    return options


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r}: choose from {', '.join(known)}")
        return names

    return read


# --------------------------------------------------------------------------- one run


def _run(peer: str, mix: str, view: str, options: argparse.Namespace) -> Outcome:
    group = Group(options.limit, view)
    with tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as name:
        folder = Path(name)
        program = [sys.executable, str(Path(__file__).with_name("contestant.py"))]
        arguments = [peer, mix, str(options.scale), str(options.workers), name]
        began = time.monotonic()
        try:
            with open(folder / "log", "wb") as log:
                process = subprocess.Popen(
                    group.command(program + arguments), stdout=log, stderr=log, env=_env(peer, options)
                )
                stopped = _watch(process, group, folder, options)
                wall = time.monotonic() - began
                orphans = 0 if stopped else _left(group)
                group.look()
                cpu = group.cpu
        finally:
            group.end()
        ended = process.wait() == 0 and not stopped
        return Outcome(
            peer, mix, view, options.limit, options.workers, options.scale,
            **_check(folder, mix, options.scale, ended),
            kernel_kills=group.kills, hang=stopped == "hang", timeout=stopped == "timeout", orphans=orphans,
            cpu=round(cpu, 3), wall=round(wall, 3), peak=group.peak,
            held=round(group.byte_seconds / wall / options.limit, 3),
        )  # fmt: skip


def _env(peer: str, options: argparse.Namespace) -> dict[str, str] | None:
    return {**os.environ, "PYTHONPATH": str(options.before)} if peer == BEFORE else None


def _check(folder: Path, mix: str, scale: float, ended: bool) -> dict[str, Any]:
    """What the results are worth, field by field."""
    results, named, written = _read(folder / "results")
    wanted = set(range(MIXES[mix].items)) - MIXES[mix].never_fits
    right = {item for item in wanted if results.get(item) == mixes.checksum(mix, scale, item)}
    calls = (folder / "calls").stat().st_size if (folder / "calls").exists() else 0
    finished = ended and written
    exact = right == wanted and named == MIXES[mix].never_fits and len(results) == len(right)
    return {
        "complete": finished and exact,
        "lost": len(wanted - right),
        "named": len(named),
        "repeated": max(calls - MIXES[mix].items, 0),
        "error": "" if finished else _last_line(folder / "log"),
    }


def _watch(process: subprocess.Popen[bytes], group: Group, folder: Path, options: argparse.Namespace) -> str:
    """Take readings until it ends; why it had to be given up, or an empty text."""
    began = moved = time.monotonic()
    progress = -1
    while process.poll() is None:
        group.look()
        now = time.monotonic()
        seen = sum(path.stat().st_size for path in (folder / "calls", folder / "results") if path.exists())
        if seen != progress:
            progress, moved = seen, now
        if now - moved > options.stall:
            return "hang"
        if now - began > options.timeout:
            return "timeout"
        time.sleep(_LOOK_SECONDS)
    return ""


def _left(group: Group) -> int:
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := group.processes()) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return len(left)


def _read(path: Path) -> tuple[dict[int, int], set[int], bool]:
    """(checksum by item, items named as failed, whether the end was reached)."""
    results: dict[int, int] = {}
    named = set()
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        item, _, told = line.partition(" ")
        if told.startswith("!"):
            named.add(int(item))
        elif told.isdigit():
            results[int(item)] = int(told)
    return results, named, bool(lines) and lines[-1] == "end"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


# --------------------------------------------------------------------------- what is printed


def _line(outcome: Outcome) -> str:
    how = (
        "complete"
        if outcome.complete
        else "hang"
        if outcome.hang
        else "timeout"
        if outcome.timeout
        else f"lost {outcome.lost}"
    )
    who = f"{outcome.view:<10}{outcome.mix:<10}{outcome.peer:<13}"
    what = f"{how:<10}{outcome.kernel_kills:>3} kernel kills {outcome.cpu:>7.2f} CPU s"
    return f"{who}{what} {outcome.wall:>6.1f} s {outcome.peak / MiB:>5.0f} MiB  {outcome.error[:60]}"


def _tables(outcomes: Sequence[Outcome], options: argparse.Namespace) -> Iterator[str]:
    for view in options.views:
        head = f"{view}, {options.limit / MiB:.0f} MiB, {options.workers} workers, scale {options.scale:g}"
        rows = [f"| {' | '.join(_COLUMNS)} |", "|---|---|" + "--:|" * (len(_COLUMNS) - 2)]
        for mix in options.mixes:
            ours = [o for o in outcomes if (o.view, o.mix, o.peer) == (view, mix, "penstock")]
            for peer in options.peers:
                seen = [o for o in outcomes if (o.view, o.mix, o.peer) == (view, mix, peer)]
                if seen:
                    rows.append(_row(mix, peer, seen, ours))
        yield "\n".join([head, *rows, "", _summary(outcomes, view, options)])


def _row(mix: str, peer: str, seen: Sequence[Outcome], ours: Sequence[Outcome]) -> str:
    """Medians; ratios where both did the work."""
    complete = sum(o.complete for o in seen)
    cpu, wall = median(o.cpu for o in seen), median(o.wall for o in seen)
    done = [o for o in ours if o.complete] if complete else []
    by_cpu = f"{cpu / median(o.cpu for o in done):.1f}" if done else ""
    by_wall = f"{wall / median(o.wall for o in done):.2f}" if done else ""
    cells = [
        mix, peer, f"{complete} of {len(seen)}", max(o.lost for o in seen), sum(o.kernel_kills for o in seen),
        sum(o.hang for o in seen), sum(o.timeout for o in seen), max(o.orphans for o in seen),
        max(o.repeated for o in seen), f"{cpu:.2f}", by_cpu, f"{wall:.1f}", by_wall,
        f"{median(o.held for o in seen):.0%}", f"{max(o.peak for o in seen) / MiB:.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _summary(outcomes: Sequence[Outcome], view: str, options: argparse.Namespace) -> str:
    lines = []
    for peer in options.peers:
        seen = [o for o in outcomes if (o.view, o.peer) == (view, peer)]
        if seen:
            lines.append(
                f"{peer}: {sum(o.complete for o in seen)} of {len(seen)} runs complete, "
                f"{sum(o.kernel_kills for o in seen)} kernel kills, {sum(o.hang for o in seen)} hangs, "
                f"{sum(o.lost for o in seen)} items lost"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
