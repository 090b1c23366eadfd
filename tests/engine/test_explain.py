"""Every cause and reason has its sentence and its error class; a new one cannot be forgotten."""

import errno
import inspect
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

import penstock.errors as errors
from penstock import storage
from penstock.abc import Node
from penstock.budget import Budget, GiB, MiB
from penstock.engine import messages as m
from penstock.engine.decide import explain
from penstock.engine.decide.files_in_memory import of_one_worker
from penstock.engine.decide.plan import Reserved, room
from penstock.engine.decide.tasks import Cause, Failure, Reason, Verdict
from penstock.engine.decide.too_large import grain_too_large
from penstock.engine.worker.exceptions import qualified
from penstock.errors import (
    BadInput,
    CannotFit,
    CannotKeep,
    DiskFull,
    FunctionRaised,
    ItemTooLarge,
    NoBudget,
    SetAside,
)

BUDGET = Budget(2 * GiB, "as asked for")
RESERVED = Reserved(parent=100 * MiB, backend=50 * MiB, worker=20 * MiB)

ERRORS = {
    "memory": errors.ItemTooLarge,
    "raised": errors.FunctionRaised,
    "died": errors.WorkerDied,
    "stalled": errors.Stalled,
    "kept": errors.CannotKeep,
}


def aside(reason, item=3, error="", message="why"):
    return SetAside(item, f"item-{item}", reason, message, error, "", 3 * GiB if reason == "memory" else 0)


def error_of(*aside, hopeless=False):
    return explain.failure_of(aside, 100, BUDGET, RESERVED, hopeless=hopeless)


def test_every_reason_has_an_error_class():
    # The schedule's reasons, and the one that a worker finds itself.
    assert set(ERRORS) == {*get_args(Reason), "raised"}
    documented = inspect.getdoc(SetAside)
    assert all(f'``"{reason}"``' in documented for reason in ERRORS)


@pytest.mark.parametrize("reason", ERRORS)
def test_error_of_reason(reason):
    error = error_of(aside(reason))
    assert type(error) is ERRORS[reason]
    assert "item-3" in str(error)


def test_every_error_of_the_run_is_reached():
    """Each class under CannotFit and RunFailed comes from one of these functions."""
    told = {type(error_of(aside(reason))) for reason in ERRORS}
    told |= {type(storage.failure(errno.EIO, "/")), NoBudget}
    damaged = m.Failed("damaged", -1, (-1, -1), 0, "ResultsDamaged", "part-3")
    told |= {type(explain.of_chore("close", damaged, Path("run")))}
    leaves = {cls for base in (errors.CannotFit, errors.RunFailed) for cls in base.__subclasses__()}
    assert told == leaves


CAUSES = {
    "memory": "raised MemoryError while it held 3.0 GiB, alone and unfenced; one worker may use 1.5 GiB",
    "governor": "needs more than 3.0 GiB",
    "kernel": "needs more than 3.0 GiB",
    "killed": "lost its worker 3 times: signal 9 from outside",
    "crashed": "lost its worker 3 times: signal 11",
    "stalled": "used no CPU and did no I/O for 600 s, 3 times",
    "timeout": "took longer than the timeout of 2.5 s, 3 times",
    "kept": "has a result that cannot be kept: no such type",
    "unfit": "lost its worker 3 times: it has no file descriptor left",
}
REASONS = {
    "memory": "memory", "governor": "memory", "kernel": "memory", "killed": "died", "crashed": "died",
    "stalled": "stalled", "timeout": "stalled", "kept": "kept",
    "unfit": "died",
}  # fmt: skip


def test_every_cause_has_a_sentence():
    assert set(CAUSES) == set(REASONS) == set(get_args(Cause)) - {"dropped", "load"}
    assert set(REASONS.values()) == set(get_args(Reason))


@pytest.mark.parametrize("cause", CAUSES)
def test_sentence(cause):
    details = {
        "killed": "signal 9 from outside",
        "crashed": "signal 11",
        "unfit": "has no file descriptor left",
    }
    detail = details.get(cause, "")
    failed = m.Failed("kept", 3, (3, 4), 0, "TypeError", "no such type") if cause == "kept" else None
    said = explain.sentence(
        Verdict((3,), REASONS[cause], 3),
        Failure(cause, 3, (3, 4), 3 * GiB, 0, detail),
        failed,
        of_one_worker(int(1.5 * GiB), 0, BUDGET),
        BUDGET,
        2.5,
        600.0,
    )
    assert said.startswith(CAUSES[cause])


