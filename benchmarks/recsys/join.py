"""The ranking table: `penstock run ranking` beside DuckDB, polars, pandas, pyarrow, in a hard memory group.

    python benchmarks/recsys/join.py [--rows 2000000] [--groups 512MiB,1GiB] [--peers duckdb,pandas]
        [--ours plain,fast,sort] [--unsorted] [--floor]

Makes the tables of a log (seeded: 87 features of 50,000 items, 12 of 200,000 users), joins them in every way
that is installed, and prints CPU seconds, the highest anonymous + shared memory of the group (read every
20 ms), bytes written, and who was killed; then the same, sorted by request and position. The values of
DuckDB's table are compared with those of ours, column by column. ``--floor``: pyarrow alone reads our table
and writes it again, with dictionaries and lz4 as ours are, and plain. Needs root, for the groups.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from penstock.budget import format_size, parse_size

sys.path.insert(0, str(Path(__file__).parent.parent / "oom"))

_MAIN = "import sys; from penstock.cli import main; sys.exit(main())"
ITEMS, USERS, MEAN = 50_000, 200_000, 12
TEXTS = ("channel", "endpoint", "variant", "experiment_variant", "source", "device_type", "locale")


def features_of(key: str, count: int, number: int, seed: int) -> pa.Table:
    """Flags, counts, prices, shares: what item and user tables have."""
    draw = np.random.default_rng(seed)
    kinds = [
        lambda: draw.integers(0, 2, count),
        lambda: draw.normal(size=count),
        lambda: draw.integers(0, 30_000, count),
        lambda: np.log1p(draw.pareto(1.5, count) * 100),
        lambda: np.round(draw.random(count), 2),
        lambda: draw.integers(0, 365, count).astype(np.float64),
    ]
    made = {f"{key[0]}{at:03d}": kinds[at % 6]() for at in range(number)}
    return pa.table({key: draw.permutation(count), **made})


def make_tables(folder: Path, rows: int) -> None:
    """Samples, items and users, a row group at a time."""
    if (folder / "samples.parquet").is_file():
        return
    pq.write_table(features_of("dataset_id", ITEMS, 87, 1), folder / "items.parquet", compression="zstd")
    pq.write_table(features_of("user_id", USERS, 12, 2), folder / "users.parquet", compression="zstd")
    writer, done, request = None, 0, 0
    while done < rows:
        draw = np.random.default_rng([3, done])
        count = min(122_880, rows - done)
        sizes = 1 + draw.geometric(1 / (MEAN - 1), count)
        sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), count)) + 1]
        number = np.repeat(np.arange(len(sizes)), sizes)[:count]
        first = np.r_[0, np.flatnonzero(np.diff(number)) + 1]
        position = np.arange(count) - np.repeat(first, np.diff(np.r_[first, count]))
        table = pa.table(
            {
                "request_id": [_name(value) for value in (request + number).tolist()],
                "dataset_id": (draw.pareto(1.1, count) * 50).astype(np.int64) % (ITEMS + 500),
                "user_id": pa.array(draw.integers(0, USERS, len(sizes))[number], mask=(number % 5 == 0)),
                "position": position, "score": draw.random(count),
                "channel_weight": draw.random(count).round(1),
                **{name: np.array(["a", "b", "c"])[draw.integers(0, 3, count)] for name in TEXTS},
                "label": (draw.random(count) < 0.05).astype(np.float64),
            }
        )  # fmt: skip
        writer = writer or pq.ParquetWriter(folder / "samples.parquet", table.schema, compression="zstd")
        writer.write_table(table)
        done, request = done + count, request + len(sizes)
    assert writer is not None
    writer.close()


def _name(request: int) -> str:
    return f"r{request * 0x9E3779B97F4A7C15 % 2**64:016x}"


def columns(folder: Path) -> tuple[list[str], list[str]]:
    """Features of items and of users."""
    return tuple(  # type: ignore[return-value]
        [name for name in pq.read_schema(folder / f"{table}.parquet").names if not name.endswith("_id")]
        for table in ("items", "users")
    )


def penstock(folder: Path, out: Path, group: str, *options: str) -> list[str]:
    """Ours; the budget is what it finds."""
    tables = [f"--{name}={folder / f'{name}.parquet'}" for name in ("samples", "items", "users")]
    return [sys.executable, "-c", _MAIN, "run", "ranking", *tables, "--into", str(out), "--quiet", *options]


def peer(name: str, folder: Path, out: Path, sort: bool) -> list[str]:
    """A peer's own way, in a process of its own."""
    return [
        sys.executable,
        __file__,
        "--peer",
        name,
        "--folder",
        str(folder),
        "--out",
        str(out),
        *(["--sort"] if sort else []),
    ]


