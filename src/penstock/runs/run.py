"""A run: a folder, a budget, and the stages executed in it one after the other.

Covers entering and leaving, signals and the final report. What earlier runs left of a stage is
:mod:`penstock.runs.resuming`'s, working it :mod:`penstock.runs.execution`'s, the folder
:mod:`penstock.record.folder`'s.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from penstock import discover, display, forks, layout, storage
from penstock import events as ev
from penstock.abc import Observer
from penstock.durations import parse_duration
from penstock.engine.decide.plan import Plan
from penstock.engine.parent.interrupts import Interrupt
from penstock.errors import UsageError
from penstock.observers import Observers
from penstock.record.described import describe
from penstock.record.folder import RunFolder
from penstock.record.publishing import publish
from penstock.report.report import Report
from penstock.report.tally import Tally
from penstock.runs import on_nodes
from penstock.runs.checks import called, folder_name, how_many, positive, switch
from penstock.runs.context import RunContext, RunOptions
from penstock.runs.execution import Execution
from penstock.runs.resuming import resume
from penstock.runs.spec import JobSpec
from penstock.runs.stage_run import StageRun
from penstock.runs.step import Step, StepFolder
from penstock.stored import Stored


class Run:
    """A run folder in use: ``with penstock.Run("runs/x", budget="4GiB") as run: ...``

    The same stages again in the same folder resume: what is done is not done again.

    Args:
        folder: where results and the journal go; None for a temporary one.
        budget: bytes for all processes together: ``"4GiB"``, ``"80%"``, bytes, or ``"auto"`` for
            the smallest limit that holds this process.
        workers: at most so many; None lets the plan choose.
        call: at most so many items a call; None lets the plan choose.
        set_aside: False: items that cannot be done fail the run after the others are finished;
            True: the run succeeds without them; a number: at most so many.
        accept_changes: go on although the job or finished inputs changed.
        retry_set_aside: try items again that an earlier run set aside.
        private: every stage and step is private, as a :class:`penstock.Job` can be, and nobody else may
            read what the run writes (umask 077, until it ends; a folder that is there is closed to others).
        history: begin each stage with what earlier runs of the same function took, and keep what it took for
            later ones, as numbers in the user's cache (``PENSTOCK_HISTORY``); of a private run nothing is
            kept there. Results do not depend on it.
        progress: show how it goes; None: on a terminal and in a notebook. Or a function that is called now
            and then with how it stands: ``stage``, ``items``, ``done``, ``set_aside``, ``used``, ``budget``.
        output: ``"show"`` here what workers print, or ``"log"``: only in ``.penstock/workers.log``.
        observers: called with every event.
        backend: ``"local"`` or ``"inline"``, or a backend.
        cluster: nodes that work the items of stages, each with a budget of its own: ``"local:2"``,
            ``"dask://HOST:8786"``, ``"slurm:4,memory=64GiB,cores=16"``, a ``distributed.Client`` or a
            :class:`penstock.abc.Cluster`. Steps run here, and the results are put together here.
        wait: how long the run goes on without any node of its cluster.

    Raises:
        RunLocked: another process runs in the folder.
        RunTakenOver: from anything in it: another process took the folder over while this one slept.
        CannotResume: the folder holds something that is no run.
        UsageError: an argument that makes no sense.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        budget: str | int = "auto",
        workers: int | None = None,
        call: int | None = None,
        set_aside: bool | int = False,
        accept_changes: bool = False,
        retry_set_aside: bool = False,
        private: bool = False,
        history: bool = True,
        progress: display.Progress = None,
        output: display.Output = "show",
        observers: Sequence[Observer] = (),
        backend: str | Any = "local",
        cluster: str | Any | None = None,
        wait: str | float = "5min",
    ) -> None:
        found = on_nodes.find(cluster, backend)
        options = RunOptions(
            budget=budget,
            workers=discover.most_workers(workers),
            call=positive("call", call),
            set_aside=how_many("set_aside", set_aside),
            accept_changes=switch("accept_changes", accept_changes),
            retry_set_aside=switch("retry_set_aside", retry_set_aside),
            private=switch("private", private),
            history=switch("history", history),
            wait=parse_duration(wait, "wait"),
        )
        self._here = forks.Here()
        told = Observers(observers)
        display.check(progress, output)
        # Behind what may refuse: a temporary folder is made here.
        self._run_folder = RunFolder(folder, private=private)
        self.folder = self._run_folder.path
        self.state_dir = self._run_folder.state_dir
        stays = not self._run_folder.temporary
        self._display = display.Display(progress, output, self.state_dir / layout.WORKERS_LOG, stays=stays)
        self._context = RunContext(options, self._run_folder, told, Observers([self._display]))
        self.reports: list[Report] = self._context.reports
        """One for each stage so far."""
        self._execution = Execution(self._context, backend, found)

    # ------------------------------------------------------------------ entering and leaving

    def __enter__(self) -> Run:
        self._check_here()
        with storage.told(self.state_dir):
            self._run_folder.enter()
        self._context.interrupts.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._execution.close()
            self._display.close()
            self._run_folder.close()
            if error is not None:
                reason = self._run_folder.reason(error)
                if reason is not error:
                    raise reason from error
            if not self._run_folder.temporary and self._execution.worked and self._run_folder.owned:
                self._run_folder.write_report(self.report(), self.reports)
        finally:
            self._context.interrupts.restore()
            self._run_folder.leave()
        if isinstance(error, Interrupt):
            stop = KeyboardInterrupt() if error.number == signal.SIGINT else SystemExit(128 + error.number)
            if not self._run_folder.temporary:
                stop.add_note(
                    f"the run in {self.folder} can be resumed: the same call again goes on where it ended"
                )
            raise stop from None

    def report(self) -> Report:
        """The report so far: of the only stage, or of all together."""
        if len(self.reports) == 1:
            return self.reports[0]
        return Report.of_stages(self.reports, folder=self._run_folder.lasting_path)

    # ------------------------------------------------------------------ stages

    def stage(self, name: str, job: JobSpec) -> Stored:
        """Execute a job as a stage of this run; a finished one is not repeated.

        Results lie in ``folder/name``.

        Raises:
            PenstockError: see :mod:`penstock.errors`.
        """
        if folder_name("a stage", name).startswith("."):
            raise UsageError(f"a stage cannot be called {name!r}: a plain word names a folder")
        if name in layout.RESERVED:
            raise UsageError(f"a stage cannot be called {name!r}: the engine keeps something of that name")
        return self._stage(name, job)

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        inputs: Mapping[str, Any] | None = None,
        memory: str | int | None = None,
        threads: int | None = None,
        seed: int = 0,
        private: bool = False,
        timeout: str | float | None = None,
        stall: str | float = "10min",
    ) -> Stored:
        """Call one function once, with a folder to write into: ``function(folder, **inputs)``.

        The function writes into a temporary folder, which takes the step's name when it succeeds.
        A dict that it returns becomes the ``facts`` of the :class:`Stored`. The other options are those
        of a :class:`Job`.
        """
        from penstock.sources.items import Range

        return self.stage(
            name,
            JobSpec(
                source=Range(1),
                function=Step(called("function", function)),
                into=StepFolder(),
                inputs={} if inputs is None else inputs,
                memory=memory,
                threads=threads,
                seed=seed,
                private=private,
                timeout=timeout,
                stall=stall,
            ),
        )

    def publish(self, stored: Stored, *names: str) -> None:
        """Give files of a finished stage a second name at the top of the run folder.

        It is no copy where the disk has hard links. The journal knows of them, so that ``penstock verify``
        sees whether they are still what the stage kept; the same call again puts back what is gone.

        Args:
            stored: the stage.
            names: of files in its folder, ``"table/final.npz"`` for one of the sink ``table``, or of a
                folder for the files that lie in it, hidden ones apart; none for those of the stage's own
                folder. At the top each has the last component of its name.

        Raises:
            UsageError: there is no such file, or something else has its name at the top.
            ResultsDamaged: a file of the stage is gone, or is not what was kept.
        """
        self._check_here()
        with storage.told(self.state_dir):
            publish(stored, names, self.folder, self._run_folder.owner)

    def describe(self, **told: object) -> None:
        """Describe the input and the settings, for readers of ``penstock report``.

        They are written at once, so that they are there after the run was killed.

        Args:
            told: a line by name, ``samples="2,000,000 rows of 14 columns"``; the same name again replaces it.
        """
        self._check_here()
        with storage.told(self.state_dir):
            describe(self.state_dir, told)

    def _stage(self, name: str, job: JobSpec) -> Stored:
        self._check_here()
        with storage.told(self.state_dir):
            self._check_entered()
            self._report_death()
            self._run_folder.prove()
            if self._context.options.private and not job.private:
                job = replace(job, private=True)
            left = resume(self._context, name, job)
            if isinstance(left, StageRun):
                return self._execution.work(left)
            stored, report = left
            self.reports.append(report)
            return stored

    def try_out(self, job: JobSpec) -> Plan:
        """Run a few items of a job, discard their results, and return the plan."""
        self._check_here()
        self._check_entered()
        return self._execution.try_out(job)

    def _check_here(self) -> None:
        """Refuse a child: it would write with its parent's lock, beside it."""
        if why := self._here.refusal("the run"):
            raise UsageError(why)

    def _check_entered(self) -> None:
        if not self._run_folder.entered:
            raise UsageError("a Run is used as a context: with penstock.Run(...) as run: ...")

    def _report_death(self) -> None:
        """Report once that the previous run died."""
        died, self._run_folder.died = self._run_folder.died, None
        if died is not None:
            message = died.sentence("the run before this one")
            event = ev.RunDied(at=time.time(), stage=died.stage, died=died.at, message=message)
            self._context.emit(event, Tally())
