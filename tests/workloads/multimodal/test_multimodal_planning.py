"""What a plan finds out of each film, and the keys that order records."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.workloads.multimodal import layout, planning, splits
from penstock.workloads.multimodal.joining import Rules, join

DAY = 24 * 3600


@pytest.fixture(scope="module")
def found(sample):
    return layout.find(str(sample))


def test_a_plan_opens_and_reads_each_film_once(found, monkeypatch):
    """Of 10^5 films, most of what planning costs."""
    joined = join(found, Rules(window=DAY)).records
    calls = {"open": 0, "read": 0, "fstat": 0}

    def counted(name, real):
        def call(*given):
            calls[name] += 1
            return real(*given)

        return call

    for name in calls:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    looked = planning.look_at_films(joined, found.films)
    there = int((looked.reason == 0).sum())
    assert 0 < there < joined.num_rows == calls["open"]  # one of the sample's films is missing
    assert there <= calls["read"] <= joined.num_rows
    assert calls["fstat"] == calls["read"]


def test_films_that_cannot_be_read_have_a_reason_and_no_other_film_loses_its_numbers(found, tmp_path):
    joined = join(found, Rules(window=DAY)).records
    before = planning.look_at_films(joined, found.films)
    for at, path in enumerate(planning.paths_of(joined)):
        if before.reason[at] == 0:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found.films / path, tmp_path / path)
    good = np.flatnonzero(before.reason == 0)[:3].tolist()
    paths = [tmp_path / path for path in planning.paths_of(joined.take(good))]
    paths[0].unlink()
    paths[1].unlink()
    paths[1].mkdir()
    paths[2].write_bytes(b"<html>no such film</html>")
    after = planning.look_at_films(joined, tmp_path)
    assert [after.reasons[after.reason[at]] for at in good] == ["image_missing", "image_unreadable", ""]
    assert (after.bytes[good[2]], after.memory[good[2]]) == (25, 0)  # told when it is decoded
    others = np.setdiff1d(np.arange(joined.num_rows), good)
    for name in ("bytes", "memory"):
        assert np.array_equal(getattr(before, name)[others], getattr(after, name)[others])


@settings(max_examples=40)
@given(st.lists(st.text(max_size=50), max_size=20), st.integers(-(2**70), 2**70))
def test_keys_of_many_are_those_of_each(names, seed):
    assert splits.keyed_all(seed, names).tolist() == [splits.keyed(seed, name) for name in names]
