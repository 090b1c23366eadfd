"""The calls of a run that took most memory or most time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from penstock import foreign
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.foreign import line

MOST = 10
"""How many are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCall:
    """A call that stands out."""

    start: int
    """First item."""
    stop: int
    """One past the last."""
    name: str = ""
    """Name of the first item; empty where it has none but its number."""
    stage: str = ""
    peak: int = 0
    """Measured peak above the idle worker, in bytes; of a slow call that of its batch."""
    seconds: float = 0.0
    """Wall seconds; of a heavy call those of its batch."""

    def __str__(self) -> str:
        name = line(self.name) or f"item {self.start:,}"
        more = self.stop - self.start - 1
        stage = f"{line(self.stage)}: " if self.stage else ""
        return f"{stage}{name}{f' and {more:,} more' if more > 0 else ''}"

    def measured(self, by: Literal["peak", "seconds"]) -> str:
        """The number by which it stands out."""
        return format_size(self.peak) if by == "peak" else format_seconds(self.seconds)


class TopCalls:
    """The ten largest by some measure, out of any number.

    Args:
        by: of what.
    """

    def __init__(self, by: Literal["peak", "seconds"]) -> None:
        self._by = by
        self._heap: list[tuple[float, int, int, NamedCall]] = []
        self._count = 0

    def least(self) -> float:
        """What a call must exceed to be kept."""
        return self._heap[0][0] if len(self._heap) >= MOST else 0.0

    def add(self, call: NamedCall) -> None:
        """Add a call; of two with the same items (redone after a resume) the larger is kept."""
        much = float(getattr(call, self._by))
        if much <= self.least():
            return
        for place, (had, _, _, other) in enumerate(self._heap):
            if (other.stage, other.start) == (call.stage, call.start):
                if much > had:
                    self._heap[place] = (much, -call.start, self._count, call)
                    heapq.heapify(self._heap)
                return
        self._count += 1
        entry = (much, -call.start, self._count, call)
        if len(self._heap) < MOST:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def __iter__(self) -> Iterator[NamedCall]:
        """The most first."""
        return (call for *_, call in sorted(self._heap, key=lambda entry: (-entry[0], -entry[1])))


def top(calls: Iterable[NamedCall], by: Literal["peak", "seconds"]) -> tuple[NamedCall, ...]:
    """The ten largest of these."""
    kept = TopCalls(by)
    for call in calls:
        kept.add(call)
    return tuple(kept)


def as_json(calls: Iterable[NamedCall]) -> list[dict[str, Any]]:
    """As JSON values."""
    return [asdict(call) for call in calls]


def are_calls(value: Any) -> bool:
    """Whether this is a value that :func:`as_json` returns."""
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and each.keys() == _CHECKS.keys()
        and all(_CHECKS[key](told) for key, told in each.items())
        for each in value
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("start", "stop", "peak"), foreign.is_count),
    **dict.fromkeys(("name", "stage"), lambda value: isinstance(value, str)),
    "seconds": foreign.is_number,
}
"""By its name, what a field may be that was read."""
