"""Scheduling: which items run next, and where those of a failed batch are requeued.

A state machine over intervals of items: pending, running, done, set aside. It knows no clock,
no process and no file. Every item is in exactly one of these places at any time, whatever dies.

What becomes of a batch that failed is :mod:`penstock.engine.decide.recovery`'s to say.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from penstock.engine.decide.cursors import Stretches
from penstock.engine.decide.grains import Grains
from penstock.engine.decide.recovery import Ladder, Recovery
from penstock.engine.decide.tasks import Failure, Given, Task, Verdict
from penstock.errors import PenstockBug
from penstock.intervals import Intervals


class Schedule:
    """The state of a stage's items.

    Args:
        items: how many there are.
        grain: items per part; batches are whole grains. None: any interval is a batch.
        done: items kept by earlier runs.
        set_aside: items that earlier runs set aside and that stay so.
        starts: for a sequential source, the items where a stretch begins; see :class:`Stretches`.
        first: items to try first (the first, the last, the largest ...), in this order.
        fixed_call: whether calls may not be made smaller (``batched=256``).
    """

    def __init__(
        self,
        items: int,
        grain: int | None = None,
        *,
        done: Iterable[tuple[int, int]] = (),
        set_aside: Iterable[int] = (),
        starts: Sequence[int] | None = None,
        first: Iterable[int] = (),
        fixed_call: bool = False,
    ) -> None:
        self.items = items
        self.grain = grain
        self.done = Intervals(done)
        self.aside = set(set_aside)
        self._pending = Intervals()
        for start, stop in self.done.gaps(0, items):
            self._pending.add(start, stop)
        self._retries: list[Task] = []
        self._alone: list[Task] = []
        self._running: dict[int, Given] = {}
        self.unit = grain or 1
        self._grains = Grains(items, self.unit)
        self._ladder = Ladder(self._grains, self.aside, fixed_call)
        self._stretches = None if starts is None else Stretches(starts, items, self.unit)
        self._first = [item for item in dict.fromkeys(first) if 0 <= item < items]
        self._borders: list[int] = []
        """Where what is lent begins and ends."""

    def lend(self, start: int, stop: int) -> None:
        """Take these items on a lease, in whole grains; no batch crosses its border."""
        self.done.remove(start, stop)
        self._pending.add(start, stop)
        for border in (start, stop):
            insort(self._borders, border)

    def take_no_more(self, start: int, stop: int) -> None:
        """Start no more fresh items of the leases held here."""
        self.done.add(start, stop)
        self._pending.remove(start, stop)

    def give_back(self, start: int, stop: int) -> None:
        """Return a lease's items."""
        self.take_no_more(start, stop)
        for border in (start, stop):
            del self._borders[bisect_left(self._borders, border)]

    def has(self, start: int, stop: int, *, begun: bool = False) -> bool:
        """Whether work is left among these items; ``begun``: only what has failed or started before."""
        tasks = (*self._retries, *self._alone, *(given.task for given in self._running.values()))
        if any(task.start < stop and start < task.stop for task in tasks):
            return True
        return not begun and self._pending.overlaps(start, stop)

    def extend(self, items: int) -> None:
        """The source has grown: there are more items."""
        self._pending.add(self.items, items)
        self.items = self._grains.items = items

    def try_first(self, items: Iterable[int]) -> None:
        """Give these before all fresh items; streams are still read in order."""
        if self._stretches is None:
            self._first = [*items, *self._first]

    # ------------------------------------------------------------------ questions

    @property
    def finished(self) -> bool:
        """Whether every item is done or set aside."""
        return not self._running and not self._retries and not self._alone and not len(self._pending)

    @property
    def running(self) -> Mapping[int, Given]:
        """Each worker's task."""
        return self._running

    @property
    def left(self) -> int:
        """Items that are neither done nor running."""
        tasks = sum(task.stop - task.start for task in (*self._retries, *self._alone))
        return len(self._pending) + tasks

    @property
    def only_alone(self) -> bool:
        """Whether only tasks that must run alone are left."""
        return bool(self._alone) and not self._retries and not len(self._pending)

    @property
    def lone(self) -> int:
        """How many tasks must run alone."""
        return len(self._alone)

    # ------------------------------------------------------------------ giving

    def propose(self, worker: int, size: int, *, alone_first: bool = False) -> Task | None:
        """The next task for ``worker``: at most ``size`` items if they are fresh.

        Nothing is taken until :meth:`give`. A task that is ``alone`` may only be given when
        nothing runs. None when there is nothing for this worker now.
        """
        if any(given.task.alone for given in self._running.values()):
            return None
        if alone_first and self._alone:
            return self._alone[0]
        if (retry := self._retry()) is not None:
            return retry
        fresh = self._fresh(worker, size)
        if fresh is None and self._alone and not len(self._pending):
            return self._alone[0]
        return fresh

    def give(self, worker: int, task: Task) -> Given:
        """Hand a proposed task to ``worker``."""
        if worker in self._running:
            raise PenstockBug(f"worker {worker} was given a second batch")
        if self._running and (task.alone or any(given.task.alone for given in self._running.values())):
            raise PenstockBug(f"items {task.start} to {task.stop} were not left alone")
        for queue in (self._retries, self._alone):
            if task in queue:
                queue.remove(task)
                break
        else:
            self._pending.remove(task.start, task.stop)
            if self._first and task.start <= self._first[0] < task.stop:
                self._first.pop(0)
        if self._stretches is not None:
            self._stretches.enter(worker, task.start)
        without = tuple(sorted(item for item in self.aside if task.start <= item < task.stop))
        given = Given(task, without)
        self._running[worker] = given
        return given

    def _retry(self) -> Task | None:
        """The first task to be tried again whose stretch nobody else reads."""
        if self._stretches is None:
            return self._retries[0] if self._retries else None
        busy, stretch_of = self._busy(self._stretches), self._stretches.of
        return next((task for task in self._retries if stretch_of(task.start) not in busy), None)

    def _fresh(self, worker: int, size: int) -> Task | None:
        if self._stretches is not None:
            span = self._stretches.find(
                worker, self._grains.whole(size), self._pending, self._busy(self._stretches)
            )
            return None if span is None else Task(span[0], self._up_to_border(*span))
        while self._first and self._first[0] not in self._pending:
            self._first.pop(0)
        if self._first:
            start, stop = self._grains.of(self._first[0])
        else:
            found = self._pending.first()
            if found is None:
                return None
            start, limit = found
            stop = min(limit, start + self._grains.whole(size))
        return Task(start, self._up_to_border(start, min(stop, self.items)))

    def _up_to_border(self, start: int, stop: int) -> int:
        place = bisect_right(self._borders, start)
        return min(stop, self._borders[place]) if place < len(self._borders) else stop

    def _busy(self, stretches: Stretches) -> set[int]:
        """The stretches that are being read."""
        return {stretches.of(given.task.start) for given in self._running.values()}

    def forget_worker(self, worker: int) -> None:
        """Drop a dead worker and its cursors."""
        if self._stretches is not None:
            self._stretches.forget(worker)

    def holds_cursor(self, worker: int) -> bool:
        """Whether the worker is in the middle of a stretch."""
        return self._stretches is not None and self._stretches.holds(worker, self._pending)

    # ------------------------------------------------------------------ taking back

    def finish(self, worker: int, stop: int, set_aside: Iterable[int] = ()) -> Task:
        """The worker's batch is kept up to ``stop``; what comes after a cut is pending again."""
        advanced = worker in self._running and self._running[worker].advanced
        task = self._take(worker)
        if not task.start < stop + advanced or stop > task.stop:
            raise PenstockBug(f"a batch of items {task.start} to {task.stop} was kept up to {stop}")
        self.done.add(task.start, stop)
        self.aside.update(set_aside)
        if stop < task.stop:
            self._requeue(replace(task, start=stop))
        elif self._stretches is not None:
            self._stretches.leave(task.start, self.done)
        return task

    def advance(self, worker: int, start: int) -> Task:
        """The worker's batch is kept up to ``start``, and continues."""
        given = self._running[worker]
        task = given.task
        if not task.start < start < task.stop:
            raise PenstockBug(f"a batch of items {task.start} to {task.stop} cannot go on from {start}")
        self.done.add(task.start, start)
        task = replace(task, start=start)
        self._running[worker] = replace(given, task=task, advanced=True)
        return task

    def take_back(self, worker: int, stop: int) -> Task:
        """The worker will not begin the items from ``stop`` on: they are pending again."""
        given = self._running[worker]
        task = given.task
        if not task.start < stop < task.stop:
            raise PenstockBug(f"of a batch of items {task.start} to {task.stop} {stop} cannot be taken back")
        self._requeue(replace(task, start=stop))
        task = replace(task, stop=stop)
        self._running[worker] = replace(given, task=task)
        return task

    def fail(self, worker: int, failure: Failure) -> Verdict | None:
        """The worker's batch failed. Requeue by the recovery ladder; the verdict names items to set aside.

        Raises:
            WorkerDied: a grain fails though all its items are set aside.
        """
        return self._recover(self._ladder.after(self._take(worker), failure))

    def tried(self, worker: int, stop: int) -> Verdict | None:
        """The parts of a suspected call, up to ``stop``, did not fail: the call as a whole is to blame."""
        task = self._take(worker)
        suspicion = task.suspicion
        if suspicion is None:
            raise PenstockBug(f"worker {worker} was not looking for a culprit")
        if stop < task.stop:  # it was asked to end
            self._requeue(task)
            return None
        return self._recover(self._ladder.convict(task, suspicion))

    def _recover(self, recovery: Recovery) -> Verdict | None:
        if recovery.verdict is not None:
            self.aside.update(recovery.verdict.items)
        for task in recovery.tasks:
            self._requeue(task)
        return recovery.verdict

    def _take(self, worker: int) -> Task:
        given = self._running.pop(worker, None)
        if given is None:
            raise PenstockBug(f"worker {worker} had no batch")
        return given.task

    def is_grain(self, task: Task) -> bool:
        """Whether a task cannot be split."""
        return self._grains.is_one(task)

    def _requeue(self, task: Task) -> None:
        if task.alone:
            self._alone.append(task)
        elif task.fresh:
            self._pending.add(task.start, task.stop)
        else:
            self._retries.append(task)
