"""Sources: items by number, read in the workers. Each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.sources.chain import Chain
    from penstock.sources.fasta import Fasta
    from penstock.sources.files import Files
    from penstock.sources.items import Items, Range
    from penstock.sources.parquet import ParquetRows
    from penstock.sources.partitions import Partitions
    from penstock.sources.records import FastaRecords

__all__ = ["Chain", "Fasta", "FastaRecords", "Files", "Items", "ParquetRows", "Partitions", "Range"]

_HOMES = {
    "Chain": "chain",
    "Fasta": "fasta",
    "FastaRecords": "records",
    "Files": "files",
    "Items": "items",
    "ParquetRows": "parquet",
    "Partitions": "partitions",
    "Range": "items",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
