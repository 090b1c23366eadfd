"""Whole records by the block in which they begin: each once, in order, however the file is cut and stored."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fasta import COMPRESS, text

from penstock.errors import BadInput
from penstock.sources import FastaRecords
from penstock.testing import SourceSuite


def read(source, start=0, stop=None):
    """(offset, text) of each item."""
    found = []
    for item in source.read(start, len(source) if stop is None else stop):
        whole = b"".join(bytes(piece) for piece in item)
        found.append((item.offset, whole))
    return found


def starts_of(data):
    return [0] * data.startswith(b">") + [found.start() + 1 for found in re.finditer(rb"\n>", data)]


@pytest.mark.parametrize("kind", ["plain", *COMPRESS])
@pytest.mark.parametrize("block", [1, 61, 5000])
def test_each_record_is_in_the_item_in_which_it_begins(tmp_path, kind, block):
    data = text(9000) + b">last\n\n\n>empty\n>cut"
    path = tmp_path / "a.fa"
    path.write_bytes(COMPRESS[kind](data) if kind in COMPRESS else data)
    source = FastaRecords(path, block=block)
    items = read(source)
    assert b"".join(whole for _, whole in items) == data
    at = 0
    for offset, whole in items:
        if whole:
            assert (offset, whole[:1]) == (at, b">")
        at += len(whole)
    if kind == "plain":
        for number, (_, whole) in enumerate(items):
            low, high = number * block, (number + 1) * block
            here = [start for start in starts_of(data) if low < start <= high or (start == 0 == low)]
            assert whole.count(b">") == len(here)


@settings(max_examples=150, deadline=None)
@given(data=st.lists(st.sampled_from([b">", b"\n", b"A", b"AC", b"\n>r\n"]), min_size=1).map(b"".join),
       block=st.integers(1, 9), kind=st.sampled_from(["plain", "gz", "bgz"]), seed=st.randoms())  # fmt: skip
def test_any_item_alone_is_as_in_order(tmp_path_factory, data, block, kind, seed):
    path = tmp_path_factory.mktemp("fa") / "a.fa"
    path.write_bytes(COMPRESS[kind](data) if kind in COMPRESS else data)
    source = FastaRecords(path, block=block)
    items = read(source)
    assert b"".join(whole for _, whole in items) == data
    for number in seed.sample(range(len(source)), min(len(source), 5)):
        assert read(source, number, number + 1)[0][1] == items[number][1]


def test_a_stream_is_read_once_in_order(tmp_path, monkeypatch):
    path = tmp_path / "a.fa.gz"
    path.write_bytes(COMPRESS["gz"](text(60_000)))
    source = FastaRecords(path, block=700)
    opened = []
    monkeypatch.setattr("penstock.sources.records._Text", _counted(opened))
    read(source)
    assert len(opened) == 1


def _counted(opened):
    from penstock.sources.records import _Text

    class Counted(_Text):
        def __init__(self, *given):
            opened.append(given[0])
            super().__init__(*given)

    return Counted


def test_a_stream_that_is_cut_off_is_an_error(tmp_path):
    path = tmp_path / "a.fa.gz"
    path.write_bytes(COMPRESS["gz"](text(60_000))[:-300])
    with pytest.raises(BadInput, match="cut off"):
        read(FastaRecords(path, block=700))


class TestConformance(SourceSuite):
    def make(self, folder):
        path = folder / "a.fa.gz"
        if not path.exists():
            path.write_bytes(COMPRESS["gz"](text(20_000)))
        return FastaRecords(path, block=900)

    def change(self, folder):
        (folder / "a.fa.gz").write_bytes(COMPRESS["gz"](text(20_000, seed=2)))
        return True

    def items(self, source, start, stop):
        return [whole for _, whole in read(source, start, stop)]
