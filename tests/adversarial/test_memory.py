"""Functions that take memory where, when and as nobody expects."""

import os
import re
from pathlib import Path

import pytest
from functions import (
    BatchWithCulprits,
    Grandchildren,
    HeavyBatches,
    NoteCalls,
    RaiseMemoryError,
    RefuseLarge,
    ShmFiles,
    reserve_without_touching,
)
from programs import Told, answers, beside, run
from waiting import LIMIT

import penstock
from penstock.budget import MiB
from penstock.sources import Range
from penstock.testing import misfortune as mf
from penstock.testing.misfortune import answer


@pytest.mark.parametrize(
    ("function", "items"),
    [
        (mf.Children(60 * MiB, 1, 0.15), 10),
        (mf.Children(45 * MiB, 2, 0.15), 8),
        (mf.FillShm(60 * MiB, 0.05), 16),
        (mf.AllocateInThread(60 * MiB, 0.05), 16),
        (mf.SecondHalfHeavy(80 * MiB, 60, 0.02), 60),
        (mf.Spike(90 * MiB, frozenset(range(30)) - {15}, 0.02), 30),
        (mf.Spike(110 * MiB, range(0, 60, 7), 0.05), 60),
        (mf.Allocate([1 * MiB, 100 * MiB, 3 * MiB], 0.02), 30),
        (mf.Leak(8 * MiB), 100),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else "",
)
def test_memory_of_any_kind_is_counted_and_everything_is_done(function, items):
    report = run(function, items, mib=200)
    assert report.set_aside == ()
    assert report.peak - beside(0) > 40 * MiB  # it was seen


def test_files_in_shared_memory_count_though_no_process_holds_them():
    # One at a time: a worker that is killed leaves its file behind, and with it the memory. Each takes
    # 140 MiB: what is written is there twice.
    report = run(ShmFiles(f"penstock-test-{os.getpid()}", 70 * MiB, 0.1), 10, mib=230, workers=1)
    assert report.set_aside == ()
    assert report.peak - beside(0) > 70 * MiB


def test_children_are_killed_with_the_worker_that_started_them():
    # 300 MiB in a child where 200 are: the tree goes, the item is named.
    report = run(mf.Children(300 * MiB, 1, 10_000), 1, mib=200, set_aside=True)  # nobody waits so long
    (aside,) = report.set_aside
    assert aside.reason == "memory"
    assert aside.needed > 60 * MiB


def test_processes_that_the_function_leaves_behind_are_counted_and_killed(tmp_path):
    pids = tmp_path / "pids"
    pids.touch()
    report = run(Grandchildren(40 * MiB, str(pids)), 12, mib=220)
    assert report.set_aside == ()
    left = pids.read_text().split()
    assert len(left) >= 12
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]


def test_mapped_but_untouched_memory_is_no_memory():
    report = run(reserve_without_touching, 20, mib=120)
    assert report.set_aside == ()
    assert report.peak - beside(0) < 100 * MiB


def test_results_that_are_collected_are_reserved_for():
    report = penstock.run(mf.HugeOutput(1 * MiB), 60, budget=(budget := beside(220)))
    assert [len(result) for result in report.result] == [1 * MiB] * 60
    assert report.peak <= budget


# ------------------------------------------------------------------ too large


def test_an_item_that_is_too_large_is_named_with_numbers_and_the_others_are_done():
    function = mf.Spike(300 * MiB, (7,), LIMIT)  # however late it is seen
    budget = beside(150)
    with pytest.raises(penstock.errors.ItemTooLarge, match=r"item '7' needs more than [\d.]+ MiB") as caught:
        penstock.run(function, 40, budget=budget)
    assert "try a budget of" in str(caught.value)
    assert caught.value.needed > budget
    report = run(function, 40, budget=budget, set_aside=True)
    assert [(each.item, each.reason) for each in report.set_aside] == [(7, "memory")]
    assert report.set_aside[0].needed > 80 * MiB


def test_every_item_too_large_ends_soon():
    with pytest.raises(penstock.errors.ItemTooLarge, match="failed, so the run stopped"):
        penstock.run(mf.Allocate(400 * MiB), 1000, budget=beside(150), observers=[told := Told()])
    assert len(told.of("batch_failed")) < 150


def test_as_many_may_be_set_aside_as_was_said(tmp_path):
    function = mf.Raise((3, 5, 8))
    assert len(run(function, 30, set_aside=3).set_aside) == 3
    with pytest.raises(penstock.errors.FunctionRaised, match="3 of 30 items"):
        penstock.run(function, 30, budget=beside(200), set_aside=2)


