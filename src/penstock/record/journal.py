"""The journal: which items are kept, in append-only lines with a checksum each.

    8 hex digits of CRC-32, a blank, one JSON value (``penstock.values``), a newline

Written by the parent alone and synchronised to disk before anything counts as done. A torn last
line (the parent was killed while it wrote) is dropped; any other damage is an error. Plain lines,
because SQLite's WAL does not work on the network file systems where run folders live.

Lines: ``{"job": ...}`` first; ``{"budget": bytes}`` each time it is begun; ``{"opened": true,
"reducers": [...]}`` with the names of the outputs whose parts are states, not files of a sink;
``{"kept": [start, stop], "receipts": {...}, "touched": {...}, "aside": [...]}`` per batch, with the time, in
microseconds, at which the parts of each receipt were touched last; ``{"aside": [...]}``;
``{"back": [items]}`` for items to be tried again; ``{"change": ...}`` for accepted changes;
``{"closed": true, "rooms": {...}}`` last, with what each output wrote in the end; behind it ``{"published":
{name: path}}`` for files of the stage's folder that have a second name at the top of the run folder.

Every line of a run folder carries its writer's number, ``"owner": 3``; a run that takes a folder over has
a higher one than those before, and begins with a line ``{"owner": 4}``. From that line on, lines of a lower
number do not count: their writer was taken over, and did not know it yet. A line without a number is of
owner 0. Of lines that count no two keep the same item, unless it was taken back between them.
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from penstock import foreign, values
from penstock.abc import Batch, Closed, Part, Receipt, SetAside
from penstock.errors import JournalDamaged, PenstockBug
from penstock.files import renew
from penstock.intervals import Intervals
from penstock.record.entries import close_of
from penstock.record.journal_schema import check

_LONGEST = 512 << 20
"""Bytes of a line that is read; some kilobytes for each item set aside is the most that is written."""


@dataclass
class Past:
    """What a journal records as done."""

    job: dict[str, Any] = field(default_factory=dict)
    """The first line: the job's key in parts."""
    done: Intervals = field(default_factory=Intervals)
    aside: dict[int, SetAside] = field(default_factory=dict)
    under: dict[int, int] = field(default_factory=dict)
    """The budget in bytes under which each of these was set aside."""
    opened: bool = False
    closed: bool = False
    reducers: tuple[str, ...] = ()
    """The outputs that are reducers."""
    outputs: dict[str, Closed | None] = field(default_factory=dict)
    """What each output said when it was closed."""
    published: dict[str, str] = field(default_factory=dict)
    """Names at the top of the run folder -> the files of the stage's folder that they are."""
    owner: int = 0
    """The number of the last owner that wrote."""

    @property
    def kept(self) -> int:
        """How many items are kept, those set aside excluded."""
        return len(self.done) - sum(item in self.done for item in self.aside)


class Owner(Protocol):
    """The owner of a run folder, as a journal sees it."""

    @property
    def number(self) -> int:
        """Higher than that of every earlier owner."""
        ...

    def prove(self) -> None:
        """Raise RunTakenOver if it no longer owns the folder."""
        ...