def test_what_calls_left_in_memory_is_told_of_an_item_that_does_not_fit_beside_it():
    assert of_one_worker(GiB, 4 * MiB, BUDGET) == "1.0 GiB"
    told = of_one_worker(GiB, GiB, BUDGET)
    assert told == "1.0 GiB beside 1.0 GiB of files in memory that calls left"


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("memory", None),
        ("kept", CannotKeep),
        ("disk", DiskFull),
        ("raised", None),
        ("prepare", FunctionRaised),
    ],
)
def test_what_a_living_worker_tells(cause, kind, tmp_path):
    """The causes of a Failed message: those that no retry mends have an error."""
    assert f'``"{cause}"``' in inspect.getsource(m.Failed)
    failed = m.Failed(cause, 3, (3, 4), 0, "ValueError", "it is wrong", "Traceback ...")
    if kind is not None:
        error = explain.of_worker(failed, tmp_path, "sub-031")
        assert type(error) is kind
        if kind is not DiskFull:
            assert isinstance(error.__cause__, ValueError)
            assert error.__cause__.__notes__ == ["Traceback ..."]


@pytest.mark.parametrize(
    ("what", "cause", "error", "kind", "words"),
    [
        ("open", "raised", "OSError", FunctionRaised, "preparing the result folder failed"),
        ("close", "raised", "KeyError", FunctionRaised, "finishing the results failed"),
        ("close", "raised", "penstock.errors.CannotKeep", CannotKeep, "finishing the results failed"),
        ("close", "disk", "OSError", DiskFull, "is full"),
    ],
)
def test_a_chore_that_failed(what, cause, error, kind, words):
    failed = m.Failed(cause, -1, (-1, -1), 0, error, "no")
    told = explain.of_chore(what, failed, Path("/"))
    assert type(told) is kind
    assert words in str(told)


OURS = [
    errors.JournalDamaged, errors.ResultsDamaged, errors.RunLocked, errors.RunTakenOver, errors.DiskFull,
    errors.StorageFailed, errors.BadInput, errors.UsageError, errors.NoBudget, errors.PenstockBug,
]  # fmt: skip


@pytest.mark.parametrize("kind", OURS)
def test_what_is_ours_keeps_its_class_and_its_advice(kind, tmp_path):
    """Also from a worker, where only its name and its message come from."""
    failed = m.Failed(
        "raised", -1, (-1, -1), 0, qualified(kind("no")), "line 3 is wrong. Do this.", "Traceback"
    )
    for told in (
        explain.of_chore("close", failed, tmp_path),
        explain.of_chore("open", failed, tmp_path),
        explain.of_worker(replace(failed, cause="prepare"), tmp_path),
    ):
        assert type(told) is kind
        assert "failed" in str(told)
        assert str(told).endswith(": line 3 is wrong. Do this.")
        assert told.exit_code == kind.exit_code


def test_a_plug_in_that_cannot_be_had_in_a_worker_is_one(tmp_path):
    for error in (errors.MissingExtra("x", "y", "z"), errors.UnknownPlugin("sink", "x", ["y"])):
        failed = m.Failed("raised", -1, (-1, -1), 0, qualified(error), str(error))
        told = explain.of_chore("open", failed, tmp_path)
        assert type(told) is errors.PluginError
        assert str(error) in str(told)


@pytest.mark.parametrize(
    "name", ["penstock.errors.SetAside", "penstock.errors.Any", "mine.BadInput", "errors"]
)
def test_what_only_looks_like_ours_is_the_functions(name, tmp_path):
    failed = m.Failed("raised", -1, (-1, -1), 0, name, "no")
    told = explain.of_chore("close", failed, tmp_path)
    assert type(told) is FunctionRaised
    assert f"{name}: no" in str(told)


# --------------------------------------------------------------------------- wording


def test_the_functions_own_exception_is_the_cause():
    each = SetAside(3, "sub-031", "raised", "raised KeyError: 'age'", "KeyError", "Traceback: there")
    error = error_of(each)
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__.args == ("'age'",)
    assert error.__cause__.__notes__ == ["Traceback: there"]
    assert "sub-031" in str(error)


@pytest.mark.parametrize("kind", ["UnicodeDecodeError", "my.module.Error", "SystemExit", "print", ""])
def test_an_exception_that_cannot_be_made_again_has_a_stand_in(kind):
    error = explain.stand_in(kind, "no", "")
    assert isinstance(error, explain.RemoteError)
    assert str(error) == f"{kind}: no"


def test_bad_input_stays_bad_input():
    error = error_of(aside("raised", error="penstock.errors.BadInput", message="a.csv, line 3: no number"))
    assert type(error) is BadInput
    assert error.exit_code == 4
    assert str(error) == "a.csv, line 3: no number"


def test_what_a_step_says_of_its_budget_stays_that():
    told = aside("raised", error="penstock.errors.CannotFit", message="raised CannotFit: 9 GiB would do")
    error = error_of(told)
    assert type(error) is CannotFit
    assert error.exit_code == 3
    assert str(error) == "9 GiB would do"


