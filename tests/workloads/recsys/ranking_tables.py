"""Small tables for rankings, runs over them, and a checker of what they leave that nothing slips past."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import penstock
from penstock.meter import Meter
from penstock.workloads.recsys import Ranking

DATA = Path(__file__).parent / "data"
BUDGET = 600 << 20
"""Beside what this process holds: other tests of the part have left much in it."""


def ranked(folder, oracle=None, *, budget=None, workers=None, call=None, backend="inline", **options):
    """A run of ``ranking`` over the tables of an oracle, or those in the options; its folder."""
    if oracle is not None:
        place = DATA / oracle
        given = {"samples": "samples", "items": "dataset_profile", "users": "user_features"}
        options = {name: str(place / f"{file}.parquet") for name, file in given.items()} | options
    budget = BUDGET + Meter().held() if budget is None else budget
    with penstock.Run(folder, budget=budget, workers=workers, call=call, backend=backend) as run:
        Ranking().run(run, **options)
    return Path(folder)


def table_of(folder, meta=None):
    """The table as it lies there, categories as texts; an Arrow table."""
    import json

    meta = meta or json.loads((folder / "meta.json").read_text())
    parts = sorted((folder / "table").glob("part-*.parquet"))
    table = ds.dataset([str(part) for part in parts]).to_table()
    for name, texts in meta["categories"].items():
        numbers = table.column(name).to_numpy()
        values = pa.array(texts, pa.string()).take(pa.array(numbers, mask=numbers < 0))
        table = table.set_column(table.schema.names.index(name), name, values)
    return table


def problems(expected, found):
    """What differs between two tables: the order of rows as it is, and values before any cast.

    Args:
        expected: an Arrow table.
        found: another one; columns besides are no problem.
    """
    if expected.num_rows != found.num_rows:
        return [f"{found.num_rows} rows, {expected.num_rows} were expected"]
    told = []
    for name in expected.schema.names:
        if name not in found.schema.names:
            told.append(f"no column {name}")
            continue
        wanted, column = plain(expected.column(name)), plain(found.column(name))
        if wanted.dtype.kind == "f" and column.dtype.kind == "f":
            differ = ~((wanted == column) | (np.isnan(wanted) & np.isnan(column)))
        else:
            differ = wanted != column
        if differ.any():
            told.append(f"{name}: {int(differ.sum())} differ, the first in row {int(np.argmax(differ))}")
    return told


def plain(column):
    """Numbers as float64 (ids as they are), anything else as objects."""
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if pa.types.is_integer(kind) and not column.null_count:
        numbers = column.to_numpy()
        return numbers.astype(np.float64) if np.abs(numbers).max(initial=0) < 2**53 else numbers
    return np.array(column.to_pylist(), object)


def expected_of(oracle):
    """The oracle's table."""
    return pq.read_table(DATA / oracle / "ranking_expected.parquet")


def write(path, **columns):
    """A Parquet file; its path as text."""
    pq.write_table(pa.table(columns), path)
    return str(path)


def log(path, requests=300, *, seed=0, size=8, scattered=False, **more):
    """A small log of requests of about ``size`` rows."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 2 * size, requests)
    request = np.repeat(np.arange(requests), sizes)
    rows = len(request)
    columns = {
        "request_id": np.array([f"r{number:05d}" for number in request]),
        "dataset_id": draw.integers(0, 50, rows),
        "user_id": np.repeat(draw.integers(0, 30, requests), sizes),
        "position": np.concatenate([np.arange(each) for each in sizes]),
        "score": draw.random(rows),
        "label": draw.integers(0, 5, rows) == 0,
        "channel": draw.choice(["a", "b"], rows),
        "timestamp": pa.array(request.astype("i8") * 3_600_000_000, pa.timestamp("us")),
        **more,
    }
    columns["label"] = np.asarray(columns["label"]).astype(np.float64)
    table = pa.table(columns)
    if scattered:
        table = table.take(pa.array(draw.permutation(rows)))
    pq.write_table(table, path)
    return str(path)


def items(path, count=50, **more):
    """Features of items: one price each."""
    return write(path, dataset_id=np.arange(count), price=np.arange(count) / 4, **more)
