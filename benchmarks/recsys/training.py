"""Training a ranker: rank-train beside LightGBM on the same table in memory, and its planned peak.

    python benchmarks/recsys/training.py --rows 500000 --trees 10               # CPU and peaks, side by side
    python benchmarks/recsys/training.py --rows 1840000 --group 512MiB --bin-sample 50000     # a hard group
    python benchmarks/recsys/training.py --formula 250000,500000,1000000        # planned and measured peaks

Needs root: each contestant runs in a memory group of its own (8 GiB unless --group says less), whose
anonymous and shared memory is the peak, and the kernel kills who goes over it. The table is seeded (kept with
--folder). Peers read the same Parquet files into one float32 matrix (``numpy``), or into a data frame
(``pandas``, where it is installed), and train on the same rows with the same parameters; ours has its
defaults. ``bins`` is the CPU of reading and binning, ``tree`` that of a tree with all that comes with it
(ours too: loading the bins, writing the scores), NDCG@10 that of the same test part.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from make_table import make_table

from penstock.budget import format_size, parse_size

sys.path.insert(0, str(Path(__file__).parent.parent / "oom"))

_MAIN = "import sys; from penstock.cli import main; sys.exit(main())"


def ours(table: Path, into: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One whole run of rank-train."""
    shutil.rmtree(into, ignore_errors=True)
    command = [sys.executable, "-c", _MAIN, "run", "rank-train", str(table), "--into", str(into), "--quiet"]
    command += [
        "--trees",
        str(given.trees),
        "--block",
        str(given.block),
        "--bin-sample",
        str(given.bin_sample),
    ]
    found = in_group(command, given)
    if found["failed"]:
        return found
    events = map(json.loads, (into / ".penstock" / "events.jsonl").read_text().splitlines())
    ended = {each["stage"]: each for each in events if each["event"] == "stage_ended"}
    trees = [each for name, each in ended.items() if name.startswith("train-trees")]
    told = json.loads((into / "metrics.json").read_text())
    return found | {
        "bins": ended["train-bins"]["cpu"], "tree": sum(each["cpu"] for each in trees) / given.trees,
        "ndcg": told["test"]["ndcg@10"], "rows": told["model"]["rows"],
        "bins_peak": ended["train-bins"]["peak"],
        "trees_peak": max(each["peak"] for each in trees),
    }  # fmt: skip


def in_group(command: list[str], given: argparse.Namespace) -> dict[str, Any]:
    """Run a command in a group: its peak, CPU, kills, and what it printed."""
    from group import Group

    group = Group(parse_size(given.group or "8GiB"), "container")
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(group.command(command), stdout=said, stderr=subprocess.PIPE, text=True)
        while process.poll() is None:
            group.look()
            time.sleep(0.02)
        group.look()
        said.seek(0)
        errors = process.stderr.read() if process.stderr else ""
        found = {
            "failed": process.returncode != 0, "peak": group.peak, "cpu": group.cpu, "kills": group.kills,
            "said": said.read(), "errors": errors[-500:],
        }  # fmt: skip
    group.end()
    return found


