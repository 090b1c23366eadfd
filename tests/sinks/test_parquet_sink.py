from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.abc import Batch, SetAside
from penstock.errors import CannotKeep, UsageError
from penstock.sinks import Parquet
from penstock.sinks import rows as rows_module
from penstock.sinks.rows import row_bytes, table_bytes
from penstock.testing import SinkSuite


class _Rows(SinkSuite):
    def opened(self, result):
        return result.to_table().to_pylist()


class TestRowsOfDicts(_Rows):
    def make(self):
        return Parquet(grain=4)

    def result_of(self, item):
        return {"id": item, "text": "x" * item, "maybe": item / 3 if item % 3 else None}

    def expected(self, results):
        return [row for row in results if not isinstance(row, SetAside)]


class TestTables(_Rows):
    def make(self):
        return Parquet(grain=5, rows=7)

    def result_of(self, item):
        if item % 6 == 5:
            return None
        return pa.table({"item": [item] * (item % 4), "values": [[item, row] for row in range(item % 4)]})

    def expected(self, results):
        tables = [table for table in results if isinstance(table, pa.Table) and table.num_rows]
        return [row for table in tables for row in table.to_pylist()]


class TestEncodings(TestTables):
    """The same rows, however columns are encoded."""

    def make(self):
        return Parquet(grain=5, rows=7, encoding={"item": "split", "val*": "plain"}, statistics=["item"])


class TestDeltas(TestTables):
    """The same rows, where integers are written by their differences."""

    def make(self):
        return Parquet(grain=5, rows=7, encoding={"item": "delta"})


def test_each_column_is_encoded_as_the_first_pattern_that_fits_says(tmp_path):
    sink = Parquet(
        encoding={"f00?": "plain", "f*": "split", "list": "plain", "n": "delta"},
        statistics=["id"],
        compression=None,
    )
    table = pa.table(
        {
            "id": [1, 2],
            "n": [7, None],
            "f001": [0.1, 0.2],
            "f01": [0.1, 0.2],
            "list": [[1], [2]],
            "deep": [{"a": 1}, {"a": 2}],
        }
    )
    sink.write(Batch(0, 1), iter([table]), tmp_path)
    (path,) = tmp_path.glob("part-*")
    group = pq.read_metadata(path).row_group(0)
    columns = {
        each.path_in_schema.split(".")[0]: each for each in map(group.column, range(group.num_columns))
    }
    dictionary = {name for name, each in columns.items() if each.has_dictionary_page}
    assert dictionary == {"id", "deep"}
    assert "BYTE_STREAM_SPLIT" in columns["f01"].encodings
    assert "DELTA_BINARY_PACKED" in columns["n"].encodings
    assert {name for name, each in columns.items() if each.is_stats_set} == {"id"}
    assert pq.read_table(path).to_pylist() == table.to_pylist()


def test_an_encoding_that_a_column_cannot_have_is_named(tmp_path):
    with pytest.raises(UsageError, match="'rle' is none; known are 'dictionary', 'plain', 'split', 'delta'"):
        Parquet(encoding={"*": "rle"})
    with pytest.raises(TypeError, match="column 'text' is string: only columns of numbers can be split"):
        Parquet(encoding={"*": "split"}).write(Batch(0, 1), iter([{"text": "a"}]), tmp_path)
    with pytest.raises(TypeError, match="column 'x' is double: only columns of integers have deltas"):
        Parquet(encoding={"*": "delta"}).write(Batch(0, 1), iter([{"x": 0.5}]), tmp_path)


def test_an_option_that_is_new_leaves_the_key_of_older_folders_alone():
    from penstock.record.job_key import describe

    assert not {"encoding", "statistics"} & set(describe(Parquet())["options"])
    assert describe(Parquet(statistics=False))["options"]["statistics"] is False


class TestOneFile(TestTables):
    def make(self):
        return Parquet(grain=5, rows=7, one_file=True)

    def test_the_parts_are_left_until_the_journal_has_it(self, tmp_path):
        self.keep(tmp_path / "kept")
        names = {path.name for path in (tmp_path / "kept").iterdir()}
        assert {"_common_metadata", "results.parquet", "part-000000000-000000004.parquet"} <= names


