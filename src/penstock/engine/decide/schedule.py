"""What is to be done next, and what becomes of a batch that failed.

A state machine over intervals of items: pending, running, done, set aside. It knows no clock,
no process and no file. Every item is in exactly one of these places at any time, whatever dies.

The recovery ladder (each step is recorded in the task's history):
    out of memory   a call of several items: half of it; one item: again, then alone with
                    everything else drained; still too much: set aside
    load            (items that cannot be taken in a worker) halves, until it is one item
    killed          (by somebody else) again, smaller, up to 10 times, the last 3 alone
    crashed         twice more, isolating the item that was being worked; then set aside
    stalled         as crashed; over ``timeout=``: once more, then set aside
A call that may not be made smaller (``batched=256``) is not set aside for one of its items: its parts
are tried, their results thrown away, until the item is found; then the call is made without it.
Only the item or call that was executing is blamed. Where none was, the batch is halved down to a
grain, and then the grain's items go one by one; a grain that dies without any is a failed run.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from penstock.engine.decide.cursors import Stretches
from penstock.engine.decide.tasks import Failure, Given, Reason, Suspicion, Task, Verdict
from penstock.errors import PenstockBug, WorkerDied
from penstock.intervals import Intervals

_KILLS = 10
_LAST_ALONE = 3
_CRASHES = 2
_TIMEOUTS = 1
_EVICTIONS = 3
"""So often may a batch run out of memory, alone, before it has begun an item."""


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
        self._stretches = None if starts is None else Stretches(starts, items, self.unit)
        self._first = [item for item in dict.fromkeys(first) if 0 <= item < items]
        self._fixed_call = fixed_call
        self._borders: list[int] = []
        """Where what is lent begins and ends."""

    def lend(self, start: int, stop: int) -> None:
        """A node has these items for a while, whole grains; no batch crosses their border."""
        self.done.remove(start, stop)
        self._pending.add(start, stop)
        for border in (start, stop):
            insort(self._borders, border)

    def take_no_more(self, start: int, stop: int) -> None:
        """What is lent here and as new is not begun any more."""
        self.done.add(start, stop)
        self._pending.remove(start, stop)

    def give_back(self, start: int, stop: int) -> None:
        """What was lent here is had no more."""
        self.take_no_more(start, stop)
        for border in (start, stop):
            del self._borders[bisect_left(self._borders, border)]

    def has(self, start: int, stop: int, *, begun: bool = False) -> bool:
        """Whether there is work left among these items; ``begun``: that something has befallen already."""
        tasks = (*self._retries, *self._alone, *(given.task for given in self._running.values()))
        if any(task.start < stop and start < task.stop for task in tasks):
            return True
        return not begun and self._pending.overlaps(start, stop)

    def extend(self, items: int) -> None:
        """There are more items now: the source of an executor grows."""
        self._pending.add(self.items, items)
        self.items = items

    def try_first(self, items: Iterable[int]) -> None:
        """Give these before all that is as new; a stream is read in order nevertheless."""
        if self._stretches is None:
            self._first = [*items, *self._first]

    # ------------------------------------------------------------------ questions

    @property
    def finished(self) -> bool:
        """Whether every item is done or set aside."""
        return not self._running and not self._retries and not self._alone and not len(self._pending)

    @property
    def running(self) -> Mapping[int, Given]:
        """What each worker has."""
        return self._running

    @property
    def left(self) -> int:
        """Items that are neither done nor running."""
        tasks = sum(task.stop - task.start for task in (*self._retries, *self._alone))
        return len(self._pending) + tasks

    @property
    def only_alone(self) -> bool:
        """Whether nothing is left but tasks that want to be alone."""
        return bool(self._alone) and not self._retries and not len(self._pending)

    @property
    def lone(self) -> int:
        """How many tasks want to be alone."""
        return len(self._alone)

    # ------------------------------------------------------------------ giving

    def propose(self, worker: int, size: int, *, alone_first: bool = False) -> Task | None:
        """What ``worker`` should do next, of at most ``size`` items where nothing has befallen them.

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
            span = self._stretches.find(worker, self._whole(size), self._pending, self._busy(self._stretches))
            return None if span is None else Task(span[0], self._up_to_border(*span))
        while self._first and self._first[0] not in self._pending:
            self._first.pop(0)
        if self._first:
            start, stop = self._grain_of(self._first[0])
        else:
            found = self._pending.first()
            if found is None:
                return None
            start, limit = found
            stop = min(limit, start + self._whole(size))
        return Task(start, self._up_to_border(start, min(stop, self.items)))

    def _up_to_border(self, start: int, stop: int) -> int:
        place = bisect_right(self._borders, start)
        return min(stop, self._borders[place]) if place < len(self._borders) else stop

    def _busy(self, stretches: Stretches) -> set[int]:
        """The stretches that are being read."""
        return {stretches.of(given.task.start) for given in self._running.values()}

    def forget_worker(self, worker: int) -> None:
        """The worker is gone, and its cursors with it."""
        if self._stretches is not None:
            self._stretches.forget(worker)

    def holds_cursor(self, worker: int) -> bool:
        """Whether the worker is in the middle of a stretch."""
        return self._stretches is not None and self._stretches.holds(worker, self._pending)

    def _whole(self, size: int) -> int:
        return max(size // self.unit, 1) * self.unit

    def _grain_of(self, item: int) -> tuple[int, int]:
        start = item // self.unit * self.unit
        return start, min(start + self.unit, self.items)

    # ------------------------------------------------------------------ taking back

    def finish(self, worker: int, stop: int, set_aside: Iterable[int] = ()) -> Task:
        """The worker's batch is kept up to ``stop``; what lies behind a cut is pending again."""
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
        """The worker's batch is kept up to ``start``, and goes on."""
        given = self._running[worker]
        task = given.task
        if not task.start < start < task.stop:
            raise PenstockBug(f"a batch of items {task.start} to {task.stop} cannot go on from {start}")
        self.done.add(task.start, start)
        task = replace(task, start=start)
        self._running[worker] = replace(given, task=task, advanced=True)
        return task

    def take_back(self, worker: int, stop: int) -> Task:
        """The worker does not begin the items from ``stop`` on: they are pending again."""
        given = self._running[worker]
        task = given.task
        if not task.start < stop < task.stop:
            raise PenstockBug(f"of a batch of items {task.start} to {task.stop} {stop} cannot be taken back")
        self._requeue(replace(task, start=stop))
        task = replace(task, stop=stop)
        self._running[worker] = replace(given, task=task)
        return task

    def fail(self, worker: int, failure: Failure) -> Verdict | None:
        """The worker's batch failed. Requeue it wisely; the verdict names items to set aside.

        Raises:
            WorkerDied: a grain fails though all its items are set aside.
        """
        task = self._take(worker)
        task = replace(task, floor=max(task.floor, failure.held))
        blamed = self._blamed(task, failure)
        if failure.cause == "dropped":
            self._requeue(task)
            return None
        if failure.cause in ("memory", "governor", "kernel"):
            return self._out_of_memory(task, failure, blamed)
        if failure.cause == "killed":
            return self._killed(task, failure, blamed)
        if failure.cause == "load" and self._halve(task):
            return None
        if failure.cause == "kept" and blamed is not None:
            return self._give_up(task, blamed, "kept", failure)
        return self._died(task, failure, blamed)

    def tried(self, worker: int, stop: int) -> Verdict | None:
        """The parts of a suspected call, up to ``stop``, did not fail: it is the call as a whole."""
        task = self._take(worker)
        suspicion = task.suspicion
        if suspicion is None:
            raise PenstockBug(f"worker {worker} was not looking for a culprit")
        if stop < task.stop:  # it was asked to end
            self._requeue(task)
            return None
        verdict = self._verdict(suspicion.call, suspicion.reason, suspicion.times, suspicion)
        self._without(task, suspicion.call)
        return verdict

    def _take(self, worker: int) -> Task:
        given = self._running.pop(worker, None)
        if given is None:
            raise PenstockBug(f"worker {worker} had no batch")
        return given.task

    def _blamed(self, task: Task, failure: Failure) -> tuple[int, int] | None:
        """The items that a failure points at: the one being worked, or a call that may not be split."""
        a, b = failure.call
        if task.start <= failure.item < task.stop:
            a, b = failure.item, failure.item + 1
        elif task.stop - task.start == 1:
            a, b = task.start, task.stop
        elif not (task.start <= a < b <= task.stop and (self._is_whole(task) or b - a == 1)):
            return None
        # What is set aside is not worked: it cannot have done it.
        return None if all(item in self.aside for item in range(a, b)) else (a, b)

    def _is_whole(self, task: Task) -> bool:
        """Whether its calls may not be made smaller."""
        return self._fixed_call and task.suspicion is None

    def _may_split(self, task: Task, failure: Failure) -> bool:
        a, b = failure.call
        if self._is_whole(task) or not task.start <= a < b <= task.stop:
            return False
        return b - a > 1 and (task.call is None or b - a <= task.call)

    def _out_of_memory(self, task: Task, failure: Failure, blamed: tuple[int, int] | None) -> Verdict | None:
        if self._may_split(task, failure):
            self._requeue(self._with_smaller_call(task, failure))
            return None
        # Ended while it held less than it was granted: others took the memory.
        evicted = failure.cause == "governor" and failure.held <= failure.reserved
        if task.alone and blamed is not None and not evicted:
            return self._give_up(task, blamed, "memory", failure)
        if task.alone or evicted:
            # Ended to make room, or before any item: not proven guilty, but more room next time.
            evictions = task.evictions + 1
            if task.alone and evictions > _EVICTIONS:
                return self._halve_or_give_up(task, "memory", failure)
            self._requeue(
                replace(task, evictions=evictions, floor=int(task.floor * 1.25), alone=evictions >= 2)
            )
            return None
        self._isolate(replace(task, evictions=task.evictions + 1, alone=True), blamed)
        return None

    def _killed(self, task: Task, failure: Failure, blamed: tuple[int, int] | None) -> Verdict | None:
        if task.suspicion is not None and self._may_split(task, failure):
            self._requeue(self._with_smaller_call(task, failure))
            return None
        task = replace(task, kills=task.kills + 1)
        if task.kills > _KILLS:
            return self._give_up_or_halve(task, blamed, "died", failure)
        alone = task.kills > _KILLS - _LAST_ALONE
        middle = self._middle(task)
        if task.start < middle < task.stop and not alone:
            first, second = replace(task, stop=middle), replace(task, start=middle)
            if blamed is not None:  # the half that was not being worked is as new
                first, second = (
                    (first, replace(second, kills=0))
                    if blamed[0] < middle
                    else (replace(first, kills=0), second)
                )
            self._requeue(first)
            self._requeue(second)
        else:
            self._requeue(replace(task, alone=alone))
        return None

    def _died(self, task: Task, failure: Failure, blamed: tuple[int, int] | None) -> Verdict | None:
        if self._may_split(task, failure) and blamed is None:
            # Which of the call's items it was is not known: a smaller call tells.
            self._requeue(self._with_smaller_call(task, failure))
            return None
        if blamed is not None and task.suspect not in (-1, blamed[0]):
            task = replace(task, crashes=0, timeouts=0)  # another item than last time
        if failure.cause == "timeout":
            task = replace(task, timeouts=task.timeouts + 1)
        else:
            task = replace(task, crashes=task.crashes + 1)
        if task.crashes > _CRASHES or task.timeouts > _TIMEOUTS:
            reason: Reason = "stalled" if failure.cause in ("stalled", "timeout") else "died"
            return self._give_up_or_halve(task, blamed, reason, failure)
        self._isolate(replace(task, suspect=blamed[0] if blamed else -1), blamed)
        return None

    def _with_smaller_call(self, task: Task, failure: Failure) -> Task:
        return replace(task, call=max((failure.call[1] - failure.call[0]) // 2, 1))

    def _give_up_or_halve(
        self, task: Task, blamed: tuple[int, int] | None, reason: Reason, failure: Failure
    ) -> Verdict | None:
        if blamed is None:
            return self._halve_or_give_up(task, reason, failure)
        return self._give_up(task, blamed, reason, failure)

    def _halve_or_give_up(self, task: Task, reason: Reason, failure: Failure) -> Verdict | None:
        """It fails before any item is begun: look for the grain, then leave its items out one by one."""
        if self._halve(task):
            return None
        left = next((item for item in range(task.start, task.stop) if item not in self.aside), None)
        if left is None:
            why = "runs out of memory" if reason == "memory" else "fails"
            raise WorkerDied(
                f"the worker that should keep items {task.start} to {task.stop} {why} again and again, "
                "though none of them is worked any more: the sink or reducer may be at fault; see "
                "workers.log in the run folder. Everything done is kept."
            )
        return self._give_up(task, (left, left + 1), reason, failure)

    def _halve(self, task: Task) -> bool:
        """Its halves are to be worked, each by itself; False where it is one grain."""
        if self.is_grain(task):
            return False
        middle = self._middle(task)
        for start, stop in ((task.start, middle), (middle, task.stop)):
            # With a history, so that they stay apart.
            self._requeue(Task(start, stop, call=task.call, evictions=1))
        return True

    def is_grain(self, task: Task) -> bool:
        """Whether it cannot be cut in two."""
        return not task.start < self._middle(task) < task.stop

    def _middle(self, task: Task) -> int:
        """Where a task is cut in two: at a grain's border; its end or beyond where it is one grain."""
        unit = self.unit
        half = (task.start + (task.stop - task.start) // 2) // unit * unit
        return max(half, task.start // unit * unit + unit)

    def _isolate(self, task: Task, blamed: tuple[int, int] | None) -> None:
        """Put the blamed items' grain by itself with the task's history; the rest is as new."""
        if blamed is None:
            self._requeue(task)
            return
        start = max(self._grain_of(blamed[0])[0], task.start)
        stop = min(self._grain_of(blamed[1] - 1)[1], task.stop)
        self._requeue(replace(task, start=start, stop=stop))
        for a, b in ((task.start, start), (stop, task.stop)):
            if a < b:
                self._requeue(Task(a, b, call=task.call if task.suspicion is None else None))

    def _give_up(
        self, task: Task, blamed: tuple[int, int], reason: Reason, failure: Failure
    ) -> Verdict | None:
        times = max(task.attempt, 1)
        left = [item for item in range(*blamed) if item not in self.aside]
        if len(left) > 1:
            self._suspect(task, Suspicion(blamed, reason, times, failure))
            return None
        verdict = self._verdict(blamed, reason, times, task.suspicion)
        self._without(task, blamed)
        return verdict

    def _suspect(self, task: Task, suspicion: Suspicion) -> None:
        """Look for the item of a call that may not be split, half of it at a time."""
        a, b = suspicion.call
        smaller = replace(task, call=max((b - a) // 2, 1), suspect=-1, evictions=0, suspicion=suspicion)
        self._isolate(smaller, suspicion.call)

    def _verdict(
        self, call: tuple[int, int], reason: Reason, times: int, suspicion: Suspicion | None
    ) -> Verdict:
        items = tuple(item for item in range(*call) if item not in self.aside)
        self.aside.update(items)
        return Verdict(items, reason, times, suspicion)

    def _without(self, task: Task, blamed: tuple[int, int]) -> None:
        """Work the rest of the grain once more, without what is set aside; what befell it is forgotten."""
        call = task.call if task.suspicion is None else None
        self._isolate(Task(task.start, task.stop, call=call), blamed)

    def _requeue(self, task: Task) -> None:
        if task.alone:
            self._alone.append(task)
        elif task.fresh:
            self._pending.add(task.start, task.stop)
        else:
            self._retries.append(task)