def peer(kind: str, table: Path, survey: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One peer, in a process of its own."""
    command = [sys.executable, __file__, "--peer", kind, "--folder", str(table), "--survey", str(survey)]
    command += ["--trees", str(given.trees), "--bin-sample", str(given.bin_sample)]
    found = in_group(command, given)
    return found if found["failed"] else found | json.loads(found["said"].splitlines()[-1])


def train_in_memory(given: argparse.Namespace) -> None:
    """What a peer does: the whole table at once."""
    import lightgbm
    import pyarrow.parquet as pq

    from penstock.workloads.recsys.training import growing, metrics

    began = time.process_time()
    table = Path(given.folder)
    meta = json.loads((table / "meta.json").read_text())
    whole = pq.read_table(table / "table", columns=[*meta["features"], "label"])
    labels = whole.column("label").to_numpy()
    if given.peer == "pandas":
        values = whole.select(meta["features"]).to_pandas()
    else:
        values = np.empty((whole.num_rows, len(meta["features"])), np.float32)
        for at, name in enumerate(meta["features"]):
            values[:, at] = whole.column(name).to_numpy()
            if name in meta["categorical"]:
                values[values[:, at] < 0, at] = np.nan
    del whole
    parts, sizes = np.load(Path(given.survey) / "parts.npy"), np.load(table / "groups.npy")
    train = np.repeat(parts == 0, sizes)
    part = values[train]
    places = np.load(table / "positions.npy")[train]
    params = {**growing.bin_params(given.bin_sample, 42), **growing.Growing().params(0, 2), "verbosity": -1}
    data = lightgbm.Dataset(
        part, labels[train], group=sizes[parts == 0], position=places, params=params,
        categorical_feature=[meta["features"].index(name) for name in meta["categorical"]],
    ).construct()  # fmt: skip
    del part
    binned = time.process_time()
    booster = lightgbm.Booster(params, data)
    for _ in range(given.trees):
        booster.update()
    grown = time.process_time()
    scores = booster.predict(values[~train], raw_score=True)
    ndcg, _ = metrics.mean_known(metrics.ndcg(labels[~train], scores, sizes[parts == 1], 10))
    print(json.dumps({"bins": binned - began, "tree": (grown - binned) / given.trees, "ndcg": ndcg}))


def side_by_side(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Ours and the peers on one table."""
    table = folder / "table"
    if not table.exists():
        make_table(table, given.rows, features=given.features)
    rows = [{"who": "rank-train", **ours(table, folder / "run", given)}]
    if rows[0]["failed"]:
        raise SystemExit(f"rank-train failed: {rows[0]['errors']}")
    survey = folder / "run/train-survey"
    there = [kind for kind in ("numpy", "pandas") if find_spec(kind)]
    rows += [{"who": kind, **peer(kind, table, survey, given)} for kind in there]
    limit = given.group or "none"
    print(f"{given.rows:,} rows x {given.features} features, {given.trees} trees, group: {limit}")
    print(f"{'':12}{'bins, CPU s':>14}{'a tree, CPU s':>16}{'peak':>12}{'NDCG@10':>10}{'kills':>8}")
    for row in rows:
        told = "".join(
            f"{row[name]:>{width}.{digits}f}" if name in row else f"{'':>{width}}"
            for name, width, digits in (("bins", 14, 1), ("tree", 16, 2))
        )
        ndcg = f"{row['ndcg']:.4f}" if "ndcg" in row else "failed"
        print(f"{row['who']:12}{told}{format_size(row['peak']):>12}{ndcg:>10}{row['kills']:>8}")
    return rows


def formula(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Planned and measured peaks of whole runs at several sizes."""
    from penstock.workloads.recsys.shared.peak import Training

    told = []
    print(f"{'rows':>12}{'':4}{'planned':>12}{'measured':>12}{'above':>8}")
    for rows in map(int, given.formula.split(",")):
        table = folder / f"table-{rows}"
        if not table.exists():
            make_table(table, rows, features=given.features)
        found = ours(table, folder / "run", given)
        if found["failed"]:
            raise SystemExit(f"rank-train failed: {found['errors']}")
        planned = Training(found["rows"], given.features, bin_sample=given.bin_sample)
        for step, size, measured in (
            ("bins", planned.bins_peak, found["bins_peak"]),
            ("trees", planned.trees_peak, found["trees_peak"]),
        ):  # fmt: skip
            above = size / measured - 1
            told.append({"rows": found["rows"], "step": step, "planned": size, "measured": measured})
            sizes = f"{format_size(size):>12}{format_size(measured):>12}"
            print(f"{found['rows']:>12,} {step:5}{sizes}{above:>+8.0%}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", type=int, default=500_000)
    add("--features", type=int, default=102)
    add("--trees", type=int, default=10)
    add("--block", type=int, default=50)
    add("--bin-sample", type=int, default=200_000)
    add("--group", help="hard limit of each contestant, as in 512MiB")
    add("--formula", help="rows, as in 250000,500000,1000000")
    add("--folder", help="where tables are kept")
    add("--json", help="append a line for each result")
    add("--peer", help=argparse.SUPPRESS)
    add("--survey", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        train_in_memory(given)
        return
    folder = Path(given.folder or tempfile.mkdtemp(prefix="penstock-training-"))
    try:
        rows = formula(folder, given) if given.formula else side_by_side(folder, given)
    finally:
        if not given.folder:
            shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        with Path(given.json).open("a") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
