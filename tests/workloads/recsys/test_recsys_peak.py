"""The planned peak of training, and what it says of other sizes and budgets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.budget import GiB, MiB
from penstock.errors import UsageError
from penstock.workloads.recsys.training.peak import (
    Training,
    most_rows,
    plan_shape,
    rows_of_original,
    what_fits,
)

shapes = st.builds(
    Training,
    rows=st.integers(1, 10**9), features=st.integers(1, 2000), leaves=st.integers(2, 1000),
    bin_sample=st.integers(1000, 10**6), row_group=st.integers(1, 10**6),
)  # fmt: skip


@given(shapes, st.integers(64 * MiB, 1024 * GiB))
def test_auto_is_the_largest_that_fits_and_never_exceeds(like, budget):
    rows = most_rows(budget, like)
    assert rows == 0 or replace(like, rows=rows).peak <= budget
    assert replace(like, rows=rows + 1).peak > budget


@given(shapes, st.integers(1, 10))
def test_the_peak_grows_with_all_that_it_depends_on(one, factor):
    for name in ("rows", "features", "leaves", "bin_sample", "row_group"):
        assert replace(one, **{name: getattr(one, name) * factor}).peak >= one.peak


def test_the_shape_of_the_original_takes_less_than_two_gib():
    asked = Training(8_500_000, 105)
    assert 1.4 * GiB < asked.peak < 1.8 * GiB


def test_a_smaller_bin_sample_is_what_half_a_gib_takes():
    asked = Training(1_840_000, 102)
    assert asked.peak > 512 * MiB
    assert replace(asked, bin_sample=50_000).peak <= 512 * MiB
    told = what_fits(512 * MiB, asked)
    assert "--bin-sample 50000" in told
    assert f"{most_rows(512 * MiB, asked):,} rows" in told


def test_the_plan_tells_rows_for_budgets_and_the_originals_rule():
    plan = plan_shape("8500000x105", GiB, grow="rows=10,features=2", defaults=(("RANKER_NUM_LEAVES", "63"),))
    told = str(plan)
    assert plan.projected == plan.asked.peak
    assert plan.headroom == GiB - plan.asked.peak < 0
    assert plan.grown == replace(plan.asked, rows=85_000_000, features=210)
    assert "does not fit: what would do:" in told
    assert "85,000,000 rows x 210 features" in told
    assert "RANKER_NUM_LEAVES=63 (environment)" in told
    table = {line.split()[0] + line.split()[1]: line.split()[2:] for line in told.splitlines() if "GiB  " in line}
    assert table["64.0GiB"][-1] == "5,000,000"
    assert int(table["1.00GiB"][0].replace(",", "")) == most_rows(GiB, plan.asked)


def test_the_rule_of_the_original():
    assert [rows_of_original(each * GiB) for each in (49, 50, 99, 100)] == [2_000_000, 5_000_000, 5_000_000, None]


@pytest.mark.parametrize("shape", ["", "8500000", "x105", "0x105", "10x0", "8.5e6x105"])
def test_a_shape_that_cannot_be_read_is_named(shape):
    with pytest.raises(UsageError, match="8500000x105"):
        plan_shape(shape, GiB)


@pytest.mark.parametrize("grow", ["", "rows", "rows=0", "rows=2,rows=3", "trees=2", "rows=-1"])
def test_a_growth_that_cannot_be_read_is_named(grow):
    with pytest.raises(UsageError, match="rows=10,features=2"):
        plan_shape("1000x10", GiB, grow=grow)
