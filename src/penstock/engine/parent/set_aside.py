"""The items that were set aside, and whether the run can still succeed.

Covers the one case in which a run ends early although it would finish the other items first: nothing
may be set aside, and a sample spread over the whole input fails to the last item. Then it is the
function that is wrong. The sample follows from the number of items and the grain alone, so the answer
is the same for any budget, number of workers and size of batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from penstock.abc import SetAside

_SAMPLE = 20
"""Items that must all fail before the function is held to be wrong, and not the items."""
_TOGETHER = 4
"""The most of them that may come from one place: a part of a sink is worked as a whole."""
_TOO_LARGE = 5
"""Places whose first item must be too large for memory, where each costs a worker."""
_STREAMED, _STREAMED_LEAST = 20, 200
"""Of a stream, the sample lies in this part of it, and in so many units at least."""
_GOLDEN = 0.6180339887498949
"""Steps of it (modulo 1) spread evenly, however many there are, and keep in step with no period."""


def sample(items: int, unit: int, *, stream: bool = False) -> tuple[tuple[int, ...], ...]:
    """The items that decide together, by position, in the order in which to try them.

    Args:
        items: how many there are.
        unit: items that are worked together in any case (the grain).
        stream: whether they must be read in order: then the sample is spread over the first twentieth
            of them (and 200 units at least), as a look at the end would cost a reading of everything.

    Returns:
        The first items of a few units: of the first, the last, and others between. Nothing where this
        would be nearly all there is.
    """
    each = min(unit, _TOGETHER)
    places = -(-_SAMPLE // each)
    units = -(-items // unit)
    if stream:
        units = min(units, max(units // _STREAMED, _STREAMED_LEAST))
    if places >= units:
        return ()
    chosen = dict.fromkeys((0, units - 1))
    step = 0.0
    while len(chosen) < places:
        step = (step + _GOLDEN) % 1
        chosen[int(step * units)] = None
    return tuple(
        tuple(range(at * unit, min(at * unit + each, items))) for at in (sorted(chosen) if stream else chosen)
    )


class SetAsideItems:
    """The reasons of items set aside, by number; that they are left out is the schedule's concern.

    Args:
        before: those of earlier runs, which stay so.
        allowed: True: any number; False: none; a number: at most so many.
        decisive: of :func:`sample`; looked at where none are allowed.
    """

    def __init__(
        self,
        before: Mapping[int, SetAside],
        *,
        allowed: bool | int,
        decisive: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        self.items = dict(before)
        self._allowed = allowed
        self._places = decisive if allowed is False else ()
        self._left = tuple(item for place in reversed(self._places) for item in reversed(place))
        self._untried = tuple(place[0] for place in self._places)

    def __len__(self) -> int:
        return len(self.items)

    def allows(self, items: int) -> bool:
        """Whether so many more may be set aside."""
        return self._allowed is True or len(self.items) + items <= int(self._allowed)

    def put(self, each: SetAside) -> tuple[int, ...]:
        """Add an item; returns the items to try next because of it, since they decide.

        The first time all places of the sample; then, as a place may be tried again and again without
        the items that its workers died of, the first item that has not failed.
        """
        self.items[each.item] = each
        next_tried, self._untried = self._untried, ()
        return next_tried or self._undecided()[-1:]

    def among(self, start: int, stop: int) -> list[SetAside]:
        """The set-aside items among some, in item order."""
        return [self.items[item] for item in sorted(self.items) if start <= item < stop]

    def __iter__(self) -> Iterator[SetAside]:
        return iter(self.items.values())

    @property
    def too_many(self) -> bool:
        """Whether there are more than the run may succeed with."""
        return (
            len(self) > 0
            if self._allowed is False
            else self._allowed is not True and len(self) > self._allowed
        )

    def abort_reason(self) -> str:
        """Why the run should stop at once: ``"hopeless"``, ``"too many"``, or ``""``.

        Where none are allowed, the other items are finished first; where any number is, nothing that
        befalls items ends the run.
        """
        if self._places and self._hopeless():
            return "hopeless"
        return "too many" if not isinstance(self._allowed, bool) and self.too_many else ""

    def _undecided(self) -> tuple[int, ...]:
        """Items of the sample, the last to be tried first, from the first on that has not failed."""
        while self._left and self._left[-1] in self.items:
            self._left = self._left[:-1]
        return self._left

    def _hopeless(self) -> bool:
        firsts = [self.items.get(place[0]) for place in self._places[:_TOO_LARGE]]
        return not self._undecided() or all(each is not None and each.reason == "memory" for each in firsts)
