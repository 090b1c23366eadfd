"""Where results go: an output is a sink, or a reducer."""

from __future__ import annotations

from typing import Any, TypeGuard

from penstock.abc import Reducer


def is_reducer(output: Any) -> TypeGuard[Reducer]:
    """Whether an output is a reducer: it can merge two states; a sink keeps parts."""
    return hasattr(output, "merge")
