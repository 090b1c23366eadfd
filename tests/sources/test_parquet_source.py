import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import BadInput, UsageError
from penstock.sources import ParquetRows
from penstock.sources import parquet as parquet_module
from penstock.testing import SourceSuite


def table(rows, seed=0):
    draw = np.random.default_rng(seed)
    return pa.table(
        {
            "id": np.arange(rows) + 1000 * seed,
            "text": ["x" * int(n) for n in draw.integers(0, 30, rows)],
            "value": pa.array(draw.random(rows), mask=draw.random(rows) < 0.2),
            "list": [[i] * (i % 3) for i in range(rows)],
        }
    )


def fill(folder):
    """Two files: row groups of 5 (the last of 2), and of 4."""
    if not (folder / "a.parquet").exists():
        pq.write_table(table(17, 1), folder / "a.parquet", row_group_size=5)
        pq.write_table(table(8, 2), folder / "b.parquet", row_group_size=4)


class _OnDisk(SourceSuite):
    def change(self, folder):
        pq.write_table(table(8, 3), folder / "b.parquet", row_group_size=4)
        return True


class TestRows(_OnDisk):
    def make(self, folder):
        fill(folder)
        return ParquetRows(folder / "*.parquet")


class TestRowsOfSomeColumns(_OnDisk):
    def make(self, folder):
        fill(folder)
        return ParquetRows([folder / "b.parquet", folder / "a.parquet"], columns=["list", "id"])


class TestRowGroups(_OnDisk):
    def make(self, folder):
        fill(folder)
        return ParquetRows(folder / "*.parquet", columns=["id"], item="group")


class TestRowsInSmallSteps(_OnDisk):
    @pytest.fixture(autouse=True)
    def steps(self, monkeypatch):
        monkeypatch.setattr(parquet_module, "_BATCH_ROWS", 2)

    def make(self, folder):
        fill(folder)
        return ParquetRows(folder / "*.parquet")


del _OnDisk


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path)
    return tmp_path


WIDEN = {"promote_options": "permissive"}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_reads_one_after_the_other_give_these_rows(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("files")
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=4))
    step = data.draw(st.integers(1, 12))
    for number, length in enumerate(lengths):
        pq.write_table(table(length, number), folder / f"{number}.parquet", row_group_size=step)
    whole = pa.concat_tables([table(length, number) for number, length in enumerate(lengths)], **WIDEN)
    source = ParquetRows(folder / "*.parquet", columns=["value", "list", "id"])
    assert len(source) == len(whole)
    for _ in range(10):
        start, stop = sorted(data.draw(st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole)))))
        expected = whole.slice(start, stop - start).select(["value", "list", "id"])
        assert source.read(start, stop).combine_chunks().equals(expected.combine_chunks())


def test_a_call_is_a_table_of_the_chosen_columns(folder):
    read = ParquetRows(folder / "a.parquet", columns=["value", "id"]).read(3, 9)
    assert read.column_names == ["value", "id"]
    assert read.column("id").to_pylist() == list(range(1003, 1009))
    assert ParquetRows(folder / "a.parquet", columns="id").read(0, 2).to_pydict() == {"id": [1000, 1001]}
    assert ParquetRows(folder / "a.parquet").read(4, 4).schema.names == ["id", "text", "value", "list"]


def test_each_gives_dicts(folder):
    source = ParquetRows(folder / "a.parquet", columns=["id", "list"])
    assert list(source.each(source.read(1, 3))) == [{"id": 1001, "list": [1]}, {"id": 1002, "list": [2, 2]}]


def test_row_groups_come_one_at_a_time(folder):
    source = ParquetRows(folder / "*.parquet", columns=["id"], item="group")
    assert len(source) == 6
    assert [read.num_rows for read in source.read(0, 6)] == [5, 5, 5, 2, 4, 4]
    (read,) = source.read(4, 5)
    assert read.column("id").to_pylist() == [2000, 2001, 2002, 2003]


