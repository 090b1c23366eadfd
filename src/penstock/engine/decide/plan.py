"""How many workers, how large a call, how long a batch. Arithmetic of memory: bytes in, bytes out.

    projected = reserved + workers * bound(call)  <=  budget - headroom

The plan is made after the first calls and anew as more is learnt. Pure: no clock, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from penstock.budget import MiB, format_size
from penstock.durations import format_seconds
from penstock.engine.decide.futures import Weighed
from penstock.engine.decide.governor import headroom
from penstock.foreign import in_html, line
from penstock.plurals import plural

_CALL_SECONDS = 0.5
"""A batched call longer than this gains nothing from being longer."""
_GROUP_SECONDS = 0.01
"""Items of a function that takes one at a time are measured together for so long: the two
readings cost 30 us."""
GROWTH = 4
"""A call grows by at most this factor over what was measured: no wild extrapolation."""
_OVERHEAD_SECONDS = 0.05
"""Work that makes the dispatch and commit of a batch (1 ms) less than 2 %."""
_LONG_RUN = 500
"""A batch may always take this part of the time since the begin."""
_COMMIT_SECONDS = 30.0
"""A commit at least this often where grains allow."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """Bytes that are taken before any item."""

    parent: int
    """This process."""
    backend: int
    """The fork server."""
    worker: int
    """One idle worker's own pages, with what its ``prepare()`` took."""
    results: int = 0
    """Results that are collected in this process."""
    others: int = 0
    """Shared memory files and whatever else is ours."""

    def total(self, workers: int) -> int:
        """Reserved bytes including so many idle workers."""
        return self.parent + self.backend + self.results + self.others + workers * self.worker

    def parts(self, workers: int) -> str:
        """The summands of :meth:`total`, for people."""
        told = {
            "this process": self.parent,
            f"{plural(workers, 'idle worker')} x": self.worker,
            "fork server": self.backend,
            "results": self.results,
            "shared files": self.others,
        }
        always = list(told)[:2]
        return " + ".join(
            f"{what} {format_size(size)}" for what, size in told.items() if size or what in always
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan, with where each number comes from. ``print(plan)`` shows it."""

    budget: int
    """Bytes that all our processes together may use."""
    origin: str
    """Who set the budget."""
    reserved: Reserved
    """Bytes taken before any item."""
    footprint: int
    """Bound of one usual call, in bytes above the idle worker."""
    median: int
    """Median of the calls tried, in bytes."""
    tried: int
    """How many calls were measured in this run."""
    declared: bool
    """Whether the footprint was stated by the user."""
    workers: int
    """Workers at once."""
    call: int
    """Items a call."""
    batch: int
    """Items a batch."""
    seconds_per_item: float
    """Measured time of one item in one worker; 0 when unknown."""
    items: int
    """Items in all."""
    stage: str = ""
    """The stage's name."""
    cores: int = 1
    """Cores that may be used."""
    most_workers: int = 1
    """The most workers that there are cores and items for, or that were asked for."""
    limit: str = ""
    """Which of these it is."""
    most_threads: int | None = None
    """The most threads that a call can make use of; None: as many as there are cores for it."""
    kills_group: bool = False
    """True when going over the limit would kill this process too."""
    largest: int = 0
    """Bound of one call with the item of the largest size hint, in bytes; 0 when not told."""
    share: int | None = None
    """Bytes that each of the calls together is counted with: less than its bound where large ones seldom
    meet. None: its bound."""
    why: str = ""
    """Why not one worker more, where memory is the reason."""
    before: int = 0
    """How many calls of earlier runs are gone by besides."""
    died: int = 0
    """How many calls ran out of memory."""
    most_calls: int = 0
    """The most calls a batch, where not everything that may come fits at once; 0: no such limit."""

    @property
    def _each(self) -> int:
        return self.footprint if self.share is None else self.share

    @property
    def projected(self) -> int:
        """Predicted peak of the process tree, in bytes."""
        return self.reserved.total(self.workers) + self.workers * self._each

    @property
    def headroom(self) -> int:
        """Budget minus projected, in bytes."""
        return self.budget - self.projected

    def budget_for(self, workers: int) -> int:
        """Bytes of the smallest budget in which so many workers fit: the inverse of :func:`room`."""
        needed = self.reserved.total(workers) + workers * self._each
        share = 2 if self.kills_group else 1
        least = min(needed + share * 64 * MiB, math.ceil(needed / (1 - share / 8)))
        return max(math.ceil(needed / (1 - share * 0.06)), least) + 1

    @property
    def threads(self) -> int:
        """Threads per worker: workers x threads = cores, unless a call can use fewer."""
        threads = max(self.cores // self.workers, 1)
        return min(threads, self.most_threads or threads)

    @property
    def seconds(self) -> float:
        """Predicted wall seconds for all items."""
        return self.items * self.seconds_per_item / min(self.workers, self.cores)

    def rows(self, *, verbose: bool = False) -> list[tuple[str, str, str]]:
        """(word, number, where it comes from) as printed; ``verbose``: always say why not more workers."""
        reserved = self.reserved
        timing = (
            f", batches of about {format_seconds(self.batch * self.seconds_per_item)}"
            if self.seconds_per_item
            else ""
        )
        why = self.why or (f"{self.workers}, not more: {self._enough_workers()}" if verbose else "")
        rows = [
            ("budget", format_size(self.budget), self.origin),
            ("reserved", format_size(reserved.total(self.workers)), reserved.parts(self.workers)),
            self._footprint(),
            ("plan", "", f"{_workers(self.workers)}, calls of {_items(self.call)}{timing}"),
            *([("why", "", why)] if why else []),
            ("projected", format_size(self.projected), self._headroom()),
        ]
        if self.seconds_per_item:
            rows.append(("time", format_seconds(self.seconds), f"about, for {_items(self.items)}"))
        if self.died:
            told = f"{plural(self.died, 'call')} ran out of memory: such items need more than is known"
            rows.append(("note", "", told))
        if self.kills_group:
            rows.append(
                ("note", "", "this limit kills the whole group, this process too: more headroom is kept")
            )
        return rows

    @property
    def _unknown(self) -> bool:
        """Whether nothing says what an item takes: a job's only item is done, and not tried before."""
        return not (self.tried or self.before or self.declared or self.footprint)

    def _footprint(self) -> tuple[str, str, str]:
        if self._unknown:
            why = "nothing was tried: a job's only item is measured when it is done"
            if self.items > 1:
                why = "no call that was tried came to its end"
            return "footprint", "unknown", why
        median = format_size(self.median)
        tried = [f"{self.tried} tried"] if self.tried or not self.before else []
        tried += [f"{self.before} of earlier runs"] if self.before else []
        source = "declared" if self.declared else f"bound of {' and '.join(tried)} (median {median})"
        if self.largest > 1.2 * self.footprint:
            source += f"; the largest {format_size(self.largest)}"
        each = f"a call of {_items(self.call)}" if self.call > 1 else "per item"
        return "footprint", format_size(self.footprint), f"{each}, {source}"

    def _headroom(self) -> str:
        left = format_size(self.headroom)
        return f"and the footprint, for which there are {left}" if self._unknown else f"headroom {left}"

    def _enough_workers(self) -> str:
        if self.workers < self.most_workers:
            return f"the bounds of {self.workers + 1} calls are more than there is room for"
        return self.limit or "there are no more cores or items for them"

    def __str__(self) -> str:
        return self.as_text()

    def as_text(self, *, verbose: bool = False) -> str:
        """The printed table; ``verbose`` as for :meth:`rows`."""
        title = [f"{line(self.stage)}:"] if self.stage else []
        rows = self.rows(verbose=verbose)
        lines = [f"{word:<10} {number:>9}   {line(text)}".rstrip() for word, number, text in rows]
        return "\n".join(title + lines)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{in_html(word)}</th><td "
            f"style='text-align:right'>{in_html(number)}</td>"
            f"<td style='text-align:left'>{in_html(text)}</td></tr>"
            for word, number, text in self.rows()
        )
        return f"<table>{cells}</table>"


def _items(count: int) -> str:
    return f"{plural(count, 'item')}"


def _workers(count: int) -> str:
    return f"{plural(count, 'worker')}"


@dataclass(frozen=True, slots=True)
class Sizing:
    """Number of workers and items a call."""

    workers: int
    call: int
    bound: int
    """Bound of one such call of usual items, in bytes."""
    one_more: Weighed | None = None
    """What came of weighing one worker more; None where memory is not the reason."""


def room(budget: int, reserved: Reserved, workers: int, *, kills_group: bool = False) -> int:
    """Bytes that the calls of all workers may take together."""
    keep = headroom(budget) * (2 if kills_group else 1)
    return budget - keep - reserved.total(workers)


def size_up(
    *,
    bound: Callable[[int], int],
    available: Callable[[int], int],
    most_workers: int,
    measured_call: int,
    seconds_per_item: float,
    batched: bool,
    fixed_call: int | None,
    most_call: int | None,
    usual: Callable[[int], int] | None = None,
    together: Callable[[int], tuple[int, Weighed | None]] | None = None,
) -> Sizing:
    """Choose the number of workers first, then the size of a call.

    A single large item is no reason for fewer workers: it waits until it has room. But a call of several
    is only as large as also fits with it.

    Args:
        bound: predicted bytes of a call of so many items, the largest among them.
        usual: the same of usual items; as ``bound`` where not told.
        together: how many calls of so many usual items fit together, and why not one more; where not told,
            as many as their bounds.
        available: bytes for the calls of so many workers together (see :func:`room`).
        most_workers: cores, or the number asked for.
        measured_call: the largest call measured so far.
        seconds_per_item: 0 when unknown.
        batched: whether the function takes a whole call at once.
        fixed_call: the call may be no other.
        most_call: the call may be no larger (grain, option).
    """
    call = fixed_call or 1
    workers = most_workers
    usual = usual or bound
    one_more = None
    if together is not None:
        workers, one_more = together(call)
    while together is None and workers > 1 and workers * usual(call) > available(workers):
        workers -= 1
    if fixed_call is None:
        call = _call(bound, available(workers) // workers, measured_call, seconds_per_item, batched)
        if most_call is not None:
            call = min(call, most_call)
    return Sizing(workers, call, usual(call), one_more)


def _call(
    bound: Callable[[int], int], share: int, measured_call: int, seconds_per_item: float, batched: bool
) -> int:
    seconds = _CALL_SECONDS if batched else _GROUP_SECONDS
    wanted = math.ceil(seconds / seconds_per_item) if seconds_per_item > 0 else 1
    call = max(1, min(wanted, max(measured_call, 1) * GROWTH))
    while call > 1 and bound(call) > share:
        call //= 2
    return call


def batch_seconds(elapsed: float) -> float:
    """How long a batch should take: short at first, to learn quickly; then longer."""
    return min(max(elapsed / 4, _OVERHEAD_SECONDS), _COMMIT_SECONDS)


def shortened(items: int, plan: Plan, elapsed: float) -> int:
    """Items of a batch where memory binds: its largest call is accounted for as long as it runs.

    Never so few that its dispatch counts, nor, in a long run, that the journal does.
    """
    if not plan.most_calls or plan.seconds_per_item <= 0:
        return items
    least = max(_OVERHEAD_SECONDS, elapsed / _LONG_RUN) / plan.seconds_per_item
    return min(items, max(plan.call * plan.most_calls, int(least)))


def batch_items(
    *, call: int, left: int, workers: int, seconds: float, seconds_per_item: float, measured_batch: int
) -> int:
    """Items of the next batch: sized by time, and never so many that the last ones wait for one worker."""
    if seconds_per_item <= 0:
        return call
    by_time = int(seconds / seconds_per_item)
    by_tail = (
        math.ceil(left / (2 * workers)) if seconds_per_item * left > _OVERHEAD_SECONDS * workers else left
    )
    by_growth = max(measured_batch, 1) * 64
    return max(min(by_time, by_tail, by_growth), call, 1)
