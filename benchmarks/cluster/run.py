"""A job on many nodes: how near the ideal it ends, and what a lease and what nodes cost.

    python benchmarks/cluster/run.py

``--nodes``, ``--items`` and ``--leases`` make the scripts smaller, ``--parts`` leaves some out. Only
``lent`` and ``beside`` start processes of nodes; the others are the real deciding code on nodes that are a
script.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import beside
import lent
import scale

PARTS = ("scale", "leases", "lent", "beside")


def main() -> None:
    """Measure what was asked for, and print the tables."""
    os.environ.setdefault("PENSTOCK_HISTORY", "off")  # each run is a first one
    options = _options()
    if "scale" in options.parts:
        _scripts("scale", [scale.World(options.nodes, options.items, 1.0)], options)
    if "leases" in options.parts:
        # Leases of a minute of 10 nodes, which neither die nor are slow: only their number grows.
        items = int(options.leases * 60 * scale.WORKERS)
        _scripts("leases", [scale.World(10, items // times, 1.0, 0, 0) for times in (10, 1)], options)
    if "lent" in options.parts:
        _lent(options)
    if "beside" in options.parts:
        _beside(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--nodes", type=int, default=10_000, help="of the script")
    parser.add_argument("--items", type=int, default=10**9, help="of the script, of a second each")
    parser.add_argument("--leases", type=int, default=100_000, help="about so many of ten nodes")
    parser.add_argument("--seconds", type=float, default=20, help="of work, beside a run without nodes")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, beside")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append a line for each run")
    return parser.parse_args()


def _scripts(part: str, worlds: Sequence[scale.World], options: argparse.Namespace) -> None:
    print(
        "\n| nodes | items | leases | end / ideal | lent again | lines | journal MiB "
        "| CPU ms a lease | grown MiB at 1/10, at the end |\n|" + "--:|" * 9
    )
    for world in worlds:
        seen = scale.play(world)
        each = 1000 * (seen.cpu - seen.script) / seen.leases
        grown = f"{seen.grown_early / scale.MiB:.1f}, {seen.grown / scale.MiB:.1f}"
        cells = [
            f"{world.nodes:,}", f"{world.items:,}", f"{seen.leases:,}", f"{seen.over_ideal:.3f}",
            f"{seen.again / world.items:.4%}", f"{seen.lines:,}", f"{seen.journal / scale.MiB:.1f}",
            f"{each:.2f}", grown,
        ]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)
        _keep(options, {"part": part, **asdict(world), **asdict(seen)})


def _lent(options: argparse.Namespace) -> None:
    print("\n| real nodes | leases | CPU ms of the parent a lease |\n|---|--:|--:|")
    for name, cost in lent.costs().items():
        print(f"| {name} | {cost.leases} | {1000 * cost.cpu / cost.leases:.1f} |", flush=True)
        _keep(options, {"part": "lent", "cluster": name, **asdict(cost)})


def _beside(options: argparse.Namespace) -> None:
    items = int(options.seconds / beside.ITEM_SECONDS)
    seen = beside.rates(items, options.repeat)
    alone, nodes = seen.values()
    ratios = [ours / theirs for ours, theirs in zip(nodes, alone, strict=True)]
    print(f"\n{items:,} items of {1000 * beside.ITEM_SECONDS:.0f} ms, in turns\n")
    print("| | items a second, each run |\n|---|---|")
    for name, rates in seen.items():
        print(f"| {name} | {', '.join(f'{rate:.0f}' for rate in rates)} |")
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"| nodes / workers: median {median(ratios):.2f}, asked 0.9 | {told} |")
    _keep(options, {"part": "beside", "items": items, "seen": seen})


def _keep(options: argparse.Namespace, values: dict[str, Any]) -> None:
    if options.json:
        with open(options.json, "a") as file:
            file.write(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
