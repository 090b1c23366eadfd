"""Failed batches: learn from the failure, retry, or set the culprit aside."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock import discover, storage
from penstock import events as ev
from penstock.abc import Death, SetAside
from penstock.drafts import remove
from penstock.engine import messages as m
from penstock.engine.decide import explain
from penstock.engine.decide.files_in_memory import of_one_worker
from penstock.engine.decide.tasks import Failure, Task, Verdict
from penstock.engine.decide.too_large import grain_too_large
from penstock.engine.parent.stage import Stage
from penstock.engine.parent.workers import WorkerState
from penstock.errors import PenstockError
from penstock.record import entries

_TRIES = 5
"""So often a batch is worked again whose results could not be written, or that others left no room."""
_SQUEEZED = 0.75
"""A share of what one worker alone may use: who was ended holding less did not fill it."""
_BACK_OFF = 0.1
"""Seconds until then; twice as many each time."""


class FailedBatches:
    """Handles failures and deaths in a stage.

    Args:
        stage: the stage.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._unwritten: dict[int, int] = {}
        """How often batches could not be written, by their first item."""
        self._squeezed: dict[int, int] = {}
        """How often batches had no room for what others took, by their first item."""

    def failed(self, worker: WorkerState, failed: m.Failed) -> None:
        """A batch or chore failed, and its worker lives.

        Raises:
            PenstockError: the run cannot go on.
        """
        stage = self._stage
        seen = stage.watch.ended(worker.number)
        chore, worker.chore = worker.chore, None
        trial, worker.trial = worker.trial, None
        if failed.cause == "prepare":
            raise explain.of_worker(failed, stage.setup.folder)
        if failed.cause == "unfit":
            stage.crew.dismiss([worker], "unfit")
        if chore is not None:
            unfit = failed.cause == "unfit"
            failure = Failure(
                "unfit" if unfit else "memory", held=max(failed.held, seen), detail=failed.message
            )
            stage.chores.trouble(chore, failure, failed, stage.admission.budget, stage.setup.folder)
        elif failed.cause == "disk":
            self._storage_failed(worker, failed)
        elif trial is not None:
            if failed.cause == "memory":
                stage.estimate.at_least(*trial, max(failed.held, seen))
        elif worker.task is not None:
            if failed.cause == "kept" and (stage.options.set_aside is False or failed.item < 0):
                name = stage.item_name(failed.item)
                raise explain.of_worker(failed, stage.setup.folder, name)
            if failed.cause == "load" and stage.schedule.is_grain(worker.task):
                raise explain.of_worker(failed, stage.setup.folder, task=worker.task)
            cause: Any = failed.cause if failed.cause in ("memory", "load", "unfit") else "kept"
            held, detail = max(failed.held, seen), failed.message if cause == "unfit" else ""
            failure = Failure(
                cause, failed.item, failed.call, held, worker.reserved, detail, left=failed.left
            )
            self._batch_failed(worker, failure, failed)

    def _storage_failed(self, worker: WorkerState, failed: m.Failed) -> None:
        """What a batch made could not be written: again in a while, where that may help.

        Raises:
            StorageFailed: it may not, or did not.
        """
        stage, task = self._stage, worker.task
        if task is not None and storage.may_pass(failed.errno):
            tries = self._unwritten[task.start] = self._unwritten.get(task.start, 0) + 1
            if tries <= _TRIES:
                stage.admission.hold(stage.clock() + _BACK_OFF * 2**tries)
                dropped = Failure("dropped", failed.item, failed.call, failed.held, worker.reserved)
                self._batch_failed(worker, dropped, failed)
                return
        raise explain.of_worker(failed, stage.setup.folder)

    def written(self, start: int) -> None:
        """The batch that begins with this item is kept."""
        self._unwritten.pop(start, None)
        self._squeezed.pop(start, None)
        self._stage.too_little = 0

    def died(self, worker: WorkerState, death: Death) -> None:
        """A worker died, whatever it was doing.

        Raises:
            PenstockError: the run cannot go on.
        """
        stage = self._stage
        chore, trial = worker.chore, worker.trial
        failure = self.reap(worker, death)
        if trial is not None and failure.cause in ("governor", "kernel"):
            stage.estimate.at_least(*trial, failure.held)
        if worker.task is not None:
            self._batch_failed(worker, failure, None)
        elif chore is not None:
            stage.chores.trouble(chore, failure, None, stage.admission.budget, stage.setup.folder)

    def reap(self, worker: WorkerState, death: Death) -> Failure:
        """Reap a worker: forget it, and return the cause of its death."""
        stage = self._stage
        stage.schedule.forget_worker(worker.number)
        failure = stage.crew.reap(worker, death, lambda: discover.kernel_kills(stage.gauge.read()))
        if stage.setup.drafts is not None and worker.drafts:
            with suppress(OSError):  # what is left goes with the owner's folder
                remove(stage.setup.drafts / Path(worker.drafts).name)
        why = worker.leaving or failure.detail or failure.cause
        stage.ledger.say(ev.WorkerEnded, worker=worker.number, why=why)
        return failure

    def _batch_failed(self, worker: WorkerState, failure: Failure, failed: m.Failed | None) -> None:
        """A batch did not end."""
        stage = self._stage
        task = worker.task
        assert task is not None
        a, b = failure.call
        crowded = failure.cause in ("governor", "kernel") and stage.crowded
        if crowded or self._is_squeezed(task, failure):
            failure = replace(failure, cause="dropped")  # not its own doing
        if failure.cause in ("memory", "governor", "kernel") and task.start <= a < b <= task.stop:
            stage.estimate.at_least(a, b, failure.held)
        verdict = stage.schedule.fail(worker.number, failure)
        stage.ledger.say(
            ev.BatchFailed,
            batch=worker.batch,
            worker=worker.number,
            start=task.start,
            stop=task.stop,
            cause="interrupted" if failure.cause == "dropped" else failure.cause,
            item=failure.item,
            held=failure.held,
            message=failed.message if failed else failure.detail,
        )
        if verdict is not None:
            self._set_aside(verdict, failure, failed)
            self.stop_if_hopeless()

    def _is_squeezed(self, task: Task, failure: Failure) -> bool:
        """Whether others took what it was to have: it was alone, and held far less than one worker may."""
        stage = self._stage
        may = stage.admission.spare()
        if failure.cause != "governor" or not task.alone or failure.held > _SQUEEZED * may:
            return False
        tries = self._squeezed[task.start] = self._squeezed.get(task.start, 0) + 1
        stage.too_little = max(stage.too_little, int(failure.held / _SQUEEZED))
        return tries <= _TRIES

    def tried(self, worker: WorkerState, stop: int) -> None:
        """A suspected call was made in parts to find the culprit, and no part failed."""
        stage = self._stage
        task = worker.task
        assert task is not None
        assert task.suspicion is not None
        verdict = stage.schedule.tried(worker.number, stop)
        failure = task.suspicion.failure
        stage.ledger.say(
            ev.BatchFailed,
            batch=worker.batch,
            worker=worker.number,
            start=task.start,
            stop=task.stop,
            cause="interrupted" if verdict is None else failure.cause,
            item=-1,
            held=failure.held,
            message=""
            if verdict is None
            else "by itself it does not fail: its grain is set aside as a whole"
            if task.suspicion.grain
            else "made in parts, no part fails: the call is set aside as a whole",
        )
        if verdict is not None:
            self._set_aside(verdict, failure, None)
            self.stop_if_hopeless()

    def _set_aside(self, verdict: Verdict, failure: Failure, failed: m.Failed | None) -> None:
        stage, options = self._stage, self._stage.options
        if verdict.reason == "memory" and stage.crowded_by_results:
            raise stage.results_too_large()
        if verdict.of_grain and not stage.aside.allows(len(verdict.items)):
            # Another grain is another job: nothing that others still did would count for it.
            reserved = stage.admission.reserved(to_come=False)
            raise grain_too_large(verdict.items, failure.held, stage.admission.budget, reserved)
        sentence = explain.sentence(
            verdict,
            failure,
            failed,
            of_one_worker(stage.admission.spare(), stage.watch.memory.shared, stage.admission.budget),
            stage.admission.budget,
            options.timeout,
            options.stall,
        )
        for item in verdict.items:
            each = SetAside(
                item,
                stage.item_name(item),
                verdict.reason,
                sentence,
                failed.error if failed else "",
                failed.traceback if failed else "",
                failure.held if verdict.reason == "memory" else 0,
            )
            if verdict.reason == "memory":
                stage.estimate.gave_up(item, failure.held)
            self.put_aside(each)
            stage.ledger.keep({"aside": [entries.plain(each)]})

    def put_aside(self, each: SetAside) -> None:
        """Set an item aside, and emit the event once that is journaled."""
        self._stage.schedule.try_first(self.count(each))

    def count(self, each: SetAside) -> tuple[int, ...]:
        """The same where others schedule; returns the items that should be tried next because of it."""
        tried_next = self._stage.aside.put(each)
        self._stage.ledger.say_when_kept(
            ev.ItemSetAside,
            item=each.item,
            name=each.name,
            reason=each.reason,
            message=each.message.split("\n", 1)[0],
        )
        return tried_next

    def stop_if_hopeless(self) -> None:
        """End the run if too much was set aside already.

        Raises:
            PenstockError: it was.
        """
        why = self._stage.aside.abort_reason()
        if why:
            self._stage.ledger.commit()
            raise self.error(hopeless=why == "hopeless")

    def error(self, *, hopeless: bool = False) -> PenstockError:
        """The error of a run that has set aside more than it may: of nodes, in terms of the largest."""
        stage = self._stage
        is_step = getattr(stage.setup.function, "is_step", False)
        return explain.failure_of(
            list(stage.aside),
            stage.setup.items,
            stage.admission.budget,
            stage.admission.reserved(to_come=False),
            hopeless=hopeless,
            step=stage.setup.folder.name if is_step else "",
            on=stage.largest_node,
        )