def test_names_and_spans_and_sizes(folder):
    a, b = str(folder / "a.parquet"), str(folder / "b.parquet")
    rows = ParquetRows(folder / "*.parquet")
    assert (rows.name(16), rows.name(17)) == (f"{a}, row 16", f"{b}, row 0")
    assert rows.spans() == {a: (0, 17), b: (17, 25)}
    groups = ParquetRows(folder / "*.parquet", item="group")
    assert (groups.name(3), groups.name(5)) == (f"{a}, row group 3", f"{b}, row group 1")
    assert groups.spans() == {a: (0, 4), b: (4, 6)}
    chosen = ParquetRows(folder / "*.parquet", columns=["id"], item="group")
    footer = pq.read_metadata(a)
    expected = [footer.row_group(i).column(0).total_uncompressed_size for i in range(4)]
    assert chosen.sizes(0, 4) == expected
    assert all(size > part for size, part in zip(groups.sizes(0, 6), chosen.sizes(0, 6), strict=True))
    nested = ParquetRows(folder / "*.parquet", columns=["list"], item="group")
    assert min(nested.sizes(0, 6)) > 0
    assert repr(chosen) == "ParquetRows(2 files, 6 groups, columns id)"


def test_other_columns_are_another_source(folder):
    prints = [
        tuple(ParquetRows(folder / "a.parquet", columns=columns).fingerprint().values())
        for columns in (None, ["id"], ["id", "text"])
    ]
    assert len(set(prints)) == 3


def test_files_without_rows(tmp_path):
    for name in "abc":
        pq.write_table(table(0 if name != "b" else 3), tmp_path / f"{name}.parquet")
    source = ParquetRows(tmp_path / "*.parquet")
    assert source.read(0, 3).num_rows == 3
    assert [span for _, span in sorted(source.spans().items())] == [(0, 0), (0, 3), (3, 3)]
    empty = ParquetRows(tmp_path / "a.parquet")
    assert len(empty) == 0
    assert empty.read(0, 0).schema.names == ["id", "text", "value", "list"]
    assert empty.spans() == {str(tmp_path / "a.parquet"): (0, 0)}


# ------------------------------------------------------------------ one decoding, bounded memory


class Counting:
    """Counts the rows decoded by `iter_batches`."""

    def __init__(self, monkeypatch):
        self.rows = 0
        self.columns = []
        real = pq.ParquetFile.iter_batches

        def counted(file, *args, **kwargs):
            self.columns.append(kwargs["columns"])
            for batch in real(file, *args, **kwargs):
                self.rows += batch.num_rows
                yield batch

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)


def test_nothing_is_decoded_twice_by_calls_in_a_row(folder, monkeypatch):
    count = Counting(monkeypatch)
    source = ParquetRows(folder / "*.parquet", columns=["id"])
    for start in range(0, 25, 2):
        source.read(start, min(start + 2, 25))
    assert count.rows == 25
    assert all(columns == ["id"] for columns in count.columns)


def test_only_the_row_groups_touched_are_decoded(folder, monkeypatch):
    count = Counting(monkeypatch)
    ParquetRows(folder / "*.parquet").read(12, 16)
    assert count.rows == 7
    count.rows = 0
    ParquetRows(folder / "*.parquet").read(17, 21)
    assert count.rows == 4


def test_memory_is_a_step_and_not_a_row_group(tmp_path):
    draw = np.random.default_rng(0)
    pq.write_table(
        pa.table({"a": draw.random(8_000_000)}),
        tmp_path / "a.parquet",
        row_group_size=8_000_000,
        use_dictionary=False,
    )
    source = ParquetRows(tmp_path / "a.parquet")
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    seen = []
    for start in range(0, 8_000_000, 250_000):
        read = source.read(start, start + 250_000)
        seen.append(pool.bytes_allocated() - before)
        del read
    assert max(seen) < 24 << 20  # of 64 MB
    assert source.read(0, 1).num_rows == 1


