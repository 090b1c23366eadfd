"""How long it lasts that there is room for nothing, and who is said to hold it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from penstock.budget import Budget, GiB, MiB
from penstock.engine.decide import explain
from penstock.engine.decide.plan import Reserved
from penstock.engine.parent.no_room import NoRoom
from penstock.errors import CannotFit

BUDGET = Budget(GiB, "a script")


def stage(*, parent=50 * MiB, results=0, spare=0, running=(), endless=False, files=0):
    admission = SimpleNamespace(
        budget=BUDGET,
        spare=lambda: spare,
        reserved=lambda *, to_come: Reserved(parent, 20 * MiB, 4 * MiB, results=results),
    )
    return SimpleNamespace(
        admission=admission,
        crew=SimpleNamespace(running=running),
        options=SimpleNamespace(stall=600.0, endless=endless),
        crowded_by_results=results > abs(spare),
        results_too_large=lambda: explain.results_too_large(10, 100, results, BUDGET),
        watch=SimpleNamespace(
            memory=SimpleNamespace(free=10 * MiB, shared=files, used=parent + results + files)
        ),
    )


def ends_after(made, most=1000):
    """Seconds, and what is said."""
    no_room = NoRoom(made)
    for now in range(most):
        try:
            no_room.last(float(now))
        except CannotFit as error:
            return now, str(error)
    return most, ""


@pytest.mark.parametrize("spare", [-100 * MiB, 0, 20 * MiB])
def test_results_that_fill_the_budget_are_not_waited_for(spare):
    """Also where a little is spare, so little that the governor admits nothing."""
    seconds, said = ends_after(stage(results=800 * MiB, spare=spare))
    assert seconds == 2
    assert said.startswith("the results of 10 items take 800 MiB in this process")


def test_what_this_process_holds_otherwise_is_waited_for_a_moment():
    seconds, said = ends_after(stage(parent=900 * MiB, spare=-10 * MiB))
    assert seconds == 6
    assert said.startswith("this process itself holds 900 MiB")
    assert "as_completed" not in said  # there is nothing of the kind in a run


def test_an_executor_says_how_results_are_taken_away():
    _, said = ends_after(stage(parent=900 * MiB, spare=-10 * MiB, endless=True))
    assert "Take them one by one (map, as_completed" in said


@pytest.mark.parametrize("results", [0, 400 * MiB])
def test_what_others_hold_is_waited_for_as_long_as_a_worker_may_stall(results):
    seconds, said = ends_after(stage(results=results, spare=300 * MiB))
    assert seconds == 601
    assert said.startswith("other processes hold so much")


def test_files_that_calls_left_in_memory_are_named_and_not_waited_for_long():
    """Nobody frees them by ending."""
    seconds, said = ends_after(stage(files=900 * MiB, spare=30 * MiB))
    assert seconds == 6
    assert said.startswith("files in memory (in /dev/shm or on another tmpfs) hold 900 MiB of the budget")
    seconds, said = ends_after(stage(files=300 * MiB, spare=30 * MiB))
    assert (seconds, said[:15]) == (601, "other processes")  # who hold more


def test_a_share_that_shrank_is_not_waited_for_long():
    """Whoever shares the budget took results, which nobody gives back."""
    made = stage(spare=-10 * MiB)
    no_room = NoRoom(made)
    made.admission.budget = replace(BUDGET, bytes=80 * MiB, beside=900 * MiB, shares=4)
    no_room.last(0.0)
    no_room.last(1.0)
    with pytest.raises(CannotFit, match=r"leads holds 900 MiB .* each of 4 nodes has 80.0 MiB, and no call"):
        no_room.last(1.1)


def test_nothing_ends_while_somebody_works():
    assert ends_after(stage(results=800 * MiB, running=("one",))) == (1000, "")


def test_room_in_between_begins_it_anew():
    no_room = NoRoom(stage(results=800 * MiB))
    for now in range(100):
        no_room.last(float(now))
        no_room.end()
