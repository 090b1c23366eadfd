"""Where results go: an output is a sink, or a reducer."""

from __future__ import annotations

from typing import Any, TypeGuard

from penstock.abc import Reducer
from penstock.errors import UsageError
from penstock.foreign import as_int, shown


def is_reducer(output: Any) -> TypeGuard[Reducer]:
    """Whether an output is a reducer: it can merge two states; a sink keeps parts."""
    return hasattr(output, "merge")


def check_many(output: object, **given: Any) -> None:
    """Check numbers that an output was given: of items per grain, of rows.

    Raises:
        UsageError: one is no whole number of at least 1.
    """
    for option, number in given.items():
        whole = as_int(number)
        if type(whole) is not int or whole < 1:
            raise UsageError(
                f"{type(output).__name__}({option}={shown(number, 60)}): a whole number of at least 1 was "
                "expected"
            )
