"""Explains failures of an item, a worker or a run: sentences and errors."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from penstock import errors, foreign, storage
from penstock.abc import Node, SetAside
from penstock.budget import Budget, MiB, format_size
from penstock.engine.decide.governor import headroom
from penstock.engine.decide.plan import Reserved, room
from penstock.engine.decide.tasks import Failure, Task, Verdict
from penstock.engine.decide.too_large import of_a_grain, room_on, too_large
from penstock.engine.messages import Failed, not_taken
from penstock.errors import (
    BadInput,
    CannotFit,
    CannotKeep,
    FunctionRaised,
    ItemTooLarge,
    NoBudget,
    PenstockError,
    PluginError,
    ResultsDamaged,
    RunFailed,
    Stalled,
    StorageFailed,
    WorkerDied,
)
from penstock.plurals import plural

_NAMED = 5
_Error = TypeVar("_Error", bound=PenstockError)


class RemoteError(Exception):
    """The function's exception as its worker reported it: type, message and traceback text."""

    def __init__(self, kind: str, message: str, traceback: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.traceback = traceback


def stand_in(kind: str, message: str, traceback: str) -> BaseException:
    """The function's exception: itself if its type is built in, else a :class:`RemoteError`."""
    message = foreign.lines(message)
    known = getattr(builtins, kind, None)
    error: BaseException
    if isinstance(known, type) and issubclass(known, Exception):
        try:
            error = known(message)
        except Exception:
            error = RemoteError(kind, message, traceback)
    else:
        error = RemoteError(kind, message, traceback)
    if traceback:
        error.add_note(foreign.with_sources(traceback))
    return error


def sentence(
    verdict: Verdict,
    failure: Failure,
    failed: Failed | None,
    alone: str,
    budget: Budget,
    timeout: float | None,
    stall: float,
) -> str:
    """Why an item is set aside, in one sentence with the numbers, and what that means for its call.

    Args:
        verdict, failure: of the schedule.
        failed: what the worker told, if it lived to tell.
        alone: what one worker alone may use, in words.
        budget: in force.
        timeout, stall: in seconds.
    """
    why = _why(verdict, failure, failed, alone, budget, timeout, stall)
    suspicion = verdict.suspicion
    if suspicion is None or suspicion.grain:
        return f"{of_a_grain(verdict.items)} {why}" if verdict.of_grain else why
    a, b = suspicion.call
    call = f"the call of items {a:,} to {b - 1:,}, which batched= keeps whole,"
    if len(verdict.items) > 1:
        return f"{why}: {call} fails and none of its parts does, so that all its items are set aside"
    return f"{why}; found in parts of {call} whose other items are done in the smaller calls beside it"


_GAVE_UP = "raised MemoryError"


def _why(
    verdict: Verdict,
    failure: Failure,
    failed: Failed | None,
    alone: str,
    budget: Budget,
    timeout: float | None,
    stall: float,
) -> str:
    times = f"{plural(verdict.times, 'time')}"
    if verdict.reason == "memory" and failure.cause == "memory":
        limit = f"; one process may map {format_size(budget.per_process)}" if budget.per_process else ""
        return (
            f"{_GAVE_UP} while it held {format_size(failure.held)}, alone and unfenced; one "
            "worker may "
            f"use {alone} (budget {format_size(budget.bytes)}, {budget.origin}){limit}"
        )
    if verdict.reason == "memory":
        by_kernel = f"; its worker ended by {failure.detail}" if failure.cause == "kernel" else ""
        return (
            f"needs more than {format_size(failure.held)}; one worker alone may use {alone} "
            f"(budget {format_size(budget.bytes)}, {budget.origin}){by_kernel}"
        )
    if verdict.reason == "kept":
        return f"has a result that cannot be kept: {failed.message if failed else ''}"
    if failure.cause == "timeout":
        return f"took longer than the timeout of {timeout:g} s, {times}"
    if failure.cause == "stalled":
        return f"used no CPU and did no I/O for {stall:g} s, {times}"
    what = f"it {failure.detail}" if failure.cause == "unfit" else failure.detail
    return f"lost its worker {times}: {what}"


_A_CALL = 8 * MiB
"""Bytes that a call takes at least, as far as anybody can say who has seen none."""


def check_budget(budget: Budget, reserved: Reserved) -> None:
    """Refuse a budget in which nothing fits beside the reserved memory.

    Raises:
        NoBudget: naming the smallest budget that would do.
    """
    if room(budget.bytes, reserved, 1) > headroom(budget.bytes) / 2:
        return
    # The headroom is at most an eighth of the budget, and at half of it again the governor stops everybody.
    needed = budget.to_ask_for(-(-int((reserved.total(1) + _A_CALL) * 16 / 13) // MiB) * MiB)
    raise NoBudget(
        f"a budget of {budget} is too small. Before any item {format_size(reserved.total(1))} are taken "
        f"({reserved.parts(1)}) and {format_size(headroom(budget.bytes))} are kept free. The smallest budget "
        f"that would do is {format_size(needed)}: {format_size(_A_CALL)} for a call beside them, and more "
        "kept free.",
        needed=needed,
    )


def check_stated(memory: int | None, alone: int, budget: Budget, reserved: Reserved) -> None:
    """Refuse calls whose stated memory is more than one worker may use, before any begins.

    Args:
        memory: bytes that a call takes, as stated; None where nothing is.
        alone: bytes that one worker alone may use.
        budget: in force.
        reserved: what is taken before any item.

    Raises:
        ItemTooLarge: naming the smallest budget that would do, where one would.
    """
    if memory is None or memory <= alone:
        return
    said = (
        f"a call takes up to {format_size(memory)} by memory=, and one worker alone may use "
        f"{format_size(alone)} (budget {budget}; before any item {format_size(reserved.total(1))} are taken)"
    )
    if budget.per_process is not None and budget.per_process < memory:
        limit = format_size(budget.per_process)
        raise ItemTooLarge(f"{said}: no single process may have more than {limit}. Raise that limit.")
    needed = memory + reserved.total(1)
    while room(needed, reserved, 1, kills_group=budget.kills_group) < memory:
        needed += MiB
    needed = budget.to_ask_for(needed)
    raise ItemTooLarge(
        f"{said}. The smallest budget that would do is {format_size(needed)}; or state less, or make a call "
        "smaller.",
        needed=needed,
    )


def none_fits(held: int, budget: Budget, reserved: Reserved) -> ItemTooLarge:
    """The error for a plan in which every probe ran out of memory, holding up to ``held``."""
    who = "every call that was tried ran out of memory: one of them"
    return too_large(who, held, budget, reserved, "", whole=False)


def crowded(parent: int, free: int, budget: Budget, *, gathers: bool = True) -> CannotFit:
    """The error when nothing could run for a while for lack of memory.

    Args:
        parent: bytes that this process holds; 0 when it is others who hold too much.
        free: bytes left under the budget and every ceiling.
        budget: in force.
        gathers: whether results come one by one and are taken away, as with an executor.
    """
    size = f"{format_size(budget.bytes)} ({budget.origin})"
    if not parent:
        return CannotFit(
            f"other processes hold so much that only {format_size(free)} are free under the budget of "
            f"{size}, and "
            "nothing could run. Run the same command again when they have ended."
        )
    why = (
        ": results are gathered here faster than they are used. Take them one by one (map, as_completed, "
        "return_as='generator'), write them to files, or raise the budget."
        if gathers
        else f". Hold less in it; if these are results: {_WHERE_ELSE[0].lower()}{_WHERE_ELSE[1:]}"
    )
    return CannotFit(
        f"this process itself holds {format_size(parent)} of the budget of {size}, so no worker has "
        f"room{why}",
        needed=2 * parent,
    )


def results_too_large(kept: int, items: int, held: int, budget: Budget) -> CannotFit:
    """The error for results that are collected in this process and leave no call any room.

    Args:
        kept: items whose results are here.
        items: of the stage.
        held: bytes that they take.
        budget: in force.
    """
    return CannotFit(
        f"{results_in_all(kept, items, held)}, and leave no call room in the budget of "
        f"{format_size(budget.bytes)} ({budget.origin}). {_WHERE_ELSE}",
        needed=held * items // max(kept, 1) + 2 * headroom(budget.bytes),
    )


def share_too_small(budget: Budget) -> CannotFit:
    """The error of a node whose share of a budget shrank until no call fits, by what whoever leads took."""
    each = f"each of {plural(budget.shares, 'node')} has {format_size(budget.bytes)}"
    return CannotFit(
        f"the process that leads holds {format_size(budget.beside)} of the budget by now, most of it "
        f"results, so that {each}, and no call has room. {_WHERE_ELSE} With fewer nodes each has more.",
        needed=budget.to_ask_for(2 * budget.bytes),
    )


def results_in_all(kept: int, items: int, held: int) -> str:
    """What collected results take, and would take in all."""
    return (
        f"the results of {plural(kept, 'item')} take {format_size(held)} in this process, all "
        f"{items:,} would take about {format_size(held * items // max(kept, 1))}"
    )


def results_will_not_fit(kept: int, items: int, held: int, budget: Budget) -> str:
    """What is said as soon as collected results are expected to take more than there is."""
    return (
        f"{results_in_all(kept, items, held)}: more than the budget of {format_size(budget.bytes)}. "
        f"{_WHERE_ELSE}"
    )


_WHERE_ELSE = (
    "Give the run a folder, where results go to files; or return less from each call, or raise the budget."
)


def of_worker(failed: Failed, folder: Path, item: str = "", task: Task | None = None) -> PenstockError:
    """The error for a worker's report that no retry can fix."""
    if failed.cause == "load" and task is not None:
        these = f"items {task.start:,} to {task.stop - 1:,}, which are worked together,"
        return _caused(BadInput(f"{these} {not_taken(failed.error, failed.message)}"), failed)
    if failed.cause == "disk":
        return storage.failure(failed.errno, failed.file or folder)
    if failed.cause == "prepare":
        return _as_told("an input, prepare() or an initializer failed in a worker", failed)
    named = failed.message.startswith("item ")  # as sinks name it
    what = (
        f"the result of item {foreign.line(item)} cannot be kept: " if failed.item >= 0 and not named else ""
    )
    return _caused(CannotKeep(f"{what}{failed.message}"), failed)


def of_chore(what: str, failed: Failed, folder: Path) -> PenstockError:
    """The error for a sink or reducer that failed to open or close."""
    if failed.cause == "disk":
        return storage.failure(failed.errno, failed.file or folder)
    if failed.cause == "damaged":
        return ResultsDamaged(
            f"{failed.message}. It was not used, and is left as it is. Run the same command again: what is "
            "damaged is put aside and done again. Should it happen again, have disk and memory tested."
        )
    if failed.error == "IsADirectoryError":
        return StorageFailed(
            f"a folder has the name of a file of the results ({failed.message}). Move it away, then run the "
            "same command again."
        )
    doing = "finishing the results" if what == "close" else "preparing the result folder"
    return _as_told(f"{doing} failed", failed)


def _as_told(what: str, failed: Failed) -> PenstockError:
    """What a worker told of, by its own class where it is one of ours, with the advice that it carries."""
    module, _, name = failed.error.rpartition(".")
    kind = getattr(errors, name, None) if module == errors.__name__ else None
    if not (isinstance(kind, type) and issubclass(kind, PenstockError)):
        return _caused(FunctionRaised(f"{what}: {failed.error}: {failed.message}"), failed)
    if issubclass(kind, PluginError):  # those below it make their message themselves
        kind = PluginError
    return _caused(kind(f"{what}: {failed.message or name}"), failed)


def chore_died(what: str, times: int, failure: Failure, budget: Budget) -> RunFailed:
    """The error for a worker that dies whenever it opens or closes the results."""
    advice = "See what it wrote (workers.log, or stderr where there is no run folder), then run"
    if failure.cause in ("memory", "governor", "kernel"):
        why = f"out of memory, holding {format_size(failure.held)} (budget {budget})"
        advice = "Raise the budget, then run"
    elif failure.cause == "stalled":
        why = "it used no CPU and did no I/O"
    else:
        why = failure.detail or failure.cause
    return WorkerDied(
        f"the worker that should {what} the results died {times} times: {why}. {advice} the same "
        "command again."
    )


def _caused(error: _Error, failed: Failed) -> _Error:
    error.__cause__ = stand_in(failed.error, failed.message, failed.traceback)
    return error


def exception_of(aside: SetAside, call: str) -> PenstockError:
    """The exception for one call of an executor."""
    what = f"the call {foreign.line(call)} {aside.message}"
    if aside.reason == "memory":
        return ItemTooLarge(f"{what}. Raise the budget, or make the call smaller.", needed=aside.needed)
    return _KINDS.get(aside.reason, FunctionRaised)(what)


_KINDS: dict[str, type[RunFailed]] = {"died": WorkerDied, "stalled": Stalled, "kept": CannotKeep}


_HOPELESS = (
    " All of a sample of items spread over the input failed, so the run stopped before it tried the others: "
    "set_aside=True (--set-aside all) goes on whatever fails."
)


def failure_of(
    aside: Sequence[SetAside], items: int, budget: Budget, reserved: Reserved, *, hopeless: bool,
    step: str = "", on: Node | None = None,
) -> PenstockError:  # fmt: skip
    """The error for these items: the first decides its class, the message names the first few.

    Args:
        aside: what was set aside, at least one.
        items: how many items there are.
        budget: the run's.
        reserved: what was taken before any item.
        hopeless: whether the run stopped early because everything failed.
        step: the name of the step whose only item it was.
        on: the largest of the nodes that worked, whose budget counts then.
    """
    if on is not None:
        budget, reserved = room_on(on)
    first = min(aside, key=lambda each: each.item)
    same = [each for each in aside if each.reason == first.reason]
    names = [foreign.line(each.name, 200) for each in sorted(same, key=lambda each: each.item)[:_NAMED]]
    named = ("; " if any(", " in name for name in names) else ", ").join(names)
    more = f" and {len(same) - _NAMED} more" if len(same) > _NAMED else ""
    tail = _HOPELESS if hopeless else ""
    rest = f" ({len(aside):,} of {items:,} items were set aside: {named}{more}.)" if len(aside) > 1 else ""
    if first.reason == "memory":
        who = f"the step {step!r}" if step else f"item {first.name!r}"
        if first.message.startswith(_GAVE_UP):
            return ItemTooLarge(f"{who} {first.message}.{rest}{tail}", needed=first.needed)
        return too_large(who, first.needed, budget, reserved, rest + tail, whole=items == 1)
    if first.error.endswith("BadInput"):
        return BadInput(first.message + rest + tail)
    if first.error == "penstock.errors.CannotFit":  # a step's own judgement of its budget
        return CannotFit(first.message.removeprefix("raised CannotFit: ") + rest + tail)
    some = len(aside) < items
    advice = f" To do without {'them' if rest else 'it'}, pass set_aside=True." if some else ""
    who = f"the step {step}" if step else f"item {foreign.line(first.name)}"
    what = f"{who}: {first.message}.{rest}{tail or advice}"
    error = _KINDS.get(first.reason, FunctionRaised)(what)
    if first.reason == "raised":
        message = first.message.removeprefix(f"raised {first.error.rsplit('.', 1)[-1]}: ")
        error.__cause__ = stand_in(first.error, message, first.traceback)
    return error
