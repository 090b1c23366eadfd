"""Reads and writes ``events.jsonl``: one JSON object a line; unreadable lines are skipped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from penstock import events as ev
from penstock import foreign

_LONGEST = 4 << 20
"""Bytes of a line; the longest that is written names a whole command line."""
_LAST = 253_402_300_799.0
"""The last second of the year 9999, the last that can be printed as a date."""


def to_line(event: ev.Event) -> str:
    """One line of JSON, without the newline."""
    # Not asdict: it copies what is in the fields, which is most of the cost of telling an event.
    told = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    return json.dumps({"event": event.kind, **told}, separators=(",", ":"))


_KINDS: dict[str, type[ev.Event]] = {
    cls.kind: cls
    for cls in (
        ev.StageStarted, ev.Planned, ev.BudgetChanged, ev.CallsWait, ev.WorkerStarted, ev.WorkerEnded,
        ev.WorkerPaused, ev.WorkerResumed, ev.BatchStarted, ev.BatchDone, ev.BatchFailed, ev.ItemSetAside,
        ev.MemoryRead, ev.StageEnded, ev.RunDied, ev.Looking, ev.Recalled, ev.TakenBack, ev.CommandStarted,
        ev.ProcessSeen, ev.KernelKill, ev.NodeJoined, ev.NodeLeft, ev.NodeRead,
    )
}  # fmt: skip


def _is_workers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key.isascii() and key.isdecimal() and len(key) < 19 and foreign.is_count(held)
        for key, held in value.items()
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: type(value) is str,
    "bool": lambda value: type(value) is bool,
    "int": foreign.is_count,
    "int | None": lambda value: value is None or foreign.is_count(value),
    "float": foreign.is_number,
    "Mapping[str, int]": _is_workers,
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(type(each) is str for each in value),
}
"""By the type that a field is annotated with: whether a JSON value may stand there."""
_FIELDS = {
    kind: {field.name: _CHECKS[str(field.type)] for field in dataclasses.fields(cls)}
    for kind, cls in _KINDS.items()
}

_RENAMED = {("worker_ended", "room"): "evicted"}
"""What earlier versions wrote -> how it is called now."""


def from_line(line: str | bytes) -> ev.Event | None:
    """Parse such a line; None for a torn line, a kind from a newer version, or impossible values."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = values.pop("event")
        fields = _FIELDS[kind]
        if not all(fields[name](value) for name, value in values.items()) or not 0 <= values["at"] <= _LAST:
            return None
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        if "why" in values:
            values["why"] = _RENAMED.get((kind, values["why"]), values["why"])
        return _KINDS[kind](**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read(path: Path) -> Iterator[ev.Event]:
    """The events of an ``events.jsonl``, one at a time; torn lines are skipped.

    Raises:
        OSError: the file is not there or not readable.
    """
    with foreign.opened(path) as file:
        whole = True
        while line := file.readline(_LONGEST):
            # A longer line comes in pieces, none of which is one.
            begins, whole = whole, line.endswith(b"\n")
            event = from_line(line.decode(errors="replace")) if begins else None
            if event is not None:
                yield event
