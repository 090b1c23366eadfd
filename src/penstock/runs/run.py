"""A run: a folder, a budget, and the stages done in it one after the other.

Covers signals, the fork server shared by all stages, what is resumed, and the reports. The folder
is :mod:`penstock.record.folder`'s; what happens within a stage is the engine's.
"""

from __future__ import annotations

import os
import resource
import signal
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any

from penstock import discover, forks, layout, registry, storage
from penstock import events as ev
from penstock.abc import Event, Observer, Sequential, Sized
from penstock.budget import MiB
from penstock.engine.decide.plan import Plan
from penstock.engine.parent.interrupts import Interrupt, Interrupts
from penstock.engine.parent.ledger import Ledger
from penstock.engine.parent.loop import Loop
from penstock.engine.parent.probes import try_out
from penstock.engine.parent.stage import Options, Stage
from penstock.engine.worker.process import THREAD_VARIABLES
from penstock.errors import JobChanged, PenstockError, ResultsDamaged, UsageError
from penstock.record import journal, standing
from penstock.record.described import describe
from penstock.record.folder import RunFolder
from penstock.record.job_key import digest_of, holes_before
from penstock.record.listing import Listing
from penstock.record.publishing import publish
from penstock.record.resume import begin_again, compare, forgive
from penstock.report.report import Report
from penstock.report.tally import Tally
from penstock.runs.spec import JobSpec
from penstock.runs.stage_run import StageRun, finished
from penstock.runs.step import Step, StepFolder
from penstock.stored import Stored

