"""Durations as people write them (``"5s"``, ``"10min"``, a number of seconds), and as they are printed."""

from __future__ import annotations

import re

from penstock.errors import UsageError
from penstock.foreign import shown

_UNITS = {
    "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0,
}  # fmt: skip
_DAYS, _YEARS = 4, 4
"""From so many days on, days are told; from so many years on, years."""
_MANY_YEARS = 10_000
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def parse_duration(value: str | float, what: str = "a duration") -> float:
    """Parse a duration into seconds.

    Args:
        value: a number of seconds, or a number with one of the units ms, s, min, h, d.
        what: what it is called in the message: ``"timeout"``.

    Raises:
        UsageError: no unit, an unknown unit, no number, or nothing left of it.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{what} is a {type(value).__name__}; give seconds, or a text such as 30s or 10min")
    try:
        seconds = _seconds(value, what) if isinstance(value, str) else float(value)
    except OverflowError:
        raise UsageError(f"{what} must be a number of seconds, and {shown(value, 60)} is too large") from None
    if not seconds > 0:
        raise UsageError(f"{what} must be positive, not {value}")
    return seconds


def format_seconds(seconds: float) -> str:
    """Format a duration: ``"420 ms"``, ``"61 s"``, ``"12 min"``, ``"3 h 05 min"``, ``"12 d 04 h"``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < _DAYS * 86_400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    if seconds < _YEARS * 31_557_600:
        return f"{int(seconds // 86_400)} d {int(seconds % 86_400 // 3600):02d} h"
    years = seconds / 31_557_600
    return f"{years:,.0f} years" if years < _MANY_YEARS else f"over {_MANY_YEARS:,} years"


def _seconds(text: str, what: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        bare = text.strip()
        hint = f"; write {bare}s or {bare}min" if bare.replace(".", "", 1).isdigit() else ""
        raise UsageError(
            f"cannot read the duration {text!r} of {what}: a number and a unit, as in 30s, 10min or 2h{hint}"
        )
    if match[2].lower() not in _UNITS:
        raise UsageError(
            f"cannot read the duration {text!r} of {what}: unknown unit {match[2]!r}; known: ms, s, min, h, d"
        )
    return float(match[1]) * _UNITS[match[2].lower()]
