"""Kill nodes, Dask workers, the scheduler and the parent at random moments, and look at what is left.

    python benchmarks/cluster/moments.py --rounds 20

Each round is a run of two stages with every kind of sink and reducer, disturbed once. After it: the same
bytes as undisturbed, every item in one line of the journal, nothing worked twice but what lay in leases that
were open when their node or the parent was lost, and no process left. Prints a line a kind; exit code 1 where
something of that did not hold, with the folder and the seed of that round.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import disturbed
from left_over import LIMIT, check_results, digests, living, log_lines, marked, repeated, until
from worlds import Dask, Local, signal_all, tree

HERE = Path(__file__).parent
ORPHAN_SECONDS = 5.0
"""In which what a killed process has started must be gone."""
MARK = "PENSTOCK_MOMENTS"


@dataclass
class Seen:
    """What came of the rounds of a kind."""

    rounds: int = 0
    late: int = 0
    """Rounds whose run was over before the moment came; they count for nothing."""
    repeated: int = 0
    open: int = 0
    """Items in leases that were open when their node or the parent was lost."""
    gone: list[float] = field(default_factory=list)
    """Seconds until what the killed process had started was gone."""
    faults: list[str] = field(default_factory=list)


class Round:
    """A run and what befalls it.

    Args:
        world: up.
        folder: a new one.
        chance: for what is random in it.
        variant: as :func:`disturbed.work` has it.
    """

    def __init__(self, world: Local | Dask, folder: Path, chance: random.Random, variant: str) -> None:
        self.world, self.folder, self.chance, self.variant = world, folder, chance, variant
        self.logs: list[Path] = []
        self.gone: float | None = None
        folder.mkdir()
        self.begin()

    @property
    def worked(self) -> Path:
        """Items that were worked."""
        return self.folder / "worked"

    def begin(self) -> None:
        """Start the run, or go on with it."""
        self.logs.append(self.folder / f"leases-{len(self.logs)}")
        name, _, mark = self.world.mark.partition("=")
        environ = {**os.environ, name: mark, "PENSTOCK_HISTORY": "off"}
        self.worked.touch()
        command = [
            HERE / "disturbed.py", self.folder / "run", self.worked, self.variant, self.world.where,
            self.logs[-1],
        ]  # fmt: skip
        with open(self.folder / "said", "ab") as said:
            self.parent = subprocess.Popen(
                [sys.executable, *map(str, command)],
                env=environ, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def wait_for_work(self) -> None:
        """Until a lease was sent."""
        until(lambda: self.over or any("sent" in line for line in log_lines(self.logs[-1])), what="a lease")

    @property
    def over(self) -> bool:
        """Whether the parent has ended."""
        return self.parent.poll() is not None

    def nodes(self) -> dict[str, int]:
        """Processes of the nodes that are ready, by token."""
        found: dict[str, int] = {}
        for line in log_lines(self.logs[-1]):
            if "node" in line:
                found[line["node"]] = line["pid"]
            elif "lost" in line:
                found.pop(line["lost"], None)
        return {token: pid for token, pid in found.items() if living({pid})}

    def some_node(self) -> int | None:
        """The process of one that lives; None where the run is over before there is one."""
        until(lambda: self.over or self.nodes(), what="a node")
        there = list(self.nodes().values())
        return None if self.over or not there else self.chance.choice(there)

    def is_lost(self, token: str) -> bool:
        """Whether the parent was told so."""
        return any(line.get("lost") == token for line in log_lines(self.logs[-1]))

    def kill(self, pids: set[int], *, below: set[int]) -> None:
        """Kill these, and see how long those below them live on."""
        signal_all(pids, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: not living(below), what="the end of what the killed process had started")
        self.gone = time.monotonic() - began

    def finish(self, *, expected: bool = True) -> None:
        """Wait for the end of the run; go on with it where it ended early, as it may.

        Args:
            expected: whether it must end well at once.
        """
        code = self.parent.wait(LIMIT)
        if code:
            said = (self.folder / "said").read_text()
            assert not expected, f"the run ended with {code}: {said[-1500:]}"
            self.world.mend()
            self.begin()
            self.finish()


def kill_node(each: Round) -> bool:
    """All processes of a node at once."""
    pid = each.some_node()
    if pid is None:
        return False
    pids = tree(pid)
    each.kill(pids, below=pids)
    each.finish()
    return True


def kill_program(each: Round) -> bool:
    """The program of a node alone."""
    pid = each.some_node()
    if pid is None:
        return False
    each.kill({pid}, below=tree(pid))
    each.finish()
    return True


def kill_parent(each: Round) -> bool:
    """The parent alone; the same command goes on."""
    if each.over:
        return False
    ours = tree(each.parent.pid)
    each.kill({each.parent.pid}, below=ours)
    began = time.monotonic()
    until(lambda: not marked(each.world.mark), what="the end of what the parent had started")
    each.gone = (each.gone or 0.0) + time.monotonic() - began
    each.finish(expected=False)
    return True


def freeze_node(each: Round) -> bool:
    """A node whose processes stop, is given up, and wakes; nobody can reach it meanwhile."""
    pid = each.some_node()
    if pid is None:
        return False
    (token,) = [token for token, known in each.nodes().items() if known == pid] or [""]
    pids = tree(pid)
    signal_all(pids, signal.SIGSTOP)
    draft = each.logs[-1].with_name("give-up.tmp")
    draft.write_text(str(pid))
    draft.rename(draft.with_name("give-up"))
    until(lambda: each.over or each.is_lost(token), what="giving it up")
    time.sleep(each.chance.uniform(0, 1.5))
    return _wake(each, pids)


def _wake(each: Round, pids: set[int]) -> bool:
    signal_all(pids, signal.SIGCONT)
    began = time.monotonic()
    until(lambda: not living(pids), what="the end of the node that woke")
    each.gone = time.monotonic() - began
    each.finish()
    return True


def kill_worker(each: Round) -> bool:
    """A Dask worker alone."""
    assert isinstance(each.world, Dask)
    if each.over:
        return False
    pid = each.chance.choice(each.world.workers())
    each.kill({pid}, below=tree(pid))
    each.finish()
    return True


def kill_scheduler(each: Round) -> bool:
    """The scheduler; the run ends, and the same command goes on with another."""
    assert isinstance(each.world, Dask)
    if each.over:
        return False
    below = {pid for worker in each.world.workers() for pid in tree(worker) - {worker}}
    each.kill({each.world.scheduler}, below=below)
    each.finish(expected=False)
    return True


def freeze_worker(each: Round) -> bool:
    """A Dask worker and its node stop, until the scheduler has given them up."""
    assert isinstance(each.world, Dask)
    if each.some_node() is None:
        return False
    worker = each.chance.choice(each.world.workers())
    pids = tree(worker)
    token = next((token for token, pid in each.nodes().items() if pid in pids), None)
    if token is None:
        return False
    signal_all(pids, signal.SIGSTOP)
    until(lambda: each.over or each.is_lost(token), what="giving it up")
    time.sleep(each.chance.uniform(0, 1.5))
    return _wake(each, pids - {worker})


Disturb: TypeAlias = Callable[[Round], bool]
VARIANTS = ("1", "2", "1", "1full")
"""Of the rounds, in turns."""
KINDS: dict[str, tuple[type[Local] | type[Dask], Disturb]] = {
    "local: a node": (Local, kill_node),
    "local: a node's program": (Local, kill_program),
    "local: the parent": (Local, kill_parent),
    "local: a node frozen": (Local, freeze_node),
    "dask: a node": (Dask, kill_node),
    "dask: a worker": (Dask, kill_worker),
    "dask: the scheduler": (Dask, kill_scheduler),
    "dask: the parent": (Dask, kill_parent),
    "dask: a worker frozen": (Dask, freeze_worker),
}


def play(kind: str, rounds: int, seed: int, folder: Path, *, patient: bool = False) -> Seen:
    """So many rounds of a kind.

    Args:
        kind: of :data:`KINDS`.
        rounds: whose run was not over before its moment.
        seed: of what is random.
        folder: for runs; that of a round with a fault is left there.
        patient: whether processes may be gone later than they should: for a busy machine.
    """
    make, disturb = KINDS[kind]
    seen, chance = Seen(), random.Random(f"{kind} {seed}")
    mark = f"{MARK}={os.getpid()}-{time.monotonic_ns()}"
    world = make(folder, mark)
    world.up()
    try:
        began = time.monotonic()
        plain = Round(world, folder / "plain", chance, "1")
        plain.wait_for_work()
        first = time.monotonic()
        plain.finish()
        whole, work = time.monotonic() - began, time.monotonic() - first
        expected = {variant: _undisturbed(folder, variant) for variant in set(VARIANTS)}
        number = 0
        while seen.rounds < rounds and number < 3 * rounds:
            variant = VARIANTS[number % len(VARIANTS)]
            number += 1
            each = Round(world, folder / f"round-{number}", chance, variant)
            if number % 2:  # a beginning takes longer than the work, on a busy machine
                each.wait_for_work()
            moment = chance.uniform(0, (work if number % 2 else whole) * int(variant[0]))
            _round(seen, each, moment, disturb, expected[variant], patient)
    finally:
        world.down()
    return seen


def _undisturbed(folder: Path, variant: str) -> dict[str, str]:
    place = folder / f"plain-{variant}"
    disturbed.work(str(place), os.devnull, variant, None)
    return digests(place)


def _round(
    seen: Seen, each: Round, moment: float, disturb: Disturb, expected: dict[str, str], patient: bool
) -> None:
    world, folder = each.world, each.folder
    try:
        with suppress(subprocess.TimeoutExpired):
            each.parent.wait(moment)
        if not disturb(each):
            each.finish()
            seen.late += 1
            shutil.rmtree(folder)
            return
        seen.rounds += 1
        check_results(folder / "run", expected, disturbed.STAGES[: int(each.variant[0])])
        again, might = repeated(each.worked, each.logs)
        until(lambda: not marked(world.mark), what="the end of all processes")
        seen.repeated += again
        seen.open += might
        if each.gone is not None:
            seen.gone.append(each.gone)
            assert patient or each.gone <= ORPHAN_SECONDS, f"processes were left for {each.gone:.1f} s"
    except (AssertionError, subprocess.TimeoutExpired) as error:
        seen.faults.append(f"{folder}, after {moment:.2f} s: {error}; left: {marked(world.mark)}")
        print(seen.faults[-1], file=sys.stderr)
        signal_all(set(marked(world.mark)), signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            each.parent.wait(10)
    else:
        shutil.rmtree(folder)
    world.mend()


def main() -> int:
    """Play what was asked for, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="of each kind")
    parser.add_argument("--kinds", default="", help="those that begin so, behind commas")
    parser.add_argument("--seed", type=int, default=16)
    options = parser.parse_args()
    wanted = [kind for kind in KINDS if kind.startswith(tuple(options.kinds.split(",")))]
    print("| killed at random moments | rounds | faults | items worked again | of those in open leases |"
          " processes left, median and most s |\n|---|" + "--:|" * 5)  # fmt: skip
    faults = []
    for kind in wanted:
        folder = Path(tempfile.mkdtemp(prefix="penstock-moments-"))
        seen = play(kind, options.rounds, options.seed, folder)
        gone = sorted(seen.gone) or [0.0]
        print(
            f"| {kind} | {seen.rounds} | {len(seen.faults)} | {seen.repeated} | {seen.open} "
            f"| {gone[len(gone) // 2]:.1f}, {gone[-1]:.1f} |",
            flush=True,
        )
        faults += seen.faults
        if not seen.faults:
            shutil.rmtree(folder)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
