"""Partitions as items: a source like any other, and a group-by and a join of any function."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

import penstock
from penstock.abc import Batch
from penstock.errors import BadInput
from penstock.reducers import Fold
from penstock.sinks import Parquet, Partitions
from penstock.sources import Partitions as PartitionItems
from penstock.sources import Range
from penstock.testing import SourceSuite

BUDGET = "500MiB"


def keep(folder, values):
    """Three batches in five partitions."""
    sink = Partitions(by="key", parts=5)
    receipts = []
    for item in range(3):
        table = pa.table({"key": np.arange(20) % 7, "value": np.asarray(values) + item})
        receipts.append((Batch(item, item + 1), sink.write(Batch(item, item + 1), iter([table]), folder)))
    sink.close(receipts, folder)


class TestPartitions(SourceSuite):
    def make(self, folder):
        if not list(folder.glob("split-*")):
            keep(folder, range(20))
        return PartitionItems(folder)

    def change(self, folder):
        keep(folder, range(1, 21))
        return True


def test_what_is_no_shuffle_is_named(tmp_path):
    with pytest.raises(BadInput, match="holds no partitions"):
        PartitionItems(tmp_path)


def test_an_empty_partition_has_columns(tmp_path):
    sink, batch = Partitions(by="key", parts=5), Batch(0, 1)
    table = pa.table({"key": [1, 1], "value": [2, 3]})
    sink.close([(batch, sink.write(batch, iter([table]), tmp_path))], tmp_path)
    source = PartitionItems(tmp_path)
    empty = next(part for part in source.read(0, 5) if not part.rows)
    assert empty.table().schema.names == ["key", "value"]


def test_tables_of_wide_rows_are_short(tmp_path):
    sink, batch = Partitions(by="key", parts=1, compression=None), Batch(0, 1)
    table = pa.table({"key": range(40), "value": [bytes([row]) * (1 << 20) for row in range(40)]})
    sink.close([(batch, sink.write(batch, iter([table]), tmp_path))], tmp_path)
    (partition,) = PartitionItems(tmp_path).read(0, 1)
    found = list(partition)
    assert max(each.num_rows for each in found) <= 8
    assert pa.concat_tables(found).equals(table)


@pytest.mark.parametrize("room", [0, 1, 1 << 20])
def test_footers_that_are_kept_change_nothing(tmp_path, monkeypatch, room):
    monkeypatch.setattr("penstock.partitioned._FOOTERS", room)
    keep(tmp_path, range(20))
    source = PartitionItems(tmp_path)
    for _ in range(2):
        rows = [row for part in source.read(0, 5) for row in part.table().to_pylist()]
        assert Counter(row["value"] for row in rows) == Counter(
            n + item for n in range(20) for item in range(3)
        )


# ------------------------------------------------------------------ a group-by and a join, in runs


def draw(item):
    """Some rows of a log: (user, amount)."""
    draws = np.random.default_rng(item)
    return pa.table({"user": draws.integers(0, 50, 400), "amount": draws.integers(0, 1000, 400)})


def users_of(item):
    numbers = np.arange(item * 10, item * 10 + 10)
    return pa.table({"user": numbers.astype(np.int16), "name": [f"user {number}" for number in numbers]})


def median_by_user(partition):
    """No aggregate that merges: it needs all rows of a key at once."""
    table = partition.table()
    users, amounts = (table.column(name).to_numpy() for name in ("user", "amount"))
    return [
        {"user": int(user), "median": float(np.median(amounts[users == user]))} for user in np.unique(users)
    ]


def joined(left, *, names):
    right = names[joined.number(left)].table().to_pydict()
    known = dict(zip(right["user"], right["name"], strict=True))
    return Counter(known.get(user, "nobody") for table in left for user in table["user"].to_pylist())


joined.number = lambda partition: partition.number


def shuffled(run, name, function, items):
    sink = Partitions(by="user", parts=3, grain=2)
    return run.stage(name, penstock.Job(source=Range(items), function=function, into=sink))


def medians(folder, **options):
    with penstock.Run(folder, budget=BUDGET, **options) as run:
        log = shuffled(run, "log", draw, 9)
        job = penstock.Job(source=PartitionItems(log), function=median_by_user, into=Parquet(grain=1))
        return run.stage("medians", job).open().to_table().to_pylist()


def test_a_group_by_of_any_function(tmp_path):
    whole = pa.concat_tables([draw(item) for item in range(9)])
    users, amounts = whole["user"].to_numpy(), whole["amount"].to_numpy()
    expected = {int(user): float(np.median(amounts[users == user])) for user in np.unique(users)}
    found = medians(tmp_path / "one", workers=1)
    assert {row["user"]: row["median"] for row in found} == expected
    assert len(found) == len(expected)
    assert medians(tmp_path / "two", workers=2, call=1) == found
    for one in (tmp_path / "one").glob("*/*.parquet"):
        assert one.read_bytes() == (tmp_path / "two" / one.relative_to(tmp_path / "one")).read_bytes()
    assert penstock.verify(tmp_path / "one").ok


def test_a_join_of_two_stages_with_keys_of_other_widths(tmp_path):
    with penstock.Run(tmp_path / "r", budget=BUDGET, backend="inline") as run:
        log = shuffled(run, "log", draw, 9)
        names = shuffled(run, "names", users_of, 4)
        job = penstock.Job(
            source=PartitionItems(log),
            function=joined,
            into=Fold(count, dict, count, grain=1),
            inputs={"names": names},
        )
        found = run.stage("joined", job).open()
    whole = np.concatenate([draw(item)["user"].to_numpy() for item in range(9)])
    expected = Counter(f"user {user}" if user < 40 else "nobody" for user in whole)
    assert found == dict(expected)


def count(left, right):
    return dict(Counter(left) + Counter(right))


def fussy(item):
    """One item of the log cannot be done, until it can."""
    if item == 3 and not fussy.mended:
        raise ValueError("not yet")
    return draw(item)


fussy.mended = False


def test_what_the_shuffle_lacked_is_done_again_behind_it(tmp_path):
    def rows(**options):
        with penstock.Run(tmp_path / "r", budget=BUDGET, backend="inline", **options) as run:
            log = shuffled(run, "log", fussy, 9)
            job = penstock.Job(source=PartitionItems(log), function=size, into=penstock.reducers.Sum())
            return run.stage("sizes", job).open()

    try:
        assert rows(set_aside=True) == 8 * 400
        fussy.mended = True
        assert rows(set_aside=True, retry_set_aside=True) == 9 * 400
    finally:
        fussy.mended = False


def size(partition):
    return partition.rows
