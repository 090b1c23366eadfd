import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.abc import Batch, SetAside
from penstock.errors import CannotKeep, UsageError
from penstock.sinks import Arrays
from penstock.testing import SinkSuite


class TestFloatArrays(SinkSuite):
    def make(self):
        return Arrays(grain=4)

    def result_of(self, item):
        return np.full((3, 2), item, np.float32)

    def expected(self, results):
        hole = np.full((3, 2), np.nan, np.float32)
        return [hole if isinstance(result, SetAside) else result for result in results]


class TestNumbers(SinkSuite):
    def make(self):
        return Arrays(grain=5, fill=-1)

    def result_of(self, item):
        return item * 3

    def expected(self, results):
        return [np.int64(-1 if isinstance(result, SetAside) else result) for result in results]


class TestNamedArrays(SinkSuite):
    def make(self):
        return Arrays(grain=5)

    def result_of(self, item):
        return {"image": np.full((2, 2), item % 200, np.uint8), "age": item / 2}

    def expected(self, results):
        hole = {"image": np.zeros((2, 2), np.uint8), "age": np.float64("nan")}
        kept = [hole if isinstance(result, SetAside) else result for result in results]
        return [{"image": each["image"], "age": np.float64(each["age"])} for each in kept]


def aside(item):
    return SetAside(item, str(item), "raised", "no")


def kept(sink, results, folder, items=None):
    receipts = []
    for start in range(0, len(results), sink.grain):
        batch = Batch(start, min(start + sink.grain, len(results)))
        receipts.append((batch, sink.write(batch, iter(results[batch.start : batch.stop]), folder)))
    sink.close(iter(receipts), folder)
    return sink.result(folder)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from(["<f4", ">f8", "i2", "?", "<c8", "<M8[s]", "<m8[ms]"]),
    count=st.integers(1, 12),
    grain=st.integers(1, 5),
    fortran=st.booleans(),
    data=st.data(),
)
def test_any_arrays_come_back(tmp_path_factory, shape, dtype, count, grain, fortran, data):
    folder = tmp_path_factory.mktemp("kept")
    holes = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    cells = np.random.default_rng(0).integers(0, 100, (count, *shape)).astype("i8").astype(dtype)
    results = [
        aside(i) if i in holes else np.asarray(cells[i], order="F" if fortran else "C") for i in range(count)
    ]
    result = kept(Arrays(grain=grain), results, folder)
    assert len(result) == count
    assert result.holes == sorted(holes)
    for item in set(range(count)) - holes:
        assert result[item].dtype == np.dtype(dtype).newbyteorder("<")
        assert result[item].tobytes() == np.asarray(cells[item], np.dtype(dtype).newbyteorder("<")).tobytes()
    for item in holes:
        assert result[item].shape == tuple(shape)


