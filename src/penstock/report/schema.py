"""The fields of a stored report and their types, checked as it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock import foreign
from penstock.report.heavy import are_calls

SCHEMA = 1
OUTCOMES = ("failed", "died", "interrupted", "running", "done")
"""How a run may stand, the worst first."""


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that this version knows; others are dropped.

    Raises:
        ValueError: a field is not what it may be.
    """
    known = {name: value for name, value in values.items() if name in _CHECKS}
    for name, value in known.items():
        if not _CHECKS[name](value):
            raise ValueError(f"not a report: what {name!r} may not be: {foreign.shown(value, 200)}")
    return known


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_aside(value: Any) -> bool:
    fields = {"item": foreign.is_count, "needed": foreign.is_count} | dict.fromkeys(
        ("name", "reason", "message", "error", "traceback"), _is_text
    )
    return (
        isinstance(value, dict)
        and {"item", "name", "reason", "message"} <= value.keys() <= fields.keys()
        and all(fields[key](each) for key, each in value.items())
    )


def _is_failures(value: Any) -> bool:
    return isinstance(value, dict) and all(map(foreign.is_count, value.values()))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("stage", "message", "origin", "why"), _is_text),
    **dict.fromkeys(
        (
            "items", "done", "set_aside_total", "budget", "reserved", "projected", "peak", "batches",
            "workers_started", "paused", "recycled", "resumed_from", "workers", "enough", "most_workers",
            "enough_for_most",
        ),
        foreign.is_count,
    ),
    **dict.fromkeys(
        ("seconds", "cpu", "waited_seconds", "paused_seconds", "repeated_seconds", "held_over_time"),
        foreign.is_number,
    ),
    "folder": lambda value: value is None or (isinstance(value, str) and "\0" not in value),
    "outcome": lambda value: value in OUTCOMES,
    "failures": _is_failures,
    **dict.fromkeys(("heaviest", "slowest"), are_calls),
    "set_aside": lambda value: isinstance(value, list) and all(map(_is_aside, value)),
    "predictions": lambda value: (
        isinstance(value, list) and len(value) == 2 and all(map(foreign.is_count, value))
    ),
    "stages": lambda value: isinstance(value, list) and all(isinstance(each, dict) for each in value),
}  # fmt: skip
"""By name, what a field that was read may be."""