def duckdb(folder: Path, out: Path, sort: bool) -> None:
    """A streaming join with a spill folder and a limit of 300 MB: the settings that survive 512 MiB."""
    import duckdb

    items, users = columns(folder)
    chosen = ", ".join(
        ["s.request_id", "s.dataset_id", "s.label", *(f"s.{name}" for name in TEXTS)]
        + [f"s.{name}::FLOAT {name}" for name in ("score", "channel_weight", "position")]
        + [f"i.{name}::FLOAT {name}" for name in items]
        + [f"u.{name}::FLOAT user_{name}" for name in users]
    )
    settings = {
        "memory_limit": "300MB", "temp_directory": str(out.parent / "spill"), "threads": 1,
        "preserve_insertion_order": False,
    }  # fmt: skip
    with duckdb.connect(config=settings) as db:
        db.execute(
            f"COPY (SELECT {chosen} FROM '{folder}/samples.parquet' s LEFT JOIN '{folder}/items.parquet' i "
            f"USING (dataset_id) LEFT JOIN '{folder}/users.parquet' u USING (user_id)"
            f"{' ORDER BY s.request_id, s.position' if sort else ''}) "
            f"TO '{out}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30720)"
        )


def polars(folder: Path, out: Path, sort: bool) -> None:
    """The streaming engine."""
    import polars as pl

    items, users = (pl.scan_parquet(folder / f"{name}.parquet") for name in ("items", "users"))
    joined = pl.scan_parquet(folder / "samples.parquet").join(items, on="dataset_id", how="left").join(
        users, on="user_id", how="left"
    )  # fmt: skip
    (joined.sort("request_id", "position") if sort else joined).sink_parquet(out)


def pandas(folder: Path, out: Path, sort: bool) -> None:
    """As most pipelines do."""
    import pandas as pd

    samples, items, users = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("samples", "items", "users")
    )
    joined = samples.merge(items, on="dataset_id", how="left").merge(users, on="user_id", how="left")
    (joined.sort_values(["request_id", "position"]) if sort else joined).to_parquet(out)


def pyarrow(folder: Path, out: Path, sort: bool) -> None:
    """Table.join."""
    samples, items, users = (
        pq.read_table(folder / f"{name}.parquet") for name in ("samples", "items", "users")
    )
    joined = samples.join(items, "dataset_id").join(users, "user_id")
    pq.write_table(
        joined.sort_by([("request_id", "ascending"), ("position", "ascending")]) if sort else joined, out
    )


def again(folder: Path, out: Path, sort: bool) -> None:
    """Our table read and written once more, encoded as it is: nothing is joined, counted or proven."""
    _write_again(folder, out, compression="lz4", use_dictionary=True)


def again_plain(folder: Path, out: Path, sort: bool) -> None:
    """The same without dictionaries and compression: what Parquet can be written with in the least time."""
    _write_again(folder, out, compression=None, use_dictionary=False)


def _write_again(folder: Path, out: Path, **how: Any) -> None:
    parts = sorted(folder.glob("table/part-*"))
    with pq.ParquetWriter(out, pq.read_schema(parts[0]), write_statistics=False, **how) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part, use_threads=False))


PEERS = {each.__name__: each for each in (duckdb, polars, pandas, pyarrow)}
FLOORS = {each.__name__: each for each in (again, again_plain)}