def test_parts_are_ordinary_npy_files(tmp_path):
    kept(Arrays(grain=2), [np.arange(3) + i for i in range(3)], tmp_path)
    names = ["holes.json", "part-000000000-000000001.npy", "part-000000002-000000002.npy"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert np.load(tmp_path / names[1]).tolist() == [[0, 1, 2], [1, 2, 3]]


def test_holes_are_listed(tmp_path):
    results = [np.float64(i) if i % 3 else aside(i) for i in range(8)]
    result = kept(Arrays(grain=3), results, tmp_path)
    assert json.loads((tmp_path / "holes.json").read_text())["holes"] == [0, 3, 6]
    assert result.holes == [0, 3, 6]
    assert np.isnan(result[3])
    assert repr(result) == "ArrayParts(8 items of arrays: float64 of shape (), 3 set aside)"


@pytest.mark.parametrize(
    ("value", "fill", "expected"),
    [
        (np.float32(1), None, "nan"),
        (np.int8(1), None, "0"),
        (np.int8(1), -1, "-1"),
        (True, None, "False"),
        (np.datetime64("2020-01-01"), None, "NaT"),
        (1.5, 7, "7.0"),
    ],
)
def test_fill_values(tmp_path, value, fill, expected):
    result = kept(Arrays(grain=2, fill=fill), [aside(0), value, aside(2)], tmp_path)
    assert str(result[0]) == expected  # in a part
    assert str(result[2]) == expected  # in none


def test_the_result_is_a_lazy_read_only_sequence(tmp_path):
    result = kept(Arrays(grain=2), [np.arange(2) + i for i in range(5)], tmp_path)
    assert result[-1].tolist() == [4, 5]
    assert [array.tolist() for array in result[1:3]] == [[1, 2], [2, 3]]
    assert [int(array.sum()) for array in result] == [1, 3, 5, 7, 9]
    assert [(start, stop, array.shape) for start, stop, array in result.parts()] == [
        (0, 2, (2, 2)),
        (2, 4, (2, 2)),
        (4, 5, (1, 2)),
    ]
    with pytest.raises(ValueError, match="read-only"):
        result[0][0] = 5
    with pytest.raises(IndexError):
        result[5]


def test_everything_set_aside(tmp_path):
    result = kept(Arrays(grain=2), [aside(0), aside(1), aside(2)], tmp_path)
    assert (len(result), result.holes) == (3, [0, 1, 2])
    with pytest.raises(IndexError, match="every item was set aside"):
        result[0]


def test_a_receipt_of_many_holes_is_small(tmp_path):
    receipt = Arrays(grain=50_000).write(Batch(0, 50_000), map(aside, range(50_000)), tmp_path)
    assert receipt.value == {"arrays": {}, "holes": [[0, 50_000]]}


def test_a_part_that_was_written_before_its_items_were_set_aside_is_removed(tmp_path):
    sink = Arrays(grain=2)
    sink.write(Batch(0, 2), iter([{"a": 1, "b": 2}] * 2), tmp_path)
    sink.write(Batch(0, 2), iter([aside(0), aside(1)]), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (
            [np.zeros(2), np.zeros(3)],
            r"item 1: Arrays was given float64 of shape \(3,\), and float64 of shape \(2,\) before",
        ),
        ([np.zeros(2), np.zeros(2, int)], r"item 1: Arrays was given int64 of shape \(2,\), and float64"),
        ([1.0, 2], r"item 1: Arrays was given int64 of shape \(\), and float64 of shape \(\) before"),
        ([{"a": 1}, {"b": 1}], r"item 1: Arrays was given the names b, and a before"),
        ([0, [1, 2]], r"item 1: Arrays keeps NumPy arrays and numbers, not a list"),
        ([0, "text"], r"item 1: .* not a str"),
        ([0, None], r"item 1: .* not a NoneType"),
        (
            [0, np.array([object()])],
            r"item 1: Arrays keeps numbers and times, not a NumPy array of object",
        ),
        ([np.array(["a"])], r"item 0: Arrays keeps numbers and times, not a NumPy array of <U1"),
        ([{"a": 1}, {"a/b": 1}], r"item 1: the name 'a/b' becomes part of a file name"),
        ([{}], r"item 0: an empty dict"),
    ],
)
def test_what_cannot_be_kept_names_its_item(tmp_path, results, message):
    with pytest.raises(TypeError, match=message):
        Arrays().write(Batch(0, len(results)), iter(results), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_parts_that_differ_fail_early(tmp_path):
    sink = Arrays(grain=2)
    sink.write(Batch(4, 6), iter([np.zeros(2)] * 2), tmp_path)
    message = (
        r"item 1: Arrays was given float64 of shape \(3,\), and float64 of shape \(2,\) for items 4 to 5"
    )
    with pytest.raises(TypeError, match=message):
        sink.write(Batch(0, 2), iter([aside(0), np.zeros(3)]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part-000000004-000000005.npy"]


def test_parts_that_differ_fail_at_close_too(tmp_path):
    sink = Arrays(grain=1)
    (tmp_path / "other").mkdir()
    receipts = [
        (Batch(0, 1), sink.write(Batch(0, 1), iter([1]), tmp_path)),
        (Batch(1, 2), sink.write(Batch(1, 2), iter([1.5]), tmp_path / "other")),
    ]
    message = (
        r"items 0 to 0 are arrays: int64 of shape \(\), and items 1 to 1 are arrays: float64 of shape \(\)"
    )
    with pytest.raises(CannotKeep, match=message):
        sink.close(iter(receipts), tmp_path)


def test_a_grain_has_items():
    with pytest.raises(UsageError, match="at least 1 was expected"):
        Arrays(grain=0)