def test_a_folder_without_a_row_is_an_empty_table_to_whoever_reads_it(tmp_path):
    kind = pa.schema({"id": pa.int16(), "note": pa.string()})
    sink = Parquet(grain=2, schema=kind)
    for rows, names in (
        ([[], []], ["empty.parquet"]),
        ([[], [{"id": 1}]], ["part-000000002-000000003.parquet"]),
    ):
        receipts = []
        for number, each in enumerate(rows):
            batch = Batch(2 * number, 2 * number + 2)
            receipts.append((batch, sink.write(batch, iter([each]), tmp_path)))
        closed = sink.close(iter(receipts), tmp_path)  # the second time: of items that were set aside before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["_common_metadata", *names]
        assert {part.name for part in closed.parts} >= {"_common_metadata", *names[: len(rows[1]) == 0]}
        table = pq.read_table(tmp_path)
        assert (table.schema, table.num_rows) == (kind, len(rows[1]))
        assert sink.result(tmp_path).to_table() == table


class TestWithASchema(_Rows):
    def make(self):
        return Parquet(grain=4, schema=pa.schema({"id": pa.int16(), "note": pa.string()}))

    def result_of(self, item):
        return [{"id": item, "note": None}, {"id": item}] if item % 2 else pa.table({"id": [item]})

    def expected(self, results):
        rows = []
        for item, result in enumerate(results):
            if not isinstance(result, SetAside):
                rows += [{"id": item, "note": None}] * (2 if item % 2 else 1)
        return rows


del _Rows


def part(sink, results, folder, start=0):
    batch = Batch(start, start + sink.grain)
    return sink.write(batch, iter(results), folder)


def written(sink, results, folder):
    (one,) = part(sink, results, folder).parts
    return (folder / one.name).read_bytes()


def whole(sink, parts, folder):
    receipts = []
    for number, results in enumerate(parts):
        start = number * sink.grain
        receipts.append((Batch(start, start + sink.grain), part(sink, results, folder, start)))
    sink.close(iter(receipts), folder)
    return sink.result(folder)


# ------------------------------------------------------------------ the same bytes

COLUMNS = {
    "number": st.none() | st.integers(-(2**62), 2**62),
    "real": st.none() | st.floats(allow_nan=False),
    "text": st.none() | st.text(max_size=60),
    "blob": st.binary(max_size=60),
    "list": st.none() | st.lists(st.none() | st.text(max_size=9), max_size=4),
    "flag": st.none() | st.booleans(),
}
SCHEMA = pa.schema(
    {
        "number": pa.int64(),
        "real": pa.float64(),
        "text": pa.string(),
        "blob": pa.binary(),
        "list": pa.list_(pa.string()),
        "flag": pa.bool_(),
    }
)
ROWS = st.lists(st.fixed_dictionaries(COLUMNS), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, data=st.data())
def test_the_bytes_do_not_depend_on_how_rows_arrive(tmp_path_factory, rows, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "GROUP_BYTES", 1500)  # so that some tables fill several
        check_bytes(tmp_path_factory, rows, data)


def check_bytes(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("kept")
    sink = Parquet(grain=1000, rows=25)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    once = written(sink, [table], folder)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)), max_size=8)) | {0, len(rows)})
    pieces = [table.slice(low, high - low) for low, high in pairwise(cuts)]
    assert written(sink, pieces, folder) == once
    fresh = [pa.Table.from_pylist(piece.to_pylist(), schema=SCHEMA) for piece in pieces]
    assert written(sink, fresh, folder) == once
    coded = [piece.set_column(2, "text", piece.column("text").dictionary_encode()) for piece in pieces]
    assert written(sink, coded, folder) == once
    named = [piece.replace_schema_metadata({"pandas": str(i)}) for i, piece in enumerate(pieces)]
    assert written(sink, named, folder) == once
    given_schema = Parquet(grain=1000, rows=25, schema=SCHEMA)
    assert written(given_schema, [piece.to_pylist() for piece in pieces], folder) == once
    assert written(given_schema, rows, folder) == once
    assert pq.read_table(folder / "part-000000000-000000999.parquet").equals(table)


def test_row_groups_are_cut_by_rows_and_by_bytes(tmp_path):
    sink = Parquet(rows=100)
    part(sink, [pa.table({"a": range(1050)})], tmp_path)
    footer = pq.read_metadata(tmp_path / "part-000000000-000000999.parquet")
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [100] * 10 + [50]
    large = pa.table({"a": ["x" * (5 << 20)] * 8})
    part(Parquet(), [large], tmp_path)
    footer = pq.read_metadata(tmp_path / "part-000000000-000000999.parquet")
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [7, 1]


def test_many_small_tables_make_one_row_group(tmp_path):
    part(Parquet(), [pa.table({"a": [i]}) for i in range(1000)], tmp_path)
    read = pq.ParquetFile(tmp_path / "part-000000000-000000999.parquet")
    assert read.num_row_groups == 1
    assert read.read().column("a").to_pylist() == list(range(1000))


