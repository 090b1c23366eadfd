"""A run: a folder, a budget, and the stages done in it one after the other.

Covers the folder's lock, signals, the fork server shared by all stages, temporary runs, and the
report at the end. What happens within a stage is the engine's.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from penstock import events as ev
from penstock import registry, values
from penstock.abc import Event, Observer, Sequential, Sink
from penstock.engine import discover, journal, postmortem
from penstock.engine.interrupts import Interrupt, Interrupts
from penstock.engine.keeping import Keeper
from penstock.engine.key import digest_of, holes_before
from penstock.engine.lock import RunLock
from penstock.engine.loop import Loop, Options
from penstock.engine.plan import Plan
from penstock.engine.process import THREAD_VARIABLES
from penstock.engine.report import Report, Tally
from penstock.engine.resume import compare
from penstock.engine.trials import try_out
from penstock.engine.worker import Setup
from penstock.errors import CannotFit, CannotResume, JobChanged, PenstockError, RunFailed, UsageError
from penstock.steps import Step, StepFolder
from penstock.stored import Stored

if TYPE_CHECKING:
    from penstock.job import Job

MACHINERY = ".penstock"
"""Folder for the journal, events and logs inside a run folder."""
_GROWN = 1.02
"""A budget larger by this factor is worth another try of what was too large."""
_REPORT = "report.json"


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
        observers: called with every event.
        backend: ``"local"`` or ``"inline"``, or a backend.

    Raises:
        RunLocked: another process runs in the folder.
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
        observers: Sequence[Observer] = (),
        backend: str | Any = "local",
    ) -> None:
        self._temporary = folder is None
        self._workers = discover.most_workers(workers)
        self._call = _positive("call", call)
        self._budget = budget
        self._set_aside = set_aside
        self._accept = accept_changes
        self._retry = retry_set_aside
        self._observers = list(observers)
        self._backend_name = backend
        self._backend: Any = None
        self._gauge = discover.Gauge()
        self.folder = Path(tempfile.mkdtemp(prefix="penstock-") if folder is None else folder).absolute()
        self.machinery = self.folder / MACHINERY
        self.reports: list[Report] = []
        """One for each stage so far."""
        self._interrupts = Interrupts()
        self._lock: RunLock | None = None
        self._events: Any = None
        self._died: postmortem.PostMortem | None = None
        self._entered = False
        self._worked = False
        """Whether any stage was not finished before."""

    # ------------------------------------------------------------------ entering and leaving

    def __enter__(self) -> Run:
        if not self._temporary:
            self._check_folder()
        self.machinery.mkdir(parents=True, exist_ok=True)
        if not self._temporary:
            self._died = postmortem.of_run(self.folder)  # asks the lock of the dead, so before ours
            self._lock = RunLock(self.machinery)
            self._clear_scratch()  # of a run that was killed
        if told := discover.in_memory(self.folder):
            warnings.warn(told, RuntimeWarning, stacklevel=3)
        self._events = _appended(self.machinery / "events.jsonl")
        self._interrupts.install()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._backend is not None:
                self._backend.close()
            if self._events is not None:
                self._events.close()
            self._clear_scratch()
            if not self._temporary and self._worked:
                self._write_report()
        finally:
            self._interrupts.restore()
            if self._lock is not None:
                self._lock.release()
            if self._temporary:
                shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, Interrupt):
            stop = KeyboardInterrupt() if error.number == signal.SIGINT else SystemExit(128 + error.number)
            stop.add_note(
                f"the run in {self.folder} can be resumed: the same call again goes on where it ended"
            )
            raise stop from None

    def _check_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise CannotResume(f"{self.folder} is a file; a run needs a folder")
        try:
            known = self.machinery.is_dir()
            strangers = (
                [] if known or not self.folder.is_dir() else [each.name for each in self.folder.iterdir()]
            )
            self.folder.mkdir(parents=True, exist_ok=True)
        except PermissionError as error:
            raise UsageError(f"no permission to write in {error.filename}: choose another folder") from error
        if strangers:
            raise CannotResume(
                f"{self.folder} holds {len(strangers)} files ({', '.join(sorted(strangers)[:3])} ...) "
                "but no run: "
                "choose an empty or new folder, so that nothing of yours is written over"
            )
        if not os.access(self.folder, os.W_OK):
            raise UsageError(f"no permission to write in {self.folder}: choose another folder")

    def _write_report(self) -> None:
        from penstock.engine.page import write_page

        whole = self.report()
        with suppress(OSError):  # a full disk must not hide what the run raised
            (self.folder / "report.json").write_text(whole.to_json())
            with open(self.machinery / "events.jsonl", encoding="utf-8") as lines:
                write_page(
                    self.folder, (event for line in lines if (event := ev.from_line(line))), self.reports
                )

    def _clear_scratch(self) -> None:
        for stage in self.machinery.iterdir() if self.machinery.is_dir() else ():
            shutil.rmtree(stage / "scratch", ignore_errors=True)

    def report(self) -> Report:
        """The report so far: of the one stage there is, or of all together."""
        if len(self.reports) == 1:
            return self.reports[0]
        return Report.of_stages(self.reports, folder=None if self._temporary else self.folder)

    # ------------------------------------------------------------------ stages

    def stage(self, name: str, job: Job) -> Stored:
        """Do a job as a stage of this run; a finished one is not done again.

        Results lie in ``folder/name``.

        Raises:
            PenstockError: see :mod:`penstock.errors`.
        """
        if not name or name.startswith(".") or "/" in name:
            raise UsageError(f"a stage cannot be called {name!r}: a plain word names a folder")
        return self._stage(name, job)

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        inputs: Mapping[str, Any] | None = None,
        memory: str | int | None = None,
        threads: int | None = None,
    ) -> Stored:
        """Do one thing that is no list of items: ``function(folder, **inputs)``.

        The function writes into a temporary folder, which takes the step's name when it succeeds.
        A dict that it returns becomes the ``facts`` of the :class:`Stored`. ``memory`` and ``threads``
        are as for a :class:`Job`.
        """
        from penstock.job import Job
        from penstock.sources.items import Range

        return self.stage(
            name,
            Job(
                source=Range(1),
                function=Step(function),
                into=StepFolder(),
                inputs=inputs or {},
                memory=memory,
                threads=threads,
            ),
        )

    def _stage(self, name: str, job: Job) -> Stored:
        if not self._entered:
            raise UsageError("a Run is used as a context: with penstock.Run(...) as run: ...")
        self._tell_death()
        results = self.folder / name if name else self.folder
        machinery = self.machinery / (name or "job")
        machinery.mkdir(exist_ok=True)
        key = job.key()
        rooms = job.rooms(temporary=self._temporary)
        book = machinery / "journal"
        past = self._begin_again(journal.read(book), key, book)
        changed = bool(past.job) and compare(past, key, self.folder, accept=self._accept)
        self._forgive(past, book, job)
        if changed and self._accept and len(past.done) >= len(job.source) and past.closed:
            raise JobChanged(
                f"{self.folder} is finished: every item was done the old way, so nothing is left to do the "
                "new way. Choose another folder."
            )
        tally = Tally(name)
        stored = Stored(name, results, {}, (), dict(rooms), machinery, digest_of(key), holes_before(key))
        # Changed without anything accepted: there are more items, or other files of items set aside.
        more = changed and (self._accept or len(past.done) < len(job.source))
        if past.closed and not more:
            stored = replace(stored, key=digest_of(past.job))
            return self._finished(stored, past, machinery, len(job.source))
        found = discover.discover(self._budget, [self._gauge])
        doing = _Doing(job, rooms, key, past, changed, results, machinery, tally, found)
        return self._do(name, doing, stored)

    def _tell_death(self) -> None:
        """Say once what became of the run before, where it died."""
        died, self._died = self._died, None
        if died is not None:
            message = died.sentence("the run before this one")
            self._emit(ev.RunDied(at=time.time(), stage=died.stage, died=died.at, message=message), Tally())

    def _begin_again(self, past: journal.Past, key: dict[str, Any], book: Path) -> journal.Past:
        """Take everything back when an earlier stage has other items than this one was made from."""
        if not past.job or holes_before(past.job) == holes_before(key):
            return past
        with closing(journal.Journal(book)) as lines:
            lines.write({"back": [[0, past.job["source"]["items"]]]}, {"change": key})
        return journal.read(book)

    def _forgive(self, past: journal.Past, book: Path, job: Job) -> None:
        """Take back what should be tried again: all without ``set_aside=``, or for memory with more of it."""
        if not past.aside:
            return
        if self._retry or self._set_aside is False:
            again = set(past.aside)
        else:
            ceiling = discover.discover(self._budget, [self._gauge]).budget.bytes
            again = {
                item
                for item, each in past.aside.items()
                if each.reason == "memory" and ceiling > _GROWN * past.under[item]
            }
        if not again:
            return
        back = journal.batches_of(book, again)
        if any(told is not None and told.replaced for told in past.rooms.values()):
            # The parts of the others were put together, and are no longer there to be put together again.
            back = [[0, len(job.source)]]
        with closing(journal.Journal(book)) as lines:
            lines.write({"back": back})
        fresh = journal.read(book)
        past.done, past.aside, past.under, past.closed = fresh.done, fresh.aside, fresh.under, fresh.closed

    def _finished(self, stored: Stored, past: journal.Past, machinery: Path, items: int) -> Stored:
        """Nothing to do: what the report said when it was done holds."""
        stored = _with_facts(stored, past.aside, items)
        try:
            before = Report.from_json((machinery / _REPORT).read_text(), open_result=stored.open)
        except (OSError, ValueError, TypeError):  # only the report was lost
            before = Report(stage=stored.name, items=items, open_result=stored.open)
        self.reports.append(
            replace(
                before, folder=self.folder, outcome="done", message="", done=past.kept, resumed_from=past.kept
            )
        )
        return stored

    def _do(self, name: str, doing: _Doing, stored: Stored) -> Stored:
        past, found, items = doing.past, doing.found, len(doing.job.source)
        book = journal.Journal(doing.machinery / "journal", durable=not self._temporary)
        collected: dict[int, list[Any]] = {}
        began, cpu = time.monotonic(), self._cpu()
        outcome, message = "failed", ""
        raised: PenstockError | None = None
        loop: Loop | None = None
        made: Any = None

        def emit(event: Event) -> None:
            self._emit(event, doing.tally)

        try:
            if not past.job:
                book.write({"job": doing.key})
            elif doing.changed:
                book.write({"change": doing.key})
            book.write({"budget": found.budget.bytes})
            emit(
                ev.StageStarted(
                    at=time.time(),
                    stage=name,
                    items=items,
                    done=past.kept,
                    budget=found.budget.bytes,
                    origin=found.budget.origin,
                    workers=self._workers,
                )
            )
            if items:
                self._open_backend(doing)
                comes_here = self._temporary and isinstance(next(iter(doing.rooms.values())), Sink)
                loop = self._loop(name, doing, book, collected.__setitem__ if comes_here else None, emit)
                made = loop.run(opened=past.opened)
            else:
                made = _nothing(doing, book, durable=not self._temporary)
            outcome = "done"
        except Interrupt:
            outcome = "interrupted"
            raise
        except PenstockError as error:
            message, raised = str(error), error
            raise
        finally:
            book.close()
            aside = loop.aside.items if loop is not None else past.aside
            done = loop.done if loop is not None else past.kept
            emit(
                ev.StageEnded(
                    at=time.time(),
                    stage=name,
                    outcome=outcome,
                    done=done,
                    set_aside=len(aside),
                    seconds=time.monotonic() - began,
                    cpu=self._cpu() - cpu,
                    peak=loop.watch.peak if loop else 0,
                    projected=doing.tally.projected,
                    message=message,
                )
            )
            stored = _with_facts(stored, aside, items)
            opened = stored.open
            if self._temporary:
                opened = _kept_here(doing.rooms, collected, made)
            self.reports.append(
                doing.tally.report(
                    folder=None if self._temporary else self.folder,
                    set_aside=aside.values(),
                    open_result=opened,
                )
            )
            if isinstance(raised, RunFailed | CannotFit):
                raised.report = self.reports[-1]
            self._worked = True
            with suppress(OSError):
                (doing.machinery / _REPORT).write_text(self.reports[-1].to_json())
        return stored

    def _cpu(self) -> float:
        """CPU seconds of this process and all it started, so far."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime + (self._backend.cpu if self._backend is not None else 0.0)

    def _setup(self, doing: _Doing) -> Setup:
        return doing.job.setup(doing.rooms, doing.results, doing.machinery, durable=not self._temporary)

    def _open_backend(self, doing: _Doing) -> None:
        if self._backend is None:
            name = self._backend_name
            self._backend = registry.load("backend", name)() if isinstance(name, str) else name
        source = doing.job.source
        stretches = len(source.starts()) if isinstance(source, Sequential) else len(source)
        one_worker = self._workers == 1 or stretches == 1
        threads = str(doing.job.most_threads(discover.cpus()) if one_worker else 1)
        self._backend.open(
            doing.job.pack(self._setup(doing)),
            dict.fromkeys((name for name in THREAD_VARIABLES if name not in os.environ), threads),
            self.machinery / "workers.log",
        )

    def _loop(
        self,
        name: str,
        doing: _Doing,
        book: journal.Journal,
        collect: Callable[[int, list[Any]], None] | None,
        emit: Callable[[Event], None],
    ) -> Loop:
        job = doing.job
        governs = getattr(self._backend, "governs", True)
        options = Options(
            budget=doing.found.budget,
            requested=doing.found.requested,
            wishes=job.wishes(self._workers if governs else 1, self._call),
            # A step has nothing to go on with when its only item is set aside.
            set_aside=self._set_aside if not isinstance(job.function, Step) else False,
            stall=job.stall_seconds,
            timeout=job.timeout,
            governs=governs,
            cores=discover.cpus(),
        )
        return Loop(
            self._setup(doing),
            options,
            self._backend,
            self._gauge,
            book,
            doing.past,
            stage=name,
            emit=emit,
            collect=collect,
            interrupts=self._interrupts,
            beat=self._beat,
        )

    def try_out(self, job: Job) -> Plan:
        """Try a few items of a job, throw their results away, and tell the plan."""
        if not self._entered:
            raise UsageError("a Run is used as a context: with penstock.Run(...) as run: ...")
        found = discover.discover(self._budget, [self._gauge])
        machinery = self.machinery / "job"
        machinery.mkdir(exist_ok=True)
        rooms = job.rooms(temporary=False)
        doing = _Doing(job, rooms, {}, journal.Past(), False, self.folder, machinery, Tally(), found)
        self._open_backend(doing)
        book = journal.Journal(machinery / "trial", durable=False)
        loop = self._loop("", doing, book, None, lambda event: None)
        try:
            return try_out(loop, self._setup(doing), threads=job.most_threads(discover.cpus()))
        finally:
            book.close()

    def _beat(self) -> None:
        """A sign of life, for others now and for who asks later what this run died of."""
        if self._lock is not None:
            self._lock.beat()
            with suppress(OSError):
                os.fdatasync(self._events.fileno())

    def _emit(self, event: Event, tally: Tally) -> None:
        tally(event)
        with suppress(OSError):  # the disk is full: the journal will say so
            self._events.write(ev.to_line(event) + "\n")
            self._events.flush()
        for observer in self._observers:
            observer(event)


