"""Post-mortem of a run that died without a word: at what memory, at which items, and what is lost.

After everything was killed at once (the whole tree, the machine) the events simply end. What they
had told until then is enough: batches that began and did not end, and the last reading of memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from penstock import event_lines, foreign, layout
from penstock import events as ev
from penstock.budget import format_size
from penstock.errors import CannotResume
from penstock.foreign import line
from penstock.intervals import Intervals
from penstock.plurals import plural
from penstock.record import journal
from penstock.record.lock_file import Holder, holder_of

_TAIL = 64 << 10
"""Bytes at the end of the events that tell whether the last run ended well."""
_BEFORE = (ev.RunDied, ev.Looking, ev.TakenBack)
"""What a run tells before it has begun with anything; it may be refused then."""
_NAMED = 6
"""The most intervals of items that a sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostMortem:
    """What is known of a run that died. Sizes in bytes, times in seconds since the epoch."""

    at: float
    """Its last sign of life."""
    stage: str = ""
    """The stage that it was in."""
    between: bool = False
    """Whether that stage had ended: it died after it, or between two stages."""
    command: bool = False
    """Whether it supervised a command."""
    used: int = 0
    """What the whole process tree held at the last reading; 0 when there was none."""
    read_at: float = 0.0
    """When that was read."""
    budget: int = 0
    """The budget at that time; 0 where there was none."""
    running: tuple[tuple[int, int], ...] = ()
    """The items being worked, as sorted intervals (start, stop)."""
    items: int = 0
    """How many items the stage has."""
    kept: int = 0
    """How many of them are kept."""
    lost: int = 0
    """How many of those being worked are not, and will be repeated."""
    nodes: int = 0
    """Nodes of a cluster that were there; what they had open, only they knew."""
    process: str = ""
    """The process that held the folder and its host, as its lock tells."""
    rebooted: bool = False
    """Whether the machine was started again since."""
    known: bool = True
    """Whether it is known to be dead: one elsewhere cannot be seen from here."""

    def __str__(self) -> str:
        return self.sentence("the last run")

    def sentence(self, run: str) -> str:
        """One sentence; ``run`` is what to call the run."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        seen = ", ".join(part for part in (self.process, "no sign of life after") if part)
        again = "; the machine was started again since" if self.rebooted else ""
        died = "died at" if self.known else "gave no sign of life that can be seen from here since"
        return line(f"{run} {died} {when} ({seen}){again}: {'; '.join(self._known())}")

    def _known(self) -> list[str]:
        memory = "its memory was not read yet"
        if self.used:
            of = f" of {format_size(self.budget)}" if self.budget else ""
            memory = f"{format_size(self.used)}{of} in use"
        if self.command:
            return [f"{memory}, the command running"]
        stage = f" of stage {self.stage}" if self.stage else ""
        if self.between:
            ended = f"stage {self.stage}" if self.stage else "the job"
            return [f"{memory}, {ended} had ended", "nothing is lost"]
        if not self.items and not self.running:
            return [f"{memory}, no stage had begun", "nothing is lost"]
        kept = f"{self.kept:,} of {self.items:,} items{stage} are kept"
        if self.nodes:
            there = plural(self.nodes, "node")
            return [f"{there} working", f"{kept}, what the {there} had not given back will be repeated"]
        if not self.running:
            return [f"{memory}, no batch running", f"{kept}, nothing is lost"]
        return [
            f"{memory}, working on items {ranges(self.running)}",
            f"{kept}, {self.lost:,} will be repeated",
        ]

    def as_json(self) -> dict[str, Any]:
        """JSON values, and the sentence as ``message``."""
        return {**asdict(self), "message": str(self)}


def ranges(intervals: Iterable[tuple[int, int]]) -> str:
    """``310-319, 322``; of many intervals the first few, and how many more."""
    pairs = list(intervals)
    words = [str(a) if b - a == 1 else f"{a}-{b - 1}" for a, b in pairs[:_NAMED]]
    more = [f"and {sum(b - a for a, b in pairs[_NAMED:]):,} more"] if len(pairs) > _NAMED else []
    return ", ".join(words + more)


def examine(events: Iterable[ev.Event]) -> PostMortem | None:
    """The post-mortem from a dead run's events, streamed; None if there are none.

    Whether it died is not for the events alone to say: while it runs they end in the same way.
    """
    last: PostMortem | None = None
    running: dict[int, tuple[int, int]] = {}
    for event in events:
        match event:
            case ev.RunDied() | ev.Looking() | ev.TakenBack():
                continue  # of another run, which may have been refused then
            case ev.StageStarted():
                running.clear()
                last = PostMortem(
                    at=event.at, stage=event.stage, budget=event.budget, items=event.items, kept=event.done
                )
            case ev.BatchStarted():
                running[event.batch] = (event.start, event.stop)
            case ev.BatchDone() | ev.BatchFailed():
                running.pop(event.batch, None)
        last = _heard(last or PostMortem(at=event.at), event)
    if last is None:
        return None
    open_items = Intervals(() if last.between else running.values())
    return replace(last, running=tuple(open_items), lost=len(open_items))


def _heard(last: PostMortem, event: ev.Event) -> PostMortem:
    at = max(last.at, event.at)
    match event:
        case ev.MemoryRead():
            return replace(last, at=at, used=event.used, read_at=event.at)
        case ev.BudgetChanged():
            return replace(last, at=at, budget=event.budget)
        case ev.BatchDone():
            return replace(last, at=at, kept=last.kept + event.stop - event.start)
        case ev.ItemSetAside():
            return replace(last, at=at, kept=last.kept - 1)  # its batch is counted whole
        case ev.NodeJoined():
            return replace(last, at=at, nodes=last.nodes + 1)
        case ev.NodeLeft():
            return replace(last, at=at, nodes=last.nodes - bool(event.node))
        case ev.CommandStarted():
            return replace(last, at=at, command=True)
        case ev.StageEnded():
            return replace(last, at=at, between=True, kept=event.done, used=last.used or event.peak)
    return replace(last, at=at)


def of_run(folder: Path) -> PostMortem | None:
    """How the last run in a folder died; None if it ended by itself, or is still running."""
    holder = holder_of(folder / layout.STATE)
    if holder is not None and holder.alive and not holder.rebooted:
        return None
    return of_dead(folder, holder)


def of_dead(folder: Path, holder: Holder | None) -> PostMortem | None:
    """The same for a run that is known to have ended.

    Args:
        folder: the run folder.
        holder: whose lock was found; None where there was none.
    """
    state_dir = folder / layout.STATE
    path = state_dir / layout.EVENTS
    if holder is None and not _ends_open(path):
        return None
    found = examine(event_lines.read(path)) if path.is_file() else None
    if holder is not None:
        found = found or PostMortem(at=holder.seen)
        found = replace(
            found,
            at=max(found.at, holder.seen),
            process=str(holder),
            rebooted=holder.rebooted,
            known=holder.known,
        )
    return (
        None
        if found is None
        else _with_kept(found, state_dir / layout.stage_folder(found.stage) / layout.JOURNAL)
    )


def _ends_open(path: Path) -> bool:
    """Whether the events end within a stage."""
    try:
        with foreign.opened(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return False
    told = (event for line in reversed(lines) if (event := event_lines.from_line(line)))
    last = next((event for event in told if not isinstance(event, _BEFORE)), None)
    return last is not None and not isinstance(last, ev.StageEnded)


def _with_kept(found: PostMortem, book: Path) -> PostMortem:
    """The journal may know of more than the events: it is written first."""
    try:
        past = journal.read(book)
    except (OSError, CannotResume):
        return found
    if not past.job:
        return found
    lost = sum(b - a for start, stop in found.running for a, b in past.done.gaps(start, stop))
    return replace(found, kept=past.kept, lost=lost)
