import pickle
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.abc import Carried, Named, Sequential, Sized, Spanned
from penstock.errors import BadInput, UsageError
from penstock.sources import Chain, Files, Items, ParquetRows, Range
from penstock.testing import SourceSuite
from penstock.testing.comparing import comparable


class Stream:
    """A source that can be entered only here and there, and reads as an iterator."""

    def __init__(self, count, every):
        self.count, self.every = count, every

    def __len__(self):
        return self.count

    def read(self, start, stop):
        return (f"stream {item}" for item in range(start, stop))

    def starts(self):
        return range(0, self.count, self.every)

    def sizes(self, start, stop):
        return [10] * (stop - start)

    def fingerprint(self):
        return {"stream": f"{self.count}"}


class TestChainOfEverything(SourceSuite):
    """Powers that some sources have and others lack, an empty source, and two of one name."""

    def make(self, folder):
        if not (folder / "a.txt").exists():
            (folder / "a.txt").write_text("aa")
            (folder / "b.txt").write_text("b")
        return Chain(
            Range(3),
            Items(["x", "y", "z"]),
            Range(0),
            Files(folder / "*.txt"),
            Stream(6, 4),
            Range(range(7, 9)),
        )

    def change(self, folder):
        (folder / "b.txt").write_text("other")
        return True


class TestChainOfSized(SourceSuite):
    def make(self, folder):
        for name in "ab":
            if not (folder / name).exists():
                (folder / name).write_text(name * 3)
        return Chain(Stream(3, 2), Files([folder / "a", folder / "b"]))


class TestChainOfTables(SourceSuite):
    def make(self, folder):
        for number in range(3):
            path = folder / f"{number}.parquet"
            if not path.exists():
                pq.write_table(pa.table({"a": range(number * 10, number * 10 + 4)}), path, row_group_size=3)
        return Chain(*(ParquetRows(folder / f"{number}.parquet") for number in range(3)))


class FetchedAhead(Range):
    """Numbers that it holds once it was told of them."""

    def expect(self, start, stop):
        object.__setattr__(self, "held", dict(enumerate(self.numbers[start:stop], start)))

    def read(self, start, stop):
        held = getattr(self, "held", {})
        return [held.pop(item, self.numbers[item]) for item in range(start, stop)]

    def __reduce__(self):
        return type(self), (self.numbers,)


class TestChainOfSourcesThatFetchAhead(SourceSuite):
    def make(self, folder):
        return Chain(FetchedAhead(4), Range(2), FetchedAhead(range(5, 8)))


class TestChainOfChains(SourceSuite):
    def make(self, folder):
        return Chain(Chain(Range(2), Items([1, 2])), Chain(Items((3, 4)), Stream(5, 2)))


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_sources_come_one_by_one_or_as_one_list(kind):
    chain = Chain(kind([Range(2), Items(["x"])]))
    assert repr(chain) == repr(Chain(Range(2), Items(["x"])))
    assert chain.read(0, 3) == [0, 1, "x"]
    assert len(pickle.loads(pickle.dumps(chain))) == 3
    with pytest.raises(UsageError, match="at least one source"):
        Chain(kind([]))
    with pytest.raises(UsageError, match="not int"):
        Chain(kind([1, 2]))


CUTS = st.lists(st.integers(0, 12), max_size=5)


@given(CUTS, st.integers(0, 12), st.integers(0, 12))
def test_a_chain_of_slices_is_the_whole(cuts, one, other):
    start, stop = sorted((one, other))
    borders = sorted({0, *cuts, 12})
    pairs = list(pairwise(borders))
    numbers = range(50, 74, 2)
    kinds = [Range, lambda part: Items(list(part)), lambda part: Items(np.array(part))]
    for kind in kinds:
        whole, chain = kind(numbers), Chain(*(kind(numbers[low:high]) for low, high in pairs))
        assert len(chain) == len(whole)
        assert list(chain.read(start, stop)) == list(whole.read(start, stop))
        assert [chain.name(item) for item in range(12)] == [
            name for low, high in pairs for name in map(kind(numbers[low:high]).name, range(high - low))
        ]
        if isinstance(whole, Carried):
            worker = pickle.loads(pickle.dumps(chain))
            worker.load(start, chain.carry(start, stop))
            assert list(worker.read(start, stop)) == list(whole.read(start, stop))


