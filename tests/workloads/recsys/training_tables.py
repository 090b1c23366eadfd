"""Small ranking tables, made as the benchmark's are, and what a test changes in them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import penstock
from penstock.workloads.recsys.training import RankTrain

_PATH = Path(__file__).parents[3] / "benchmarks/recsys/make_table.py"
_SPEC = importlib.util.spec_from_file_location("make_table", _PATH)
_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_module)

FEW = {"trees": 6, "leaves": 7, "block": 3, "bin_sample": 1000}


def make(folder, rows=3000, **options):
    """A table of a few thousand rows in several row groups and two parts."""
    given = {"features": 8, "items": 200, "users": 300, "row_group": 700, "parts": 2} | options
    _module.make_table(folder, rows, **given)
    return folder


def edit(folder, change):
    """Write each part again after ``change(table, first row)``."""
    first = 0
    for path in sorted((folder / "table").glob("part-*.parquet")):
        with pq.ParquetFile(path) as file:
            groups = [file.read_row_group(at) for at in range(file.num_row_groups)]
        writer = None
        for group in groups:
            changed = change(group, first)
            writer = writer or pq.ParquetWriter(path, changed.schema)
            writer.write_table(changed, row_group_size=1 << 20)
            first += group.num_rows
        writer.close()
    tell(folder, types={field.name: str(field.type) for field in changed.schema})
    return folder


def regroup(folder, rows, into):
    """The same table with other row groups, in one part."""
    parts = [pq.read_table(path) for path in sorted((folder / "table").glob("part-*.parquet"))]
    (into / "table").mkdir(parents=True)
    pq.write_table(pa.concat_tables(parts), into / "table/part-0.parquet", row_group_size=rows)
    for name in ("groups.npy", "positions.npy", "meta.json"):
        (into / name).write_bytes((folder / name).read_bytes())
    return into


def with_column(table, name, values):
    """The table with other values in a column."""
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def tell(folder, **changes):
    """Change what meta.json says."""
    path = folder / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def train(folder, table, *, backend="inline", budget="2GiB", **options):
    """``metrics.json`` of a run."""
    with penstock.Run(folder, budget=budget, backend=backend) as run:
        RankTrain().run(run, table=str(table), **(FEW | options))
    path = folder / "metrics.json"
    return json.loads(path.read_text()) if path.exists() else None


def matrix(table):
    """All features of a table in memory, float64, and its labels."""
    parts = [pq.read_table(path) for path in sorted((table / "table").glob("part-*.parquet"))]
    whole = pa.concat_tables(parts)
    meta = json.loads((table / "meta.json").read_text())
    columns = [whole.column(name).to_numpy().astype(np.float64) for name in meta["features"]]
    for at, name in enumerate(meta["features"]):
        if name in meta["categorical"]:
            columns[at][columns[at] < 0] = np.nan
    return np.stack(columns, 1), whole.column("label").to_numpy()
