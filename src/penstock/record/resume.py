"""May this job continue from that journal, and what must be redone?

Compares keys; says what changed and what it means.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from penstock import foreign
from penstock.errors import JobChanged, SourceChanged
from penstock.record.job_key import differences, holes_before
from penstock.record.journal import Journal, Owner, Past, batches_of, read
from penstock.record.listing import Listing, whole
from penstock.record.public_names import as_named_now

_NAMED = 5
_GROWN = 1.02
"""A budget larger by this factor is worth another try of what was too large."""
_MIXED = (
    "Going on would mix results of both. Choose another folder, or pass accept_changes=True "
    "(--accept-changes) to keep what is done and do the rest the new way."
)
_STALE = (
    "Put them back, choose another folder, or pass accept_changes=True (--accept-changes) to keep what is "
    "done."
)


def compare(
    past: Past,
    key: Mapping[str, Any],
    folder: Path,
    *,
    accept: bool,
    listing: Listing | None = None,
    state_dir: Path | None = None,
) -> bool:
    """Whether the key differs in accepted ways that should be journaled.

    Args:
        past: what the journal says.
        key: of the job that wants to go on.
        folder: for the message.
        accept: whether the user accepts changes.
        listing: of the source's files, where the key holds digests of it.
        state_dir: where what was kept of them before lies, beside the journal.

    Raises:
        SourceChanged: a file of finished items is not what it was.
        JobChanged: the function, its inputs or its options are not what they were.
    """
    if as_named_now(past.job) == as_named_now(key):
        return False
    changed = differences(past.job, key)
    if changed and not accept:
        raise JobChanged(
            f"{folder} holds {past.kept:,} finished items of a job that is not this one: "
            f"{'; '.join(changed)}. {_ways(past, key, _MIXED)}"
        )
    stale = [] if accept else _stale(past, key["source"], state_dir or folder, listing)
    if stale:
        names = "; ".join(stale[:_NAMED]) + (
            f"; and {len(stale) - _NAMED} more" if len(stale) > _NAMED else ""
        )
        raise SourceChanged(
            f"inputs of finished items in {folder} have changed: {names}. {_ways(past, key, _STALE)}"
        )
    return True


def _ways(past: Past, key: Mapping[str, Any], otherwise: str) -> str:
    """What to do about a change: where all is done, there is no rest that could be done the new way."""
    if past.closed and len(past.done) >= key["source"]["items"]:
        return "All of it is done: put back what was there, or choose another folder."
    return otherwise


def _stale(past: Past, now: Mapping[str, Any], state_dir: Path, listing: Listing | None) -> list[str]:
    was = past.job.get("source", {})
    if was == now:
        return []
    old = whole(state_dir, was)
    if old is None:  # which of them has changed cannot be told: not that none of finished items has
        return [
            f"the files cannot be told from changed ones, as what was kept of them in {state_dir} is gone"
        ]
    return _stale_files(past, old, listing.as_source(now) if listing is not None else now)


def _stale_files(past: Past, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The files of finished items that are gone, different, or hold other items now."""
    if old.get("type") != new.get("type"):
        return [f"the source was {old.get('type')}, it is {new.get('type')}"]
    told = []
    files, spans = new.get("files", {}), new.get("spans", {})
    for file, was in old.get("files", {}).items():
        span = old.get("spans", {}).get(file, [0, old.get("items", 0)])
        if file not in files:
            what = f"{file} is gone"
        elif files[file] != was:
            what = f"{file} {_how(was, files[file])}"
        elif spans.get(file, span) != span:
            what = (
                f"{file} now gives items {spans[file][0]} to {spans[file][1]}, it gave {span[0]} to {span[1]}"
            )
        else:
            continue
        if _kept_of(past, *span):
            told.append(what)
    return told


def _kept_of(past: Past, start: int, stop: int) -> int:
    """Items of a span that are done; one that was set aside may have been so because of its file."""
    missing = sum(b - a for a, b in past.done.gaps(start, stop))
    return stop - start - missing - sum(start <= item < stop for item in past.aside)


def _how(was: str, now: str) -> str:
    """In words, what differs between two fingerprints of a file."""
    old, new = was.split(":"), now.split(":")
    sizes = [size for text in (old[0], new[0]) if (size := foreign.whole(text)) is not None]
    if len(old) != 3 or len(new) != 3 or len(sizes) != 2:
        return "is not what it was"
    if old[0] != new[0]:
        return f"has {sizes[1]:,} bytes, it had {sizes[0]:,}"
    return "was written again with other content" if old[2] != new[2] else "was written again (same size)"


def begin_again(past: Past, key: Mapping[str, Any], book: Path, owner: Owner | None = None) -> Past:
    """Invalidate everything if an earlier stage has other items than the results were made from.

    Args:
        past: what the journal says.
        key: of the job that wants to go on.
        book: the journal.
        owner: who writes it.
    """
    if not past.job or holes_before(past.job) == holes_before(key):
        return past
    with closing(Journal(book, owner=owner)) as lines:
        lines.write({"back": [[0, past.job["source"]["items"]]]}, {"change": key})
    return read(book)


def forgive(past: Past, book: Path, items: int, ceiling: int | None, owner: Owner | None = None) -> None:
    """Readmit set-aside items that should be retried.

    Args:
        past: what the journal says; changed where something is taken back.
        book: the journal.
        items: of the job.
        ceiling: bytes that there are now, for what was too large under clearly less; None to try
            everything again.
        owner: who writes it.
    """
    again = {
        item
        for item, each in past.aside.items()
        if ceiling is None or (each.reason == "memory" and ceiling > _GROWN * past.under[item])
    }
    if not again:
        return
    back = batches_of(book, again)
    if any(told is not None and told.replaced for told in past.outputs.values()):
        # The parts of the others were put together, and are no longer there to be put together again.
        back = [[0, items]]
    with closing(Journal(book, owner=owner)) as lines:
        lines.write({"back": back})
    fresh = read(book)
    past.done, past.aside, past.under, past.closed = fresh.done, fresh.aside, fresh.under, fresh.closed
