"""What is known of a stage so far, and the plan that follows.

Puts together the size hints of the source, the footprint, the time of an item and the
memory that is reserved. Pure but for the source's ``sizes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from penstock import asking
from penstock.abc import Sequential, Sized
from penstock.budget import Budget
from penstock.engine.decide import futures
from penstock.engine.decide import plan as planning
from penstock.engine.decide.footprint import Footprint, Observation
from penstock.engine.decide.futures import ExpectedBatch, Weighed
from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.plan import Plan, Reserved, Sizing
from penstock.engine.decide.recall import Recall
from penstock.engine.messages import MeasuredCall
from penstock.plurals import plural

_AGAIN = 8
"""After so many calls it is weighed anew how many a batch may have."""
_SLOWER = 0.3
"""Weight of the newest batch in the running mean of an item's time."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The user's statements about sizes; None leaves a size to the plan."""

    workers: int | None = None
    call: int | None = None
    """The most items a call."""
    fixed_call: int | None = None
    memory: int | None = None
    """Declared footprint in bytes."""
    threads: int | None = None
    """The most threads that a call can make use of."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a batch before it runs."""

    largest: float
    """Largest size hint of its items."""
    total: float
    """Sum of the size hints of its largest call."""
    calls: int
    """Calls one after another."""


class Estimate:
    """Learns from measured calls, and plans.

    Args:
        source: the items.
        batched: whether the function takes a call at once.
        wishes: what was stated.
        cores: how many may be used.
        stage: the stage's name, for the plan.
        before: what earlier runs of the same function learnt.
    """

    def __init__(
        self,
        source: Any,
        *,
        batched: bool,
        wishes: Wishes,
        cores: int,
        stage: str = "",
        before: Learnt | None = None,
    ) -> None:
        self._source = source
        self._sized = isinstance(source, Sized)
        self._batched = batched
        self._wishes = wishes
        self.cores = cores
        self._stage = stage
        self.items = asking.count(source)
        self.recall = Recall(scales=batched, declared=wishes.memory, before=before)
        self.seconds_per_item = 0.0
        self.measured_call = 0
        self.measured_batch = 0
        self.died = 0
        """Calls that ran out of memory."""
        self.died_holding = 0
        """The most that one of them held, in bytes."""
        self.most_workers = wishes.workers or cores
        self._limit = "so many were asked for" if wishes.workers else f"there are {plural(cores, 'core')}"
        self._stretches = 0
        if isinstance(source, Sequential):  # a stretch is read by one worker, which has the threads instead
            self._stretches = max(len(asking.starts(source, self.items)), 1)
            if self._stretches < self.most_workers:
                self._limit = f"the source can be read from {plural(self._stretches, 'place')} at once"
            self.most_workers = min(self.most_workers, self._stretches)
        self._weighed_calls: tuple[tuple[int, int, int], int] = (-1, 0, 0), 0
        self._mean_hint = 1.0
        self._largest_hint = 1.0
        self._largest_of: dict[int, float] = {}
        """By a number of calls of an item: the largest hint in so many, in the mean."""
        self._look_at_hints()

    # ------------------------------------------------------------------ hints

    def _look_at_hints(self) -> None:
        """Mean and largest hint of up to 4,096 items: enough for the typical call of a plan."""
        if not self._sized or not self.items:
            return
        first = min(self.items, 4096)
        self._largest_hint, total, means = asking.largest_of_spans(self._source, first, futures.CALLS)
        self._mean_hint = total / first
        self._largest_of = dict(zip(futures.CALLS, means, strict=True))

    def hints(self, start: int, stop: int) -> tuple[float, float]:
        """(largest, sum) of the size hints of these items; 1 an item where the source has none."""
        if not self._sized:
            return 1.0, float(stop - start)
        return asking.hints(self._source, start, stop)

    def probes(self, count: int = 6) -> list[int]:
        """Items to try first: the first, the last, the largest by hint, and a few spread between."""
        if not self.items:
            return []
        spread = [self.items * k // count for k in range(1, count)]
        largest: list[int] = []
        if self._sized and self.items <= 1_000_000:
            largest = [asking.largest_of(self._source, self.items)]
        return list(dict.fromkeys([0, *largest, self.items - 1, *spread]))

    # ------------------------------------------------------------------ learning

    @property
    def footprint(self) -> Footprint:
        """The current model of a call's memory."""
        return self.recall.footprint

    @property
    def exploring(self) -> bool:
        """Whether nothing is known of a call, or nothing was measured by this run."""
        return self.recall.unconfirmed or not self.footprint.known

    def heed(self, running: Iterable[tuple[Shape, int]]) -> None:
        """Compare running batches with the model while it comes from earlier runs."""
        self.recall.heed(Observation(shape.largest, shape.total, held) for shape, held in running)

    def learnt(self, reserved: Reserved) -> Learnt:
        """Measurements for a later run to start with."""
        return Learnt(
            observations=self.recall.learnt(),
            died=min(self.recall.given_up, len(self.recall.learnt())),
            firsts=self.footprint.firsts,
            batched=self._wishes.fixed_call or self._batched,
            memory=self._wishes.memory or 0,
            threads=self._wishes.threads or 0,
            stretches=self._stretches,
            call=max(self.measured_call, self.recall.most_items, 1),
            items=self.items,
            mean_hint=self._mean_hint,
            largest_hint=self._largest_hint,
            seconds_per_item=self.seconds_per_item,
            reserved=reserved,
        )

    def learn(
        self, calls: Iterable[MeasuredCall], items: int, seconds: float, *, first: bool, seen: int
    ) -> None:
        """Learn from the calls of a kept batch.

        Args:
            calls: the measured calls; with ``first``, the first of them is a worker's first.
            items: items in the batch.
            seconds: of the whole batch.
            first: whether it was the worker's first batch.
            seen: the most that the governor saw the worker hold: children of the worker too.
        """
        calls = list(calls)
        if not calls:  # everything was set aside before
            return
        highest = max(call.peak for call in calls)
        for number, call in enumerate(calls):
            peak = max(call.peak, seen) if call.peak == highest else call.peak
            self.recall.observe(Observation(*self._hints_of(call), peak), first=first and number == 0)
            self.measured_call = max(self.measured_call, call.items)
        self.measured_batch = max(self.measured_batch, items)
        timed = calls[1:] if first and len(calls) > 1 else calls
        if items:
            # A first call has imports and JIT in it; the others tell an item's time.
            worked = sum(call.seconds for call in timed)
            count = sum(call.items for call in timed)
            each = max(worked / count, 1e-9)
            if len(timed) > 1 or not first:
                each = max(each, 0.5 * (seconds - (calls[0].seconds if first else 0)) / items)
            old = self.seconds_per_item
            self.seconds_per_item = each if not old else (1 - _SLOWER) * old + _SLOWER * each
            if first and len(calls) == 1 and old:
                self.seconds_per_item = min(old, each)

    def _hints_of(self, call: MeasuredCall) -> tuple[float, float]:
        """(largest, sum) of the size hints of the items that were worked."""
        borders = [call.start - 1, *call.without, call.stop]
        spans = [(a + 1, b) for a, b in pairwise(borders) if a + 1 < b]
        found = [self.hints(a, b) for a, b in spans]
        return max(largest for largest, _ in found), sum(total for _, total in found)

    def gave_up(self, item: int, held: int) -> None:
        """An item was set aside as too large: remember its size for later runs."""
        self.recall.gave_up(Observation(*self.hints(item, item + 1), held))

    def at_least(self, start: int, stop: int, held: int) -> None:
        """Learn a lower bound from a call that died."""
        self.died, self.died_holding = self.died + 1, max(self.died_holding, held)
        self.recall.at_least(Observation(*self.hints(start, stop), held))

    # ------------------------------------------------------------------ predicting

    def bound(self, shape: Shape, *, first: bool) -> int | None:
        """Predicted bytes of a batch's largest call; None when nothing is known."""
        return self.footprint.bound(shape.largest, shape.total, first=first)

    def largest(self, call: int) -> int:
        """Predicted bytes of a call of so many items that includes the largest hint."""
        bound = self.footprint.bound(self._largest_hint, self._largest_hint + self._mean_hint * (call - 1))
        return bound or 0

    def usual(self, call: int) -> int:
        """Predicted bytes of a call of so many items with average hints."""
        return self.footprint.bound(self._mean_hint, self._mean_hint * call) or 0

    def typical(self, call: int, *, largest: bool = False) -> int:
        """Median bytes of a call of so many items, without a margin; ``largest``: with the largest hint."""
        ratios = self.footprint.ratios if self.footprint.known else [0.0]
        first = self._largest_hint if largest else self._mean_hint
        scale = self.footprint.scale(first, first + self._mean_hint * (call - 1))
        return int(ratios[len(ratios) // 2] * scale)

    def heaviest(self, call: int) -> int:
        """Bytes of a call of so many average items if it is as heavy as the heaviest seen."""
        scale = self.footprint.scale(self._mean_hint, self._mean_hint * call)
        return int(self.footprint.ratios[-1] * scale)

    def shape(self, start: int, stop: int, call: int) -> Shape:
        """What is known beforehand of a batch's calls."""
        largest, total = self.hints(start, stop)
        items = max(stop - start, 1)
        # No call holds more than its share, unless the large items come together.
        return Shape(largest, min(total, largest * call), -(-items // max(call, 1)))

    def usual_shape(self, call: int) -> Shape:
        """The shape of one call of so many items with average hints."""
        return Shape(self._mean_hint, self._mean_hint * call, 1)

    def expect(self, worker: int, shape: Shape, *, least: int = 0, first: bool = False) -> ExpectedBatch:
        """A batch in the form that admission weighs.

        Args:
            worker: who works it.
            shape: of its calls.
            least: bytes that it holds, or was seen to need.
            first: whether it is a worker's first.
        """
        scale = self.footprint.scale(shape.largest, shape.total)
        return ExpectedBatch(worker, scale, least, shape.calls, self.footprint.first() if first else 0)

    def weigh(self, batches: Sequence[ExpectedBatch], room: int, most: int, never: float) -> Weighed:
        """Whether the last of these may start beside the others; see :func:`futures.weigh`."""
        return futures.weigh(self.footprint.peaks(), batches, room, most, never)

    def _most_calls(self, available: Callable[[int], int], most_workers: int, sizing: Sizing) -> int:
        """The most calls a batch, where not everything that may come fits at once; else 0."""
        if not self.footprint.known:
            return 0
        peaks = self.footprint.peaks()
        largest = Shape(self._largest_hint, self._largest_hint + self._mean_hint * (sizing.call - 1), 1)
        if most_workers * futures.farthest(peaks, self.expect(0, largest), available(1)) <= available(
            most_workers
        ):
            return 0
        if self.footprint.changing:  # what is known of the next call is not true of those after it
            return 1
        seen = self.footprint.tried // _AGAIN, sizing.workers, sizing.call
        if self._weighed_calls[0] != seen:  # it takes a millisecond
            self._weighed_calls = (
                seen,
                futures.most_calls(
                    peaks, lambda calls: self._scale(calls, sizing.call), available, sizing.workers
                ),
            )
        return self._weighed_calls[1]

    def _scale(self, calls: int, call: int) -> float:
        """Bytes with which a batch of so many calls counts: those of its largest item, all the time."""
        largest = self._mean_hint if call > 1 else self._largest_of.get(calls, self._mean_hint)
        return self.footprint.scale(largest, max(self._mean_hint * call, largest))

    def plan(self, budget: Budget, reserved: Reserved) -> Plan:
        """The plan that follows from current knowledge."""
        wishes, available = self._wishes, partial(_available, budget, reserved)

        def together(call: int) -> tuple[int, Weighed | None]:
            scale = self.footprint.scale(self._mean_hint, self._mean_hint * call)
            return futures.fitting(self.footprint.peaks(), scale, available, most_workers)

        most_workers = max(min(self.most_workers, self.items), 1)
        sizing = planning.size_up(
            bound=self.largest,
            usual=self.usual,
            together=together if self.footprint.known else None,
            available=available,
            most_workers=most_workers,
            # Of what earlier runs had it begins with no larger call.
            measured_call=max(self.measured_call, -(-self.recall.most_items // planning.GROWTH)),
            seconds_per_item=self.seconds_per_item,
            batched=self._batched,
            fixed_call=wishes.fixed_call,
            most_call=wishes.call,
        )
        one_more = sizing.one_more
        return Plan(
            budget=budget.bytes,
            origin=budget.origin,
            reserved=reserved,
            footprint=sizing.bound,
            largest=self.largest(sizing.call),
            share=min(sizing.bound, available(sizing.workers) // sizing.workers),
            why=f"{sizing.workers}, not {sizing.workers + 1}: {one_more}" if one_more else "",
            most_calls=self._most_calls(available, most_workers, sizing),
            median=self.footprint.median,
            tried=self.recall.tried,
            before=self.recall.calls,
            died=self.died,
            declared=wishes.memory is not None and sizing.bound == wishes.memory,
            workers=sizing.workers,
            call=sizing.call,
            batch=self.batch(sizing.call, self.items, sizing.workers, seconds=planning.batch_seconds(120)),
            seconds_per_item=self.seconds_per_item,
            items=self.items,
            stage=self._stage,
            cores=self.cores,
            most_workers=most_workers,
            limit=self._limited(),
            most_threads=wishes.threads,
            kills_group=budget.kills_group,
        )

    def _limited(self) -> str:
        """Why there cannot be more workers than ``most_workers``, whatever the memory."""
        return self._limit if self.most_workers <= self.items else f"there are {plural(self.items, 'item')}"

    def batch(self, call: int, left: int, workers: int, *, seconds: float) -> int:
        """Items for the next batch of about ``seconds``."""
        return planning.batch_items(
            call=call,
            left=left,
            workers=workers,
            seconds=seconds,
            seconds_per_item=self.seconds_per_item,
            measured_batch=self.measured_batch,
        )


def _available(budget: Budget, reserved: Reserved, workers: int) -> int:
    """Bytes that the calls of so many workers may take together."""
    room = planning.room(budget.bytes, reserved, workers, kills_group=budget.kills_group)
    each = budget.per_process
    return room if each is None else min(room, workers * (each - reserved.worker))
