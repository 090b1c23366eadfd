"""Sinks: keep results in parts that are whole or absent. Each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.sinks.arrays import Arrays
    from penstock.sinks.collect import Collect
    from penstock.sinks.files import Files
    from penstock.sinks.parquet import Parquet
    from penstock.sinks.partitions import Partitions

__all__ = ["Arrays", "Collect", "Files", "Parquet", "Partitions"]

_HOMES = {
    "Arrays": "arrays",
    "Collect": "collect",
    "Files": "files",
    "Parquet": "parquet",
    "Partitions": "partitions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