@dataclass
class _Doing:
    """What one stage is made of while it is done."""

    job: Job
    rooms: dict[str, Any]
    key: dict[str, Any]
    past: journal.Past
    changed: bool
    results: Path
    machinery: Path
    tally: Tally
    found: discover.Discovery


def _appended(path: Path) -> IO[str]:
    """A file of lines to go on with; a torn last line is ended, so that no line is lost with it."""
    file = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by the run
    if file.tell():
        with open(path, "rb") as whole:
            whole.seek(-1, os.SEEK_END)
            if whole.read() != b"\n":
                file.write("\n")
    return file


def _with_facts(stored: Stored, aside: Mapping[int, Any], items: int) -> Stored:
    facts: dict[str, Any] = {"items": items, "set_aside": len(aside)}
    kept = stored.folder / ".facts.json"
    if kept.is_file():
        facts.update(values.loads(kept.read_bytes()))
    missing = tuple(sorted(aside))
    holes = digest_of({"here": missing, "before": stored.holes}) if missing or stored.holes else ""
    return replace(stored, facts=facts, missing=missing, holes=holes)


def _kept_here(rooms: Mapping[str, Any], collected: Mapping[int, list[Any]], made: Any) -> Callable[[], Any]:
    """What a temporary run gives back: lists put together, and what the reducers made."""

    def opened() -> Any:
        if list(rooms) == [""] and not hasattr(rooms[""], "merge"):
            return [each for start in sorted(collected) for each in collected[start]]
        return made[""] if made is not None and list(rooms) == [""] else made

    return opened


def _nothing(doing: _Doing, book: journal.Journal, *, durable: bool) -> Any:
    """No items: an empty, valid result, made here as there is no data."""
    keeper = Keeper(doing.rooms, doing.results, doing.machinery, batched=False)
    keeper.open(0)
    made, told = keeper.close(doing.machinery / "journal", durable=durable)
    book.write(journal.opened(name for name, room in doing.rooms.items() if hasattr(room, "merge")))
    book.write(journal.closed(told))
    return made


def _positive(name: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise UsageError(f"{name} must be at least 1, not {value}")
    return value
