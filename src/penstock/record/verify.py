"""Is a run folder whole? Reads the journal and every file again, and reports what is wrong.

Believes nothing but the journal: every part must have the size and the digest of its receipt, every
item must be kept or set aside, nothing may lie there that looks like a part and has no receipt, and
the peak must have stayed under the budget. The job's code is not imported, and nothing is changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from penstock import event_lines, files, foreign, layout
from penstock.abc import Closed, Part
from penstock.budget import format_size
from penstock.errors import CannotResume, UsageError
from penstock.foreign import line
from penstock.intervals import Intervals
from penstock.plurals import plural
from penstock.record import journal, postmortem
from penstock.record.lock_file import Holder, holder_of
from penstock.record.postmortem import PostMortem
from penstock.report.report import Report
from penstock.report.tally import Tally

SCHEMA = 1
_NAMED = 100
"""The most files without a receipt that are named."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A finding of verify."""

    file: str
    """The file or folder that it concerns, inside the run folder."""
    expected: str
    found: str
    unfinished: bool = False
    """Nothing is wrong: it only waits for the run to go on."""

    def __str__(self) -> str:
        return f"{line(self.file)}: expected {line(self.expected)}, found {line(self.found)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageVerified:
    """The findings in one stage. Sizes in bytes."""

    stage: str
    """Its name; empty for a run of one job."""
    items: int = 0
    done: int = 0
    set_aside: int = 0
    finished: bool = False
    """Whether its results were put together."""
    parts: int = 0
    """Files and folders that were read and compared with their receipts."""
    bytes: int = 0
    """Their bytes."""
    peak: int = 0
    """Measured peak over all runs of it; 0 when it was not measured."""
    budget: int = 0
    """The budget at that time."""
    faults: tuple[Fault, ...] = ()

    @property
    def missing(self) -> int:
        """Items that are neither kept nor set aside."""
        return max(self.items - self.done - self.set_aside, 0)

    def __str__(self) -> str:
        items = f"{self.done:,} of {self.items:,} items kept"
        aside = f", {self.set_aside:,} set aside" if self.set_aside else ""
        missing = f", {self.missing:,} missing" if self.missing else ""
        peak = "peak not measured"
        if self.peak:
            peak = f"peak {format_size(self.peak)} of {format_size(self.budget)}"
        end = "finished" if self.finished else "not finished"
        read = f"{plural(self.parts, 'part')} ({format_size(self.bytes)}) read"
        return f"{items}{aside}{missing}, {end}; {read}; {peak}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of :func:`verify`."""

    folder: Path
    stages: tuple[StageVerified, ...] = ()
    faults: tuple[Fault, ...] = ()
    """Those of the stages, and of the run as a whole."""
    running: Holder | None = None
    """Who is running there now: then things may change while they are read."""
    died: PostMortem | None = None
    """What is known of the last run, when it died."""
    beside: tuple[str, ...] = ()
    """Files that no receipt tells of and that are no parts: a workload's, or yours; 100 at most."""

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return not self.faults

    def __str__(self) -> str:
        lines = [f"{line(stage.stage) or 'run'}: {stage}" for stage in self.stages]
        if len(self.stages) > 1:
            # As in a report: a stage of one item, as each step is, has none that anybody counts.
            total = _sums(tuple(stage for stage in self.stages if stage.items != 1) or self.stages)
            aside = f", {total['set_aside']:,} set aside" if total["set_aside"] else ""
            lines.append(f"in all: {total['done']:,} of {total['items']:,} items kept{aside}")
        if self.beside:
            lines.append(f"not verified, as no receipt tells of them: {', '.join(map(line, self.beside))}")
        if self.running is not None:
            lines.append(line(f"running: {self.running.at_it}"))
        if self.died is not None:
            lines.append(str(self.died))
        lines += [f"{'NOT FINISHED' if fault.unfinished else 'FAULT'} {fault}" for fault in self.faults]
        return "\n".join([*lines, "everything holds" if self.ok else self._sum()])

    def _sum(self) -> str:
        """Of what does not hold: what is wrong, and what only waits to be done."""
        wrong = [fault for fault in self.faults if not fault.unfinished]
        if wrong:
            return plural(len(wrong), "fault")
        end = "it is being worked" if self.running is not None else "resumed, it goes on from there"
        return f"no fault: what is kept holds, and the run is not finished; {end}"

    def to_json(self) -> str:
        """One JSON object; sizes in bytes."""
        values = {
            "schema": SCHEMA,
            "folder": str(self.folder),
            "ok": self.ok,
            "stages": [{**asdict(stage), "missing": stage.missing} for stage in self.stages],
            "total": _sums(self.stages),
            "faults": [asdict(fault) for fault in self.faults],
            "running": None if self.running is None else asdict(self.running),
            "died": None if self.died is None else self.died.as_json(),
            "beside": list(self.beside),
        }
        return json.dumps(values, indent=1)


def _sums(stages: tuple[StageVerified, ...]) -> dict[str, int]:
    names = ("items", "done", "set_aside", "parts", "bytes")
    return {name: sum(getattr(stage, name) for stage in stages) for name in names}


