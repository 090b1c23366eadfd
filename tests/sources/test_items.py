import enum
import pickle
import subprocess
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PenstockBug, UsageError
from penstock.sources import Items, Range
from penstock.testing import SourceSuite


class TestRange(SourceSuite):
    def make(self, folder):
        return Range(12)


class TestRangeWithSteps(SourceSuite):
    def make(self, folder):
        return Range(range(30, 3, -4))


class _Kept(SourceSuite):
    """The items are in a file, so that `change` has something to change."""

    def items_of(self, version):
        raise NotImplementedError

    def make(self, folder):
        return Items(self.items_of((folder / "version").exists()))

    def change(self, folder):
        (folder / "version").touch()
        return True


class TestItemsOfAList(_Kept):
    def items_of(self, version):
        return [1, "two", {"three": [3.0, None]}, Path("four"), b"5", (6, {7, 8}), np.arange(3.0) + version]


class TestItemsOfATuple(_Kept):
    def items_of(self, version):
        return ("a", "b", "c", "d", f"e{version}")


class TestItemsOfAnArray(_Kept):
    def items_of(self, version):
        return np.arange(20).reshape(5, 4) + version


class TestItemsOfADeque(_Kept):
    def items_of(self, version):
        return deque([1, 2, 3, 4 + version])


del _Kept  # not a suite of its own


def test_range_reads_a_range():
    assert Range(10).read(2, 5) == range(2, 5)
    assert Range(range(5, 50, 5)).read(0, 2) == range(5, 15, 5)
    assert Range(3) == Range(range(3))


@pytest.mark.parametrize("wrong", [-1, True, 2.5, "10", [1, 2]])
def test_range_refuses_what_is_no_range(wrong):
    with pytest.raises(UsageError, match=r"Range"):
        Range(wrong)


@pytest.mark.parametrize("wrong", ["abc", b"abc", {"a": 1}, {1, 2}, iter([1]), 5, None, np.array(5)])
def test_items_refuses_what_has_no_order_or_number(wrong):
    with pytest.raises(UsageError, match=r"list"):
        Items(wrong)


def test_a_slice_has_the_kind_that_was_given():
    assert Items([1, 2, 3]).read(1, 3) == [2, 3]
    assert Items((1, 2, 3)).read(1, 3) == (2, 3)
    assert isinstance(Items(np.arange(4)).read(1, 3), np.ndarray)
    assert Items(deque([1, 2, 3])).read(1, 3) == [2, 3]


def test_pickles_without_its_items():
    assert len(pickle.dumps(Items(["x" * 1000] * 1000))) < 200


def test_reading_what_was_not_carried_is_our_mistake():
    source = Items(list(range(10)))
    worker = pickle.loads(pickle.dumps(source))
    worker.load(3, source.carry(3, 6))
    assert worker.read(4, 6) == [4, 5]
    for start, stop in ((2, 4), (4, 7), (0, 1)):
        with pytest.raises(PenstockBug, match=r"not carried"):
            worker.read(start, stop)


def test_one_item_over_a_mebibyte_is_refused_by_its_number():
    items = ["small", "x" * (2 << 20)]
    message = r"item 1 of the list is 2\.0 MiB .* up to 1\.0 MiB: save it to a file"
    with pytest.raises(UsageError, match=message):
        Items(items).carry(1, 2)
    with pytest.raises(UsageError, match=message):
        Items(items).fingerprint()
    with pytest.raises(UsageError, match=r"item 0 .* save it to a file"):
        Items([np.zeros(1 << 18)]).fingerprint()


def test_many_items_over_a_mebibyte_travel():
    # Only the engine knows how many it wants; it asks weigh.
    source = Items(["x" * 1000] * 3000)
    assert len(source.carry(0, 3000)) < 3_100_000


def test_an_item_that_cannot_be_pickled_is_refused_by_its_number():
    items = [1, (i for i in range(3))]
    with pytest.raises(UsageError, match=r"item 1 of the list cannot be pickled"):
        Items(items).fingerprint()
    with pytest.raises(UsageError, match=r"items 0 to 1 .* cannot be pickled"):
        Items(items).carry(0, 2)


@given(st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=100))
def test_weigh_of_alike_items_is_close(contents):
    source = Items(["x" * 100 + content.hex() for content in contents])
    carried = len(source.carry(0, len(source)))
    assert carried / 4 < source.weigh(0, len(source)) < 4 * carried + 1000


def test_fingerprint_of_an_array_is_of_its_content():
    array = np.arange(600_000).reshape(300_000, 2)
    before = Items(array).fingerprint()
    assert Items(np.asfortranarray(array)).fingerprint() == before
    assert Items(array.reshape(600_000)).fingerprint() != before
    assert Items(array.astype("i4")).fingerprint() != before
    array[299_999, 1] += 1
    assert Items(array).fingerprint() != before
    with pytest.raises(UsageError, match=r"item 0 .* save it to a file"):
        Items(np.zeros((2, 1 << 18))).fingerprint()
    assert Items(np.zeros((0, 3))).fingerprint()


def test_weigh_of_an_array_is_its_bytes():
    assert Items(np.zeros((1000, 100))).weigh(10, 20) == 8000


def test_names():
    source = Items([Path("a/b"), "sub-031", "two words", 7, "x" * 100, ""])
    assert [source.name(i) for i in range(6)] == ["a/b", "sub-031", "2", "3", "4", "5"]
    worker = pickle.loads(pickle.dumps(source))
    worker.load(1, source.carry(1, 2))
    assert worker.name(1) == "sub-031"
    assert worker.name(0) == "0"


class Colour(enum.Enum):
    RED = 1


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(PLAIN, max_size=4), st.lists(PLAIN, max_size=4))
def test_fingerprints_are_alike_exactly_when_items_are(left, right):
    same = repr(left) == repr(right)  # repr tells 1 from True and 0.0 from -0.0
    assert (Items(left).fingerprint() == Items(right).fingerprint()) == same


def test_fingerprint_does_not_depend_on_identity_or_hashing():
    program = (
        "from penstock.sources import Items; from pathlib import Path;"
        "a = 'xy'; b = ''.join(['x', 'y']);"
        "print(Items([(a, b), (a, a), {'one', 'two', 'three'}, Path('p')]).fingerprint()['items'])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1
    assert Items([("xy", "".join(["x", "y"]))]).fingerprint() == Items([("xy",) * 2]).fingerprint()


def test_fingerprint_takes_any_object():
    assert Items([Colour.RED]).fingerprint() == Items([Colour.RED]).fingerprint()
    assert Items([1, 2]).fingerprint() != Items((1, 2)).fingerprint()


@pytest.mark.parametrize("numbers", [10**30, range(0, -(10**30), -3)])
def test_a_range_that_nobody_could_count_is_refused(numbers):
    with pytest.raises(UsageError, match="at most 9,223,372,036,854,775,807 numbers"):
        Range(numbers)
    assert len(Range(range(0, 3 * sys.maxsize, 3))) == sys.maxsize
