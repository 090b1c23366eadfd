"""What the engine costs, and whether it survives kill -9: items, batches, workers, deaths.

    python benchmarks/engine/overhead.py --repeat 5 --kills 20

Every subject runs in a process of its own, every result is checked. CPU seconds are of all processes
together, the interpreter's start included; medians over ``--repeat`` runs, taken in turns.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import deaths
from measured import Measured, measure

MiB = 1 << 20
_LONG_SECONDS = 20.0
"""A subject that takes longer is measured once."""


@dataclass(frozen=True)
class Finding:
    """One figure; one line of JSON."""

    section: str
    what: str
    seen: float
    unit: str
    target: float | None = None
    """At most so much."""
    note: str = ""

    def __str__(self) -> str:
        target, met = "", ""
        if self.target is not None:
            target, met = f"{self.target:g}", "yes" if self.seen <= self.target else "NO"
        return f"| {self.what} | {self.seen:.4g} {self.unit} | {target} | {met} | {self.note} |"


def main() -> None:
    """Measure what was asked for, print it, and write it as JSON lines on request."""
    options = _options()
    for section in options.sections:
        print(f"\n{section}\n| what | seen | at most | met | note |\n|---|--:|--:|---|---|", flush=True)
        for finding in SECTIONS[section](options):
            print(finding, flush=True)
            if options.json:
                with open(options.json, "a") as file:
                    file.write(json.dumps(asdict(finding)) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", type=_sections, default=list(SECTIONS), help=",".join(SECTIONS))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20, help="of the parent")
    parser.add_argument("--seconds", type=float, default=20, help="of the run whose workers are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a line for each figure")
    return parser.parse_args()


def _sections(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: choose from {', '.join(SECTIONS)}")
    return names


# --------------------------------------------------------------------------- items


def items(options: argparse.Namespace) -> Iterator[Finding]:
    """Trivial items, ours and others'."""
    targets = {10_000: 0.4, 1_000_000: 1.5}
    peers = ["executor", "pool", *(["joblib"] if find_spec("joblib") else [])]
    subjects = ["penstock-collect", "penstock-sum", *peers]
    alone = _in_turns(["nothing"], (), options.repeat)["nothing"]
    yield Finding("items", "interpreter and import", _cpu(alone), "CPU s")
    for count in options.items:
        runs = _in_turns(subjects, (count,), options.repeat)
        ours = _cpu(runs["penstock-collect"])
        for subject in subjects:
            seen = runs[subject]
            cpu = _cpu(seen)
            wall, first = (median(run.told[key] for run in seen) for key in ("wall", "first"))
            peak = max(run.told["peak"] for run in seen) / MiB
            times = f"wall {wall:.2f} s, first result {first:.2f} s"
            note = f"{cpu / ours:.2f} x ours, {times}, parent {peak:.0f} MiB"
            target = targets.get(count) if subject.startswith("penstock") else None
            yield Finding("items", f"{count:,} items, {subject}", cpu, "CPU s", target, note)


def _in_turns(
    subjects: Sequence[str], arguments: tuple[object, ...], repeat: int
) -> dict[str, list[Measured]]:
    """Runs of each subject, one after the other, so that a busy moment meets them all."""
    runs: dict[str, list[Measured]] = {subject: [] for subject in subjects}
    for _ in range(repeat):
        for subject, done in runs.items():
            if not done or done[0].wall < _LONG_SECONDS:
                done.append(measure(subject, *arguments))
    return runs


def _cpu(runs: Sequence[Measured]) -> float:
    return median(run.cpu for run in runs)


# --------------------------------------------------------------------------- batches


def batches(options: argparse.Namespace) -> Iterator[Finding]:
    """CPU of a batch: the slope between a tenth of the batches and all of them."""
    few, many = max(options.batches // 10, 1), options.batches
    for where, target in (("a named folder", 1.0), ("a temporary run", None)):
        slopes = []
        for _ in range(options.repeat):
            small, large = (_batches(count, where == "a named folder") for count in (few, many))
            more = large.told["batches"] - small.told["batches"]
            slopes.append((large.cpu - small.cpu) / more * 1000)
        note = f"{few} against {many} batches of one item"
        yield Finding("batches", f"a batch in {where}", median(slopes), "CPU ms", target, note)


def _batches(count: int, durable: bool) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        return measure("batches", count, *([Path(folder) / "run"] if durable else []))


# --------------------------------------------------------------------------- workers


def workers(options: argparse.Namespace) -> Iterator[Finding]:
    """An idle worker of a function that imports nothing."""
    told = measure("workers", 10 * options.repeat).told
    note = f"median of {len(told['starts'])}, most {max(told['starts']) * 1000:.0f} ms"
    yield Finding("workers", "start, until it is ready", median(told["starts"]) * 1000, "ms", 40, note)
    note = f"most {max(told['replacements']) * 1000:.0f} ms"
    yield Finding("workers", "kill, and start another", median(told["replacements"]) * 1000, "ms", 40, note)
    yield Finding("workers", "private memory, idle", max(told["private"]) / MiB, "MiB", 15)


# --------------------------------------------------------------------------- deaths


def kills(options: argparse.Namespace) -> Iterator[Finding]:
    """kill -9 of the parent at random moments, then the same command."""
    outcomes = deaths.of_the_parent(options.kills, random.Random(options.seed))
    wrong = sum(not each.identical for each in outcomes)
    yield Finding("kills", f"{len(outcomes)} kills: other results than undisturbed", wrong, "", 0)
    yield Finding("kills", "processes left after ten seconds", sum(each.left for each in outcomes), "", 0)
    repeated = [each.repeated for each in outcomes]
    note = f"of {outcomes[0].items} items a run; a kill costs at most the running batches"
    yield Finding("kills", "items worked twice, median of a kill", median(repeated), "items", note=note)
    yield Finding("kills", "items worked twice, most of a kill", max(repeated), "items")


def worker_kills(options: argparse.Namespace) -> Iterator[Finding]:
    """kill -9 of a random worker each second."""
    outcome = deaths.of_workers(options.seconds, random.Random(options.seed))
    what = f"{outcome.kills} kills in {outcome.seconds:.0f} s: other results than undisturbed"
    yield Finding("worker-kills", what, not outcome.identical, "", 0)
    note = f"of {outcome.items}"
    yield Finding("worker-kills", "items worked more than once", outcome.repeated, "items", note=note)


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[Finding]]] = {
    "items": items,
    "batches": batches,
    "workers": workers,
    "kills": kills,
    "worker-kills": worker_kills,
}

if __name__ == "__main__":
    main()
