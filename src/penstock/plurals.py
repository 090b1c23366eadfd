"""Counts with nouns in the right number."""

from __future__ import annotations


def plural(count: int, noun: str, many: str = "") -> str:
    """A number and its noun: ``"1 item"``, ``"3,000 items"``.

    Args:
        count: how many.
        noun: what one of them is called.
        many: what several are called; the noun and an "s" where it is not given.
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
