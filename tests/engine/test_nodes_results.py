"""Results that nodes return to a run that wants them in this process."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from penstock.budget import Budget, BudgetInForce, MiB
from penstock.engine.decide import explain
from penstock.engine.parent.results_here import ResultsHere
from penstock.errors import CannotFit

BUDGET = Budget(256 * MiB, "a script")


def stage(items=1000):
    made = SimpleNamespace(
        admission=SimpleNamespace(kept=0, collected=0),
        setup=SimpleNamespace(items=items),
        budget=BudgetInForce(BUDGET),
        options=SimpleNamespace(endless=False),
        clock=lambda: 1000.0 + made.admission.kept,
    )
    made.results_too_large = lambda: explain.results_too_large(
        made.admission.kept, items, made.admission.collected, BUDGET
    )
    return made


def line(first, results):
    """Of a kept batch, as a node tells it."""
    return {
        "kept": [first, first + len(results)],
        "receipts": {"": [(first, first + len(results), [], results)]},
    }


def test_nodes_results_that_cannot_fit_are_told_of_early():
    taken = {}
    here = ResultsHere(stage(), taken.__setitem__)
    here.take_line(line(0, ["x" * MiB] * 10))
    with pytest.warns(RuntimeWarning, match=r"the results of 20 items .*all 1,000 would take about .*folder"):
        assert here.take_line(line(10, ["x" * MiB] * 10)) == {"kept": [10, 20]}
    here.take_line(line(20, ["x" * MiB] * 10))  # it is said once
    assert sorted(taken) == [0, 10, 20]


@pytest.mark.parametrize("on_the_way", [100 * MiB, 250 * MiB])
def test_they_are_what_takes_the_memory_also_while_they_are_on_their_way(on_the_way, monkeypatch):
    here = ResultsHere(stage(), lambda first, results: None)
    monkeypatch.setattr(here, "_before", BUDGET.bytes - on_the_way)
    monkeypatch.setattr(here, "_held", lambda: BUDGET.bytes)
    with pytest.raises(CannotFit, match=r"the results of 10 items take .*Give the run a folder"):
        here.take_line(line(0, ["x"] * 10))


def test_what_this_process_held_before_is_not_blamed_on_results(monkeypatch):
    here = ResultsHere(stage(), lambda first, results: None)
    monkeypatch.setattr(here, "_before", BUDGET.bytes - 5 * MiB)
    monkeypatch.setattr(here, "_held", lambda: BUDGET.bytes)
    with pytest.raises(CannotFit, match="this process itself holds"):
        here.take_line(line(0, ["x"] * 10))


@pytest.mark.parametrize("taken", [30, 100])
def test_what_finds_no_room_on_a_node_beside_many_results_is_their_fault(taken, monkeypatch):
    """Its own fault it is where they are few."""
    here = ResultsHere(stage(), lambda first, results: None)
    monkeypatch.setattr(here, "_before", 0)
    monkeypatch.setattr(here, "_held", lambda: taken * MiB)
    with pytest.raises(CannotFit, match=r"the results of") if taken > 64 else nullcontext():
        here.blame()