def test_the_first_item_decides_and_the_others_are_named():
    error = error_of(*(aside("died" if item % 2 else "raised", item) for item in range(20, 3, -1)))
    assert type(error) is FunctionRaised  # item 4
    assert "17 of 100 items were set aside: item-4, item-6, item-8, item-10, item-12 and 4 more" in str(error)


def test_the_next_step_is_named():
    assert str(error_of(aside("raised"))).endswith(". To do without it, pass set_aside=True.")
    assert str(error_of(aside("raised"), aside("died", 5))).endswith("do without them, pass set_aside=True.")


def test_no_run_is_made_without_any_item():
    error = explain.failure_of([aside("raised")], 1, BUDGET, RESERVED, hopeless=False)
    assert "do without" not in str(error)


def test_names_with_commas_are_told_apart():
    error = error_of(*(SetAside(i, f"a.fa, bytes {i} to {i + 1}", "died", "its worker died") for i in (1, 2)))
    assert "a.fa, bytes 1 to 2; a.fa, bytes 2 to 3." in str(error)


def test_a_hopeless_run_says_so():
    error = error_of(*(aside("raised", item) for item in range(20)), hopeless=True)
    assert "sample of items spread over the input failed" in str(error)
    assert "set_aside=True (--set-aside all) goes on" in str(error)
    assert "do without" not in str(error)


def test_an_item_too_large_says_what_would_do():
    error = error_of(aside("memory"))
    assert "'item-3' needs more than 3.0 GiB" in str(error)
    assert "set_aside=True" in str(error)
    assert "how much is not known" in str(error), "what it held when it was ended is a lower bound"
    assert error.exit_code == 3
    assert room(error.needed, RESERVED, 1) >= 3 * GiB, "the budget it names would do"


def test_of_what_is_all_there_is_nothing_else_is_left_to_finish():
    error = explain.failure_of([aside("memory", 0)], 1, BUDGET, RESERVED, hopeless=False)
    assert "item 'item-0' needs more than" in str(error)
    assert "set_aside" not in str(error)


@pytest.mark.parametrize("shares", [1, 2, 7])
def test_the_budget_that_would_do_is_that_of_the_whole_where_this_one_is_a_share(shares):
    def share(asked):
        return Budget((asked - 9 * MiB) // shares, "a share", shares=shares, beside=9 * MiB)

    small = share(450 * MiB)
    with pytest.raises(NoBudget) as told:
        explain.check_budget(small, Reserved(300 * MiB, 100 * MiB, 50 * MiB))
    explain.check_budget(share(told.value.needed), Reserved(300 * MiB, 100 * MiB, 50 * MiB))
    with pytest.raises(ItemTooLarge) as told:
        explain.check_stated(GiB, room(small.bytes, RESERVED, 1), small, RESERVED)
    room_there = room(share(told.value.needed).bytes, RESERVED, 1)
    explain.check_stated(GiB, room_there, share(told.value.needed), RESERVED)
    node = Node("a host", small.bytes, "a share", 1, alone=20 * MiB, shares=shares, beside=9 * MiB)
    budget, reserved = explain.room_on(node)
    assert room(budget.bytes, reserved, 1) == node.alone
    error = explain.failure_of([aside("memory", 0)], 2, BUDGET, RESERVED, hopeless=False, on=node)
    assert "a share" in str(error)
    assert room(share(error.needed).bytes, reserved, 1) >= aside("memory", 0).needed


@pytest.mark.parametrize("reason", ["memory", "raised", "died", "stalled"])
def test_a_step_is_told_as_one(reason):
    error = explain.failure_of([aside(reason, 0)], 1, BUDGET, RESERVED, hopeless=False, step="tables")
    assert str(error).replace("'", "").startswith("the step tables")
    assert "item-0" not in str(error)
    assert "set_aside" not in str(error)


@pytest.mark.parametrize("taken", [10 * MiB, 300 * MiB, 5 * GiB])
def test_no_budget_names_one_that_would_do(taken):
    reserved = Reserved(parent=taken, backend=taken // 3, worker=taken // 7)
    with pytest.raises(NoBudget, match="smallest budget") as told:
        explain.check_budget(Budget(taken, "as asked for"), reserved)
    explain.check_budget(Budget(told.value.needed, "as asked for"), reserved)


def test_what_gave_up_itself_is_not_told_a_budget():
    """It may have asked for more than any machine has: half as much again as it held is no advice."""
    each = aside("memory", 3, message="raised MemoryError while it held 12.0 MiB")
    assert str(error_of(each)) == "item 'item-3' raised MemoryError while it held 12.0 MiB."
    assert "try a budget" not in str(error_of(each))


def test_a_grain_that_is_too_large_is_named_with_what_to_do():
    error = grain_too_large(range(50, 100), 3 * GiB, BUDGET, RESERVED)
    assert "what the calls for items 50 to 99 leave behind" in str(error)
    assert "give the sink or reducer a smaller grain=" in str(error)
    assert error.needed > 4.5 * GiB
