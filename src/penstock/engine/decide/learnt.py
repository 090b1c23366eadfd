"""Measurements of calls as numbers that warm-start a later run. Pure.

They come back from files that anybody may have written: what is odd is refused whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from penstock import foreign
from penstock.engine.decide.footprint import Observation
from penstock.engine.decide.plan import Reserved

KEPT = 128
"""Calls that are kept: as many as stand for those to come."""
_FIRSTS = 16
_BYTES = 1 << 46
"""The most memory of a machine that is believed: 64 TiB."""
_ITEMS = 10**12
_SIZES = (1e-9, float(1 << 53))
"""Size hints and times are 0, or between these: what is predicted from them stays a number."""
_SECONDS = (1e-9, 1e9)
_RESERVED = ("parent", "backend", "worker", "results", "others")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """Measurements of a stage's calls."""

    reserved: Reserved
    """Bytes that were taken besides, at the end; its results are those that came to the process."""
    observations: tuple[Observation, ...]
    """Of at most 128 calls, spread over all there were, with the heaviest."""
    died: int = 0
    """Of these, calls that ran out of memory: what they held, and they need more."""
    firsts: tuple[int, ...] = ()
    """Peaks of workers' first calls, in bytes."""
    batched: bool | int = False
    """Whether a call is one of the function; a number fixes its items."""
    memory: int = 0
    """Bytes of a call as they were stated; 0 where they were not."""
    threads: int = 0
    """The most threads of a call; 0: as many as there are cores for it."""
    stretches: int = 0
    """In so many pieces the items can be read; 0: as one likes."""
    call: int = 1
    """The most items that a call had."""
    items: int = 0
    """Items of the stage."""
    mean_hint: float = 1.0
    """Mean size hint of an item."""
    largest_hint: float = 1.0
    """The largest."""
    seconds_per_item: float = 0.0
    """Of one worker; 0 when unknown."""

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        told["observations"] = [[seen.largest, seen.total, seen.peak] for seen in self.observations]
        told["firsts"] = list(self.firsts)
        told["reserved"] = {name: getattr(self.reserved, name) for name in _RESERVED}
        return told


def from_json(told: Any) -> Learnt:
    """Read what :meth:`Learnt.as_json` wrote.

    Raises:
        ValueError: it is not that, or has numbers that nothing can have.
    """
    if not isinstance(told, Mapping):
        raise ValueError(f"a {foreign.kind_of(told)}, where an object was expected")  # noqa: TRY004
    reserved, batched = told.get("reserved"), told.get("batched")
    if not isinstance(reserved, Mapping):
        raise ValueError("nothing that was reserved")  # noqa: TRY004
    mean, largest = _size(told.get("mean_hint")), _size(told.get("largest_hint"))
    if mean > largest * (1 + 1e-9):  # a sum of equal ones may be a little more
        raise ValueError(f"a mean size of {mean:g}, and none over {largest:g}")
    return Learnt(
        observations=tuple(_observation(each) for each in _list(told, "observations", KEPT)),
        firsts=tuple(_count(each, _BYTES) for each in _list(told, "firsts", _FIRSTS)),
        batched=batched if isinstance(batched, bool) else _count(batched, _ITEMS),
        memory=_count(told.get("memory"), _BYTES),
        **{name: _count(told.get(name), _ITEMS) for name in ("threads", "stretches", "items")},
        died=_count(told.get("died", 0), KEPT),
        call=max(_count(told.get("call"), _ITEMS), 1),
        mean_hint=mean,
        largest_hint=largest,
        seconds_per_item=_size(told.get("seconds_per_item"), _SECONDS),
        reserved=Reserved(**{name: _count(reserved.get(name), _BYTES) for name in _RESERVED}),
    )


def _list(told: Mapping[str, Any], name: str, most: int) -> list[Any]:
    found = told.get(name)
    if not isinstance(found, list) or len(found) > most:
        raise ValueError(f"{name}: a list of at most {most} was expected")
    return found


def _observation(value: Any) -> Observation:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"no call: {foreign.shown(value, 80)}")
    largest, total = _size(value[0]), _size(value[1])
    if largest > total:
        raise ValueError(f"one item of {largest:g} in a call of {total:g}")
    return Observation(largest, total, _count(value[2], _BYTES))


def _count(value: Any, most: int) -> int:
    if not foreign.is_count(value) or not 0 <= value <= most:
        raise ValueError(f"no number of bytes or items: {foreign.shown(value, 80)}")
    return int(value)


def _size(value: Any, within: tuple[float, float] = _SIZES) -> float:
    if not foreign.is_number(value) or not (value == 0 or within[0] <= value <= within[1]):
        raise ValueError(f"no size or time: {foreign.shown(value, 80)}")
    return float(value)


class Sample:
    """Calls of a run, evenly spread over its length, in bounded memory."""

    def __init__(self) -> None:
        self._seen: list[Observation] = []
        self._step = 1
        self._count = 0
        self._top: Observation | None = None

    def add(self, seen: Observation) -> None:
        """Add a call."""
        if self._top is None or seen.peak >= self._top.peak:
            self._top = seen
        if self._count % self._step == 0:
            self._seen.append(seen)
            if len(self._seen) == 2 * KEPT:
                self._seen, self._step = self._seen[::2], 2 * self._step
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def kept(self) -> tuple[Observation, ...]:
        """At most 128 of the calls, in order; the heaviest comes last if it is not among them."""
        kept = self._seen[:: -(-len(self._seen) // KEPT)] if self._seen else []
        if self._top is not None and self._top not in kept:
            kept = [*kept[: KEPT - 1], self._top]
        return tuple(kept)
