"""Functions and a source for the measurements; modules of their own, as workers import them by name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path


def triple(item: int) -> int:
    """As good as nothing."""
    return 3 * item + 1


def triple_slowly(item: int, *, calls: Path, seconds: float) -> int:
    """The same after a while; a line in ``calls`` for each call begun."""
    descriptor = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{item}\n".encode())
    os.close(descriptor)
    time.sleep(seconds)
    return triple(item)


class Singles:
    """Numbers that claim to be as heavy as a batch may carry, so that each is a batch of its own.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> range:
        """The numbers."""
        return range(start, stop)

    def weigh(self, start: int, stop: int) -> int:
        """A mebibyte each, which is a lie."""
        return (stop - start) << 20

    def carry(self, start: int, stop: int) -> None:
        """Nothing needs to travel."""

    def load(self, start: int, cargo: None) -> None:
        """Nothing came."""

    def fingerprint(self) -> Mapping[str, str]:
        """Their count."""
        return {"count": str(self.count)}