def in_group(command: list[str], limit: int) -> dict[str, Any]:
    """Run it in a group: how it ended, CPU seconds, peak, kills."""
    from group import Group

    group = Group(limit, "container")
    # What users have: bytecode that is kept.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            group.command(command), stdout=subprocess.DEVNULL, stderr=said, text=True, env=environ
        )
        while process.poll() is None:
            group.look()
            time.sleep(0.02)
        said.seek(0)
        found = {
            "code": process.returncode, "cpu": group.cpu, "peak": group.peak, "kills": group.kills,
            "wall": time.monotonic() - began, "said": said.read()[-300:],
        }  # fmt: skip
    group.end()
    return found


def same(ours: Path, theirs: Path, folder: Path) -> str:
    """Whether every value of DuckDB's table is ours, by sums of float32 in float64, column by column."""
    mine, other = ds.dataset([str(path) for path in sorted(ours.glob("table/part-*"))]), ds.dataset(theirs)
    if mine.count_rows() != other.count_rows():
        return f"{mine.count_rows():,} rows, and {other.count_rows():,}"
    items, users = columns(folder)
    for name in ["score", *items, *(f"user_{each}" for each in users)]:
        sums = []
        for table in (mine, other):
            values = table.to_table(columns=[name]).column(0).to_numpy(zero_copy_only=False)
            there = np.sort(values[~np.isnan(values)].astype(np.float64))
            sums.append((len(there), there.sum()))
        if sums[0] != sums[1]:
            return f"{name} differs: {sums}"
    return "the same values"


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--groups", default="512MiB,1GiB")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--ours", default="plain,fast,sort", help="ways of penstock, of these three")
    parser.add_argument("--unsorted", action="store_true", help="leave the peers' sorted tables out")
    parser.add_argument("--floor", action="store_true", help="also read and write the table by pyarrow alone")
    parser.add_argument("--folder", type=Path, help="where the tables are kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sort", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        {**PEERS, **FLOORS}[given.peer](given.folder, given.out, given.sort)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        folder = given.folder or Path(made)
        make_tables(folder, given.rows)
        compare(given, folder, Path(made))


def compare(given: argparse.Namespace, folder: Path, made: Path) -> None:
    """Everybody in every group."""
    peers = [name for name in given.peers.split(",") if name and find_spec(name)]
    out = made / "out"
    print(f"{given.rows:,} rows of {sum(map(len, columns(folder))) + 3} numeric features")
    print(f"{'group':>8} {'what':24} {'CPU s':>7} {'wall s':>7} {'peak':>9} {'written':>9}")
    for group in given.groups.split(","):
        options = {"plain": [], "fast": ["--fast"], "sort": ["--sort"]}
        ways: list[tuple[str, list[str]]] = [
            (" ".join(["penstock", *options[way]]), penstock(folder, out, group, *options[way]))
            for way in given.ours.split(",")
        ]
        ways += [
            (name + (" sorted" if sort else ""), peer(name, folder, out, sort))
            for sort in ((False,) if given.unsorted else (False, True))
            for name in peers
        ]
        if given.floor:
            ways += [(name.replace("_", ", "), peer(name, made / "ours", out, sort=False)) for name in FLOORS]
        for name, command in ways:
            shutil.rmtree(out, ignore_errors=True)
            out.unlink(missing_ok=True)
            found = in_group(command, parse_size(group))
            written = 0
            if out.is_dir():
                written = sum(path.stat().st_size for path in out.glob("table/part-*"))
            elif out.is_file():
                written = out.stat().st_size
            end = ""
            if found["code"]:
                end = f"  ended with {found['code']}, {found['kills']} killed {found['said'][-80:]!r}"
            seconds = f"{found['cpu']:7.1f} {found['wall']:7.1f}"
            sizes = f"{format_size(found['peak']):>9} {format_size(written):>9}"
            print(f"{group:>8} {name:24} {seconds} {sizes}{end}", flush=True)
            if name == "penstock" and not found["code"]:
                shutil.rmtree(made / "ours", ignore_errors=True)
                out.rename(made / "ours")
            if name == "duckdb" and not found["code"]:
                print(f"{'':8} values of duckdb and penstock: {same(made / 'ours', out, folder)}")
            if given.json:
                with open(given.json, "a", encoding="utf-8") as file:
                    file.write(json.dumps({"group": group, "what": name, "rows": given.rows, **found}) + "\n")


if __name__ == "__main__":
    main()
