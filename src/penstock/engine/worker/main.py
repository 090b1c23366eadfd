"""The worker's loop: receive two integers, read, call, write, answer with a receipt.

Runs in a forked process (or in this one, for the backend ``inline``). Covers calling the
function, measuring each call, keeping results, and finding the culprit among the items of a
call. Does not decide anything about memory or order: the parent does.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import drafts, foreign, forks, layout, proc, storage
from penstock import worker_note as note
from penstock.abc import Carried, Expecting, Reducer, Sink
from penstock.engine import messages as m
from penstock.engine.worker.batch import WorkedBatch
from penstock.engine.worker.calling import Caller, Fence
from penstock.engine.worker.exceptions import (
    forget_frames,
    item_name,
    message_of,
    out_of_memory,
    qualified,
    traceback_of,
)
from penstock.engine.worker.fitness import Fitness, Unfit
from penstock.engine.worker.process import give_back, imported_since, limit_threads, name_in_script
from penstock.engine.worker.writing import Keeper
from penstock.errors import BadInput, JournalDamaged, PenstockBug, ResultsDamaged
from penstock.meter import Meter, own_pages_apart
from penstock.sharing import Share, set_share
from penstock.stored import open_input

_SEEN = 0.001
"""Seconds of a call below which the governor cannot have looked in between."""


@dataclass(frozen=True)
class Setup:
    """A job as a worker receives it."""

    function: Callable[..., Any]
    source: Any
    outputs: Mapping[str, Sink | Reducer]
    """Sinks and reducers by name; the name is empty where there is only one."""
    folder: Path
    """Where results are kept."""
    state_dir: Path
    """Where states, scratch folders and the journal are."""
    items: int
    batched: bool
    fixed_call: int | None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    private: bool = False
    durable: bool = True
    drafts: Path | None = None
    """The owner's folder for drafts; None where there is none, and a draft lies beside what it will be."""

    def warm(self) -> None:
        """Preload what all workers share; called once in the fork server, before any fork."""
        name_in_script(self.function)
        warm = getattr(self.function, "warm", None)
        if callable(warm):
            warm()

    def serve(self, channel: Any, words: MutableSequence[int]) -> None:
        """Run a worker until it is told to exit.

        Args:
            channel: has ``send(message)``, ``receive()``, which raises EOFError at the end, and ``fileno()``.
            words: the worker's note.
        """
        worker = self.worker(words, channel.fileno())
        ready = worker.prepare()
        channel.send(ready)
        try:
            while isinstance(ready, m.Ready):
                answer = worker.answer(channel.receive())
                if answer is None:
                    return
                if worker.fitness.is_mute():  # what stands there now may be somebody's file
                    if isinstance(answer, m.Failed):
                        words[note.ITEM] = answer.item
                    sys.exit(note.MUTE)
                channel.send(answer)
        except MemoryError:
            if worker.fitness.is_narrow():
                sys.exit(note.NARROW)
            raise

    def worker(self, words: MutableSequence[int], channel: int = -1) -> Worker:
        """A worker for this job, not yet prepared; it answers None when told to exit.

        Args:
            words: its note.
            channel: the descriptor through which a process speaks that is the worker's alone, and may die of
                it; -1 where this process is somebody's.
        """
        scratch = self.state_dir / layout.SCRATCH
        if self.drafts is not None:  # of this owner: one before it may still be writing into its own
            scratch /= self.drafts.name
        return Worker(self, words, scratch, channel)


