"""The entries of the journal, made from what a stage has kept; :mod:`penstock.record.journal` lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from penstock.abc import Closed, Part, Receipt, SetAside

_TRACEBACKS = 8 << 20
"""Letters of tracebacks in one entry."""


def kept(
    start: int,
    stop: int,
    receipts: Mapping[str, Iterable[tuple[int, int, Receipt]]],
    aside: Iterable[SetAside],
) -> dict[str, Any]:
    """The line of a kept batch."""
    entry: dict[str, Any] = {"kept": [start, stop]}
    told = {
        name: [[a, b, _parts(receipt.parts), receipt.value] for a, b, receipt in grains]
        for name, grains in receipts.items()
    }
    if told:
        entry["receipts"] = told
    if listed := list(_bounded(aside)):
        entry["aside"] = listed
    return entry


def opened(reducers: Iterable[str]) -> dict[str, Any]:
    """The line of a stage whose rooms are prepared."""
    return {"opened": True, "reducers": list(reducers)}


def closed(rooms: Mapping[str, Closed | None]) -> dict[str, Any]:
    """The line of a finished stage."""
    told = {
        name: None if room is None else [_parts(room.parts), room.replaced, room.pattern]
        for name, room in rooms.items()
    }
    return {"closed": True, "rooms": told}


def close_of(room: Any) -> Closed | None:
    """What one room of such an entry wrote in the end; None where that was nothing."""
    if room is None:
        return None
    parts, replaced, pattern = room
    return Closed(tuple(Part(*part) for part in parts), replaced, pattern)


def plain(each: SetAside) -> dict[str, Any]:
    """A SetAside as JSON values."""
    return {
        "item": each.item, "name": each.name, "reason": each.reason, "message": each.message,
        "error": each.error, "traceback": each.traceback, "needed": each.needed,
    }  # fmt: skip


def _bounded(aside: Iterable[SetAside]) -> Iterator[dict[str, Any]]:
    """As JSON values; of many in one line, the tracebacks of the first ones only."""
    size = 0
    for each in aside:
        told = plain(each)
        size += len(each.traceback)
        if size > _TRACEBACKS:
            told["traceback"] = ""
        yield told


def _parts(parts: Iterable[Part]) -> list[list[Any]]:
    return [[part.name, part.bytes, part.digest] for part in parts]
