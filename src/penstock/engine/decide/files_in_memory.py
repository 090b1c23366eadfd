"""What is said of files in memory that calls left: nobody frees them by ending."""

from __future__ import annotations

from penstock.budget import Budget, format_size
from penstock.engine.decide.governor import headroom
from penstock.errors import CannotFit


def crowded(held: int, free: int, budget: Budget) -> CannotFit:
    """The error when files in memory leave no room, though no call runs.

    Args:
        held: bytes that they take.
        free: bytes left under the budget and every ceiling.
        budget: in force.
    """
    return CannotFit(
        f"files in memory (in /dev/shm or on another tmpfs) hold {format_size(held)} of the budget of "
        f"{format_size(budget.bytes)} ({budget.origin}), though no call runs; {format_size(free)} are free. "
        "Calls left them there, or something else holds them open. Have the function remove them or write "
        "them to a disk, then run the same command again.",
        needed=budget.bytes + held,
    )


def of_one_worker(alone: int, beside: int, budget: Budget) -> str:
    """What one worker alone may use, and what of the budget it may not for no fault of its own.

    Args:
        alone: bytes that it may use.
        beside: bytes of files in memory that no worker holds; told where they are many.
        budget: in force.
    """
    if beside <= headroom(budget.bytes):
        return format_size(alone)
    return f"{format_size(alone)} beside {format_size(beside)} of files in memory that calls left"
