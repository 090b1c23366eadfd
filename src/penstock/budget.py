"""Byte sizes, how people write them, and the sources of a memory limit.

Covers the reading and printing of sizes and the small value types of a limit and a budget.
Does not read anything from the machine: that is what the limits do (``penstock.limits``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from penstock.errors import UsageError
from penstock.foreign import as_int, shown

KiB, MiB, GiB, TiB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_UNITS = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": KiB, "MIB": MiB, "GIB": GiB, "TIB": TiB,
    # A bare letter is what SLURM, docker and the JVM write, and they mean powers of two.
    "K": KiB, "M": MiB, "G": GiB, "T": TiB,
}  # fmt: skip
_MOST = 1 << 63
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def parse_size(text: str | float) -> int:
    """Read a size such as ``"12GiB"`` into bytes.

    ``GB`` is 10^9, ``GiB`` is 2^30, and a bare ``16G`` means GiB, as in SLURM and docker.
    A number is taken as bytes (from Python only: on the command line a bare number is refused).

    Raises:
        UsageError: no text and no number, no unit, an unknown unit, or nothing left.
    """
    text = as_int(text)
    if isinstance(text, int | float) and not isinstance(text, bool):
        if not 0 < text < _MOST:  # not NaN either
            raise UsageError(f"a size must be positive, and below 8 EiB, not {shown(text, 60)}")
        return int(text)
    if not isinstance(text, str):
        raise UsageError(f"a size is a text such as '4GiB', or a number of bytes, not {shown(text, 60)}")
    match = _SIZE.fullmatch(text)
    if match is None:
        hint = f"; write {text.strip()}MiB or {text.strip()}GiB" if text.strip().strip("0").isdigit() else ""
        raise UsageError(f"cannot read the size {text!r}: a number and a unit, as in 12GiB or 800MB{hint}")
    unit = match[2].upper()
    if unit not in _UNITS:
        raise UsageError(
            f"cannot read the size {text!r}: unknown unit {match[2]!r}; known: GiB, MiB, KiB, GB, MB, kB, B"
        )
    size = float(match[1]) * _UNITS[unit]
    if not 1 <= size < _MOST:
        raise UsageError(f"a size must be positive, and below 8 EiB, not {shown(text, 60)}")
    return int(size)


def format_size(size: float) -> str:
    """Print bytes in binary units: ``"1.5 GiB"``, ``"320 MiB"``, ``"12 B"``."""
    sign, size = ("-", -size) if size < 0 else ("", size)
    for unit, width in (("TiB", TiB), ("GiB", GiB), ("MiB", MiB), ("KiB", KiB)):
        # What would round to 1024 of one unit is 1.0 of the next.
        if size >= width - width / 2048:
            value = size / width
            return f"{sign}{value:.1f} {unit}" if value < 100 else f"{sign}{value:.0f} {unit}"
    return f"{sign}{size:.0f} B"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A memory limit, as it stands now."""

    bytes: int
    """The most that may be used, in bytes."""
    scope: Literal["tree", "process"]
    """Whether it holds for all our processes together or for each one alone."""
    origin: str
    """Who set it and where it can be read, for people."""
    used: int = 0
    """Anonymous + shared bytes that already count against it, ours included."""
    kills_group: bool = False
    """True when the kernel, once over it, kills the whole group and not one process."""
    kernel_kills: int | None = None
    """How many processes the kernel has killed for it so far, where that is counted."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The memory budget of the whole process tree, and its source."""

    bytes: int
    """Anonymous + shared memory of the whole process tree, this process included."""
    origin: str
    """Where the number comes from, for people."""
    kills_group: bool = False
    """True when going over it would kill this process too."""
    per_process: int | None = None
    """The tightest limit on one process alone, if there is one."""
    shares: int = 1
    """It is one of so many equal shares of what was asked for."""
    beside: int = 0
    """Bytes of what was asked for that are in no share."""

    def __str__(self) -> str:
        return f"{format_size(self.bytes)} ({self.origin})"

    def to_ask_for(self, needed: int) -> int:
        """Bytes to ask for, so that this budget has as many as are needed."""
        return needed * self.shares + self.beside


class BudgetInForce:
    """The budget in force, kept in one place: during a run it may follow a limit that moved.

    Args:
        budget: at the start.
    """

    def __init__(self, budget: Budget) -> None:
        self.now = budget
        """May be set anew at any time, from any thread."""

    @property
    def bytes(self) -> int:
        """The budget in bytes for the whole process tree, now."""
        return self.now.bytes