def test_memory_holds_one_row_group(tmp_path):
    pool = pa.default_memory_pool()

    def results():
        for number in range(30):
            yield pa.table({"a": np.full(1 << 20, number, np.int64)})  # 8 MiB each, 240 MiB in all
            seen.append(pool.bytes_allocated())

    seen: list[int] = []
    before = pool.bytes_allocated()
    part(Parquet(rows=1 << 30, compression=None), results(), tmp_path)
    assert max(seen) - before < 100 << 20


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None, 3], pa.int32()), [4, 4, 4]),
        (pa.array(["", None, "abc"]), [4, 4, 7]),
        (pa.array([[1, 2], None, []], pa.list_(pa.int64())), [20, 4, 4]),
        (pa.array([["ab"], ["c", None], None]), [10, 13, 4]),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int16(), 2)), [8, 4, 8]),
        (pa.array([{"a": "xy"}, None, {"a": None}]), [7, 5, 5]),
        (pa.array([True, None, False]), [1, 1, 1]),
        (pa.nulls(3), [64, 64, 64]),
        (pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())), [64, 64, 64]),
    ],
)
def test_bytes_of_rows(column, expected):
    table = pa.table({"a": column})
    assert row_bytes(table).tolist() == expected
    assert row_bytes(table.slice(1)).tolist() == expected[1:]
    assert row_bytes(pa.concat_tables([table, table.slice(2)])).tolist() == [*expected, expected[2]]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None, 3], pa.int32()), 12),
        (pa.array([True, None, False]), 3),
        (pa.array(["a", "", "bcd"]), 16),
        (pa.array([b"a", b"", b"bcd"], pa.large_binary()), 16),
        (pa.array(["", None, "abc"]), None),
        (pa.array([[1, 2], None, []], pa.list_(pa.int64())), None),
    ],
)
def test_bytes_of_a_table_are_those_of_its_rows_where_they_are_told_at_once(column, expected):
    table = pa.table({"a": column, "b": column})
    for each in (table, table.slice(1), table.slice(0, 0), pa.concat_tables([table, table.slice(2)])):
        assert table_bytes(each) in (None, row_bytes(each).sum())
    assert table_bytes(table) == (None if expected is None else 2 * expected)


# ------------------------------------------------------------------ what may be returned


class Stream:
    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_kinds_of_results(tmp_path):
    table = pa.table({"a": [1], "b": ["x"]})
    results = [
        table,
        table.to_batches()[0],
        table.to_reader(),
        Stream(table),
        {"a": 1, "b": "x"},
        [{"a": 1, "b": "x"}],
        ({"b": "x", "a": np.int64(1)},),
        None,
        [],
        table.slice(1),
        SetAside(3, "3", "raised", "no"),
    ]
    assert whole(Parquet(), [results], tmp_path).to_table().to_pylist() == [{"a": 1, "b": "x"}] * 7


