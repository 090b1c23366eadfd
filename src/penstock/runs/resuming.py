"""Resumes a stage: compares what earlier runs left with what is asked now.

Nothing is worked here: the answer is a stage to work, or the report of one that is finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from penstock import asking, layout
from penstock import events as ev
from penstock.abc import Sized
from penstock.budget import MiB
from penstock.engine.parent.interrupts import Interrupt
from penstock.errors import JobChanged
from penstock.record import journal, standing
from penstock.record.job_key import digest_of, holes_before
from penstock.record.listing import Listing
from penstock.record.resume import begin_again, compare, forgive
from penstock.report.report import Report
from penstock.report.tally import Tally
from penstock.runs.context import RunContext
from penstock.runs.spec import JobSpec
from penstock.runs.stage_run import StageRun, finished
from penstock.stored import Stored
from penstock.warned import warn

_MANY = 10_000
_HEAVY = 256 * MiB
"""So many items, or bytes of their files that are read, take a while to look at."""
_BEAT = 2.0
"""Seconds between signs of life while parts are read."""


def resume(context: RunContext, name: str, job: JobSpec) -> StageRun | tuple[Stored, Report]:
    """Prepare a stage: what is left to do, or the result and report of a finished one.

    Raises:
        SourceChanged, JobChanged: it differs from what was begun, and that is not accepted.
        ResultsDamaged: a part that was kept cannot be read.
    """
    folder, options = context.folder, context.options
    place = _place(folder.path, name, folder.state_dir)
    since = standing.written(place.book)  # before a line of ours is added
    past = journal.read(place.book)
    kept = past.kept
    if folder.owner is not None:
        folder.owner.outnumber(past.owner)
    listing = _list_files(context, name, job, past.job.get("source"))
    key = job.key(listing)
    items = key["source"]["items"]
    if past.job and past.job.get("source") != key["source"]:
        listing.keep(place.state_dir)  # before a key that needs it is journaled
    past = begin_again(past, key, place.book, folder.owner)
    # Where nothing is kept no results can be mixed: a function that was mended just goes on.
    accept = options.accept_changes or (past.kept == 0 and (bool(past.aside) or not past.closed))
    changed = bool(past.job) and compare(
        past, key, folder.path, accept=accept, listing=listing, state_dir=place.state_dir
    )
    past = take_back_damaged(context, name, place, past, since)
    if past.aside:
        everything = options.tries_all or (changed and past.kept == 0)
        ceiling = None if everything else context.discover().budget.bytes
        forgive(past, place.book, items, ceiling, folder.owner)
    _refuse_finished(context, items, past, changed=changed)
    known = key if changed or not past.job else past.job  # of an earlier version, in its words
    stored = _stored(context, name, place, job, key, digest_of(known))
    # Changed without anything accepted: there are more items, or other files of items set aside.
    more = changed and (options.accept_changes or len(past.done) < items)
    if past.closed and not more:
        stored = replace(stored, key=digest_of(past.job))
        if journal.torn(place.book):  # opening it cuts that off, which verify would find
            journal.Journal(place.book, owner=folder.owner).close()
        return finished(stored, past, items, folder.path)
    found = context.discover()
    again = max(kept - past.kept, 0)
    return StageRun(
        job,
        key,
        past,
        changed,
        found,
        stored,
        folder.lasting_path,
        Tally(name),
        folder.drafts,
        listing,
        again=again,
    )


def take_back_damaged(
    context: RunContext, name: str, place: standing.Place, past: journal.Past, since: int | None
) -> journal.Past:
    """Validate the parts before they are used; returns the journal's past without damaged ones.

    Args:
        context: of the run.
        name: the stage's.
        place: where its parts lie.
        past: what the journal says.
        since: when it was written last; None to read every part.

    Raises:
        ResultsDamaged: a part cannot be read, so that nobody can say whether it stands.
    """
    if not past.job:
        return past
    owner = context.folder.owner
    taken = standing.take_back(place, past, since=since, pulse=_pulse(context), owner=owner)
    if taken is None:
        return past
    event = ev.TakenBack(at=time.time(), stage=name, items=len(taken.items), message=str(taken))
    context.emit(event, Tally())
    if not context.observers:
        warn(str(taken), stacklevel=5)  # where the stage is asked for
    return journal.read(place.book)


def _place(folder: Path, name: str, state_dir: Path) -> standing.Place:
    """Where a stage keeps its results, and its journal."""
    own = state_dir / layout.stage_folder(name)
    own.mkdir(exist_ok=True)
    return standing.Place(folder / name if name else folder, own)


def _list_files(context: RunContext, name: str, job: JobSpec, before: Mapping[str, Any] | None) -> Listing:
    """The files of the source, described as before; says so where that takes a while."""
    source, how = job.source, Listing.way_of(job.source, before)
    items, weight = asking.count(source), 0.0
    if items and isinstance(source, Sized) and how not in ("", "stat"):
        _, weight = asking.hints(source, 0, items)
    if how and (items >= _MANY or weight >= _HEAVY):
        # Without a number: a size is a hint, which may be what an item takes in memory.
        ways = {"stat": "by their size and time", "content": "by their content"}
        message = (
            f"looking whether the files of {items:,} items are what they were, {ways.get(how, 'in part')}"
        )
        context.emit(ev.Looking(at=time.time(), stage=name, message=message), Tally())
    return Listing.of(source, before)


def _pulse(context: RunContext) -> Callable[[], None]:
    """Gives a sign of life every few seconds of a long look, and heeds the signals."""
    due = time.monotonic() + _BEAT

    def pulse() -> None:
        nonlocal due
        if context.interrupts.number:
            raise Interrupt(context.interrupts.number)
        if time.monotonic() > due:
            context.folder.beat()
            due = time.monotonic() + _BEAT

    return pulse


def _refuse_finished(context: RunContext, items: int, past: journal.Past, *, changed: bool) -> None:
    """A finished stage has nothing that could be done in a changed way.

    Raises:
        JobChanged: it is finished, and a change is to be accepted.
    """
    accepted = changed and context.options.accept_changes
    if accepted and len(past.done) >= items and past.closed:
        raise JobChanged(
            f"{context.folder.path} is finished: every item was done the old way, so nothing is left to do "
            "the new way. Choose another folder."
        )


def _stored(
    context: RunContext, name: str, place: standing.Place, job: JobSpec, key: dict[str, Any], digest: str
) -> Stored:
    """What the stage gives, as far as it is known before it is worked."""
    temporary = context.folder.temporary
    check = None if temporary else partial(standing.must_stand, place)
    outputs = dict(job.outputs(temporary=temporary))
    return Stored(name, place.results, {}, (), outputs, place.state_dir, digest, holes_before(key), check)
