"""Is what was kept still intact? Validates kept parts before a resume relies on them.

One look at each file of the results: is it there, is it a file, has it its size. What was touched after
the journal (edited, copied, restored) is read again, and so are small files that a close wrote; their
digests must be those of their receipts. What does not stand is put aside as evidence, never removed, and
the items of its batch are taken back, so that they are done again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from penstock import files, foreign, layout
from penstock.abc import Closed, Part
from penstock.errors import ResultsDamaged
from penstock.intervals import Intervals
from penstock.plurals import plural
from penstock.record import journal

_SMALL = 64 << 20
"""Bytes of a file that a close wrote which are read at every look."""
_NAMED = 3
DAMAGED = "damaged"
"""Folder, in a stage's state folder, for what does not stand."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage keeps its results.

    Args:
        results: the folder of its sinks.
        state_dir: that of its journal and states.
    """

    results: Path
    state_dir: Path

    @property
    def book(self) -> Path:
        """The path of the journal."""
        return self.state_dir / layout.JOURNAL

    def parts_of(self, output: str, past: journal.Past) -> Path:
        """The folder of the parts in an output's receipts."""
        return self.state_dir / layout.STATES if output in past.reducers else self.finals_of(output, past)

    def finals_of(self, output: str, past: journal.Past) -> Path:
        """The folder of what an output wrote when it closed."""
        return (
            self.state_dir if output in past.reducers else self.results / output if output else self.results
        )


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not as it was kept."""

    path: Path
    expected: str
    found: str
    output: str = ""
    start: int = -1
    """The first item of its grain; -1 where it is not one grain's."""
    replaces: bool = False
    """Whether the parts that it was made from are gone."""
    harmless: bool = False
    """Whether nobody would take it for a part of the results."""

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"


@dataclass
class Retracted:
    """What was damaged, and what must be redone because of it."""

    damages: int = 0
    named: list[str] = field(default_factory=list)
    items: Intervals = field(default_factory=Intervals)

    def __str__(self) -> str:
        more = f"; and {self.damages - len(self.named):,} more" if self.damages > len(self.named) else ""
        again = f"{len(self.items):,} items are done again" if self.items else "no item is done again"
        return (
            f"{plural(self.damages, 'file')} of the results did not stand "
            f"({'; '.join(self.named)}{more}): {again}, and what is left of them is put into {DAMAGED!r} "
            "beside the journal"
        )


def written(book: Path) -> int:
    """When the journal was last written, in ns of its file system's clock; 0 if there is none."""
    try:
        return book.lstat().st_mtime_ns
    except OSError:
        return 0


def look(
    place: Place, past: journal.Past, *, since: int | None, pulse: Callable[[], None] | None = None
) -> Iterator[Damage]:
    """Find all damage, looking once at each file.

    Args:
        place: of the stage.
        past: what its journal says.
        since: what was touched after this (ns) is read too; None to read everything.
        pulse: called for each MiB that was read.

    Raises:
        ResultsDamaged: a file that cannot be read now, so that it cannot be told.
    """
    for output in dict.fromkeys((*past.job.get("rooms", ()), *past.outputs)):
        closed = (past.outputs.get(output) if past.closed else None) or Closed()
        # Joined as texts: there may be 10^5 of them.
        folder, finals = place.parts_of(output, past), place.finals_of(output, past)
        parts = f"{folder}/"
        known = {part.name for part in closed.parts}
        for batch, receipt in journal.receipts(place.book, output):
            if closed.replaced:
                break
            for part in receipt.parts:
                path = parts + part.name
                odd = _led_out(folder, part) if "/" in part.name else None
                odd = odd or files.differs(path, part.bytes, part.digest, since=since, pulse=pulse)
                if odd:
                    yield Damage(Path(path), *odd, output, batch.start)
            if closed.pattern:
                known.update(part.name for part in receipt.parts)
        for part in closed.parts:
            final, seen = finals / part.name, since if part.bytes > _SMALL else None
            if odd := files.differs(final, part.bytes, part.digest, since=seen, pulse=pulse):
                yield Damage(final, *odd, output, replaces=closed.replaced)
        for name in _strangers(finals, closed.pattern, known):
            expected, found = "nothing: no receipt tells of it", "what looks like a part"
            yield Damage(finals / name, expected, found, output, harmless=closed.replaced)


