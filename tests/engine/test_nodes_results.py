"""Results that nodes return to a run that wants them in this process."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from penstock.budget import Budget, BudgetInForce, Ceiling, MiB
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
        gauge=SimpleNamespace(read=list),
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
    here = ResultsHere(made := stage(), lambda first, results: None)
    made.admission.collected = on_the_way // 2  # the other half is there more than once
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


@pytest.mark.parametrize(
    ("held", "collected", "theirs"), [(30, 30, False), (100, 100, True), (200, 20, False)]
)
def test_what_finds_no_room_beside_many_results_is_their_fault(held, collected, theirs, monkeypatch):
    """Not where they are few, nor where the user took the memory meanwhile."""
    here = ResultsHere(made := stage(), lambda first, results: None)
    made.admission.collected = collected * MiB
    monkeypatch.setattr(here, "_before", 0)
    monkeypatch.setattr(here, "_held", lambda: held * MiB)
    with pytest.raises(CannotFit, match=r"the results of") if theirs else nullcontext():
        here.blame()


def test_a_limit_that_nodes_are_below_too_ends_it_where_it_stays_reached(monkeypatch):
    """Of a control group, say, that has the nodes of a Dask cluster in it as well."""
    here = ResultsHere(made := stage(), lambda first, results: None)
    made.admission.collected = 90 * MiB
    monkeypatch.setattr(here, "_before", 0)
    monkeypatch.setattr(here, "_held", lambda: 120 * MiB)
    clock = [1000.0]
    made.clock = lambda: clock[0]
    full = Ceiling(256 * MiB, "tree", "a script", used=255 * MiB)
    given_way = Ceiling(256 * MiB, "tree", "a script", used=200 * MiB)
    for seconds, ceiling in ((0.0, full), (0.9, full), (1.8, given_way), (2.7, full)):
        clock[0] = 1000.0 + seconds
        made.gauge.read = lambda ceiling=ceiling: [ceiling]
        here.take_line(line(0, []))
    clock[0] = 1003.9
    with pytest.raises(CannotFit, match="leave no call room in the budget"):
        here.take_line(line(0, []))
