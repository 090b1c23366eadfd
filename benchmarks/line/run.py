"""How far are the decisions from somebody who knows every peak? A bench without processes.

    python benchmarks/line/run.py

Made-up traces of 15 families of work in 3 profiles (``traces.py``), played through the deciding code
(``world.py``) by several deciders (``policies.py``). Time is shown over the clairvoyant's and over the best
fixed number of workers chosen afterwards, each profile apart, for a median hides what fails. The seeds
are none that a rule was chosen on. The same command gives the same figures on any machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import Pool
from pathlib import Path

from clairvoyant import clairvoyant
from policies import POLICIES, fixed
from traces import FAMILIES, PROFILES, Trace, family
from world import World, best_fixed

from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.plan import Reserved

_ANOTHER = 500_000
"""To the seed of another run of the same family."""
FIRST_SEED = 7000
"""Rules were looked at with seeds under 1000."""


@dataclass(frozen=True)
class Row:
    """One run; one line of JSON."""

    family: str
    profile: str
    seed: int
    policy: str
    seconds: float
    over_clairvoyant: float
    over_fixed: float
    kills: int
    kernel_kills: int
    pauses: int
    repeated: float
    held_over_time: float
    """Mean share of the budget that was held."""
    held: int
    bounds: int
    projected: float
    """Mean of prediction over peak."""
    wrong_aside: bool
    """Whether an item was set aside that fits, or none that does not."""
    decision_us: float
    """CPU of what one worker is to do now."""
    plan_us: float
    """CPU of a plan, which is made anew each turn."""


def main() -> None:
    """Run what was asked for, and print the tables."""
    options = _options()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    todo = [
        (name, profile, seed, options.items, options.pressure, tuple(options.policies))
        for seed in seeds
        for name in options.families
        for profile in options.profiles
    ]
    rows = [Row(**json.loads(line)) for path in options.show for line in path.read_text().splitlines()]
    with Pool(options.jobs) as pool:
        for some in pool.imap_unordered(_play, [] if rows else todo):
            rows += some
            if options.json:  # as it comes: a run that is ended early has not run for nothing
                with open(options.json, "a") as file:
                    file.writelines(json.dumps(asdict(row)) + "\n" for row in some)
    for table in (_by_family, _apart, _by_profile, _what_it_cost):
        print(table(rows, options.policies) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2, help="of each family and profile")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--families", type=_names(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--profiles", type=_names(PROFILES), default=list(PROFILES))
    parser.add_argument("--policies", type=_names(POLICIES), default=list(POLICIES))
    parser.add_argument("--items", type=int, default=200, help="of each trace")
    parser.add_argument("--pressure", type=float, default=1.2, help="of all cores on the budget")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a line for each run")
    parser.add_argument(
        "--show", type=Path, nargs="+", default=[], metavar="FILE", help="only print what such files say"
    )
    return parser.parse_args()


def _names(known: dict[str, object] | dict[str, Callable[..., object]]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r}: choose from {', '.join(known)}")
        return names

    return read


def _play(which: tuple[str, str, int, int, float, tuple[str, ...]]) -> list[Row]:
    """All deciders on one trace."""
    name, profile, seed, items, pressure, policies = which
    trace = family(name, seed, profile, items=items, pressure=pressure)
    best, fixed_seconds = clairvoyant(trace), best_fixed(trace, fixed)
    another: Learnt | None = None
    rows = []
    for policy in policies:
        before = None
        if times := POLICIES[policy].remembers:
            another = another or _learnt(
                family(name, seed + _ANOTHER, profile, items=items, pressure=pressure)
            )
            before = _times(another, times)
        world = World(trace, POLICIES[policy].admission, decide=POLICIES[policy].decide, before=before)
        out = world.run()
        rows.append(
            Row(
                name, profile, seed, policy, out.seconds, out.seconds / best, out.seconds / fixed_seconds,
                out.kills, out.kernel_kills, out.pauses, out.repeated,
                out.byte_seconds / out.seconds / trace.budget, out.held, out.bounds,
                out.projected / max(out.bounds, 1), out.aside != trace.never,
                out.deciding / max(out.decisions, 1) * 1e6, out.planning / max(out.plans, 1) * 1e6,
            )
        )  # fmt: skip
    return rows


def _learnt(trace: Trace) -> Learnt:
    """What a run leaves."""
    world = World(trace)
    world.run()
    return world.estimate.learnt(Reserved(0, 0, 0))


def _times(learnt: Learnt, times: float) -> Learnt:
    """The same of calls that took so many times as much."""
    seen = tuple(replace(each, peak=int(times * each.peak)) for each in learnt.observations)
    return replace(learnt, observations=seen, firsts=tuple(int(times * each) for each in learnt.firsts))


# --------------------------------------------------------------------------- what is printed


def _median(rows: Sequence[Row], of: Callable[[Row], float]) -> float:
    return statistics.median(of(row) for row in rows) if rows else 0.0


def _over_clairvoyant(row: Row) -> float:
    return row.over_clairvoyant


def _over_fixed(row: Row) -> float:
    return row.over_fixed


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join([*rows, *(f"| {' | '.join(line)} |" for line in lines)])


def _by_family(rows: Sequence[Row], policies: Sequence[str]) -> str:
    """Median over seeds and profiles, and the worst profile of the first decider."""
    lines = []
    for name in dict.fromkeys(sorted((row.family for row in rows), key=list(FAMILIES).index)):
        line = [name]
        for policy in policies:
            mine = [row for row in rows if (row.family, row.policy) == (name, policy)]
            apart = [_median([r for r in mine if r.profile == p], _over_clairvoyant) for p in PROFILES]
            line.append(f"{_median(mine, _over_clairvoyant):.2f} ({max(apart):.2f})")
        lines.append(line)
    return "time over clairvoyant: median (worst profile)\n\n" + _table(["family", *policies], lines)


def _apart(rows: Sequence[Row], policies: Sequence[str]) -> str:
    """The first decider, each family and profile apart."""
    mine = [row for row in rows if row.policy == policies[0]]
    lines = []
    for name in dict.fromkeys(sorted((row.family for row in mine), key=list(FAMILIES).index)):
        line = [name]
        for profile in PROFILES:
            these = [row for row in mine if (row.family, row.profile) == (name, profile)]
            clairvoyant, over_fixed = (_median(these, of) for of in (_over_clairvoyant, _over_fixed))
            line.append(f"{clairvoyant:.2f}, {over_fixed:.2f}")
        these = [row for row in mine if row.family == name]
        line.append(f"{sum(row.held for row in these) / max(sum(row.bounds for row in these), 1):.0%}")
        line.append(f"{statistics.mean(row.repeated for row in these):.1%}")
        line.append(f"{statistics.mean(row.held_over_time for row in these):.0%}")
        lines.append(line)
    head = ["family", *PROFILES, "bounds held", "repeated", "budget held"]
    return f"{policies[0]}: time over clairvoyant, over best fixed, medians\n\n" + _table(head, lines)


def _by_profile(rows: Sequence[Row], policies: Sequence[str]) -> str:
    """Median and worst family, over the clairvoyant and over the best fixed number."""
    lines = []
    for profile in (*(p for p in PROFILES if any(row.profile == p for row in rows)), "all"):
        for what, of in (("clairvoyant", _over_clairvoyant), ("best fixed", _over_fixed)):
            line = [f"{profile}, over {what}"]
            for policy in policies:
                mine = [r for r in rows if r.policy == policy and profile in (r.profile, "all")]
                families = [_median([r for r in mine if r.family == f], of) for f in {r.family for r in mine}]
                worst = max(of(row) for row in mine)
                line.append(f"{statistics.median(families):.2f} / {max(families):.2f} / {worst:.2f}")
            lines.append(line)
    return "median family / worst family / worst run\n\n" + _table(["profile", *policies], lines)


def _what_it_cost(rows: Sequence[Row], policies: Sequence[str]) -> str:
    """Kills, pauses, repeated work, coverage."""
    families = {row.family for row in rows}

    def worst(
        mine: Sequence[Row], of: Callable[[Sequence[Row]], float], choose: Callable[..., float]
    ) -> float:
        return choose(of([row for row in mine if row.family == name]) for name in families)

    def coverage(mine: Sequence[Row]) -> float:
        return sum(r.held for r in mine) / max(sum(r.bounds for r in mine), 1)

    def repeated(mine: Sequence[Row]) -> float:
        return statistics.mean(r.repeated for r in mine)

    def stretch(mine: Sequence[Row]) -> float:
        return statistics.mean(r.projected for r in mine)

    lines: list[list[str]] = []
    for label, tell in (
        ("kills a run", lambda mine: f"{statistics.mean(r.kills for r in mine):.2f}"),
        ("kernel kills, all runs", lambda mine: f"{sum(r.kernel_kills for r in mine)} of {len(mine)} runs"),
        ("pauses a run", lambda mine: f"{statistics.mean(r.pauses for r in mine):.1f}"),
        (
            "repeated, mean / worst family",
            lambda mine: f"{repeated(mine):.1%} / {worst(mine, repeated, max):.1%}",
        ),
        ("budget held over time", lambda mine: f"{statistics.mean(r.held_over_time for r in mine):.0%}"),
        ("bounds held, all / worst", lambda mine: f"{coverage(mine):.1%} / {worst(mine, coverage, min):.0%}"),
        (
            "uniform: predicted over peak",
            lambda mine: f"{stretch([r for r in mine if r.family == 'uniform'] or mine):.2f}",
        ),
        ("wrongly set aside", lambda mine: f"{sum(r.wrong_aside for r in mine)}"),
        (
            "CPU us a decision, a plan",
            lambda mine: (
                f"{_median(mine, lambda r: r.decision_us):.0f}, {_median(mine, lambda r: r.plan_us):.0f}"
            ),
        ),
    ):
        lines.append([label, *(tell([row for row in rows if row.policy == policy]) for policy in policies)])
    return _table(["what it cost", *policies], lines)


if __name__ == "__main__":
    main()