def test_pickles_small_and_without_its_cursor(folder):
    source = ParquetRows(folder / "*.parquet")
    source.read(0, 3)
    text = pickle.dumps(source)
    assert len(text) < 2000
    assert pickle.loads(text).read(3, 5).equals(source.read(3, 5))


# ------------------------------------------------------------------ bad input


def test_a_column_that_is_not_there_lists_those_that_are(folder):
    with pytest.raises(
        BadInput, match=r"a\.parquet, column nope: no such column; there are: id, text, value, list"
    ):
        ParquetRows(folder / "a.parquet", columns=["id", "nope"])


def test_files_that_differ(folder):
    pq.write_table(pa.table({"id": ["one"]}), folder / "c.parquet")
    with pytest.raises(BadInput, match=r"c\.parquet, column id: is string here and int64 in .*a\.parquet"):
        ParquetRows(folder / "*.parquet", columns=["id"])
    with pytest.raises(BadInput, match=r"c\.parquet: its columns are not those of .*\(list, text, value\)"):
        ParquetRows(folder / "*.parquet")
    pq.write_table(table(3).select(["text", "id", "value", "list"]), folder / "c.parquet")
    with pytest.raises(BadInput, match=r"c\.parquet: its columns are not those of .*\(their order\)"):
        ParquetRows(folder / "*.parquet")
    assert len(ParquetRows(folder / "*.parquet", columns=["id", "text"])) == 28


@pytest.mark.parametrize("content", [b"", b"no such thing", b"PAR1", b"x" * 1000])
def test_what_is_not_parquet(tmp_path, content):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.parquet: not a Parquet file, or cut off"):
        ParquetRows(tmp_path / "x.parquet")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.99])
def test_a_file_that_is_cut_off(folder, keep):
    content = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BadInput, match=r"a\.parquet: not a Parquet file, or cut off"):
        ParquetRows(folder / "*.parquet")


def test_a_damaged_page_is_said_with_its_row_group(tmp_path):
    pq.write_table(table(2000), tmp_path / "a.parquet", row_group_size=1000, compression="zstd")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    first = pq.read_metadata(tmp_path / "a.parquet").row_group(1).column(0).dictionary_page_offset
    content[first : first + 400] = b"\xff" * 400
    (tmp_path / "a.parquet").write_bytes(content)
    source = ParquetRows(tmp_path / "a.parquet")
    assert source.read(0, 1000).num_rows == 1000
    with pytest.raises(BadInput, match=r"a\.parquet, row group 1: cannot be decoded"):
        source.read(1000, 1010)


def test_a_file_that_changes_while_it_is_read(folder):
    source = ParquetRows(folder / "a.parquet")
    pq.write_table(table(4), folder / "a.parquet")
    with pytest.raises(BadInput, match=r"a\.parquet, row group 2: was changed .* 5 rows were expected"):
        source.read(10, 12)
    (folder / "a.parquet").unlink()
    with pytest.raises(BadInput, match=r"a\.parquet: was there, and is gone now"):
        source.read(0, 1)


def test_two_columns_of_one_name(tmp_path):
    pq.write_table(pa.table([[1], [2], [3]], names=["a", "a", "b"]), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"column a: two columns have this name"):
        ParquetRows(tmp_path / "a.parquet", columns=["a"])
    assert ParquetRows(tmp_path / "a.parquet", columns=["b"]).read(0, 1).to_pydict() == {"b": [3]}


@pytest.mark.parametrize("options", [{"columns": []}, {"columns": ["id", "id"]}, {"item": "page"}])
def test_options_are_checked(folder, options):
    with pytest.raises(UsageError):
        ParquetRows(folder / "a.parquet", **options)


def test_a_column_with_dots_in_its_name(tmp_path):
    pq.write_table(pa.table({"a.b": [1, 2], "a": [3, 4]}), tmp_path / "a.parquet")
    source = ParquetRows(tmp_path / "a.parquet", columns=["a"], item="group")
    footer = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    assert source.sizes(0, 1) == [footer.column(1).total_uncompressed_size]
    assert next(source.read(0, 1)).to_pydict() == {"a": [3, 4]}
