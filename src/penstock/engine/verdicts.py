"""From items that were set aside to the one error that a run fails with."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from penstock.abc import SetAside
from penstock.budget import Budget, format_size
from penstock.engine.governor import headroom
from penstock.engine.plan import Reserved, room
from penstock.errors import (
    BadInput,
    CannotKeep,
    FunctionRaised,
    ItemTooLarge,
    PenstockError,
    RunFailed,
    Stalled,
    WorkerDied,
)

_NAMED = 5


class RemoteError(Exception):
    """An exception of the function, as it was told by its worker: type, message and traceback text."""

    def __init__(self, kind: str, message: str, traceback: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        self.traceback = traceback


def stand_in(kind: str, message: str, traceback: str) -> BaseException:
    """The function's exception: itself where it is a built-in one, else a :class:`RemoteError`."""
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
        error.add_note(traceback)
    return error


def failure_of(
    aside: Sequence[SetAside], items: int, budget: Budget, reserved: Reserved, *, hopeless: bool
) -> PenstockError:
    """The error for these items: the first one decides its class, the message names the first few.

    Args:
        aside: what was set aside, at least one.
        items: how many items there are.
        budget: the run's.
        reserved: what was taken before any item.
        hopeless: whether the run stopped early because everything failed.
    """
    first = min(aside, key=lambda each: each.item)
    same = [each for each in aside if each.reason == first.reason]
    named = ", ".join(each.name for each in sorted(same, key=lambda each: each.item)[:_NAMED])
    more = f" and {len(same) - _NAMED} more" if len(same) > _NAMED else ""
    tail = f" All of the first {len(aside)} items failed, so the run stopped." if hopeless else ""
    rest = f" ({len(aside):,} of {items:,} items were set aside: {named}{more}.)" if len(aside) > 1 else ""
    if first.reason == "memory":
        return _too_large(first, budget, reserved, rest + tail)
    if first.error.endswith("BadInput"):
        return BadInput(first.message + rest + tail)
    what = f"item {first.name}: {first.message}.{rest}{tail} Everything else that was done is kept."
    kinds: dict[str, type[RunFailed]] = {"died": WorkerDied, "stalled": Stalled, "kept": CannotKeep}
    error = kinds.get(first.reason, FunctionRaised)(what)
    if first.reason == "raised":
        message = first.message.removeprefix(f"raised {first.error.rsplit('.', 1)[-1]}: ")
        error.__cause__ = stand_in(first.error, message, first.traceback)
    return error


def _too_large(first: SetAside, budget: Budget, reserved: Reserved, rest: str) -> ItemTooLarge:
    alone = room(budget.bytes, reserved, 1)
    taken = budget.bytes - alone
    # Under a budget of B the headroom is at most an eighth of it.
    needed = int((first.needed * 1.1 + reserved.total(1)) + max(headroom(budget.bytes), 0.06 * first.needed))
    return ItemTooLarge(
        f"item {first.name!r} needs more than {format_size(first.needed)}; one worker alone may use "
        f"{format_size(alone)} (budget {format_size(budget.bytes)} from {budget.origin}, reserved and headroom "
        f"{format_size(taken)}). Raise the budget to {format_size(needed)} or more, or split the item, or pass "
        f"set_aside=True to finish the rest.{rest}",
        needed=needed,
    )
