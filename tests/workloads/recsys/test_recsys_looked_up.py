"""Parquet files with columns that share their numbers: what every reader makes of them, and the protocol."""

import io

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import files
from penstock.workloads.recsys.ranking import looked_up, thrift
from penstock.workloads.recsys.ranking.few_values import open_few_values, write_few_values
from penstock.workloads.recsys.ranking.looked_up import LookedUp, write_part

HOW = {"compression": "lz4", "use_dictionary": ["id"], "write_statistics": ["row"]}


def written(path, rows, found, values, compression="lz4", few=None):
    """A part with two own columns and those of ``values`` at the rows ``found``, in an order of its own."""
    names = [f"f{number}" for number in range(len(values))]
    schema = pa.schema(
        [("id", pa.string())]
        + [pa.field(name, pa.float32(), nullable=False) for name in names]
        + [pa.field("row", pa.int64(), nullable=False)]
    )
    own = pa.table(
        {"id": [f"r{number // 3}" for number in range(rows)], "row": np.arange(rows)},
        schema=pa.schema([schema.field("id"), schema.field("row")]),
    )
    looked = [LookedUp(names, values, found, few)]
    proof = write_part(path, own, looked, schema, HOW | {"compression": compression})
    assert proof == files.proof(path)
    return names, schema


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize(
    ("rows", "different", "each"),
    [(1, 1, 1), (7, 3, 1), (1000, 1, 1), (1000, 700, 1), (3000, 40, 1), (70_000, 300, 40_000), (5000, 90, 12),
     (100_000, 70_000, 1)],
)  # fmt: skip
def test_every_reader_sees_plain_columns(tmp_path, rows, different, each, compression):
    """Packed bits, runs of one byte to three, one value alone, and values that are not worth a dictionary."""
    draw = np.random.default_rng(rows + different)
    values = draw.random((3, different + 2)).astype(np.float32)
    values[1, ::2] = np.nan
    found = np.repeat(draw.integers(0, different, -(-rows // each)), each)[:rows]
    path = tmp_path / "part.parquet"
    names, schema = written(path, rows, found, values, compression)
    table = pq.read_table(path)
    assert table.schema.equals(schema)
    assert table["row"].to_pylist()[-1] == rows - 1
    for name, column in zip(names, values, strict=True):
        np.testing.assert_array_equal(table[name].to_numpy(), column[found])
    for size in (1, 997):  # in pieces, and a column alone
        pieces = pq.ParquetFile(path).iter_batches(size if rows < 5000 else 9973, columns=["f2"])
        np.testing.assert_array_equal(
            np.concatenate([piece["f2"].to_numpy() for piece in pieces]), values[2][found]
        )
    statistics = pq.read_metadata(path).row_group(0).column(len(names) + 1).statistics
    assert (statistics.min, statistics.max) == (0, rows - 1)


FEW = [1, 2, 3, 4, 5, 16, 17, 256, 257, 4000]
"""How many values a column has: both sides of each width of a code, and of what counts as few."""


@pytest.mark.parametrize("compression", [None, "lz4"])
@pytest.mark.parametrize("rows", [1, 7, 8, 1000, 70_001])
def test_columns_of_few_values_are_what_they_were(tmp_path, rows, compression):
    draw = np.random.default_rng(rows)
    values = np.stack([draw.permutation(np.arange(4000) % count) for count in FEW]).astype(np.float32)
    values[1] = np.where(values[1] > 0, np.nan, -0.0)
    write_few_values(tmp_path, values)
    few = open_few_values(tmp_path)
    assert list(few.counts.values()) == FEW[:8]
    found = draw.integers(0, 4000, rows)
    names, _ = written(tmp_path / "coded.parquet", rows, found, values, compression, few)
    coded = pq.read_table(tmp_path / "coded.parquet")
    with duckdb.connect() as db:
        told = db.execute(f"SELECT * FROM '{tmp_path}/coded.parquet' ORDER BY row").fetchnumpy()
    for name, column in zip(names, values, strict=True):
        bits = column[found].view(np.uint32)
        assert np.array_equal(coded[name].to_numpy().view(np.uint32), bits), name
        assert np.array_equal(np.asarray(told[name]).view(np.uint32), bits), name


def test_columns_of_few_values_take_the_bits_that_they_need(tmp_path):
    draw = np.random.default_rng(3)
    values = np.stack([draw.permutation(np.arange(4000) % count) for count in (2, 200, 4000)])
    values = values.astype(np.float32)
    write_few_values(tmp_path, values)
    found = draw.integers(0, 4000, 60_000)
    names, _ = written(tmp_path / "coded.parquet", len(found), found, values, None, open_few_values(tmp_path))
    group = pq.read_metadata(tmp_path / "coded.parquet").row_group(0)
    sizes = [group.column(1 + number).total_compressed_size for number in range(len(names))]
    assert sizes[0] < 60_000 / 8 + 100
    assert sizes[1] < 60_000 + 4 * 200 + 100
    assert 60_000 * 12 / 8 < sizes[2] < 60_000 * 12 / 8 + 4 * 4000 + 100


def test_a_user_with_many_rows_keeps_runs_where_they_are_shorter(tmp_path):
    values = (np.arange(2000) % 200).astype(np.float32)[None]
    write_few_values(tmp_path, values)
    found = np.repeat(np.arange(100), 1000)
    written(tmp_path / "runs", len(found), found, values, None, open_few_values(tmp_path))
    assert pq.read_metadata(tmp_path / "runs").row_group(0).column(1).total_compressed_size < 2000
    np.testing.assert_array_equal(pq.read_table(tmp_path / "runs")["f0"].to_numpy(), values[0][found])


def test_a_table_without_such_columns_has_none(tmp_path):
    assert open_few_values(tmp_path) is None
    write_few_values(tmp_path, np.random.default_rng(1).random((3, 5000)).astype(np.float32))
    assert open_few_values(tmp_path).counts == {}


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.integers(1, 7))
def test_codes_do_not_depend_on_how_many_rows_are_looked_at_at_once(tmp_path_factory, values, batch):
    found = []
    for first in (1024, batch):
        folder = tmp_path_factory.mktemp("few")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("penstock.workloads.recsys.ranking.few_values._FIRST", first)
            patch.setattr("penstock.workloads.recsys.ranking.few_values._BATCH", batch)
            write_few_values(folder, np.array([values], np.float32))
        found.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert found[0] == found[1]


def test_duckdb_reads_them_too(tmp_path):
    draw = np.random.default_rng(0)
    values = draw.random((2, 500)).astype(np.float32)
    found = np.repeat(draw.integers(0, 500, 1000), 7)
    path = tmp_path / "part.parquet"
    written(path, 7000, found, values)
    with duckdb.connect() as db:
        rows = db.execute(f"SELECT f1 FROM '{path}' WHERE row >= 5000 ORDER BY row").fetchnumpy()["f1"]
    np.testing.assert_array_equal(rows, values[1][found][5000:])


def test_numbers_take_the_shorter_of_runs_and_bits(tmp_path):
    """A user has a dozen rows: runs take a sixth of packed bits."""
    found = np.repeat(np.arange(5000) % 4000, 12)
    values = np.random.default_rng(1).random((20, 4000)).astype(np.float32)
    written(tmp_path / "runs.parquet", len(found), found, values, None)
    written(tmp_path / "bits.parquet", len(found), np.random.default_rng(2).permutation(found), values, None)
    small, large = ((tmp_path / f"{name}.parquet").stat().st_size for name in ("runs", "bits"))
    assert small < large / 2
    assert large < 4 * values.shape[0] * len(found)


def test_a_part_is_the_same_bytes_for_the_same_rows(tmp_path):
    values = np.random.default_rng(1).random((2, 50)).astype(np.float32)
    found = np.random.default_rng(2).integers(0, 50, 999)
    for name in ("a", "b"):
        looked_up._footer_around.cache_clear()
        written(tmp_path / name, 999, found, values)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_footer_is_read_and_written_alike():
    """pyarrow's own, with statistics, nested columns, texts and more than fifteen columns."""
    table = pa.table(
        {f"c{number}": [1, None, 3] for number in range(20)} | {"nested": [[{"a": "x"}], None, []]}
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    data = sink.getvalue()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    assert thrift.encode(thrift.decode(footer)) == footer
    with pytest.raises(ValueError, match="cut off"):
        thrift.decode(footer[:-1])


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40), st.lists(st.booleans(), max_size=20))
def test_values_come_back(number, text, flags):
    struct = {
        1: (thrift.I64, number), 3: (thrift.BINARY, text), 40: (thrift.TRUE, bool(number % 2)),
        41: (thrift.LIST, (thrift.TRUE, flags)), 300: (thrift.STRUCT, {2: (thrift.I32, 7)}),
    }  # fmt: skip
    found = thrift.decode(thrift.encode(struct))
    kinds = {thrift.TRUE, thrift.FALSE}
    assert {field: value for field, (_, value) in found.items()} == {
        field: value for field, (_, value) in struct.items()
    }
    assert all(
        kind == struct[field][0] or {kind, struct[field][0]} <= kinds for field, (kind, _) in found.items()
    )


@given(st.binary(max_size=60))
def test_bytes_that_are_no_structure_are_refused_or_read(data):
    try:
        thrift.decode(data)
    except (ValueError, RecursionError):
        pass
