"""All batches and set-aside items as rows of a table, streamed from the events.

A batch of one item is that item: of items that take long or much, there is one a batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from penstock import events as ev

COLUMNS = (
    "stage", "first", "last", "items", "name", "outcome", "peak", "seconds", "attempts", "worker",
    "heaviest", "heaviest_name", "slowest", "slowest_name", "slowest_seconds", "message",
)  # fmt: skip
_FAILED = 10_000
"""The most items whose failures are remembered until they are done."""


def rows(events: Iterable[ev.Event]) -> Iterator[tuple[str | int | float, ...]]:
    """A row for each kept batch and each set-aside item, in the order of the events.

    Args:
        events: of a run; read once, never gathered.

    Yields:
        values in the order of :data:`COLUMNS`: items by number, ``items`` the count of those that are kept
        (one that was set aside has a row of its own), peaks in bytes above an idle worker, times in seconds;
        empty where nothing is known.
    """
    attempts = _Attempts()
    aside: set[int] = set()
    """Items of batches that have not ended."""
    for event in events:
        match event:
            case ev.StageStarted():
                attempts.clear()
                aside.clear()
            case ev.BatchFailed() if event.cause != "interrupted":
                attempts.failed(event.start, event.stop, event.item)
            case ev.BatchDone():
                name = event.heaviest_name if event.stop - event.start == 1 else ""
                given_up = {item for item in aside if event.start <= item < event.stop}
                aside -= given_up
                kept = event.stop - event.start - len(given_up)
                if kept:  # else each has a row of its own
                    yield _row(event, kept, name, attempts.of(event.start, event.stop))
                attempts.ended(event.stop)
            case ev.ItemSetAside():
                if len(aside) < _FAILED:
                    aside.add(event.item)
                tried = attempts.of(event.item, event.item + 1) - 1  # its last attempt failed as well
                yield (
                    event.stage, event.item, event.item, 0, event.name, f"set aside: {event.reason}", "", "",
                    max(tried, 1), "", "", "", "", "", "", event.message,
                )  # fmt: skip


def _row(event: ev.BatchDone, kept: int, name: str, attempts: int) -> tuple[str | int | float, ...]:
    return (
        event.stage, event.start, event.stop - 1, kept, name, "done",
        event.peak, round(event.seconds, 6), attempts, event.worker,
        _item(event.heaviest), event.heaviest_name, _item(event.slowest), event.slowest_name,
        round(event.slowest_seconds, 6), "",
    )  # fmt: skip


def _item(number: int) -> int | str:
    return number if number >= 0 else ""


class _Attempts:
    """How often batches were begun that failed, by their items; the last ones."""

    def __init__(self) -> None:
        self._failed: OrderedDict[tuple[int, int], int] = OrderedDict()

    def clear(self) -> None:
        """Another run begins to count."""
        self._failed.clear()

    def failed(self, start: int, stop: int, item: int) -> None:
        """A batch did not end; ``item`` is the one that it was at, or -1."""
        key = (start, stop)
        self._failed[key] = self._failed.pop(key, 0) + 1
        if len(self._failed) > _FAILED:
            self._failed.popitem(last=False)

    def ended(self, stop: int) -> None:
        """What failed up to here is done, or set aside with a batch that was."""
        for key in [key for key in self._failed if key[1] == stop]:
            del self._failed[key]

    def of(self, start: int, stop: int) -> int:
        """Attempts at a batch that came to its end, this one counted."""
        return 1 + sum(count for (a, b), count in self._failed.items() if a < stop and start < b)