class Journal:
    """A journal open for writing.

    Args:
        path: the file; made when it is not there. A torn last line is cut off.
        durable: whether each commit is synchronised to disk.
        owner: who writes; proves before each commit that it still may. None where nobody else can.

    Raises:
        RunTakenOver: the owner is it no more.
    """

    def __init__(self, path: Path, *, durable: bool = True, owner: Owner | None = None) -> None:
        self._durable = durable
        self._owner = owner
        self._prove()
        self._path = path
        self._broken: OSError | None = None
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        try:
            self._whole = whole = sum(size for _, size, _ in _lines(path))
            self._prove()  # behind the opening: by name we may have opened a successor's
            if whole != self._file.tell():
                self._file.truncate(whole)
        except BaseException:
            self._file.close()
            raise

    def write(self, *entries: Mapping[str, Any]) -> None:
        """Append lines and commit them together.

        Raises:
            OSError: none of it is written, and it may be tried again; the file is cut back to whole lines.
            RunTakenOver: the owner is it no more; nothing was written.
            JournalDamaged: the file is not as this writer left it; nothing was written.
            PenstockBug: a line that could not be read again; nothing was written.
        """
        self._prove()
        by = {"owner": self._owner.number} if self._owner is not None else {}
        for entry in entries:
            _see(entry)
        data = b"".join(_line({**entry, **by}) for entry in entries)
        if self._broken is not None:
            raise self._broken
        self._see_untouched()
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            if self._durable:
                os.fdatasync(self._file.fileno())
        except OSError as error:
            error.filename = error.filename or str(self._path)
            self._cut_back(len(data), error)
            raise
        self._whole += len(data)

    def _see_untouched(self) -> None:
        """What a function does to the journal must not pass for what was kept: whole lines may be missing."""
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            if not self._path.parent.is_dir():
                raise
            raise _gone(self._path) from None
        mine = os.fstat(self._file.fileno())
        if not os.path.samestat(there, mine):
            raise _not_ours(self._path, "another file than the one that is written to")
        if mine.st_size < self._whole:  # what is added is found by who reads it
            raise _not_ours(self._path, f"{mine.st_size:,} bytes, where {self._whole:,} were written")

    def _cut_back(self, size: int, error: OSError) -> None:
        """Behind a failed write of so many bytes, so that they are there once when they are written again.

        Pages that could not be brought to the disk count as clean afterwards: only new ones are tried again.
        """
        try:
            if not self._whole <= os.fstat(self._file.fileno()).st_size <= self._whole + size:
                raise error  # somebody else has written too
            self._file.truncate(self._whole)
        except OSError:
            self._broken = error  # whether they are there cannot be told: nothing may follow them

    def _prove(self) -> None:
        if self._owner is not None:
            self._owner.prove()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def take_over(path: Path, owner: Owner) -> None:
    """Replace the journal by a copy, so that an earlier owner appends to an unlinked file.

    Its time stays that of the last line, so that it is seen what was touched since.

    Raises:
        OSError: there is no room for the copy.
    """
    written = path.stat().st_mtime_ns
    renew(path)
    with closing(Journal(path, owner=owner)) as book:
        book.write({})
    os.utime(path, ns=(written, written))


def read(path: Path) -> Past:
    """The content of the journal at ``path``; an empty past if there is none.

    Raises:
        JournalDamaged: a line that is not a torn last one does not match its checksum, or an item is
            kept twice.
    """
    past = Past()
    if not path.exists():
        return past
    budget = 0
    for _, _, entry in _counting(path):
        past.owner = entry.get("owner", 0)
        if "job" in entry:
            past.job = entry["job"]
        budget = entry.get("budget", budget)
        if "change" in entry:
            past.job = entry["change"]
            past.closed = False
        if "kept" in entry:
            past.done.add(*entry["kept"])
        for each in entry.get("aside", ()):
            past.aside[each["item"]] = SetAside(**each)
            past.under[each["item"]] = budget
        for start, stop in entry.get("back", ()):
            past.done.remove(start, stop)
            for item in [item for item in past.aside if start <= item < stop]:
                del past.aside[item]
            past.closed, past.outputs = False, {}
        if entry.get("opened"):
            past.opened, past.reducers = True, tuple(entry.get("reducers", ()))
        past.published.update(entry.get("published", {}))
        if entry.get("closed"):
            past.closed = True
            past.outputs = {name: close_of(output) for name, output in entry.get("rooms", {}).items()}
    return past


def torn(path: Path) -> bool:
    """Whether the last line is incomplete: its writer was killed, and it was never committed."""
    return sum(size for _, size, _ in _lines(path)) != path.stat().st_size


def batches_of(path: Path, items: Iterable[int]) -> list[list[int]]:
    """The whole kept batches that contain any of these items; an item in none stands by itself."""
    wanted = sorted(items)
    found: dict[int, int] = {}
    for _, _, entry in _counting(path):
        if "kept" in entry:
            start, stop = entry["kept"]
            first = bisect_left(wanted, start)
            if first < len(wanted) and wanted[first] < stop:
                found[start] = stop
        for start, stop in entry.get("back", ()):
            for gone in [each for each in found if start <= each < stop]:
                del found[gone]
    covered = Intervals(found.items())
    return [list(pair) for pair in found.items()] + [
        [item, item + 1] for item in wanted if item not in covered
    ]


