"""Every built-in output in real runs: the same bytes for any number of workers, calls and batches."""

import functools
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import penstock
from penstock.errors import UsageError
from penstock.reducers import Count, Fold, Sum
from penstock.sinks import Arrays, Collect, Files, Parquet, Partitions
from penstock.sources import Chain, Items, ParquetRows, Range
from penstock.testing.comparing import comparable

COUNT = 180


def fail_some(item):
    if item % 50 == 7:
        raise ValueError("one of some")


def number(item):
    fail_some(item)
    return item / 7


def array(item):
    fail_some(item)
    return np.full((4, 5), item, np.float32)


def row(item):
    fail_some(item)
    return {"item": item, "text": "x" * (item % 9)} if item % 3 else None


def file(item):
    fail_some(item)
    path = penstock.share().folder / "out.txt"
    path.write_text(f"{item}")
    return path


def keys(item):
    fail_some(item)
    return ["abc"[item % 3], "all"]


def lengths(table):
    return pa.table(
        {"id": table["id"], "length": pa.array([len(text) for text in table["text"].to_pylist()])}
    )


def add(state, result):
    return state + result


def contents(folder: Path) -> dict[str, str]:
    """Final names and what is in them, without the state folder and the report."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".penstock" not in path.parts and not path.name.startswith("report.")
    }


def opened(result):
    return comparable(result.to_table() if hasattr(result, "to_table") else result)


@pytest.mark.parametrize(
    ("function", "into"),
    [
        (number, Collect()),
        (array, Collect()),
        (array, Arrays(grain=16)),
        (row, Parquet(grain=16, rows=10)),
        (row, Parquet(grain=16, rows=10, one_file=True)),
        (file, Files()),
        (number, Sum(grain=16)),
        (keys, Count()),
        (number, Fold(add, 0.0, add, grain=16)),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_the_same_for_any_number_of_workers(tmp_path, function, into):
    source = Chain(Range(100), Items(list(range(100, COUNT))))
    seen = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        job = penstock.Job(source=source, function=function, into=into)
        report = job.run(folder, budget="2GiB", workers=workers, set_aside=True)
        assert [aside.item for aside in report.set_aside] == [7, 57, 107, 157]
        kept = opened(report.result)
        if isinstance(into, Files):
            kept = [(path.name, path.read_text()) for path in report.result]
        seen.append((kept, contents(folder)))
    if isinstance(into, Collect) and function is array:  # parts are named by batches, which are cut by time
        assert seen[0][0] == seen[1][0]
        assert seen[0][1]["results.jsonl"] == seen[1][1]["results.jsonl"]
    else:
        assert seen[0] == seen[1]


def test_tables_in_and_out(tmp_path):
    table = pa.table({"id": range(3000), "text": ["x" * (i % 40) for i in range(3000)]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=700)
    seen = []
    for workers, batched in ((1, True), (2, True), (2, 37)):
        job = penstock.Job(
            source=ParquetRows(tmp_path / "in.parquet", columns=["text", "id"]),
            function=lengths,
            into=Parquet(grain=500),
            batched=batched,
        )
        report = job.run(tmp_path / f"{workers}-{batched}", budget="2GiB", workers=workers)
        read = report.result.to_table()
        assert read["id"].to_pylist() == list(range(3000))
        assert read["length"].to_pylist() == [i % 40 for i in range(3000)]
        seen.append(contents(tmp_path / f"{workers}-{batched}"))
    assert seen[0] == seen[1] == seen[2]


def pair(item):
    return np.array([item, 2 * item])


@pytest.mark.parametrize("output", [Arrays, Sum])
def test_a_grain_may_be_a_number_of_numpys(output, tmp_path):
    for name, grain in (("ours", 3), ("theirs", np.int64(3))):
        job = penstock.Job(source=Range(10), function=pair, into=output(grain=grain))
        assert job.run(tmp_path / name, budget="2GiB", backend="inline").done == 10
        assert penstock.verify(tmp_path / name).ok
    journals = [
        (tmp_path / name / ".penstock" / "job" / "journal").read_text() for name in ("ours", "theirs")
    ]
    assert journals[0].count('"kept"') == journals[1].count('"kept"') > 0


@pytest.mark.parametrize(
    "output", [Arrays, Files, Parquet, Sum, functools.partial(Partitions, by="a", parts=2)]
)
@pytest.mark.parametrize("grain", [0, 2.5, True, "x", float("nan"), b"1"])
def test_what_is_no_number_of_items_is_no_grain(output, grain):
    with pytest.raises(UsageError, match=r"\(grain=.*\): a whole number of at least 1 was expected"):
        output(grain=grain)
