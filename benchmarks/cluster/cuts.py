"""Cut the network between a node and the rest for a while, and look at what comes of it.

    python benchmarks/cluster/cuts.py --seconds 30,300

As root, on Linux: a bridge, and a network namespace for each of two Dask workers. The folder is not cut: the
node that nobody hears goes on writing into it, which is what a fence is for. After each run: the same bytes
as without nodes, every item in one line of the journal, nothing worked again but what lay in leases of the
node that was cut off, and no process of ours left. Prints a line a cut; exit code 1 where that did not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import disturbed
from left_over import LIMIT, check_results, digests, log_lines, marked, repeated, until
from moments import MARK, Round
from worlds import Dask

NET, BRIDGE = "10.79.0", "penstock-cut"

Row: TypeAlias = tuple[str, ...]


def ip(*words: str, check: bool = True) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *words], check=check, capture_output=True, timeout=60)


class CutDask(Dask):
    """A Dask cluster whose workers have a network namespace each."""

    host = f"{NET}.1"
    ttl = "60s"

    def up(self) -> None:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number in range(2):
            name = self.space(number)
            ip("netns", "add", name)
            ip("link", "add", self.link(number), "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", self.link(number), "master", BRIDGE, "up")
            ip("-n", name, "addr", "add", f"{NET}.1{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        super().up()

    @staticmethod
    def space(number: int) -> str:
        """The namespace of a worker."""
        return f"penstock-cut-{number}"

    @staticmethod
    def link(number: int) -> str:
        """The end of its wire that is on this side."""
        return f"pencut{number}"

    def prefix(self, name: str) -> Sequence[str]:
        if not name.startswith("worker"):
            return ()
        return ("nsenter", f"--net=/run/netns/{self.space(int(name[-1]))}")

    def address(self, name: str) -> str:
        return f"{NET}.1{name[-1]}" if name.startswith("worker") else self.host

    def down(self) -> None:
        super().down()
        for number in range(2):
            ip("netns", "del", self.space(number), check=False)
        ip("link", "del", BRIDGE, check=False)


def cut(seconds: float, folder: Path) -> Row:
    """One run, cut off for so long: its row of the table.

    Raises:
        AssertionError: something did not hold.
    """
    # The other node alone has work for longer than the cut, so what comes back finds the run going on.
    variant = f"1:{max(1.3 * (seconds + 40) / disturbed.ITEMS, 0.1):.2f}"
    mark = f"{MARK}={os.getpid()}-{time.monotonic_ns()}"
    world = CutDask(folder, mark)
    try:
        world.up()
        plain = folder / "plain"
        disturbed.work(str(plain), os.devnull, "1:0", None)
        each = Round(world, folder / "round", random.Random(0), variant)
        until(lambda: each.over or len(each.nodes()) == 2, what="two nodes")
        until(lambda: any("back" in line for line in log_lines(each.logs[0])), what="the first lease")
        ip("link", "set", world.link(0), "down")
        began = time.monotonic()
        until(lambda: each.over or time.monotonic() - began > seconds, seconds + LIMIT)
        ip("link", "set", world.link(0), "up")
        going_on = not each.over
        code = each.parent.wait(seconds * 4 + 300)
        said = (each.folder / "said").read_text()
        assert not code, f"the run ended with {code}: {said[-1500:]}"
        check_results(each.folder / "run", digests(plain), disturbed.STAGES[:1])
        again, might = repeated(each.worked, each.logs)
        until(lambda: not marked(mark), what="the end of all processes")
        joined = sum("node" in line for line in log_lines(each.logs[0]))
        lost = sum("lost" in line for line in log_lines(each.logs[0]))
        return f"{seconds:.0f} s", str(lost), str(joined), str(again), str(might), "yes" if going_on else "no"
    finally:
        world.down()


def main() -> int:
    """Cut for as long as was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", default="30,300", help="of each cut, behind commas")
    options = parser.parse_args()
    print(
        "| cut for | nodes given up | nodes born | items worked again | of those in its leases | in time |\n"
        "|---|" + "--:|" * 5
    )
    faults = 0
    for seconds in map(float, options.seconds.split(",")):
        folder = Path(tempfile.mkdtemp(prefix="penstock-cut-"))
        try:
            print(f"| {' | '.join(cut(seconds, folder))} |", flush=True)
        except AssertionError as error:
            faults += 1
            print(f"{folder}, a cut of {seconds:.0f} s: {error}", file=sys.stderr, flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
