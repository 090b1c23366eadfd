"""Narrower columns: nothing is lost that was not given away, and a column has one type for all its rows."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from ranking_tables import DATA, write

import penstock
from penstock.cli import main
from penstock.errors import BadInput
from penstock.workloads.recsys import Shrink
from penstock.workloads.recsys.shrink.types import look, narrowest, together, upstream


def shrunk(folder, *, backend="inline", workers=None, **options):
    """(the table, what is told of it)."""
    with penstock.Run(folder, budget="1200MiB", backend=backend, workers=workers) as run:
        Shrink().run(run, **options)
    told = json.loads((folder / "shrink.json").read_text())
    return pq.read_table(folder / "shrunk" / "results.parquet"), told


def narrow(values, *, lossy=False, key=False):
    return str(narrowest(values.type, look(values), lossy=lossy, key=key)[0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([0, 127]), "int8"),  # inclusive bounds: the original takes int16
        (pa.array([-129, 0]), "int16"),
        (pa.array([2**31]), "int64"),
        (pa.array([2**24 + 1, 3], pa.uint32()), "uint32"),  # 16777217: not a float32
        (pa.array([7], pa.uint64()), "uint8"),
        (pa.array([20_000_001, None]), "int32"),
        (pa.array([1.0, None, 3.0]), "int8"),  # ids with nulls, as pandas writes them
        (pa.array([2.0**53, 1.0]), "double"),
        (pa.array([1.0, float("nan")]), "float"),  # NaN is no null
        (pa.array([-0.0, 1.0]), "float"),
        (pa.array([0.5, 0.25]), "float"),
        (pa.array([0.1]), "double"),
        (pa.array([1e300]), "double"),
        (pa.array([float("inf"), 0.5]), "float"),
        (pa.array([True, False]), "bool"),
        (pa.array(["a"]), "string"),
        (pa.array([], pa.int64()), "int64"),
        (pa.array([None, None], pa.float64()), "float"),
    ],
)
def test_the_narrowest_type_that_holds_every_value(values, expected):
    assert narrow(values) == expected


def test_digits_are_lost_only_where_that_is_asked_for_and_never_of_ids():
    assert narrow(pa.array([0.1]), lossy=True) == "float"
    assert narrow(pa.array([0.1]), lossy=True, key=True) == "double"


FLOATS = st.lists(st.none() | st.floats() | st.integers(-300, 300).map(float), max_size=8)
WHOLE = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200), max_size=8)


@given(st.lists(st.one_of(FLOATS), min_size=1, max_size=4) | st.lists(WHOLE, min_size=1, max_size=4))
def test_what_is_seen_of_parts_is_what_is_seen_of_the_whole_and_every_value_survives(parts):
    floats = any(isinstance(each, float) for part in parts for each in part)
    kind = pa.float64() if floats else pa.int64()
    arrays = [pa.array(part, kind) for part in parts]
    whole = pa.concat_arrays(arrays)
    seen = look(arrays[0])
    for each in arrays[1:]:
        seen = together(seen, look(each))
    wanted, why = narrowest(kind, look(whole), lossy=False, key=False)
    assert narrowest(kind, seen, lossy=False, key=False) == (wanted, why)
    back = whole.cast(wanted).cast(kind)
    assert [repr(each) for each in back.to_pylist()] == [repr(each) for each in whole.to_pylist()]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([0, 127]), "int16"),
        (pa.array([True]), "float"),
        (pa.array([16_777_217], pa.uint32()), "float"),
        (pa.array([20_000_001, None]), "float"),
        (pa.array([0.1]), "float"),
        (pa.array([np.inf, 1.0]), "double"),
        (pa.array([None], pa.float64()), "double"),
        (pa.array(["x"]), "string"),
    ],
)
def test_the_types_of_the_original(values, expected):
    """As measured of it: of integers with strict bounds, of anything else a float32, whatever that loses."""
    assert str(upstream(values.type, look(values))[0]) == expected


def test_a_column_has_one_type_however_its_rows_lie(tmp_path):
    """[1, 2], [1, 300] and [1, 1e5] one by one are int8, int16 and int32: no one file holds them."""
    (tmp_path / "in").mkdir()
    for number, most in enumerate((2, 300, 100_000)):
        write(tmp_path / "in" / f"{number}.parquet", a=[1, most], b=[0.5, most / 3])
    table, told = shrunk(tmp_path / "r", table=str(tmp_path / "in"))
    assert table.schema == pa.schema({"a": pa.int32(), "b": pa.float64()})
    assert table.column("a").to_pylist() == [1, 2, 1, 300, 1, 100_000]
    assert told["columns"]["b"]["why"] == "a float32 would lose digits"
    assert told["bytes"] == {"before": 6 * 16, "after": 6 * 12}


def test_the_same_bytes_for_any_number_of_workers(tmp_path):
    samples = str(DATA / "dirty" / "samples.parquet")
    one, told = shrunk(tmp_path / "one", table=samples)
    shrunk(tmp_path / "two", table=samples, backend="local", workers=2)
    for name in ("shrink.json", "shrunk/results.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    given = pq.read_table(samples)
    for name in given.schema.names:
        assert repr(one.column(name).cast(given.schema.field(name).type).to_pylist()) == repr(
            given.column(name).to_pylist()
        )
    assert one.schema.field("dataset_id").type == pa.int32()  # with nulls, and above 2^24
    assert told["columns"]["label"]["after"] == "int8"
    assert penstock.verify(tmp_path / "two").ok


@pytest.mark.usefixtures("worked_here")
def test_the_command_says_what_was_won_and_lost(tmp_path):
    table = write(
        tmp_path / "t.parquet", user_id=np.arange(100) * 1.0, price=np.arange(100) / 3, id=np.arange(100)
    )
    command = ["shrink", table, "--budget", "500MiB"]
    assert CliRunner().invoke(main, ["plan", *command]).exit_code == 0
    result = CliRunner().invoke(
        main, ["run", *command, "--lossy-float32", "--keep", "id", "--into", str(tmp_path / "r")]
    )
    assert result.exit_code == 0, result.output
    assert "memory: 0.0 MB -> 0.0 MB (45.8 % less), 2 of 3 columns narrower, 100 rows" in result.output
    assert "warning: price loses digits as a float32, as asked for" in result.output


def test_what_is_wrong_is_named(tmp_path):
    empty = write(tmp_path / "e.parquet", a=pa.array([], pa.int64()))
    with pytest.raises(BadInput, match=r"e\.parquet: has no rows"):
        shrunk(tmp_path / "r", table=empty)
    with pytest.raises(BadInput, match=r"no column matches --keep price\*; there are: a"):
        shrunk(tmp_path / "r", table=write(tmp_path / "a.parquet", a=[1]), keep=["a", "price*"])
    other = write(tmp_path / "o.parquet", a=["x"])
    with pytest.raises(BadInput, match=r"column a: is string here and int64 in"):
        shrunk(tmp_path / "r", table=[write(tmp_path / "a.parquet", a=[1]), other])