_MANY = 10_000
_HEAVY = 256 * MiB
"""So many items, or bytes of their files that are read, take a while to look at."""
_BEAT = 2.0
"""Seconds between signs of life while parts are read."""
_TIMES = 3
"""How often a stage is worked when parts of it turn out damaged in the end."""


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
        observers: called with every event.
        backend: ``"local"`` or ``"inline"``, or a backend.

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
        observers: Sequence[Observer] = (),
        backend: str | Any = "local",
    ) -> None:
        self._workers = discover.most_workers(workers)
        self._call = _positive("call", call)
        self._budget = budget
        self._set_aside = set_aside
        self._accept = accept_changes
        self._retry = retry_set_aside
        self._observers = list(observers)
        self._backend_name = backend
        self._backend: Any = None
        self._here = forks.Here()
        self._gauge = discover.Gauge()
        self._private = private
        self._run_folder = RunFolder(
            folder, private=private
        )  # behind what may refuse: a temporary one is made here
        self.folder = self._run_folder.path
        self.machinery = self._run_folder.machinery
        self.reports: list[Report] = []
        """One for each stage so far."""
        self._interrupts = Interrupts()
        self._worked = False
        """Whether any stage was not finished before."""

    # ------------------------------------------------------------------ entering and leaving

    def __enter__(self) -> Run:
        self._check_here()
        with storage.told(self.machinery):
            self._run_folder.enter()
        self._interrupts.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._backend is not None:
                self._backend.close()
            self._run_folder.close()
            if error is not None:
                reason = self._run_folder.reason(error)
                if reason is not error:
                    raise reason from error
            if not self._run_folder.temporary and self._worked and self._run_folder.owned:
                self._run_folder.write_report(self.report(), self.reports)
        finally:
            self._interrupts.restore()
            self._run_folder.leave()
        if isinstance(error, Interrupt):
            stop = KeyboardInterrupt() if error.number == signal.SIGINT else SystemExit(128 + error.number)
            stop.add_note(
                f"the run in {self.folder} can be resumed: the same call again goes on where it ended"
            )
            raise stop from None

    def report(self) -> Report:
        """The report so far: of the one stage there is, or of all together."""
        if len(self.reports) == 1:
            return self.reports[0]
        return Report.of_stages(self.reports, folder=self._run_folder.told)

    # ------------------------------------------------------------------ stages

    def stage(self, name: str, job: JobSpec) -> Stored:
        """Do a job as a stage of this run; a finished one is not done again.

        Results lie in ``folder/name``.

        Raises:
            PenstockError: see :mod:`penstock.errors`.
        """
        if not name or name.startswith(".") or "/" in name:
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
        """Do one thing that is no list of items: ``function(folder, **inputs)``.

        The function writes into a temporary folder, which takes the step's name when it succeeds.
        A dict that it returns becomes the ``facts`` of the :class:`Stored`. The other options are those
        of a :class:`Job`.
        """
        from penstock.sources.items import Range

        return self.stage(
            name,
            JobSpec(
                source=Range(1),
                function=Step(function),
                into=StepFolder(),
                inputs=inputs or {},
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
        with storage.told(self.machinery):
            publish(stored, names, self.folder, self._run_folder.owner)

    def describe(self, **told: object) -> None:
        """Say a few things of the input and the settings, for who asks with ``penstock report`` what it was.

        They are written at once, so that they are there after the run was killed.

        Args:
            told: a line by name, ``samples="2,000,000 rows of 14 columns"``; the same name again replaces it.
        """
        self._check_here()
        with storage.told(self.machinery):
            describe(self.machinery, told)

    def _check_here(self) -> None:
        """Refuse a child: it would write with its parent's lock, beside it."""
        if why := self._here.refusal("the run"):
            raise UsageError(why)

    def _stage(self, name: str, job: JobSpec) -> Stored:
        self._check_here()
        with storage.told(self.machinery):
            return self._work_stage(name, job)

    def _work_stage(self, name: str, job: JobSpec) -> Stored:
        if not self._run_folder.entered:
            raise UsageError("a Run is used as a context: with penstock.Run(...) as run: ...")
        self._tell_death()
        self._run_folder.prove()
        owner = self._run_folder.owner
        job = self._as_private(job)
        results = self.folder / name if name else self.folder
        machinery = self.machinery / layout.stage_folder(name)
        machinery.mkdir(exist_ok=True)
        rooms = job.rooms(temporary=self._run_folder.temporary)
        place = standing.Place(results, machinery)
        book = place.book
        since = standing.written(book)  # before a line of ours is added
        past = journal.read(book)
        kept = past.kept
        if owner is not None:
            owner.outnumber(past.owner)
        listing = self._list(name, job, past.job.get("source"))
        key = job.key(listing)
        if past.job and past.job.get("source") != key["source"]:
            listing.keep(machinery)  # before a key that needs it is journaled
        past = begin_again(past, key, book, owner)
        changed = bool(past.job) and compare(
            past, key, self.folder, accept=self._accept, listing=listing, machinery=machinery
        )
        past = self._look(name, place, past, since)
        if past.aside:
            ceiling = None if self._tries_all() else self._discover().budget.bytes
            forgive(past, book, len(job.source), ceiling, owner)
        if changed and self._accept and len(past.done) >= len(job.source) and past.closed:
            raise JobChanged(
                f"{self.folder} is finished: every item was done the old way, so nothing is left to do the "
                "new way. Choose another folder."
            )
        check = partial(standing.must_stand, place) if not self._run_folder.temporary else None
        known = key if changed or not past.job else past.job  # of an earlier version, in its words
        stored = Stored(
            name, results, {}, (), dict(rooms), machinery, digest_of(known), holes_before(key), check
        )
        # Changed without anything accepted: there are more items, or other files of items set aside.
        more = changed and (self._accept or len(past.done) < len(job.source))
        if past.closed and not more:
            stored = replace(stored, key=digest_of(past.job))
            stored, report = finished(stored, past, len(job.source), self.folder)
            self.reports.append(report)
            return stored
        found = self._discover()
        told, drafts = self._run_folder.told, self._run_folder.drafts
        again = max(kept - past.kept, 0)
        current = StageRun(
            job, key, past, changed, found, stored, told, Tally(name), drafts, listing, again=again
        )
        return self._do(current)

    def _list(self, name: str, job: JobSpec, before: Mapping[str, Any] | None) -> Listing:
        """The files of the source, told as before; says so where that takes a while."""
        source, how = job.source, Listing.way_of(job.source, before)
        items = len(source)
        weight = sum(source.sizes(0, items)) if isinstance(source, Sized) and how != "stat" else 0
        if how and (items >= _MANY or weight >= _HEAVY):
            # Without a number: a size is a hint, which may be what an item takes in memory.
            ways = {"stat": "by their size and time", "content": "by their content"}
            told = (
                f"looking whether the files of {items:,} items are what they were, {ways.get(how, 'in part')}"
            )
            self._emit(ev.Looking(at=time.time(), stage=name, message=told), Tally())
        return Listing.of(source, before)

    def _as_private(self, job: JobSpec) -> JobSpec:
        return replace(job, private=True) if self._private and not job.private else job

    def _look(self, name: str, place: standing.Place, past: journal.Past, since: int | None) -> journal.Past:
        """Believe no part before it was looked at; what the journal says without those that do not stand.

        Args:
            name: the stage's.
            place: where its parts lie.
            past: what the journal says.
            since: when it was written last; None to read every part.

        Raises:
            ResultsDamaged: a part that cannot be read, so that it cannot be told.
        """
        if not past.job:
            return past
        owner = self._run_folder.owner
        taken = standing.take_back(place, past, since=since, pulse=self._pulse(), owner=owner)
        if taken is None:
            return past
        event = ev.TakenBack(at=time.time(), stage=name, items=len(taken.items), message=str(taken))
        self._emit(event, Tally())
        if not self._observers:
            warnings.warn(str(taken), RuntimeWarning, stacklevel=5)  # where the stage is asked for
        return journal.read(place.book)

    def _pulse(self) -> Callable[[], None]:
        """Gives a sign of life every few seconds of a long look, and heeds the signals."""
        due = time.monotonic() + _BEAT

        def pulse() -> None:
            nonlocal due
            if self._interrupts.number:
                raise Interrupt(self._interrupts.number)
            if time.monotonic() > due:
                self._run_folder.beat()
                due = time.monotonic() + _BEAT

        return pulse

    def _tries_all(self) -> bool:
        """Whether everything that was set aside is tried again: always, where nothing may be."""
        return self._retry or self._set_aside is False

    def _discover(self) -> discover.Discovery:
        found = discover.discover(self._budget, [self._gauge])
        self._gauge.tell()
        return found

    def _tell_death(self) -> None:
        """Say once what became of the run before, where it died."""
        died, self._run_folder.died = self._run_folder.died, None
        if died is not None:
            message = died.sentence("the run before this one")
            self._emit(ev.RunDied(at=time.time(), stage=died.stage, died=died.at, message=message), Tally())

    def _do(self, current: StageRun) -> Stored:
        path, owner = current.machinery / layout.JOURNAL, self._run_folder.owner
        book = journal.Journal(path, durable=current.durable, owner=owner)
        began, cpu = time.monotonic(), self._cpu()
        try:
            current.begin(book)
            self._tell_start(current)
            if current.items:
                self._open_backend(current)
                self._work(current, book)
            else:
                current.made = current.make_nothing(book)
            current.outcome = "done"
        except Interrupt:
            current.outcome = "interrupted"
            raise
        except (PenstockError, OSError) as error:
            reason = self._run_folder.reason(error)
            current.error = reason if isinstance(reason, PenstockError) else None
            if reason is not error:
                raise reason from error
            raise
        finally:
            book.close()
            self._tell_end(current, time.monotonic() - began, self._cpu() - cpu)
            self.reports.append(current.end())
            self._worked = True
            if self._run_folder.owned:
                current.save(self.reports[-1])
        return current.stored

    def _work(self, current: StageRun, book: journal.Journal) -> None:
        """Work the items; again those whose parts turn out not to be what was kept."""
        for times in range(_TIMES):
            current.loop = self._loop(current, book, lambda event: self._emit(event, current.tally))
            try:
                current.made = current.loop.run(opened=current.past.opened)
                return
            except ResultsDamaged:
                if times == _TIMES - 1:  # the next run will see to it
                    raise
                place = standing.Place(current.stored.folder, current.machinery)
                current.past = self._look(current.stored.name, place, past := journal.read(place.book), None)
                if current.past is past:
                    raise
                self._open_backend(current)

    def _tell_start(self, current: StageRun) -> None:
        budget = current.found.budget
        started = ev.StageStarted(
            at=time.time(),
            stage=current.stored.name,
            items=current.items,
            done=current.past.kept,
            budget=budget.bytes,
            origin=budget.origin,
            workers=self._workers,
            again=current.again,
            set_aside=len(current.past.aside),
        )
        self._emit(started, current.tally)

    def _tell_end(self, current: StageRun, seconds: float, cpu: float) -> None:
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
        )
        self._emit(ended, current.tally)

    def _cpu(self) -> float:
        """CPU seconds of this process and all it started, so far."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime + (self._backend.cpu if self._backend is not None else 0.0)

    def _open_backend(self, current: StageRun) -> None:
        if self._backend is None:
            name = self._backend_name
            self._backend = registry.load("backend", name)() if isinstance(name, str) else name
        source = current.job.source
        stretches = len(source.starts()) if isinstance(source, Sequential) else len(source)
        one_worker = self._workers == 1 or stretches == 1
        threads = str(current.job.most_threads(discover.cpus()) if one_worker else 1)
        self._backend.open(
            current.job.pack(current.setup()),
            dict.fromkeys((name for name in THREAD_VARIABLES if name not in os.environ), threads),
            None if current.job.private else self.machinery / layout.WORKERS_LOG,
        )

    def _loop(self, current: StageRun, book: journal.Journal, emit: Callable[[Event], None]) -> Loop:
        job = current.job
        governs = getattr(self._backend, "governs", True)
        options = Options(
            budget=current.found.budget,
            requested=current.found.requested,
            wishes=job.wishes(self._workers if governs else 1, self._call),
            # A step has nothing to go on with when its only item is set aside.
            set_aside=self._set_aside if not isinstance(job.function, Step) else False,
            stall=job.stall_seconds,
            timeout=job.timeout_seconds,
            governs=governs,
            cores=discover.cpus(),
        )
        name = current.stored.name
        ledger = Ledger(book, emit, name, current.machinery)
        stage = Stage(current.setup(), options, self._backend, self._gauge, ledger, current.past, name)
        beat, awake = self._run_folder.beat, self._run_folder.awake
        collect = current.collect()
        return Loop(stage, collect=collect, interrupts=self._interrupts, beat=beat, awake=awake)

    def try_out(self, job: JobSpec) -> Plan:
        """Try a few items of a job, throw their results away, and tell the plan."""
        self._check_here()
        if not self._run_folder.entered:
            raise UsageError("a Run is used as a context: with penstock.Run(...) as run: ...")
        found = self._discover()
        machinery = self.machinery / layout.JOB
        machinery.mkdir(exist_ok=True)
        stored = Stored("", self.folder, {}, (), job.rooms(temporary=False), machinery)
        told, drafts = self._run_folder.told, self._run_folder.drafts
        current = StageRun(job, {}, journal.Past(), False, found, stored, told, Tally(), drafts)
        self._open_backend(current)
        with closing(journal.Journal(machinery / layout.TRIAL, durable=False)) as book:
            loop = self._loop(current, book, lambda event: None)
            return try_out(loop, current.setup(), threads=job.most_threads(discover.cpus()))

    def _emit(self, event: Event, tally: Tally) -> None:
        tally(event)
        self._run_folder.write(event)
        for observer in self._observers:
            observer(event)


def _positive(name: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise UsageError(f"{name} must be at least 1, not {value}")
    return value
