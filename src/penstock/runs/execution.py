"""Executes the stages of a run: opens the backend, runs the engine's loop, reports start and end.

Covers the fork server shared by all stages, and parts that turn out damaged when a stage is closed.
What happens within a stage is the engine's.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from penstock import asking, discover, layout, registry
from penstock import events as ev
from penstock.abc import Cluster, Event, Sequential
from penstock.engine.decide.plan import Plan
from penstock.engine.parent.interrupts import Interrupt
from penstock.engine.parent.ledger import Ledger
from penstock.engine.parent.loop import Loop
from penstock.engine.parent.options import Host, Options
from penstock.engine.parent.probes import try_out
from penstock.engine.parent.stage import Stage
from penstock.engine.worker.process import THREAD_VARIABLES, release_unused
from penstock.errors import PenstockError, ResultsDamaged
from penstock.record import journal, made_with, standing
from penstock.report.tally import Tally
from penstock.runs.context import RunContext
from penstock.runs.remembering import Memory, of_stage
from penstock.runs.resuming import take_back_damaged
from penstock.runs.spec import JobSpec
from penstock.runs.stage_run import StageRun
from penstock.runs.step import Step
from penstock.stored import Stored

if TYPE_CHECKING:
    from penstock.runs.on_nodes import OnNodes

_TIMES = 3
"""How often a stage is worked when parts of it turn out damaged in the end."""
_OF_A_FILE, _SOME_ASIDE = 4, 5
"""Exit codes: of what the system says of a file, and of a stage that is done but for items set aside."""


class Execution:
    """Executes one stage after the other with one backend.

    Args:
        context: of the run.
        backend: ``"local"``, another registered name, or a backend.
        cluster: works the items, where there is one.
    """

    def __init__(self, context: RunContext, backend: str | Any, cluster: Cluster | None = None) -> None:
        self._context = context
        self._nodes = _nodes(context, cluster) if cluster is not None else None
        self._name = backend if isinstance(backend, str) else asking.whole(backend)
        self._backend: Any = None
        self._memory: Memory | None = None
        """Of the stage that is worked."""
        self.worked = False
        """Whether any stage was not finished before."""

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        if self._nodes is not None:
            self._nodes.leave()
        if self._backend is not None:
            self._backend.close()

    def work(self, current: StageRun) -> Stored:
        """Work on what is left of a stage.

        Raises:
            PenstockError: see :mod:`penstock.errors`.
        """
        folder = self._context.folder
        path = current.state_dir / layout.JOURNAL
        asked = self._context.options
        self._memory = of_stage(current, wanted=asked.history, private=asked.private)
        book = journal.Journal(path, durable=current.durable, owner=folder.owner)
        began, cpu = time.monotonic(), self._cpu()
        try:
            current.begin(book)
            if current.durable:
                job = current.job
                stage = current.stored.name
                made_with.note(folder.state_dir, stage, current.key, job.function, private=job.private)
            self._tell_warming(current)
            self._report_start(current)
            if current.items:
                release_unused()  # what results of an earlier run took is not taken before any item
                self._open_backend(current)
                self._work_items(current, book)
            else:
                current.made = current.make_nothing(book)
            current.outcome = "done"
        except Interrupt as stop:
            current.outcome, current.code = "interrupted", 128 + stop.number
            raise
        except (PenstockError, OSError) as error:
            reason = folder.reason(error)
            current.error = reason if isinstance(reason, PenstockError) else None
            if current.error is not None:
                current.code = current.error.exit_code
            elif getattr(error, "filename", None) is not None:
                current.code = _OF_A_FILE
            if reason is not error:
                raise reason from error
            del reason  # it is the error, whose frames hold this one
            raise
        finally:
            book.close()
            self._report_end(current, time.monotonic() - began, self._cpu() - cpu)
            self._context.reports.append(current.end())
            self.worked = True
            if folder.owned:
                current.save(self._context.reports[-1])
                if self._memory is not None:
                    self._memory.keep()
            current.error = None  # its frames hold the stage: in a circle both would wait for a collection
        return current.stored

    def try_out(self, job: JobSpec) -> Plan:
        """Run a few items of a job and discard their results: the plan that follows."""
        folder = self._context.folder
        found = self._context.discover()
        state_dir = folder.state_dir / layout.JOB
        state_dir.mkdir(exist_ok=True)
        stored = Stored("", folder.path, {}, (), job.outputs(temporary=False), state_dir)
        current = StageRun(
            job, {}, journal.Past(), False, found, stored, folder.lasting_path, Tally(), folder.drafts
        )
        self._memory = None  # what is said of a plan was tried
        self._open_backend(current)
        with closing(journal.Journal(state_dir / layout.TRIAL, durable=False)) as book:
            loop = self._loop(current, book, lambda event: None)
            return try_out(loop, current.setup(), threads=job.most_threads(discover.cpus()))

    def _counting(self, tally: Tally) -> Callable[[Event], None]:
        """Takes events; without the stage itself, which holds the loop: both would wait for a collection."""
        return lambda event: self._context.emit(event, tally)

    def _work_items(self, current: StageRun, book: journal.Journal) -> None:
        """Work the items; again those whose parts turn out not to be what was kept."""
        for times in range(_TIMES):
            if self._nodes is not None and not isinstance(current.job.function, Step):
                self._work_on_nodes(current, book, self._nodes)
            current.loop = self._loop(current, book, self._counting(current.tally))
            try:
                current.made = current.loop.run(opened=current.past.opened)
                return
            except ResultsDamaged:
                if times == _TIMES - 1:  # the next run will see to it
                    raise
                place = standing.Place(current.stored.folder, current.state_dir)
                past = journal.read(place.book)
                current.past = take_back_damaged(self._context, current.stored.name, place, past, None)
                if current.past is past:
                    raise
                self._open_backend(current)

    def _work_on_nodes(self, current: StageRun, book: journal.Journal, nodes: OnNodes) -> None:
        """Have nodes work what is left; what remains is to put the results together, here."""

        def emit(event: Event) -> None:
            self._context.emit(event, current.tally)

        if not current.past.opened:
            self._loop(current, book, emit).prepare()
        try:
            nodes.work(current, self._stage(current, book, emit))
        finally:
            current.past = journal.read(current.state_dir / layout.JOURNAL)

    def _tell_warming(self, current: StageRun) -> None:
        """Say that it takes a while before the first item, where the function knows that; see ``Job``."""
        ask = getattr(current.job.function, "warming", None)
        begins = current.past.kept < current.items and self._nodes is None
        # Of a private job nothing is told that its function says.
        if begins and not current.job.private and callable(ask) and (message := ask()):
            looking = ev.Looking(at=time.time(), stage=current.stored.name, message=str(message))
            self._context.emit(looking, current.tally)

    def _report_start(self, current: StageRun) -> None:
        budget = current.found.budget
        started = ev.StageStarted(
            at=time.time(),
            stage=current.stored.name,
            items=current.items,
            done=current.past.kept,
            budget=budget.bytes,
            origin=budget.origin,
            workers=self._context.options.workers,
            again=current.again,
            set_aside=len(current.past.aside),
        )
        self._context.emit(started, current.tally)

    def _report_end(self, current: StageRun, seconds: float, cpu: float) -> None:
        ended = ev.StageEnded(
            at=time.time(),
            stage=current.stored.name,
            outcome=current.outcome,
            done=current.done,
            set_aside=len(current.aside),
            seconds=seconds,
            cpu=cpu,
            peak=current.peak,
            projected=current.tally.projected,
            message=current.why,
            waited=current.waited,
            code=(_SOME_ASIDE if current.aside else 0) if current.outcome == "done" else current.code,
        )
        self._context.emit(ended, current.tally)

    def _cpu(self) -> float:
        """CPU seconds of this process and all it started, so far."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        ours = usage.ru_utime + usage.ru_stime + (self._backend.cpu if self._backend is not None else 0.0)
        return ours + (self._nodes.cpu if self._nodes is not None else 0.0)

    def _open_backend(self, current: StageRun) -> None:
        if self._backend is None:
            self._backend = (
                registry.make("backend", self._name) if isinstance(self._name, str) else self._name
            )
        source = current.job.source
        stretches = items = current.items
        if isinstance(source, Sequential):
            stretches = len(asking.starts(source, items))
        one_worker = self._context.options.workers == 1 or stretches == 1
        threads = str(current.job.most_threads(discover.cpus()) if one_worker else 1)
        self._backend.open(
            current.job.pack(current.setup()),
            dict.fromkeys((name for name in THREAD_VARIABLES if name not in os.environ), threads),
            None if current.job.private else self._context.folder.state_dir / layout.WORKERS_LOG,
        )

    def _loop(self, current: StageRun, book: journal.Journal, emit: Callable[[Event], None]) -> Loop:
        context, stage = self._context, self._stage(current, book, emit)
        beat, awake = context.folder.beat, context.folder.awake
        collect = current.collect()
        return Loop(stage, collect=collect, interrupts=context.interrupts, beat=beat, awake=awake)

    def _stage(self, current: StageRun, book: journal.Journal, emit: Callable[[Event], None]) -> Stage:
        context, job, memory = self._context, current.job, self._memory
        asked = context.options
        governs = asking.BackendPowers(self._backend).governs
        options = Options(
            budget=current.found.budget,
            requested=current.found.requested,
            wishes=job.wishes(asked.workers, asked.call),
            # A step has nothing to go on with when its only item is set aside.
            set_aside=asked.set_aside if not isinstance(job.function, Step) else False,
            stall=job.stall_seconds,
            timeout=job.timeout_seconds,
            cores=discover.cpus(),
            # What nobody measures apart is no memory of a worker's.
            before=memory.before() if memory is not None and governs else None,
            keep=memory.note if memory is not None and governs else None,
        )
        name = current.stored.name
        ledger = Ledger(book, emit, name, current.state_dir)
        host = Host(context.gauge)
        return Stage(current.setup(), options, self._backend, host, ledger, current.past, name)


def _nodes(context: RunContext, cluster: Cluster) -> OnNodes:
    from penstock.runs.on_nodes import OnNodes  # a tenth of the engine, and few runs have a cluster

    return OnNodes(context, cluster)