def _led_out(folder: Path, part: Part) -> tuple[str, str] | None:
    """A folder on the way that is a link to elsewhere."""
    try:
        foreign.within(folder, part.name)
    except OSError as error:
        return f"{part.bytes:,} bytes, as kept", str(error.strerror)
    return None


def _strangers(folder: Path, pattern: str, known: set[str]) -> list[str]:
    """What looks like a part, or the draft of one, and is none."""
    if not pattern or not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [
            entry.name
            for entry in entries
            if entry.name not in known
            and entry.name not in layout.OURS
            and (fnmatch(entry.name, pattern) or fnmatch(entry.name, f".{pattern}.*.tmp"))
        ]


def take_back(
    place: Place,
    past: journal.Past,
    *,
    since: int | None,
    pulse: Callable[[], None] | None = None,
    owner: journal.Owner | None = None,
) -> Retracted | None:
    """Put damaged files aside, and retract in the journal what must be redone.

    A file that a close wrote is made anew from the parts, where they are kept; else everything is done
    again. Arguments and errors as for :func:`look`; ``owner`` is who writes the journal.

    Returns:
        what was taken back, or None when everything stands.
    """
    if past.closed and any(
        closed is not None
        and closed.replaced
        and _strangers(place.finals_of(output, past), closed.pattern, set())
        for output, closed in past.outputs.items()
    ):
        clear(place, past.outputs)  # the run was killed before it had
    taken = Retracted()
    starts: set[int] = set()
    everything = read = False

    def reading() -> None:
        nonlocal read
        read = True
        if pulse is not None:
            pulse()

    for damage in look(place, past, since=since, pulse=reading):
        taken.damages += 1
        if len(taken.named) < _NAMED:
            taken.named.append(str(damage))
        if damage.start >= 0:
            starts.add(damage.start)
        everything = everything or damage.replaces
        _put_aside(damage, place)
    if not taken.damages:
        if read:  # and stands: it need not be read again at the next look
            with suppress(OSError):
                os.utime(place.book)
        return None
    items = past.job["source"]["items"]
    # An empty interval takes no item back, and the results are put together again.
    back = [[0, items]] if everything else journal.batches_of(place.book, starts) if starts else [[0, 0]]
    with closing(journal.Journal(place.book, owner=owner)) as lines:
        lines.write({"back": back})
    taken.items = Intervals((start, stop) for start, stop in back)
    return taken


def _put_aside(damage: Damage, place: Place) -> None:
    """Keep the evidence, out of the way of what is done again."""
    path = damage.path
    if not os.path.lexists(path):
        return
    target = place.state_dir / DAMAGED / damage.output / (path.name or "results")
    target.parent.mkdir(parents=True, exist_ok=True)
    free, count = target, 1
    while os.path.lexists(free):
        count += 1
        free = target.with_name(f"{target.name}.{count}")
    whole = path == place.results or path == place.results / damage.output
    files.put_aside(path, free)
    if whole:  # the folder of the results is itself the part, as a step's
        path.mkdir()


def clear(place: Place, told: Mapping[str, Closed | None]) -> None:
    """Remove parts that have been replaced, once the journal says so.

    Args:
        place: of the stage.
        told: what each output said when it was closed.
    """
    for output, closed in told.items():
        if closed is None or not closed.replaced:
            continue
        folder = place.results / output if output else place.results
        for _, receipt in journal.receipts(place.book, output):
            for part in receipt.parts:
                files.discard(folder / part.name)


def must_stand(place: Place) -> None:
    """Check that what is about to be opened is what was kept.

    Raises:
        ResultsDamaged: it is not; names the file, what was expected and what was found.
    """
    past = journal.read(place.book)
    if not past.closed:
        return
    for damage in look(place, past, since=written(place.book)):
        if damage.harmless:
            continue
        raise ResultsDamaged(
            f"{damage}. Run the same command again: it puts what is damaged aside and does again what it "
            "takes. Or put a good copy back.",
            file=damage.path,
        )
