"""The recovery ladder: how a failed batch is retried, a pure function of its failures so far.

Each step is recorded in the task's history:
    out of memory   a call of several items: half of it; one item: again, then alone with
                    everything else drained; still too much: set aside
    load            (items that cannot be taken in a worker) halves, until it is one item
    killed          (by somebody else) again, smaller, up to 10 times, the last 3 alone
    crashed         twice more, isolating the item that was being worked; then set aside
    unfit           (lacks what our part of the work needs) as crashed, in a worker that nothing was worked
                    in, which looks at each item
    stalled         as crashed; over ``timeout=``: once more, then set aside
A call that may not be made smaller (``batched=256``) is not set aside for one of its items: its parts
are tried, their results thrown away, until the item is found; then the call is made without it.
Only the item or call that was executing is blamed. Where none was, the batch is halved down to a grain, and
then the grain's items go one by one; a grain that dies without any is a failed run. Where what the items
before left behind (a reducer's state, rows of a part) is more than what the call itself took, it is halved
too. Of a grain the item that was worked is tried by itself, its result thrown away; where it does not fail,
the grain is set aside as a whole.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

from penstock.engine.decide.grains import Grains
from penstock.engine.decide.tasks import Failure, Reason, Suspicion, Task, Verdict
from penstock.errors import WorkerDied

_KILLS = 10
_LAST_ALONE = 3
_CRASHES = 2
_TIMEOUTS = 1
_SUSPECTS = 20
"""So often another item of a grain may be the one that fails, before the next is given up all the same."""
_EVICTIONS = 3
"""So often may a batch run out of memory, alone, before it has begun an item."""

Call = tuple[int, int]
"""Start and stop of the items that are blamed."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The outcome of a failure: tasks to requeue, and a verdict where items are set aside."""

    tasks: tuple[Task, ...] = ()
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Ladder:
    """The recovery ladder: rules by which a failed batch's items are retried or set aside.

    Args:
        grains: where batches may be cut.
        aside: items set aside so far; read only.
        fixed_call: whether calls may not be made smaller (``batched=256``).
    """

    grains: Grains
    aside: Set[int]
    fixed_call: bool = False

    def after(self, task: Task, failure: Failure) -> Recovery:
        """The outcome for a task that failed.

        Raises:
            WorkerDied: a grain fails though all its items are set aside.
        """
        task = replace(task, floor=max(task.floor, failure.held))
        if task.suspicion is not None and task.suspicion.grain:
            return self._after_trial(task, task.suspicion, failure)
        blamed = self._blamed(task, failure)
        if failure.cause == "dropped":
            return Recovery((task,))
        if failure.cause in ("memory", "governor", "kernel"):
            return self._out_of_memory(task, failure, blamed)
        if failure.cause == "killed":
            return self._killed(task, failure, blamed)
        if failure.cause == "load" and not self.grains.is_one(task):
            return self._halved(task)
        if failure.cause == "kept" and blamed is not None:
            return self._give_up(task, blamed, "kept", failure)
        return self._died(task, failure, blamed)

    def convict(self, task: Task, suspicion: Suspicion) -> Recovery:
        """No part of a suspected call or grain fails by itself, so it is to blame as a whole."""
        if suspicion.grain:
            task = replace(task, start=suspicion.call[0], stop=suspicion.call[1])
        return self._set_aside(task, suspicion.call, suspicion.reason, suspicion.times)

    # ------------------------------------------------------------------ the causes

    def _out_of_memory(self, task: Task, failure: Failure, blamed: Call | None) -> Recovery:
        # Ended while it held less than it was granted: others took the memory.
        evicted = failure.cause == "governor" and failure.held <= failure.reserved
        if failure.of_results and not evicted and not self.grains.is_one(task):
            return self._halved(task)  # its results are what is too much, and not the last call
        left = sum(item not in self.aside for item in range(task.start, task.stop))
        if failure.of_results and not evicted and task.alone and left > 1 and blamed is not None:
            return self._try_apart(task, blamed, failure)
        if self._may_split(task, failure):
            return Recovery((_with_smaller_call(task, failure),))
        if task.alone and blamed is not None and not evicted:
            return self._give_up(task, blamed, "memory", failure)
        evictions = task.evictions + 1
        if task.alone or evicted:
            # Ended to free memory, or before any item: not proven guilty, but granted more next time.
            if task.alone and evictions > _EVICTIONS:
                return self._halve_or_give_up(task, "memory", failure)
            floor = int(task.floor * 1.25)
            return Recovery((replace(task, evictions=evictions, floor=floor, alone=evictions >= 2),))
        return Recovery(self._isolated(replace(task, evictions=evictions, alone=True), blamed))

    def _try_apart(self, task: Task, blamed: Call, failure: Failure) -> Recovery:
        """Work what is blamed by itself, its results thrown away: is it too large, or the grain?"""
        grain = task.start, task.stop
        suspicion = Suspicion(grain, "memory", max(task.attempt, 1), failure, grain=True)
        trial = replace(task, start=blamed[0], stop=blamed[1], evictions=0, suspicion=suspicion)
        return Recovery((trial,))

    def _after_trial(self, task: Task, suspicion: Suspicion, failure: Failure) -> Recovery:
        """What was worked by itself failed too: of memory, then it is to blame, and not its grain."""
        grain = replace(task, start=suspicion.call[0], stop=suspicion.call[1], suspicion=None)
        if failure.cause not in ("memory", "governor", "kernel"):
            return self.after(grain, failure)
        if failure.cause == "governor" and failure.held <= failure.reserved and task.evictions < _EVICTIONS:
            return Recovery((replace(task, evictions=task.evictions + 1, floor=int(task.floor * 1.25)),))
        return self._give_up(grain, (task.start, task.stop), "memory", failure)

    def _killed(self, task: Task, failure: Failure, blamed: Call | None) -> Recovery:
        if task.suspicion is not None and self._may_split(task, failure):
            return Recovery((_with_smaller_call(task, failure),))
        task = replace(task, kills=task.kills + 1)
        if task.kills > _KILLS:
            return self._give_up_or_halve(task, blamed, "died", failure)
        alone = task.kills > _KILLS - _LAST_ALONE
        if alone or self.grains.is_one(task):
            return Recovery((replace(task, alone=alone),))
        middle = self.grains.middle(task)
        first, second = replace(task, stop=middle), replace(task, start=middle)
        if blamed is not None:  # the half that was not being worked is as new
            if blamed[0] < middle:
                second = replace(second, kills=0)
            else:
                first = replace(first, kills=0)
        return Recovery((first, second))

    def _died(self, task: Task, failure: Failure, blamed: Call | None) -> Recovery:
        if failure.cause == "unfit":
            task = replace(task, wary=True)
        if self._may_split(task, failure) and blamed is None:
            # Which of the call's items it was is not known: a smaller call tells.
            return Recovery((_with_smaller_call(task, failure),))
        if blamed is not None and task.suspect not in (-1, blamed[0]):
            # Another item than last time; not for ever, where it is another one each time.
            begins = task.suspects < _SUSPECTS
            task = replace(task, suspects=task.suspects + 1)
            task = replace(task, crashes=0, timeouts=0) if begins else task
        if failure.cause == "timeout":
            task = replace(task, timeouts=task.timeouts + 1)
        else:
            task = replace(task, crashes=task.crashes + 1)
        if task.crashes > _CRASHES or task.timeouts > _TIMEOUTS:
            reason: Reason = "stalled" if failure.cause in ("stalled", "timeout") else "died"
            return self._give_up_or_halve(task, blamed, reason, failure)
        return Recovery(self._isolated(replace(task, suspect=blamed[0] if blamed else -1), blamed))

    # ------------------------------------------------------------------ whose fault it is

    def _blamed(self, task: Task, failure: Failure) -> Call | None:
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
        return self.fixed_call and task.suspicion is None

    def _may_split(self, task: Task, failure: Failure) -> bool:
        a, b = failure.call
        if self._is_whole(task) or not task.start <= a < b <= task.stop:
            return False
        return b - a > 1 and (task.call is None or b - a <= task.call)

    # ------------------------------------------------------------------ the last rungs

    def _give_up_or_halve(
        self, task: Task, blamed: Call | None, reason: Reason, failure: Failure
    ) -> Recovery:
        if blamed is None:
            return self._halve_or_give_up(task, reason, failure)
        return self._give_up(task, blamed, reason, failure)

    def _halve_or_give_up(self, task: Task, reason: Reason, failure: Failure) -> Recovery:
        """It fails before any item is begun: look for the grain, then leave its items out one by one."""
        if not self.grains.is_one(task):
            return self._halved(task)
        left = next((item for item in range(task.start, task.stop) if item not in self.aside), None)
        if left is None:
            why = "runs out of memory" if reason == "memory" else "fails"
            raise WorkerDied(
                f"the worker that should keep items {task.start} to {task.stop} {why} again and again, "
                "though none of them is worked any more: the sink or reducer may be at fault; see what it "
                "wrote, in workers.log or on stderr where there is no run folder."
            )
        return self._give_up(task, (left, left + 1), reason, failure)

    def _halved(self, task: Task) -> Recovery:
        """Both halves are to be worked, each by itself."""
        middle = self.grains.middle(task)
        # With a history, so that they stay apart.
        return Recovery(
            (
                Task(task.start, middle, call=task.call, evictions=1),
                Task(middle, task.stop, call=task.call, evictions=1),
            )
        )

    def _isolated(self, task: Task, blamed: Call | None) -> tuple[Task, ...]:
        """The blamed items' grain by itself, with the task's history; the rest is as new."""
        if blamed is None:
            return (task,)
        start = max(self.grains.of(blamed[0])[0], task.start)
        stop = min(self.grains.of(blamed[1] - 1)[1], task.stop)
        call = task.call if task.suspicion is None else None
        rest = [Task(a, b, call=call) for a, b in ((task.start, start), (stop, task.stop)) if a < b]
        return (replace(task, start=start, stop=stop), *rest)

    def _give_up(self, task: Task, blamed: Call, reason: Reason, failure: Failure) -> Recovery:
        times = max(task.attempt, 1)
        if sum(item not in self.aside for item in range(*blamed)) <= 1:
            return self._set_aside(task, blamed, reason, times)
        # Look for the item of a call that may not be split, half of it at a time.
        a, b = blamed
        suspicion = Suspicion(blamed, reason, times, failure)
        smaller = replace(task, call=max((b - a) // 2, 1), suspect=-1, evictions=0, suspicion=suspicion)
        return Recovery(self._isolated(smaller, blamed))

    def _set_aside(self, task: Task, blamed: Call, reason: Reason, times: int) -> Recovery:
        """Work the rest of the grain once more, without what is set aside; its history is forgotten."""
        items = tuple(item for item in range(*blamed) if item not in self.aside)
        call = task.call if task.suspicion is None else None
        rest = self._isolated(Task(task.start, task.stop, call=call), blamed)
        return Recovery(rest, Verdict(items, reason, times, task.suspicion))


def _with_smaller_call(task: Task, failure: Failure) -> Task:
    return replace(task, call=max((failure.call[1] - failure.call[0]) // 2, 1))