def receipts(path: Path, output: str) -> Iterator[tuple[Batch, Receipt]]:
    """The receipts of one output in item order, read lazily."""
    # A batch that was taken back and worked again has two lines: the later one counts.
    places: dict[int, tuple[int, int, int]] = {}
    for offset, size, entry in _counting(path):
        if "kept" in entry:
            start, stop = entry["kept"]
            places[start] = (stop, offset, size)
        for a, b in entry.get("back", ()):
            for start in [start for start in places if a <= start < b]:
                del places[start]
    with _opened(path) as file:
        for start in sorted(places):
            _, offset, size = places[start]
            file.seek(offset)
            # Its schema was checked on the way here.
            text = _whole(file.read(size))
            entry = {} if text is None else values.loads(text)
            aside = tuple(each["item"] for each in entry.get("aside", ()))
            grains = entry.get("receipts", {}).get(output, ())
            times = entry.get("touched", {}).get(output) or repeat(0)  # an earlier version knew none
            for (a, b, parts, value), touched in zip(grains, times, strict=False):
                without = tuple(item for item in aside if a <= item < b)
                yield Batch(a, b, without), Receipt(tuple(Part(*part) for part in parts), value, touched)


def _see(entry: Mapping[str, Any]) -> None:
    """See that a line can be read again, before it is written: one that cannot would lose all before it.

    Raises:
        PenstockBug: it could not.
    """
    try:
        check(entry)
    except ValueError as error:
        raise PenstockBug(f"a line of the journal that could not be read again: {error}") from error


def _line(entry: Mapping[str, Any]) -> bytes:
    # A value of a receipt lies a little deeper here than by itself.
    text = values.dumps(dict(entry), deepest=foreign.DEEPEST + 20).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _whole(line: bytes) -> bytes | None:
    """The text of a line; None where it is not as it was written."""
    text = line[9:-1]
    return text if line.endswith(b"\n") and line[:9] == b"%08x " % zlib.crc32(text) else None


def _parse(line: bytes) -> dict[str, Any] | None:
    text = _whole(line)
    if text is None:
        return None
    entry: dict[str, Any] = values.loads(text)
    check(entry)
    return entry


def _counting(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(offset, size, entry) of every line that counts: all readers see the same.

    Raises:
        JournalDamaged: an item is kept twice.
    """
    latest = 0
    done = Intervals()
    for offset, size, entry in _lines(path):
        number = entry.get("owner", 0)
        if number < latest:
            continue
        latest = number
        if "kept" in entry:
            start, stop = entry["kept"]
            if done.overlaps(start, stop):
                raise JournalDamaged(
                    f"{path}, at byte {offset:,}: items {start} to {stop - 1} are kept here, and some of "
                    "them before: two runs wrote into this folder, and it cannot be told whose results lie "
                    "there. Start anew in another folder, or restore this one from a backup."
                )
            done.add(start, stop)
        for start, stop in entry.get("back", ()):
            done.remove(start, stop)
        yield offset, size, entry


def _opened(path: Path) -> BinaryIO:
    if path.exists() and not path.is_file():
        raise JournalDamaged(f"{path} is no file; start anew in another folder")
    try:
        return foreign.opened(path)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        raise _gone(path) from None


_RESTORE = "Restore the file from a backup, or start anew in another folder."


def _gone(path: Path) -> JournalDamaged:
    return JournalDamaged(f"{path} was removed, so what was kept cannot be told. {_RESTORE}")


def _not_ours(path: Path, found: str) -> JournalDamaged:
    return JournalDamaged(
        f"{path} is not as this run left it: {found}. Something else writes to it, so what was kept cannot "
        f"be told. {_RESTORE} See that the function touches nothing in this folder."
    )


def _damaged(path: Path, number: int, why: str) -> JournalDamaged:
    return JournalDamaged(f"{path}, line {number}: {why}, so what was kept cannot be told. {_RESTORE}")


def _lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(offset, size, entry) of every whole line."""
    offset = 0
    with _opened(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), 1):
            if len(line) == _LONGEST and not line.endswith(b"\n"):
                raise _damaged(path, number, f"more than {_LONGEST:,} bytes in a line")
            try:
                entry = _parse(line)
            except ValueError as error:
                raise _damaged(path, number, f"whoever wrote it, it says {error}") from error
            if entry is None:
                # Torn: it has no end, or a hole of zeros where a page had not reached the disk.
                torn = not line.endswith(b"\n") or b"\0" in line
                if not torn or file.read(1):
                    raise _damaged(path, number, "the checksum does not match")
                return
            yield offset, len(line), entry
            offset += len(line)
