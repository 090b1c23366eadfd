"""Builds the journal's entries from what a stage has kept; :mod:`penstock.record.journal` lists them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from penstock.abc import Closed, Part, Receipt, SetAside

_TRACEBACKS = 8 << 20
"""Letters of tracebacks in one entry."""


def kept(
    start: int,
    stop: int,
    receipts: Mapping[str, Collection[tuple[int, int, Receipt]]],
    aside: Iterable[SetAside],
) -> dict[str, Any]:
    """The entry of a kept batch."""
    entry: dict[str, Any] = {"kept": [start, stop]}
    told = {
        name: [[a, b, _parts(receipt.parts), receipt.value] for a, b, receipt in grains]
        for name, grains in receipts.items()
    }
    if told:
        entry["receipts"] = told
    touched = {name: [receipt.touched for _, _, receipt in grains] for name, grains in receipts.items()}
    if touched := {name: each for name, each in touched.items() if any(each)}:
        entry["touched"] = touched
    if listed := list(_bounded(aside)):
        entry["aside"] = listed
    return entry


def opened(reducers: Iterable[str]) -> dict[str, Any]:
    """The entry of a stage whose outputs are open."""
    return {"opened": True, "reducers": list(reducers)}


def closed(outputs: Mapping[str, Closed | None]) -> dict[str, Any]:
    """The entry of a finished stage."""
    told = {
        name: None if output is None else [_parts(output.parts), output.replaced, output.pattern]
        for name, output in outputs.items()
    }
    return {"closed": True, "rooms": told}


def close_of(output: Any) -> Closed | None:
    """What an output's ``close`` wrote, from such an entry; None if nothing."""
    if output is None:
        return None
    parts, replaced, pattern = output
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
