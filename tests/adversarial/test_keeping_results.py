"""Sinks and reducers that are slow, hang, or take the memory themselves."""

import pytest
from functions import (
    HeavyFinish,
    answers_of,
    append,
    count,
    count_all,
    hanging_finish,
    join,
    late_memory_error,
    late_model,
    much_text,
    nothing,
    slow_count,
    slow_finish,
)
from programs import Told, beside

import penstock
from penstock.budget import MiB
from penstock.reducers import Fold
from penstock.sources import Range
from penstock.testing.misfortune import answer


def test_a_timeout_is_for_items_and_not_for_what_is_done_with_their_results():
    fold = Fold(slow_count, nothing, join)
    report = penstock.run(answers_of, 30, into=fold, batched=15, timeout=1.0, budget=beside(200))
    assert (report.result, report.failures) == ([30], {})
    fold = Fold(count, nothing, finish=slow_finish)
    assert penstock.run(answer, 30, into=fold, timeout=1.0, budget=beside(200)).result == 30


def test_a_reducer_that_is_too_large_at_the_end_says_so_and_is_done_with_more(tmp_path):
    job = penstock.Job(
        source=Range(30), function=answer, into=Fold(count, nothing, finish=HeavyFinish(250 * MiB))
    )
    with pytest.raises(
        penstock.errors.WorkerDied, match=r"close the results died 3 times: out of memory, holding"
    ):
        job.run(tmp_path / "r", budget=beside(150))
    report = job.run(tmp_path / "r", budget=beside(450), observers=[told := Told()])
    assert report.result == 30
    assert not told.of("batch_started")  # only the end was missing


def test_a_reducer_that_hangs_at_the_end_is_ended():
    fold = Fold(count, nothing, finish=hanging_finish)
    with pytest.raises(penstock.errors.WorkerDied, match="used no CPU and did no I/O"):
        penstock.run(answer, 10, into=fold, stall="1s", budget=beside(200))


def test_following_the_advice_on_an_item_that_is_too_large_ends_in_success():
    from penstock.testing.misfortune import Spike

    budget, advised = beside(150), []
    for _ in range(6):
        try:
            report = penstock.run(Spike(200 * MiB, (3,), 0.5), 10, budget=budget)
            break
        except penstock.errors.ItemTooLarge as error:
            advised.append(error.needed)
            budget = error.needed
    assert report.done == 10
    assert advised == sorted(set(advised))
    assert budget < beside(450)  # and it was not told too much


@pytest.mark.parametrize("set_aside", [False, True])
def test_a_grain_whose_state_does_not_fit_is_to_blame_and_none_of_its_items(set_aside):
    """Each was tried and given up alone, for minutes, as if it were too large."""
    job = {"into": Fold(append, "", append, grain=50), "budget": beside(90), "observers": [told := Told()]}
    if set_aside:
        report = penstock.run(much_text, range(150), set_aside=True, **job)
        assert [each.item for each in report.set_aside] == [*range(50, 100)]
        assert "what the calls for items 50 to 99 leave behind" in report.set_aside[0].message
        assert report.result == "x" * 100
    else:
        with pytest.raises(penstock.CannotFit, match="items 50 to 99 leave behind, which are kept as one"):
            penstock.run(much_text, range(150), **job)
    assert len(told.of("batch_failed")) <= 10


@pytest.mark.parametrize("large", [late_model, late_memory_error])
def test_an_item_that_is_too_large_is_blamed_alone_whatever_was_loaded_before_it(large):
    fold = Fold(count_all, 0, count_all, grain=20)
    report = penstock.run(large, range(60), into=fold, budget=beside(150), set_aside=True, workers=1)
    assert [each.item for each in report.set_aside] == [15]
    assert report.result == 59
