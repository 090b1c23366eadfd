"""Results that come to the leading process: they are of its memory, and nobody can take it back."""

import gc
import os

import pytest
from programs import beside

import penstock
from penstock.budget import MiB
from penstock.engine.worker.process import release_unused
from penstock.proc import held


@pytest.fixture(autouse=True)
def _nothing_stays():
    """What these take is no longer held when the next test begins, in whatever file."""
    yield
    release_unused()


def first_is_large(item):
    return bytes(60 * MiB) if item == 0 else item


def one_mib(item):
    return "x" * MiB


def as_list(item):
    return [str(item) * 1000 for _ in range(100)]


class Holder:
    """Says nothing of what it holds."""

    def __init__(self, data):
        self.data = data


def deep(item):
    return {"a": {"b": {"c": [Holder(str(item) * MiB)]}}}


def test_with_a_folder_they_go_to_files(tmp_path):
    report = penstock.run(one_mib, range(20), tmp_path / "run", budget=beside(100), workers=2)
    assert report.outcome == "done"
    assert [len(result) for result in report.result] == [MiB] * 20


def test_a_large_result_does_not_foretell_all_others():
    report = penstock.run(first_is_large, range(1000), budget=beside(480), workers=2)
    assert report.outcome == "done"
    assert [len(report.result[0]), *report.result[1:]] == [60 * MiB, *range(1, 1000)]


def test_results_that_nearly_fill_the_budget_go_up_few_at_a_time():
    budget = beside(230)
    report = penstock.run(one_mib, range(140), budget=budget, workers=2)
    assert report.outcome == "done"
    assert report.peak <= budget


@pytest.mark.parametrize(("function", "items"), [(one_mib, 1000), (as_list, 5000), (deep, 1000)])
def test_results_that_cannot_fit_are_told_of_early_and_by_what_they_are(function, items):
    with (
        pytest.raises(penstock.CannotFit, match=r"the results of [\d,]+ items take .*Give the run a folder"),
        pytest.warns(RuntimeWarning, match=rf"all {items:,} would take about .*more than the budget"),
    ):
        penstock.run(function, range(items), budget=beside(230), workers=2)


def test_results_of_a_run_that_failed_are_given_back_without_a_collection():
    gc.collect()
    gc.disable()
    release_unused()
    before = held(os.getpid())
    try:
        with pytest.warns(RuntimeWarning, match="more than the budget"):
            _fail()
        release_unused()
        assert held(os.getpid()) - before < 40 * MiB
    finally:
        gc.enable()


def _fail():
    try:
        penstock.run(one_mib, range(1000), budget=beside(230), workers=2)
    except penstock.CannotFit:
        return
    raise AssertionError("it fits")
