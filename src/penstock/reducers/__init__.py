"""Reducers: fold results into one value. Each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.reducers.count import Count
    from penstock.reducers.fold import Fold
    from penstock.reducers.sum import Sum

__all__ = ["Count", "Fold", "Sum"]

_HOMES = {"Count": "count", "Fold": "fold", "Sum": "sum"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
