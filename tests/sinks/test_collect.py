import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.abc import Batch, Receipt
from penstock.errors import CannotKeep, SetAside, UsageError
from penstock.sinks import Collect
from penstock.testing import SinkSuite


class TestCollect(SinkSuite):
    def make(self):
        return Collect()

    def result_of(self, item):
        return [item, str(item), None, {"a": item / 7, "b": [True]}, float("nan")][item % 5]


class TestCollectOfArrays(SinkSuite):
    def make(self):
        return Collect()

    def result_of(self, item):
        return np.full(item * 400, item, np.float32)  # some batches inline, some in parts


class TestCollectOfLargeText(SinkSuite):
    def make(self):
        return Collect(cap="3MiB")

    def result_of(self, item):
        return chr(65 + item) * 100_000


def collected(sink, results, folder, size=10):
    receipts = []
    for at in range(0, len(results), size):
        batch = Batch(at, min(at + size, len(results)))
        receipts.append((batch, sink.write(batch, iter(results[batch.start : batch.stop]), folder)))
    sink.close(iter(receipts), folder)
    return sink.result(folder)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=12), st.integers(1, 5))
def test_any_values_come_back(tmp_path_factory, results, size):
    folder = tmp_path_factory.mktemp("kept")
    assert collected(Collect(), results, folder, size) == results


def test_values_that_look_like_our_own_marks_come_back(tmp_path):
    results = [
        {"__set_aside__": {"item": 1}},
        {"__set_aside__": 1, "__array__": [1]},
        {"__dict__": {"__set_aside__": 2}},
        [{"__set_aside__": 3}],
        '{"__set_aside__":4}',
        "line\nbreak\r\u2028",
    ]
    assert collected(Collect(), results, tmp_path) == results


def test_small_results_ride_in_the_receipt_and_large_ones_are_a_part(tmp_path):
    small = Collect().write(Batch(0, 3), iter([1, 2, 3]), tmp_path)
    assert small == Receipt(value=["1", "2", "3"])
    assert list(tmp_path.iterdir()) == []
    large = Collect().write(Batch(7, 9), iter(["x" * 40_000, "y" * 40_000]), tmp_path)
    assert [part.name for part in large.parts] == ["part-000000007.jsonl"]
    assert large.value is None
    assert len((tmp_path / "part-000000007.jsonl").read_text().splitlines()) == 2


def test_results_jsonl_has_a_line_for_each_item(tmp_path):
    collected(Collect(), [1, {"a": [2]}, "three"], tmp_path)
    assert (tmp_path / "results.jsonl").read_text() == '1\n{"a":[2]}\n"three"\n'


def test_a_set_aside_item_comes_back_as_itself(tmp_path):
    aside = SetAside(1, "sub-1", "raised", "raised ValueError: é", "ValueError", "Traceback\n ...", 5)
    _, found, _ = collected(Collect(), [0, aside, 2], tmp_path)
    assert isinstance(found, SetAside)
    assert found.args == aside.args
    assert str(found) == "item sub-1: raised ValueError: é"


@pytest.mark.parametrize("wrong", [object(), {1: 2}, {1}, 1j, b"x", np.array([object()]), [iter("a")]])
def test_a_result_of_another_type_names_its_item(tmp_path, wrong):
    with pytest.raises(TypeError, match=r"item 12: the result cannot be collected: "):
        Collect().write(Batch(10, 14), iter([0, 1, wrong, 3]), tmp_path)
    with pytest.raises(TypeError, match=r"item 12: "):
        Collect().write(Batch(10, 14), iter(["x" * 100_000, 1, wrong, 3]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_cap_is_kept(tmp_path):
    sink = Collect(cap=1000)
    assert collected(sink, ["x" * 90] * 10, tmp_path) == ["x" * 90] * 10
    with pytest.raises(
        CannotKeep, match=r"1000 B that Collect\(cap=\) allows: raise it, or keep them in files"
    ):
        collected(sink, ["x" * 90] * 11, tmp_path)


def test_options_are_checked():
    assert Collect(cap="1KiB").cap == 1024
    with pytest.raises(UsageError, match=r"cannot read the size"):
        Collect(cap="much")
    with pytest.raises(UsageError, match=r"no grain"):
        Collect(grain=4)


# ------------------------------------------------------------------ anything


class Odd:
    def __init__(self, value):
        self.value = value


def test_anything_is_kept_as_it_is(tmp_path):
    results = [Odd(1), {1, 2}, b"x" * 200_000, lambda: 3, np.arange(3), SetAside(5, "5", "raised", "no")]
    receipt = Collect(anything=True).write(Batch(0, 6), iter(results), tmp_path)
    assert receipt.parts == ()
    assert all(kept is result for kept, result in zip(receipt.value, results, strict=True))
    assert list(tmp_path.iterdir()) == []


def test_anything_names_the_item_that_cannot_be_pickled(tmp_path):
    with pytest.raises(TypeError, match=r"item 4: the result is a generator that cannot be pickled"):
        Collect(anything=True).write(Batch(3, 6), iter([1, (i for i in "ab"), 3]), tmp_path)


def test_the_sink_is_small():
    assert len(pickle.dumps(Collect())) < 300
