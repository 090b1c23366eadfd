"""The sink that puts rows apart: nothing is lost, keys lie together, and files depend on rows alone."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.abc import Batch, SetAside
from penstock.errors import CannotKeep, ResultsDamaged, UsageError
from penstock.hashing import hashes, hashes_of_rows
from penstock.partitioned import partition_of, range_of
from penstock.sinks import Partitions
from penstock.testing import SinkSuite

PARTS = 4


class TestPartitions(SinkSuite):
    def make(self):
        return Partitions(by="key", parts=PARTS, grain=5)

    def result_of(self, item):
        if item % 6 == 5:
            return None
        return pa.table(
            {"key": [(item * 7 + row) % 9 for row in range(item % 4)], "item": [item] * (item % 4)}
        )

    def opened(self, result):
        return [partition.table().to_pylist() for partition in result]

    def expected(self, results):
        tables = [table for table in results if isinstance(table, pa.Table) and table.num_rows]
        whole = pa.concat_tables(tables)
        numbers = partition_of(whole, ["key"], PARTS)
        return [whole.filter(pa.array(numbers == part)).to_pylist() for part in range(PARTS)]


class TestTwoKeysAsDicts(SinkSuite):
    def make(self):
        return Partitions(by=["user", "day"], parts=3, grain=4)

    def result_of(self, item):
        return {"user": None if item % 5 == 0 else f"u{item % 7}", "day": item % 2, "value": item / 3}

    def opened(self, result):
        return sorted((row["value"], row["user"]) for part in result for row in part.table().to_pylist())

    def expected(self, results):
        return sorted((row["value"], row["user"]) for row in results if not isinstance(row, SetAside))


def kept(sink, folder, results):
    folder.mkdir()
    batch = Batch(0, 1)
    sink.close([(batch, sink.write(batch, iter(results), folder))], folder)
    return sink.result(folder)


def test_a_partition_is_a_row_group_for_each_round_and_cuts_depend_on_rows_alone(tmp_path):
    """However rows come, a round ends with the row that fills it; what is held at once is one round."""
    table = pa.table({"key": np.arange(300) % 11, "value": np.arange(300.0)})
    sink = Partitions(by="key", parts=PARTS, at_once=800)
    whole = kept(sink, tmp_path / "whole", [table])
    pieces = kept(sink, tmp_path / "pieces", [table[at : at + 7] for at in range(0, 300, 7)])
    (name,) = [path.name for path in (tmp_path / "whole").glob("split-*")]
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "pieces" / name).read_bytes()
    assert pq.read_metadata(tmp_path / "whole" / name).num_row_groups == 6 * PARTS
    assert sum(partition.rows for partition in whole) == 300
    for partition in pieces:
        values = partition.table()["value"].to_pylist()
        assert values == sorted(values)  # the order of the items
    assert sum(part.table().num_rows for part in pieces) == 300


def test_equal_keys_share_a_partition_whatever_the_width_of_their_type():
    numbers = np.array([0, 1, 5, 100, 7, 7])
    expected = partition_of(pa.table({"k": numbers}), ["k"], 64).tolist()
    for kind in (pa.int8(), pa.int32(), pa.uint16()):
        assert partition_of(pa.table({"k": pa.array(numbers, kind)}), ["k"], 64).tolist() == expected
    texts = pa.array(["a", "b", None, "a"])
    plain = partition_of(pa.table({"k": texts}), ["k"], 64)
    encoded = partition_of(pa.table({"k": texts.dictionary_encode()}), ["k"], 64)
    assert plain.tolist() == encoded.tolist()
    assert plain[0] == plain[3]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([0.0, -0.0, 1.5, float("nan"), -float("nan"), None]),
        pa.array([True, False, None, True, False, True]),
        pa.array([datetime.datetime(2025, 1, day) for day in range(1, 7)]),
        pa.array([datetime.date(2025, 1, day) for day in range(1, 7)]),
        pa.array([b"", b"\0", b"\0\0", None, b"a", b"b"]),
        pa.array([1, 2, 3, 4, 5, 6]).cast(pa.decimal128(30, 2)),
    ],
    ids=lambda values: str(values.type),
)
def test_every_kind_of_key_has_a_hash(values):
    found = hashes(values, np.uint64(1))
    told = [repr(value) for value in values.to_pylist()]
    groups = {}
    for text, each in zip(told, found.tolist(), strict=True):
        groups.setdefault(text.replace("-0.0", "0.0").replace("-nan", "nan"), set()).add(each)
    assert all(len(group) == 1 for group in groups.values())
    assert len(set.union(*groups.values())) == len(groups)


def test_hashes_of_nulls_do_not_depend_on_what_lies_under_them():
    hidden = pa.Array.from_buffers(
        pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(np.array([1, 99]).tobytes())]
    )
    table = pa.table({"a": hidden, "b": [1, 1]})
    plain = pa.table({"a": pa.array([1, None]), "b": [1, 1]})
    assert hashes_of_rows(table, ["a", "b"]).tolist() == hashes_of_rows(plain, ["a", "b"]).tolist()


def test_parts_follow_from_bytes():
    assert Partitions.parts_for("1GiB") == 32
    assert Partitions.parts_for(0) == 1
    assert Partitions.parts_for("1TiB") == 1024
    assert Partitions.parts_for("1GiB", each="256MiB") == 4


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UsageError, match="at least one column"):
        Partitions(by=[], parts=2)
    with pytest.raises(UsageError, match=r"parts=0\): a whole number"):
        Partitions(by="a", parts=0)
    with pytest.raises(TypeError, match="the key 'b' is no column; they are a"):
        kept(Partitions(by="b", parts=2), tmp_path / "one", [{"a": 1}])
    with pytest.raises(TypeError, match=r"column 'a': values of type list<.*> have no hash"):
        kept(Partitions(by="a", parts=2), tmp_path / "two", [{"a": [1]}])


def test_a_file_that_cannot_be_read_at_the_end_is_said_to_be_damaged(tmp_path):
    sink, batch = Partitions(by="a", parts=2, schema=pa.schema([("a", pa.int64())])), Batch(0, 1)
    receipt = sink.write(batch, iter([{"a": 1}]), tmp_path)
    (path,) = tmp_path.glob("split-*")
    path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(ResultsDamaged, match="as kept"):
        sink.close([(batch, receipt)], tmp_path)


def test_files_that_do_not_agree_are_refused(tmp_path):
    sink = Partitions(by="a", parts=2)
    first = sink.write(Batch(0, 1), iter([{"a": 1}]), tmp_path)
    with pytest.raises(TypeError, match="column 'a' is int64 for items 0 to 0 and string for items 1 to 1"):
        sink.write(Batch(1, 2), iter([{"a": "x"}]), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    second = sink.write(Batch(1, 2), iter([{"a": "x"}]), other)
    (other / second.parts[0].name).rename(tmp_path / second.parts[0].name)
    with pytest.raises(CannotKeep, match="column 'a'"):
        sink.close([(Batch(0, 1), first), (Batch(1, 2), second)], tmp_path)


# ------------------------------------------------------------------ ranges in place of hashes


@pytest.mark.parametrize("bits", [10, 40, 64])
@pytest.mark.parametrize("ordered", [True, False])
def test_ranges_are_in_the_order_of_keys(tmp_path, bits, ordered):
    draws = np.random.default_rng(1).integers(0, 2**bits, 500, dtype=np.uint64)
    keys = np.sort(draws) if ordered else draws
    pieces = [pa.table({"key": keys[at : at + 125]}) for at in range(0, 500, 125)]
    found = kept(Partitions(by="key", parts=7, bits=bits), tmp_path / "kept", pieces)
    assert [value for partition in found for value in sorted(partition.table()["key"].to_pylist())] == sorted(
        keys.tolist()
    )
    for number, partition in enumerate(found):
        assert {value * 7 >> bits for value in partition.table()["key"].to_pylist()} <= {number}


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([1, -1]), "holds -1 to 1"),
        (pa.array([1024]), "not 0 to below"),
        (pa.array([1, None]), "not null"),
        (pa.array(["a"]), "whole numbers"),
    ],
)
def test_a_key_out_of_range_is_refused(column, said):
    with pytest.raises(TypeError, match=said):
        range_of(pa.table({"key": column}), "key", 4, 10)


def test_ranges_are_of_one_column():
    with pytest.raises(UsageError, match="one column"):
        Partitions(by=["a", "b"], parts=2, bits=4)