class Worker:
    """Works on one job.

    Args:
        setup: the job.
        words: its note, shared with the parent (see ``penstock.worker_note``).
        scratch: folder for scratch folders of items.
        channel: as :meth:`Setup.worker` has it.
    """

    def __init__(self, setup: Setup, words: MutableSequence[int], scratch: Path, channel: int = -1) -> None:
        self._setup = setup
        self._own_process = channel >= 0
        self._carried = isinstance(setup.source, Carried)
        self._expecting = isinstance(setup.source, Expecting)
        self._here = forks.Here()
        self._note = words
        self._scratch = scratch
        self._meter = Meter(children=True)
        self.fitness = Fitness((channel, *self._meter.descriptors), own_process=self._own_process)
        self._keeper = Keeper(setup.outputs, setup.folder, setup.state_dir, batched=setup.batched)
        self._idle = 0
        self._warm = False
        self._settled = 0
        self._kept = 0
        self._modules = frozenset(sys.modules)
        self._fence = Fence(self._meter)
        self._caller = self._make_caller(setup.function)
        self._threads: int | None = None
        self._our_fault = "unfit" if self._own_process else "kept"
        self._doing = "prepare"
        """What it is to fail now, where the error does not tell."""

    def _make_caller(self, function: Callable[..., Any]) -> Caller:
        setup = self._setup
        return Caller(
            function, setup.source, self._note, setup.seed, self._fence, self.fitness,
            folder=setup.folder, private=setup.private,
        )  # fmt: skip

    # ------------------------------------------------------------------ outside in

    def prepare(self) -> m.Ready | m.Failed:
        """Open the inputs and call the function's own ``prepare``."""
        folder = ""
        try:
            if self._own_process and self._setup.drafts is not None:
                folder = drafts.make_own_in(self._setup.drafts)
            inputs = {name: open_input(value) for name, value in self._setup.inputs.items()}
            if inputs:
                self._caller = self._make_caller(functools.partial(self._setup.function, **inputs))
            prepare = getattr(self._setup.function, "prepare", None)
            if callable(prepare):
                prepare()
                self._here.stay()
            self.fitness.prepared()
        except BaseException as error:
            return self._failure("memory" if out_of_memory(error) else "prepare", -1, error)
        self._idle = self._meter.held()
        private, mapped = own_pages_apart()
        own = private + mapped + self._meter.children()
        return m.Ready(self._idle, own, folder, proc.held_apart(os.getpid())[1], mapped)

    def answer(self, message: Any) -> Any:
        """Do what a message asks for, and return the answer."""
        if isinstance(message, m.Work | m.Chore):
            answer = self._batch(message) if isinstance(message, m.Work) else self._chore(message)
            self._here.stay()  # who came back with it is no child that was forked on the way
            return answer
        if isinstance(message, m.Leave):
            return None
        raise TypeError(f"a worker cannot do a {type(message).__name__}")

    def _chore(self, chore: m.Chore) -> m.ChoreDone | m.Failed:
        try:
            if chore.what == "open":
                self._keeper.open(self._setup.items)
                return m.ChoreDone()
            return m.ChoreDone(self._keeper.close(chore.argument, durable=self._setup.durable))
        except BaseException as error:
            return self._failure(self._cause_of(error, "raised"), -1, error)

    # ------------------------------------------------------------------ a batch

    def _batch(self, work: m.Work) -> m.Done | m.Failed:
        batch = WorkedBatch(work, self._note, self._caller.each_result)
        first = not self._warm
        self._doing = "prepare" if first else self._our_fault
        try:
            self._begin(batch)
            self._doing = "load"
            self._load(work)
            self._doing = "kept"
            stream = self._stream(batch)
            if work.keep:
                receipts = self._keeper.keep(stream, work.start, work.stop, self._caller.known)
            else:
                receipts = {}
                for _ in stream:
                    pass
        except BaseException as raised:
            at = max(self._note[note.ITEM], self._note[note.CALL_START])
            error = self.fitness.excuse(raised, first=at <= work.start)
            cause = self._cause_of(error, self._doing)
            at = max(self._note[note.ITEM], -1) if cause == "memory" else -1
            if foreign.is_a(error, Unfit):
                at = error.item
            elif self._doing == "kept" and cause not in ("memory", "unfit"):
                at = self._keeper.at
            return self._failure(cause, at, error)
        finally:
            self._fence.lift()
            set_share(None)
            self._caller.each_result = batch.each
        retained = self._give_back()
        return m.Done(
            stop=batch.stop,
            receipts=receipts,
            set_aside=tuple(self._caller.aside),
            calls=batch.telling(),
            slowest=batch.slowest,
            seconds=batch.seconds(),
            retained=retained,
            grown=max(retained - self._settled, 0),
            first=first,
            worn=self.fitness.worn(),
            imported=imported_since(self._modules) if first else (),
        )

    def _begin(self, batch: WorkedBatch) -> None:
        work = batch.work
        self._note[note.CUT] = 0
        share = Share(work.granted, work.threads, work.attempt, self._scratch)
        self._caller.begin({each.item: each for each in work.without}, share, batch.apart)
        self._caller.first = -1 if self._warm else work.start
        self.fitness.wary = work.wary
        self.fitness.begin()
        set_share(share)
        if work.threads != self._threads:
            limit_threads(work.threads)
            self._threads = work.threads
        self._note[note.ITEM] = self._note[note.CALL_START] = self._note[note.CALL_STOP] = -1
        self._note[note.EARLY] = 0
        self._note[note.BATCH] = work.apart  # last: from now on all that stands there is of this batch

    def _load(self, work: m.Work) -> None:
        """Take the items that travelled with the batch.

        One that cannot be taken here fails as one that cannot be read does. Of several it is not known which
        it is: the parent sends fewer.
        """
        if not self._carried or work.cargo is None:
            return
        try:
            self._setup.source.load(work.start, work.cargo)
        except BaseException as error:
            self._here.stay(error)
            if work.stop - work.start > 1 or out_of_memory(error):
                raise
            name = item_name(self._setup.source, work.start, private=self._setup.private)
            self._caller.unread = BadInput(f"item {name} {m.not_taken(qualified(error), message_of(error))}")

    def _stream(self, batch: WorkedBatch) -> Iterator[tuple[int, int, Any]]:
        """(start, stop, results) call by call, in item order; ends early where the batch is cut."""
        work = batch.work
        if self._expecting:
            with suppress(Exception):  # advice: what is wrong is told by reading
                self._setup.source.expect(work.start, work.stop)
        at = work.start
        worked = self._caller.batched if self._setup.batched else self._caller.one_by_one
        fixed = self._setup.fixed_call
        while at < work.stop:
            stop = min(at + (work.call if fixed else batch.most_items()), self._keeper.border(at), work.stop)
            if fixed:  # the same calls whatever the batch: they begin at multiples
                stop = min(stop, at // fixed * fixed + fixed)
            # Set before the results are handed on: nobody pulls again behind the last of them.
            start, at = at, stop
            batch.stop = stop
            for part in self._measured(batch, start, stop, worked):
                if batch.apart is not None:  # it may have ended before its last item
                    batch.stop = at = part[1]
                batch.weigh(part[2])
                yield part
            if batch.apart is not None and batch.apart.ended:
                return
            if at < work.stop and self._keeper.may_cut(at) and self._cut(batch):
                return

    def _cut(self, batch: WorkedBatch) -> bool:
        grown = batch.held - self._settled
        full = grown > batch.work.memory or batch.is_heavy()
        return full or self._note[note.CUT] != 0 or batch.is_late()

    def _measured(
        self,
        batch: WorkedBatch,
        start: int,
        stop: int,
        worked: Callable[[int, int], Iterator[tuple[int, int, Any]]],
    ) -> Iterator[tuple[int, int, Any]]:
        words = self._note
        words[note.CALL_START], words[note.CALL_STOP] = start, stop
        if self._warm and not self._keeper.threaded:
            self._fence.put(batch.work.fence)
        self._doing = self._our_fault
        if not self._keeper.threaded:  # else other threads are keeping results
            self.fitness.theirs()
        begin = self._meter.reset()
        words[note.LEFT] = 2 * (begin.held - self._idle) - self._settled if self._warm else 0
        began = time.perf_counter()
        # The results are handed on only when the call has ended: what the sink does with them
        # is measured with the next call.
        results = list(worked(start, stop))
        self._here.stay()
        seconds = max(0.0, time.perf_counter() - began)
        self.fitness.ours()
        if sum(to - at for at, to, _ in results) > stop - start:
            self._doing = "kept"
            raise PenstockBug(f"a call of {stop - start} items gave more results")
        peak, held, end = self._meter.peak()
        self._doing = "kept"
        # The fence is the call's: a sink that first imports Arrow maps more at once than it allows.
        self._fence.lift()
        words[note.STEPS] += 1
        words[note.ITEM] = note.KEEPING
        batch.held = max(held - self._idle, 0)
        ended = results[-1][1] if batch.apart is not None else stop
        first, last, without = m.worked_span(start, ended, self._caller.known)
        if not self._warm and first < last:
            self._warm = True
            self._settled = batch.held
        readings = (begin, end) if seconds > _SEEN and self._meter.peaks else None
        if start == ended:  # the first of them was not begun any more
            batch.stop = start
            return
        if first < last:  # where all was set aside before, nothing was called
            batch.add(m.MeasuredCall(first, last, max(peak - self._idle, 0), seconds, readings, without))
        yield from results

    # ------------------------------------------------------------------ failures and memory

    def _failure(self, cause: str, item: int, error: BaseException) -> m.Failed:
        self._here.stay(error)
        private, held = self._setup.private, 0
        with suppress(OSError, ValueError):  # its files may be closed
            held = max(self._meter.peak()[0] - self._idle, 0)
        failed = m.Failed(
            cause,
            item,
            call=(self._note[note.CALL_START], self._note[note.CALL_STOP]),
            held=held,
            left=self._note[note.LEFT],
            error=qualified(error),
            message=self._message(cause, error),
            traceback="" if private or foreign.is_a(error, Unfit) else traceback_of(error),
            file=foreign.file_of(error),
            errno=foreign.number_of(error),
        )
        self._note[note.ITEM] = -1
        forget_frames(error)
        with suppress(OSError, ValueError):
            self._give_back()
        return failed

    def _cause_of(self, error: BaseException, otherwise: str) -> str:
        if foreign.is_a(error, Unfit):
            return "unfit"
        if out_of_memory(error):
            return "memory"
        if foreign.is_a(error, (OSError, ResultsDamaged)) and self.fitness.lacks():
            return "unfit"
        if foreign.is_a(error, ResultsDamaged):
            return "damaged"
        if storage.is_full(error) or storage.is_at_fault(error, self._setup.folder):
            return "disk"
        return otherwise

    def _message(self, cause: str, error: BaseException) -> str:
        if cause == "unfit":
            return self.fitness.why(error)
        hidden = self._setup.private and not foreign.is_a(error, (JournalDamaged, ResultsDamaged))
        return "" if hidden else message_of(error)

    def _give_back(self) -> int:
        """Release free memory; the bytes above idle that are still held."""
        retained, self._kept = give_back(lambda: self._meter.held() - self._idle, self._kept)
        return retained