def test_a_larger_budget_retries_what_was_set_aside_for_memory(tmp_path):
    job = penstock.Job(source=Range(20), function=mf.Spike(150 * MiB, (4, 11), 0.5))
    small = job.run(tmp_path / "r", budget=beside(150), set_aside=True)
    assert [each.item for each in small.set_aside] == [4, 11]
    same = job.run(tmp_path / "r", budget=small.budget, set_aside=True, observers=[told := Told()])
    assert [each.item for each in same.set_aside] == [4, 11]
    assert not told.of("batch_started")
    large = job.run(tmp_path / "r", budget=beside(500), set_aside=True)
    assert large.set_aside == ()
    assert list(large.result) == answers(20)
    assert large.resumed_from == 18


def test_items_set_aside_for_another_reason_are_retried_when_asked(tmp_path):
    flag = tmp_path / "mended"

    flag = str(flag)  # a path that is captured is an input, and compared

    def breaks_until_mended(item):
        if item == 9 and not Path(flag).exists():
            raise ValueError("not yet")
        return answer(item)

    job = penstock.Job(source=Range(20), function=breaks_until_mended)
    first = job.run(tmp_path / "r", budget=beside(150), set_aside=True)
    assert [each.item for each in first.set_aside] == [9]
    Path(flag).touch()
    assert len(job.run(tmp_path / "r", budget=beside(150), set_aside=True).set_aside) == 1
    again = job.run(tmp_path / "r", budget=beside(150), set_aside=True, retry_set_aside=True)
    assert again.set_aside == ()
    assert list(again.result) == answers(20)


def test_a_budget_that_is_too_small_is_refused_with_one_that_works():
    with pytest.raises(penstock.errors.NoBudget, match="The smallest budget that would do is") as caught:
        penstock.run(answer, 30, budget=beside(5))
    needed = caught.value.needed
    assert re.search(r"would do is [\d.]+ MiB", str(caught.value))
    run(answer, 30, budget=needed + 2 * MiB)  # this process has grown a little since


def test_an_item_ended_alone_for_what_others_took_is_not_blamed():
    from penstock.engine.decide.schedule import Schedule
    from penstock.engine.decide.tasks import Failure

    schedule = Schedule(1)
    size = 100 * MiB
    for held, reserved in ((size, size // 2), (size // 2, size)):  # alone from the first on
        task = schedule.propose(1, 1)
        schedule.give(1, task)
        verdict = schedule.fail(1, Failure("governor", 0, (0, 1), held, reserved))
        assert verdict is None
    assert task.alone
    schedule.give(1, schedule.propose(1, 1))
    verdict = schedule.fail(1, Failure("governor", 0, (0, 1), 2 * size, size))
    assert (verdict.items, verdict.reason) == ((0,), "memory")


# ------------------------------------------------------------------ MemoryError


def test_a_memory_error_of_the_functions_own_is_about_memory():
    report = run(RaiseMemoryError(frozenset((5, 6))), 30, set_aside=True)
    assert [(each.item, each.reason) for each in report.set_aside] == [(5, "memory"), (6, "memory")]


def test_a_memory_error_makes_the_call_smaller():
    report = run(RefuseLarge(4), 200, batched=True, call=64)
    assert report.set_aside == ()
    assert report.failures.get("memory", 0) >= 1


def test_a_call_that_is_too_heavy_is_made_smaller():
    report = run(HeavyBatches(4 * MiB, 0.01), 120, batched=True)
    assert report.set_aside == ()


def test_a_number_fixes_the_calls(tmp_path):
    path = tmp_path / "calls"
    for workers in (1, 3):
        path.unlink(missing_ok=True)
        run(NoteCalls(str(path)), 1000, batched=256, workers=workers)
        calls = {tuple(map(int, line.split())) for line in path.read_text().splitlines()}
        assert calls == {(0, 256), (256, 256), (512, 256), (768, 232)}


def test_a_fixed_call_that_is_too_heavy_is_named_whole():
    report = run(HeavyBatches(20 * MiB, 0.05), 20, batched=10, mib=120, set_aside=True)
    assert {each.item for each in report.set_aside} == set(range(20))


@pytest.mark.parametrize("how", ["raise", "crash"])
def test_the_culprits_of_a_call_are_found(how):
    function = BatchWithCulprits(how, frozenset((17, 61)))
    report = run(function, 100, batched=True, call=32, set_aside=True)
    assert [each.item for each in report.set_aside] == [17, 61]
    assert {each.reason for each in report.set_aside} == {"raised" if how == "raise" else "died"}


def test_the_culprit_among_the_rows_of_an_arrow_table_is_found(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"n": list(range(500))}), tmp_path / "t.parquet", row_group_size=100)

    def root(table):
        import pyarrow.compute as pc

        return pc.divide(1000, pc.subtract(table["n"], 137)).to_pylist()

    job = penstock.Job(
        source=penstock.sources.ParquetRows(tmp_path / "t.parquet"), function=root, batched=True
    )
    report = job.run(budget=beside(300), set_aside=True, call=64)
    assert [each.item for each in report.set_aside] == [137]
    assert report.set_aside[0].error.endswith("ArrowInvalid")
    assert report.result[136] == -1000
    assert report.result[499] == 1000 // 362