def verify(folder: str | Path) -> Verification:
    """Read a run folder again, journal, results and all, and report what is wrong.

    Every file is read once, as a stream; it takes as long as the disk needs for that.

    Raises:
        UsageError: the folder holds no run, or nothing was begun in it; or it is no path.
    """
    if not isinstance(folder, str | os.PathLike):
        raise UsageError(f"folder must be a path, not {foreign.shown(folder, 60)}")
    folder = Path(folder).absolute()
    state_dir = folder / layout.STATE
    if (state_dir / layout.EXEC).is_file():
        raise UsageError(f"{folder} is the record of a supervised command: it keeps no results to verify")
    path = state_dir / layout.EVENTS
    stages = _stages(state_dir)
    if not layout.is_begun(state_dir):
        none = "nothing was begun in" if state_dir.is_dir() else "there is no run in"
        raise UsageError(f"{none} {folder}")
    tallies = _tallies(path)
    holder = holder_of(state_dir)
    faults = [] if path.is_file() else [Fault(_told(folder, path), "the events of the run", "no such file")]
    faults += [
        Fault(layout.journal_of(name), "the stage's journal", "no such file")
        for name in tallies
        if layout.stage_folder(name) not in stages
    ]
    running = holder is not None and holder.alive
    checks = [_Stage(folder, _named(each, tallies), tallies, running) for each in _in_order(stages, tallies)]
    names = {check.name for check in checks} | layout.OURS
    found = tuple(check.check(names) for check in checks)
    faults += [fault for stage in found for fault in stage.faults]
    if not found:
        faults.append(Fault(layout.STATE, "a stage with a journal", "none was begun"))
    died = postmortem.of_run(folder)
    if died is not None and died.between and died.stage and not faults:
        said = f"it died after the stage {died.stage} had ended; only the same command knows of another one"
        faults.append(Fault(layout.STATE, "the end of the run", said, unfinished=True))
    beside = [name for check in checks for name in check.beside]
    if not any(check.at_top for check in checks):
        beside += [_told(folder, path) for path in _entries(folder) if path.name not in names]
    return Verification(
        folder=folder,
        stages=found,
        faults=tuple(faults),
        running=holder if running else None,
        died=died,
        beside=tuple(sorted(beside)[:_NAMED]),
    )


def _stages(state_dir: Path) -> set[str]:
    """The folders of stages, by name."""
    return {path.parent.name for path in layout.journals(state_dir)}


def _tallies(path: Path) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for event in event_lines.read(path) if path.is_file() else ():
        tallies.setdefault(event.stage, Tally(event.stage))(event)
    return {name: tally for name, tally in tallies.items() if name or tally.items}


def _in_order(stages: set[str], tallies: Mapping[str, Tally]) -> list[str]:
    """The stages as they were begun, those that no event tells of last."""
    begun = [each for each in map(layout.stage_folder, tallies) if each in stages]
    return begun + sorted(stages.difference(begun))


def _named(state_dir: str, tallies: Mapping[str, Tally]) -> str:
    """The stage's name: a run of one job has none, and its state folder is called ``job``."""
    return "" if state_dir == layout.JOB and layout.JOB not in tallies else state_dir


