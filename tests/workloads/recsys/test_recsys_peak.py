"""The planned peak of training, and what it says of other sizes and budgets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.budget import GiB, MiB, format_size
from penstock.engine.decide.governor import headroom
from penstock.errors import UsageError
from penstock.workloads.recsys.shared.peak import (
    BUDGETS,
    Training,
    most_rows,
    plan_shape,
    rows_of_original,
    usable,
    what_fits,
)

shapes = st.builds(
    Training,
    rows=st.integers(1, 10**9), features=st.integers(1, 2000), leaves=st.integers(2, 1000),
    bin_sample=st.integers(1000, 10**6), row_group=st.integers(1, 10**6), tested=st.integers(0, 10**9),
)  # fmt: skip


@given(shapes, st.integers(64 * MiB, 1024 * GiB))
def test_auto_is_the_largest_that_fits_and_never_exceeds(like, budget):
    rows = most_rows(budget, like)
    assert rows == 0 or replace(like, rows=rows).peak <= budget - headroom(budget)
    assert replace(like, rows=rows + 1).peak > budget - headroom(budget)


@given(st.integers(64 * MiB, 1024 * GiB))
def test_what_is_kept_free_is_what_the_engine_keeps(budget):
    assert usable(budget) == budget - headroom(budget)


@given(shapes)
def test_a_budget_that_is_said_to_do_does(asked):
    assert asked.peak <= usable(asked.needed)
    assert asked.peak > usable(int(asked.needed * 0.98))


@given(shapes, st.integers(1, 10))
def test_the_peak_grows_with_all_that_it_depends_on(one, factor):
    for name in ("rows", "features", "leaves", "bin_sample", "row_group", "tested"):
        assert replace(one, **{name: getattr(one, name) * factor}).peak >= one.peak


def test_the_shape_of_the_original_takes_less_than_two_gib():
    asked = Training(8_500_000, 105)
    assert 1.4 * GiB < asked.peak < 1.8 * GiB


def test_a_smaller_bin_sample_is_what_half_a_gib_takes():
    asked = Training(round(1_840_000 * 0.8), 102)  # four fifths of a table are learnt from
    assert 512 * MiB < asked.needed <= GiB
    assert replace(asked, bin_sample=50_000).needed <= 512 * MiB
    told = what_fits(512 * MiB, asked)
    assert "--bin-sample 50000" in told
    assert f"{most_rows(512 * MiB, asked):,} rows" in told


def test_the_plan_tells_rows_for_budgets_and_the_originals_rule():
    plan = plan_shape(
        "8500000x105", GiB, grow="rows=10,features=2", defaults=("--leaves 63, from RANKER_NUM_LEAVES",)
    )
    told = str(plan)
    assert plan.projected == plan.asked.peak
    assert plan.headroom == GiB - plan.asked.peak < 0
    assert plan.grown == replace(plan.asked, rows=85_000_000, features=210, tested=21_250_000)
    assert "does not fit: what would do:" in told
    assert "85,000,000 rows x 210 features" in told
    assert "--leaves 63, from RANKER_NUM_LEAVES" in told
    table = [line.split() for line in told.splitlines()[-8:]]
    assert [" ".join(row[:2]) for row in table] == [format_size(size) for size in BUDGETS]
    assert table[-1][-1] == "5,000,000"
    assert int(table[1][2].replace(",", "")) == most_rows(GiB, plan.asked)


def test_what_is_tested_has_to_fit_too():
    """A narrow table of which much is tested, and one of few rows in large row groups."""
    narrow = Training(1_000_000, 8, bin_sample=1000, tested=4_000_000)
    assert narrow.peak == narrow.test_peak > 600 * MiB
    few = Training(1000, 500, bin_sample=1000)
    assert few.peak == few.test_peak > 5 * 4 * few.row_group * few.features


def test_the_rule_of_the_original():
    assert [rows_of_original(each * GiB) for each in (49, 50, 99, 100)] == [
        2_000_000,
        5_000_000,
        5_000_000,
        None,
    ]


@pytest.mark.parametrize("shape", ["", "8500000", "x105", "0x105", "10x0", "8.5e6x105"])
def test_a_shape_that_cannot_be_read_is_named(shape):
    with pytest.raises(UsageError, match="8500000x105"):
        plan_shape(shape, GiB)


@pytest.mark.parametrize("grow", ["", "rows", "rows=0", "rows=2,rows=3", "trees=2", "rows=-1"])
def test_a_growth_that_cannot_be_read_is_named(grow):
    with pytest.raises(UsageError, match="rows=10,features=2"):
        plan_shape("1000x10", GiB, grow=grow)
