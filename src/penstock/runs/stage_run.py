"""State of one stage during a run: its inputs, progress and result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from penstock import asking, discover, foreign, layout, values
from penstock.abc import SetAside, Sink
from penstock.engine.parent.loop import Loop
from penstock.engine.worker.main import Setup
from penstock.engine.worker.writing import Keeper
from penstock.errors import CannotFit, PenstockError, RunFailed, RunTakenOver
from penstock.files import atomic, discard
from penstock.outputs import is_reducer
from penstock.record import entries, journal
from penstock.record.job_key import digest_of
from penstock.record.listing import Listing
from penstock.report.report import Report
from penstock.report.tally import Tally
from penstock.runs.spec import JobSpec
from penstock.stored import Stored

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class StageRun:
    """One stage, or one that is only tried out."""

    job: JobSpec
    key: dict[str, Any]
    past: journal.Past
    changed: bool
    """Whether the key differs from the journal's, and that was accepted."""
    found: discover.Discovery
    stored: Stored
    """What the stage gives; without facts until :meth:`end`."""
    folder: Path | None
    """The run's; None for a temporary one."""
    tally: Tally
    drafts: Path | None = None
    """The owner's folder for drafts."""
    listing: Listing = field(default_factory=Listing)
    """Of the source's files."""
    again: int = 0
    """Items that were kept before and were taken back."""
    loop: Loop | None = None
    made: Any = None
    """What the reducers of a temporary run made."""
    collected: dict[int, list[Any]] = field(default_factory=dict)
    """Results that came to this process, by their first item."""
    outcome: str = "failed"
    code: int = 1
    """With what a command exits whose stage failed or was interrupted so."""
    error: PenstockError | None = None

    @property
    def items(self) -> int:
        """The number of items: as journaled, though more may have come into the source since."""
        return int(self.key["source"]["items"]) if self.key else asking.count(self.job.source)

    @property
    def aside(self) -> Mapping[int, SetAside]:
        """Items set aside so far."""
        return self.loop.stage.aside.items if self.loop is not None else self.past.aside

    @property
    def done(self) -> int:
        """Items whose results are kept."""
        return self.loop.stage.done if self.loop is not None else self.past.kept

    @property
    def peak(self) -> int:
        """The most bytes seen in use."""
        return self.loop.stage.watch.memory.peak if self.loop is not None else 0

    @property
    def waited(self) -> float:
        """Seconds that cores waited for memory, summed over cores."""
        return self.loop.stage.admission.waiting.seconds if self.loop is not None else 0.0

    @property
    def state_dir(self) -> Path:
        """The folder of the journal."""
        assert self.stored.state_dir is not None
        return self.stored.state_dir

    @property
    def durable(self) -> bool:
        """Whether results must survive this process."""
        return self.folder is not None

    @property
    def why(self) -> str:
        """The recorded reason of a failure; for a private job only our own words."""
        if self.error is None:
            return ""
        ours = isinstance(self.error, RunFailed | CannotFit)
        return str(self.error) if ours or not self.job.private else type(self.error).__name__

    def setup(self) -> Setup:
        """The job, as workers receive it."""
        made = self.job.setup(self.stored.outputs, self.stored.folder, self.state_dir, durable=self.durable)
        return replace(made, drafts=self.drafts, items=self.items)

    def collect(self) -> Callable[[int, list[Any]], None] | None:
        """Takes results that travel to this process; None if none do."""
        comes_here = not self.durable and isinstance(next(iter(self.stored.outputs.values())), Sink)
        return self.collected.__setitem__ if comes_here else None

    def begin(self, book: journal.Journal) -> None:
        """Journal the start of the stage."""
        if not self.past.job:
            self.listing.keep(self.state_dir)
            book.write({"job": self.key})
        elif self.changed:
            self.listing.keep(self.state_dir)
            book.write({"change": self.key})
            self.listing.clear(self.state_dir)
        book.write({"budget": self.found.budget.bytes})
        self.listing = Listing()  # of 10^5 files 50 MB, which nobody asks for any more

    def make_nothing(self, book: journal.Journal) -> Any:
        """An empty, valid result for a source without items, made here as there is no data."""
        outputs = self.stored.outputs
        keeper = Keeper(outputs, self.stored.folder, self.state_dir, batched=False)
        keeper.open(0)
        made, told = keeper.close(self.state_dir / layout.JOURNAL, durable=self.durable)
        book.write(entries.opened(name for name, output in outputs.items() if is_reducer(output)))
        book.write(entries.closed(told))
        return made

    def end(self) -> Report:
        """Complete the stage's results; returns its report."""
        self.stored = _with_facts(self.stored, self.aside, self.items)
        report = self.tally.report(
            folder=self.folder,
            set_aside=self.aside.values(),
            open_result=self.stored.open
            if self.durable
            else _kept_here(self.stored.outputs, self.collected, self.made),
        )
        if isinstance(self.error, RunFailed | CannotFit):
            self.error.report = report
        return report

    def save(self, report: Report) -> None:
        """Save the report beside the journal."""
        # A full disk must not hide what the run raised.
        with suppress(OSError, RunTakenOver):
            _write(self.state_dir / layout.REPORT, report)


def _write(path: Path, report: Report) -> None:
    if path.is_dir():  # nothing could be written there, and verify would fault it
        discard(path)
    with atomic(path, durable=False) as draft:
        draft.write_text(report.to_json())


def finished(stored: Stored, past: journal.Past, items: int, folder: Path) -> tuple[Stored, Report]:
    """The report of a stage with nothing left to do: the one saved when it was done."""
    stored = _with_facts(stored, past.aside, items)
    assert stored.state_dir is not None
    path = stored.state_dir / layout.REPORT
    try:
        before = Report.from_json(foreign.read_text(path), open_result=stored.open)
    except (OSError, ValueError, TypeError):  # only the report was lost
        before = Report(
            stage=stored.name,
            outcome="done",
            items=items,
            done=past.kept,
            set_aside=tuple(past.aside.values()),
            open_result=stored.open,
        )
        # What lies there is faulted by verify as long as it does.
        with suppress(OSError, RunTakenOver):
            discard(path)
            _write(path, before)
    return stored, replace(
        before, folder=folder, outcome="done", message="", done=past.kept, resumed_from=past.kept
    )


def _with_facts(stored: Stored, aside: Mapping[int, Any], items: int) -> Stored:
    """The same with what is known when it is done: its items, its holes, what the function told of it."""
    facts: dict[str, Any] = {"items": items, "set_aside": len(aside)}
    kept = stored.folder / layout.FACTS
    if kept.is_file():
        facts.update(values.loads(kept.read_bytes()))
    missing = tuple(sorted(aside))
    holes = digest_of({"here": missing, "before": stored.holes}) if missing or stored.holes else ""
    return replace(stored, facts=facts, missing=missing, holes=holes)


def _kept_here(
    outputs: Mapping[str, Any], collected: Mapping[int, list[Any]], made: Any
) -> Callable[[], Any]:
    """What a temporary run gives back: lists put together, and what the reducers made."""

    def opened() -> Any:
        if list(outputs) == [""] and not is_reducer(outputs[""]):
            return [each for start in sorted(collected) for each in collected[start]]
        return made[""] if made is not None and list(outputs) == [""] else made

    return opened
