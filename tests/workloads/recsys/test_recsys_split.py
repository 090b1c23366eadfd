"""Who is learnt from and who is tested, and what a sample keeps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.workloads.recsys.hashing import SAMPLE, SPLIT, hashes
from penstock.workloads.recsys.training.split import (
    LEFT_OUT,
    NO_TIME,
    TRAIN,
    VALID,
    draw,
    rows_of,
    split_by_hash,
    split_by_time,
)

times = st.lists(st.one_of(st.integers(0, 20), st.just(int(NO_TIME))), min_size=1, max_size=60)


@given(times, st.floats(0.01, 0.9))
def test_what_is_tested_is_later_than_all_that_is_learnt_from(moments, share):
    moments = np.array(moments, np.int64)
    told, cut = split_by_time(moments, np.ones(len(moments), bool), share)
    assert (told[moments == NO_TIME] == LEFT_OUT).all()
    if cut is None:
        assert len(set(moments[moments != NO_TIME].tolist())) < 2
        assert not (told == VALID).any()
    else:
        assert moments[told == TRAIN].max() < cut == moments[told == VALID].min()


def test_a_share_of_the_queries_is_tested():
    moments = np.random.default_rng(0).permutation(1000).astype(np.int64)
    told, cut = split_by_time(moments, np.ones(1000, bool), 0.2)
    assert (told == VALID).sum() == 200
    assert cut == 800
    assert not (split_by_time(moments, np.ones(1000, bool), 0.0)[0] == VALID).any()


def test_users_are_on_one_side():
    users = np.random.default_rng(0).integers(0, 200, 3000)
    told = split_by_hash(hashes(users, SPLIT), np.ones(3000, bool), 0.2)
    assert not set(users[told == TRAIN]) & set(users[told == VALID])
    assert 0.1 < (told == VALID).mean() < 0.3


def test_a_sample_has_its_share_of_the_test_part():
    """Corrections R5: with one hash for both, a sample of 25 % has none of the test part."""
    requests = pa.array([f"r{at:06d}" for at in range(100_000)])
    sampled, split = hashes(requests, SAMPLE, 42), hashes(requests, SPLIT, 42)
    everything = np.ones(100_000, bool)
    sample = draw(sampled, np.ones(100_000, np.int32), everything, 25_000)
    told = split_by_hash(split, everything, 0.2)
    assert sample.sum() == 25_000
    assert (told[sample] == VALID).mean() == pytest.approx(0.2, abs=0.01)
    assert not (split_by_hash(sampled, everything, 0.2)[sample] == VALID).any()  # what one salt would do


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 200), st.integers(0, 200))
def test_samples_are_whole_queries_and_nested_and_do_not_depend_on_order(sizes, few, many):
    sizes = np.array(sizes, np.int32)
    draws = hashes(np.arange(len(sizes)), SAMPLE)
    among = draws % np.uint64(3) != 0
    few, many = sorted((few, many))
    small, large = draw(draws, sizes, among, few), draw(draws, sizes, among, many)
    assert rows_of(small, sizes) <= few
    assert not (small & ~large).any()
    assert not (large & ~among).any()
    order = np.random.default_rng(0).permutation(len(sizes))
    assert (draw(draws[order], sizes[order], among[order], many) == large[order]).all()
    assert (draw(draws, sizes, among, None) == among).all()