def test_a_call_across_a_border_keeps_its_kind(tmp_path):
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": [4, 5]}), tmp_path / "b.parquet")
    tables = Chain(ParquetRows(tmp_path / "a.parquet"), ParquetRows(tmp_path / "b.parquet"))
    read = tables.read(1, 5)
    assert isinstance(read, pa.Table)
    assert read.to_pydict() == {"a": [2, 3, 4, 5]}
    assert list(tables.each(read)) == [{"a": 2}, {"a": 3}, {"a": 4}, {"a": 5}]
    arrays = Chain(Items(np.zeros((2, 3))), Items(np.ones((2, 3))))
    assert arrays.read(1, 3).shape == (2, 3)
    assert Chain(Range(2), Items([5])).read(0, 3) == [0, 1, 5]
    assert Chain(Range(2), Items([5])).read(0, 2) == range(2)


def test_tables_and_lists_meet_as_items(tmp_path):
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    chain = Chain(ParquetRows(tmp_path / "a.parquet"), Items(["x"]), ParquetRows(tmp_path / "a.parquet"))
    assert list(chain.each(chain.read(0, 5))) == [{"a": 1}, {"a": 2}, "x", {"a": 1}, {"a": 2}]
    assert list(chain.each(chain.read(1, 2))) == [{"a": 2}]


def test_an_iterator_is_chained_lazily():
    class Late(Stream):
        def read(self, start, stop):
            raise AssertionError("read too early")

    read = Chain(Stream(2, 1), Late(2, 1)).read(0, 4)
    assert [next(read), next(read)] == ["stream 0", "stream 1"]
    with pytest.raises(AssertionError, match="too early"):
        next(read)


def test_it_has_the_powers_that_it_can_keep(tmp_path):
    (tmp_path / "a").write_text("aaa")
    plain, files = Range(3), Files(tmp_path / "a")
    both = Chain(plain, files)
    assert not isinstance(both, Sized)
    assert isinstance(both, Named)
    assert isinstance(both, Spanned)
    assert not isinstance(both, Sequential)
    assert not isinstance(both, Carried)
    assert not hasattr(both, "each")
    assert isinstance(Chain(files), Sized)
    assert not isinstance(Chain(Stream(2, 1)), Named)
    assert isinstance(Chain(plain, Stream(2, 1)), Sequential)
    assert isinstance(Chain(plain, Items([1])), Carried)
    copy = pickle.loads(pickle.dumps(Chain(plain, Stream(4, 2), Items([1]))))
    assert isinstance(copy, Sequential)
    assert isinstance(copy, Carried)


def test_sizes_names_and_starts():
    chain = Chain(Range(range(5, 8)), Stream(5, 2), Range(2))
    assert list(chain.starts()) == [0, 1, 2, 3, 5, 7, 8, 9]
    starts = chain.starts()
    assert (len(starts), starts[-1], starts[3:5]) == (8, 9, [3, 5])
    with pytest.raises(IndexError):
        starts[8]
    assert [chain.name(item) for item in (0, 3, 8)] == ["5", "3", "0"]
    assert Chain(Stream(3, 1), Stream(2, 1)).sizes(1, 5) == [10] * 4


def test_starts_of_a_long_source_cost_nothing():
    starts = Chain(Range(10**12), Stream(4, 2)).starts()
    assert len(starts) == 10**12 + 2
    assert (starts[10**11], starts[-1]) == (10**11, 10**12 + 2)


def test_keys_are_made_different():
    chain = Chain(Range(3), Range(4), Stream(2, 1), Range(5))
    assert chain.fingerprint() == {
        "range": "range(0, 3, 1)",
        "range (2)": "range(0, 4, 1)",
        "stream": "2",
        "range (3)": "range(0, 5, 1)",
    }
    assert chain.spans() == {"range": (0, 3), "range (2)": (3, 7), "stream": (7, 9), "range (3)": (9, 14)}


def test_weigh_counts_only_what_travels():
    items = Items(["x" * 100] * 4)
    chain = Chain(Range(1000), items)
    assert chain.weigh(0, 1000) == 0
    assert chain.weigh(0, 1004) == items.weigh(0, 4)


def test_tables_of_different_columns_do_not_meet(tmp_path):
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"b": [1, 2]}), tmp_path / "b.parquet")
    chain = Chain(ParquetRows(tmp_path / "a.parquet"), ParquetRows(tmp_path / "b.parquet"))
    assert chain.read(0, 2).column_names == ["a"]
    with pytest.raises(
        BadInput, match=r"items 1 to 3: the sources of this chain have different columns \(a; b\)"
    ):
        chain.read(1, 4)


@pytest.mark.parametrize("wrong", [(), ([1, 2],), (Range(2), "files")])
def test_only_sources_are_chained(wrong):
    with pytest.raises(UsageError, match=r"source"):
        Chain(*wrong)


def test_it_says_what_it_is():
    assert repr(Chain(Range(2), Items([1]))) == "Chain(Range(numbers=range(0, 2)), Items(1 items))"
    assert comparable(Chain(Range(2)).read(0, 0)) == []
