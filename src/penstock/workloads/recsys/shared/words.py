"""Counts of things, as the lines of a run tell them."""

from __future__ import annotations


def plural(count: int, noun: str, many: str = "") -> str:
    """A number and its noun: ``"1 item"``, ``"3,000 items"``, or what ``many`` calls several."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
