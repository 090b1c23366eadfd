"""Schemas of the parts of one table: whether they agree, and their common schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.abc import Batch, Part, Receipt
from penstock.errors import CannotKeep
from penstock.sinks.parts import another, check

if TYPE_CHECKING:
    import pyarrow as pa

COMMON = "_common_metadata"
"""The usual name, in a folder of Parquet files, of a file with their schema and no rows."""


def list_parts(receipts: Iterable[tuple[Batch, Receipt]], listed: Any) -> set[str]:
    """Write the parts of all receipts into a text file for ``listed_parts``; returns their names."""
    names = set()
    for _, receipt in receipts:
        for part in receipt.parts:
            listed.write(f"{part.bytes} {part.digest} {part.name}\n")
            names.add(part.name)
    return names


def listed_parts(listed: Any) -> Iterator[Part]:
    """The parts in the order of their receipts."""
    listed.seek(0)
    for line in listed:
        size, digest, name = line.rstrip("\n").split(" ", 2)
        yield Part(name, int(size), digest)


def compare(schema: pa.Schema, path: Path, folder: Path, pattern: str, sink: str) -> None:
    """Fail early, not at the end, if a part does not agree with an existing one.

    Raises:
        TypeError: it does not; names items and column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if (other := another(folder, pattern, path.name)) is None:
        return
    try:
        there = pq.read_schema(other)
    except (OSError, pa.ArrowException):  # removed meanwhile, or damaged: whoever reads it will say so
        return
    _unified(there, schema, other, path, TypeError, sink)


def agreed(parts: Iterator[Part], folder: Path, sink: str) -> pa.Schema:
    """The common schema of all parts.

    Raises:
        CannotKeep: a column has types in two parts that do not agree.
        ResultsDamaged: a part that is read is not what was kept.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, first = pa.schema([]), None
    for part in parts:
        path = folder / part.name
        try:
            found = pq.read_schema(path)
            schema = (
                found
                if first is None
                else _unified(schema, found, folder / first.name, path, CannotKeep, sink)
            )
        except (OSError, pa.ArrowException, CannotKeep):
            for each in (first or part, part):  # are they what was kept?
                check(each, folder)
            raise
        first = first or part
    return schema


def _unified(
    left: pa.Schema, right: pa.Schema, left_path: Path, right_path: Path, error: type[Exception], sink: str
) -> Any:
    from penstock.arrow import promoted

    places = [
        " to ".join(str(int(number)) for number in path.stem.split("-")[1:])
        for path in (left_path, right_path)
    ]
    advice = f"return the same columns for every item, or give {sink}(schema=...)"
    odd = sorted(set(left.names) ^ set(right.names))
    if odd:
        raise error(f"items {places[0]} and items {places[1]} differ in columns ({', '.join(odd)}): {advice}")
    fields = []
    for field in left:
        other = right.field(field.name)
        both = promoted(field.type, other.type)
        if both is None:
            raise error(
                f"column {field.name!r} is {field.type} for items {places[0]} and {other.type} for items "
                f"{places[1]}: {advice}"
            )
        fields.append(field.with_type(both))
    import pyarrow as pa

    return pa.schema(fields)
