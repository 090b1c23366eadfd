"""What is said of items that did not fit, and the budget that may do."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.abc import Node
from penstock.budget import Budget, format_size
from penstock.engine.decide.governor import headroom
from penstock.engine.decide.plan import Reserved, room
from penstock.errors import CannotFit, ItemTooLarge


def of_a_grain(items: Sequence[int]) -> str:
    """What is said of a grain of which an item that it failed at is not too large by itself."""
    return (
        f"what the calls for items {min(items):,} to {max(items):,} leave behind, which are kept as one "
        "grain of a sink or reducer,"
    )


def grain_too_large(items: Sequence[int], held: int, budget: Budget, reserved: Reserved) -> CannotFit:
    """The error for a grain whose items are too much together.

    Args:
        items: of the grain.
        held: bytes that were too few.
        budget: in force.
        reserved: what was taken before any item.
    """
    needed = _needed(held, budget, reserved)
    alone = room(budget.bytes, reserved, 1)
    return CannotFit(
        f"{of_a_grain(items)} needs more than {format_size(held)}; one worker alone may use "
        f"{format_size(alone)} (budget {format_size(budget.bytes)}, {budget.origin}). "
        f"Try a budget of {format_size(needed)} or more; in a job of your own, have the function return "
        "less, or give the sink or reducer a smaller grain= (and the run another folder).",
        needed=needed,
    )


def _needed(held: int, budget: Budget, reserved: Reserved) -> int:
    # Under a budget of B the headroom is at most an eighth of it.
    # What it held when it was ended is a lower bound: half as much again saves trying many budgets.
    return budget.to_ask_for(int(held * 1.5 + reserved.total(1) + max(headroom(budget.bytes), 0.06 * held)))


def room_on(node: Node) -> tuple[Budget, Reserved]:
    """The budget of a node, and what of it is taken before any item."""
    budget = Budget(node.budget, node.origin, shares=node.shares, beside=node.beside)
    return budget, Reserved(max(node.budget - headroom(node.budget) - node.alone, 0), 0, 0)


def too_large(
    who: str, held: int, budget: Budget, reserved: Reserved, rest: str, *, whole: bool
) -> ItemTooLarge:
    """The error for what did not fit; ``whole`` where it was all there was, so that nothing else is left."""
    alone = room(budget.bytes, reserved, 1)
    taken = budget.bytes - alone
    needed = _needed(held, budget, reserved)
    results = f", with {format_size(reserved.results)} of results so far" if reserved.results else ""
    ways = "" if whole else ", split the item, or pass set_aside=True to finish the rest"
    return ItemTooLarge(
        f"{who} needs more than {format_size(held)}; one worker alone may use "
        f"{format_size(alone)} (budget {format_size(budget.bytes)}, {budget.origin}; reserved and headroom "
        f"{format_size(taken)}{results}). It was ended before it had all it asked for, so how much is not "
        f"known: try a budget of {format_size(needed)} or more{ways}.{rest}",
        needed=needed,
    )