def _told(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


@dataclass
class _Stage:
    """One stage while it is being verified."""

    folder: Path
    name: str
    tallies: Mapping[str, Tally]
    running: bool
    at_top: bool = False
    """Whether a sink of it keeps its parts at the top of the run folder."""
    faults: list[Fault] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    parts: int = 0
    bytes: int = 0

    def check(self, not_ours: set[str]) -> StageVerified:
        state_dir = self.folder / layout.STATE / layout.stage_folder(self.name)
        self.book = state_dir / layout.JOURNAL
        peak, budget = self._peak(state_dir / layout.REPORT)
        try:
            past = journal.read(self.book)
            if not self.running and journal.torn(self.book):
                torn = "a torn last one: its writer was killed"
                self._fault(self.book, "whole lines", torn, unfinished=not past.closed)
        except CannotResume as error:
            self._fault(self.book, "lines that match their checksums", str(error))
            return StageVerified(stage=self.name, peak=peak, budget=budget, faults=tuple(self.faults))
        items = int(past.job.get("source", {}).get("items", 0))
        set_aside = len(past.aside)
        outputs = dict.fromkeys((*past.job.get("rooms", ()), *past.outputs))
        not_ours.update(outputs)
        not_ours.update(past.published)
        for output in outputs:
            self._output(output, past, state_dir, not_ours)
        if past.closed:
            self._published(past.published)
        missing = items - past.kept - set_aside
        if missing:
            gaps = Intervals(past.done)
            for item in past.aside:
                gaps.add(item, item + 1)
            odd = f"{missing:,} missing: {postmortem.ranges(gaps.gaps(0, items))}"
            if missing < 0:
                odd = f"{-missing:,} more than there are"
            waits = missing > 0 and not past.closed
            self._fault(self.book, f"{items:,} items kept or set aside", odd, unfinished=waits)
        elif not past.closed:
            odd = "results that were not put together; resume does it"
            self._fault(self.book, "a finished stage", odd, unfinished=True)
        return StageVerified(
            stage=self.name, items=items, done=past.kept, set_aside=set_aside, finished=past.closed,
            parts=self.parts, bytes=self.bytes, peak=peak, budget=budget, faults=tuple(self.faults),
        )  # fmt: skip

    def _fault(self, path: Path, expected: str, found: str, *, unfinished: bool = False) -> None:
        self.faults.append(Fault(_told(self.folder, path), expected, found, unfinished))

    # ------------------------------------------------------------------ memory

    def _peak(self, report: Path) -> tuple[int, int]:
        """The peak, over all runs of the stage, and the budget of its moment."""
        told = []
        if self.name in self.tallies:
            told.append(
                (_told(self.folder, report.parents[1] / layout.EVENTS), self.tallies[self.name].report())
            )
        try:
            told.append((_told(self.folder, report), Report.from_json(foreign.read_text(report))))
        except FileNotFoundError:  # written last, so a run that was killed has none
            pass
        except (OSError, ValueError) as error:
            self._fault(report, "the stage's report", f"what cannot be read ({error})")
        for file, each in told:
            if each.peak > each.budget > 0:
                over = f"{format_size(each.peak)} ({format_size(each.peak - each.budget)} over)"
                self.faults.append(Fault(file, f"a peak of at most {format_size(each.budget)}", over))
        return max(((each.peak, each.budget) for _, each in told), default=(0, 0))

    # ------------------------------------------------------------------ results

    def _output(self, output: str, past: journal.Past, state_dir: Path, not_ours: set[str]) -> None:
        """One sink or reducer: its receipts, its parts, and what lies beside them."""
        is_reducer = output in past.reducers
        results = self.folder / self.name / output if output else self.folder / self.name
        folder = state_dir if is_reducer else results
        self.at_top = self.at_top or folder == self.folder
        closed = past.outputs.get(output) if past.closed else None
        told: set[str] = set()
        covered, counted = Intervals(), 0
        for batch, receipt in journal.receipts(self.book, output):
            covered.add(batch.start, batch.stop)
            counted += batch.stop - batch.start
            told.update(part.name for part in receipt.parts)
            if closed is None or not closed.replaced:
                for part in receipt.parts:
                    self._part(part, state_dir / layout.STATES if is_reducer else folder)
        if list(covered) != list(past.done) or counted != len(covered):
            what = f"the receipts of {output!r}" if output else "the receipts"
            odd = f"{counted:,} ({postmortem.ranges(covered)})"
            self._fault(self.book, f"{what} to cover {len(past.done):,} items once", odd)
        for part in closed.parts if closed is not None else ():
            self._part(part, folder)
        if not is_reducer and past.closed and "." not in told:
            self._strangers(results, told, closed or Closed(), not_ours)

    def _part(self, part: Part, folder: Path) -> None:
        path = folder / part.name
        self.parts += 1
        try:
            size, digest = files.proof(foreign.within(folder, part.name))
        except FileNotFoundError:
            self._fault(path, f"{part.bytes:,} bytes, as kept", "no such file")
            return
        except OSError as error:
            self._fault(
                path, f"{part.bytes:,} bytes, as kept", f"what cannot be read: {error.strerror or error}"
            )
            return
        self.bytes += size
        if size != part.bytes:
            self._fault(path, f"{part.bytes:,} bytes, as kept", f"{size:,} bytes")
        elif digest != part.digest:
            self._fault(path, f"the digest {part.digest}, as kept", f"{digest} in as many bytes")

    def _published(self, published: Mapping[str, str]) -> None:
        """Second names at the top: of the very file, or of a copy of it."""
        for name, path in published.items():
            top, own = self.folder / name, self.folder / self.name / path
            expected = f"what {_told(self.folder, own)} is"
            try:
                if os.path.samestat(os.lstat(top), os.lstat(own)):
                    continue
                if files.proof(foreign.within(self.folder, name)) != files.proof(own):
                    self._fault(top, expected, "something else")
            except FileNotFoundError as error:
                if error.filename == str(top):
                    self._fault(top, expected, "no such file")
            except OSError as error:
                self._fault(top, expected, f"what cannot be read: {error.strerror or error}")

    def _strangers(self, folder: Path, told: set[str], closed: Closed, not_ours: set[str]) -> None:
        """What lies in a sink's folder and no receipt tells of."""
        known = {part.name.split("/")[0] for part in closed.parts}
        if not closed.replaced:
            known |= {name.split("/")[0] for name in told}
        for path in _entries(folder):
            name = path.name
            if name in known or (folder == self.folder and name in not_ours):
                continue
            draft = fnmatch(name, f".{closed.pattern or 'part-*'}.*.tmp")
            if draft or (closed.pattern and fnmatch(name, closed.pattern)):
                what = "a draft that was left" if draft else "what looks like a part"
                self._fault(path, "nothing: no receipt tells of it", what)
            elif not name.startswith(".") and name not in not_ours and len(self.beside) < _NAMED:
                self.beside.append(_told(self.folder, path) + ("/" if path.is_dir() else ""))


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(folder.iterdir())