@pytest.mark.parametrize("wrong", [5, "text", [1, 2], [{"a": 1}, None], np.zeros(3), object()])
def test_another_kind_of_result_is_refused(tmp_path, wrong):
    with pytest.raises(TypeError, match=r"Parquet keeps Arrow tables, dicts .* not a "):
        part(Parquet(), [{"a": 1}, wrong], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_rows_at_all(tmp_path):
    assert whole(Parquet(), [[None, None], []], tmp_path).to_table().num_rows == 0
    assert list(tmp_path.glob("part*")) == []
    assert whole(Parquet(one_file=True), [[None]], tmp_path).to_table().num_rows == 0
    schema = pa.schema({"a": pa.int8()})
    assert whole(Parquet(schema=schema), [[None]], tmp_path).to_table().schema == schema


def test_a_part_without_rows_replaces_one_with_rows(tmp_path):
    sink = Parquet()
    part(sink, [{"a": 1}], tmp_path)
    part(sink, [None], tmp_path)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ schemas


def test_the_first_rows_of_a_part_make_its_schema(tmp_path):
    rows = [{"a": None, "b": 1}] * 10 + [{"a": "x", "b": 1.5, "c": True}]
    read = whole(Parquet(), [rows], tmp_path).to_table()
    assert read.schema == pa.schema({"a": pa.string(), "b": pa.float64(), "c": pa.bool_()})


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([{"a": 1}] * 70 + [{"a": "x"}], r"column 'a' does not fit int64 .*Parquet\(schema=\.\.\.\)"),
        ([{"a": 1}] * 70 + [{"a": 1, "b": 2}], r"column 'b' is new; the columns are a: give Parquet\(schema"),
        ([{"a": None}] * 70 + [{"a": 1}], r"column 'a' was empty in the first rows"),
        ([{"a": 1}, {"a": "x"}], r"column 'a' has no type that fits all its values"),
        ([{1: 1}], r"key 1: names of columns are strings"),
        (
            [pa.table({"a": [1]}), pa.table({"a": ["1"]})],
            r"column 'a' does not fit int64 \(it is string here\)",
        ),
        ([pa.table({"a": [1]}), pa.table({"a": [1], "b": [2]})], r"column 'b' is new"),
        ([pa.table({"a": [1], "b": [2]}), pa.table({"a": [1]})], r"column 'b' is missing"),
        ([pa.table([[1], [2]], names=["a", "a"])], r"two columns have the same name"),
    ],
)
def test_rows_that_do_not_fit_name_their_column(tmp_path, results, message):
    with pytest.raises(TypeError, match=message):
        part(Parquet(), results, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_narrower_column_is_widened(tmp_path):
    results = [pa.table({"a": pa.array([1], pa.int64())}), pa.table({"a": pa.array([2], pa.int8())})]
    results.append(pa.table({"a": pa.nulls(1)}))
    assert whole(Parquet(), [results], tmp_path).to_table().to_pydict() == {"a": [1, 2, None]}


@pytest.mark.parametrize("one_file", [False, True])
def test_parts_that_agree_up_to_null_and_width(tmp_path, one_file):
    parts = [[{"a": None, "b": 1}], [{"b": 2, "a": "x"}], [{"a": "y", "b": 0.5}]]
    dataset = whole(Parquet(grain=10, one_file=one_file), parts, tmp_path)
    assert dataset.schema.remove_metadata() == pa.schema({"a": pa.string(), "b": pa.float64()})
    assert dataset.to_table().to_pydict() == {"a": [None, "x", "y"], "b": [1.0, 2.0, 0.5]}


def test_parts_that_differ_fail_early(tmp_path):
    sink = Parquet(grain=10)
    part(sink, [{"a": 1}], tmp_path)
    message = r"column 'a' is int64 for items 0 to 9 and string for items 20 to 29: return the same columns"
    with pytest.raises(TypeError, match=message):
        part(sink, [{"a": "x"}], tmp_path, 20)
    with pytest.raises(TypeError, match=r"items 0 to 9 and items 20 to 29 differ in columns \(b\)"):
        part(sink, [{"a": 1, "b": 2}], tmp_path, 20)


def test_parts_that_differ_fail_at_close_too(tmp_path):
    sink = Parquet(grain=10)
    (tmp_path / "other").mkdir()
    left, right = part(sink, [{"a": 1}], tmp_path), part(sink, [{"a": "x"}], tmp_path / "other", 10)
    (tmp_path / "other" / right.parts[0].name).rename(tmp_path / right.parts[0].name)
    receipts = [(Batch(0, 10), left), (Batch(10, 20), right)]
    with pytest.raises(
        CannotKeep, match=r"column 'a' is int64 for items 0 to 9 and string for items 10 to 19"
    ):
        sink.close(iter(receipts), tmp_path)


# ------------------------------------------------------------------ one file


def test_one_file_has_the_same_bytes_for_any_grain(tmp_path):
    rows = [{"a": i, "b": "x" * (i % 50)} for i in range(300)]
    files = []
    for grain in (10, 60):
        folder = tmp_path / str(grain)
        folder.mkdir()
        parts = [rows[at : at + grain] for at in range(0, 300, grain)]
        assert (
            whole(Parquet(grain=grain, rows=70, one_file=True), parts, folder).to_table().to_pylist() == rows
        )
        files.append(pq.ParquetFile(folder / "results.parquet"))
    groups = [[file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] for file in files]
    assert groups == [[70, 70, 70, 70, 20]] * 2


def test_one_file_is_made_anew_where_what_is_there_is_not_what_it_was(tmp_path):
    sink = Parquet(grain=10, one_file=True)
    receipts = [(Batch(at, at + 10), part(sink, [{"a": at}], tmp_path, at)) for at in (0, 10)]
    closed = sink.close(iter(receipts), tmp_path)
    whole = tmp_path / "results.parquet"
    data = bytearray(whole.read_bytes())
    data[10] ^= 1
    whole.write_bytes(data)
    assert sink.close(iter(receipts), tmp_path) == closed
    assert sink.result(tmp_path).to_table().to_pydict() == {"a": [0, 10]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grain": 0}, "at least 1"),
        ({"rows": 0}, "at least 1"),
        ({"compression": "rar"}, r"known are 'zstd'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UsageError, match=message):
        Parquet(**options)
