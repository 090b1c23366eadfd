"""Publishes files of a stage at the top of the run folder under a second name, and records which they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath

from penstock import layout
from penstock.errors import UsageError
from penstock.files import atomic
from penstock.record import journal
from penstock.stored import Stored


def publish(stored: Stored, names: tuple[str, ...], folder: Path, owner: journal.Owner | None) -> None:
    """See :meth:`penstock.Run.publish`.

    Args:
        stored: a finished stage.
        names: of files inside its folder, or of folders in it.
        folder: of the run.
        owner: who writes the journal.
    """
    if not stored.name or stored.state_dir is None:
        raise UsageError("what a run of one job keeps lies at the top of its folder already")
    if stored.check is not None:
        stored.check()
    told: dict[str, str] = {}
    for path in _named(stored, names or (".",)):
        _see(stored, path, folder)
        if told.setdefault(path.name, str(path)) != str(path):
            raise UsageError(f"{told[path.name]} and {path} of stage {stored.name} have the same name")
        _link(stored.folder / path, folder / path.name)
    book = stored.state_dir / layout.JOURNAL
    if told.items() - journal.read(book).published.items():
        with closing(journal.Journal(book, owner=owner)) as lines:
            lines.write({"published": told})


def _named(stored: Stored, names: tuple[str, ...]) -> Iterator[PurePosixPath]:
    """The files that are named; of a folder, those that lie in it and are not hidden."""
    for name in names:
        path = PurePosixPath(name)
        inside = stored.folder / path
        if path.is_absolute() or ".." in path.parts or not inside.exists():
            raise UsageError(f"stage {stored.name} keeps no file {name}")
        if inside.is_file():
            yield path
            continue
        for each in sorted(inside.iterdir()):
            if each.is_file() and not each.name.startswith((".", "_")):
                yield path / each.name


def _see(stored: Stored, path: PurePosixPath, folder: Path) -> None:
    if path.name.startswith(layout.STATE) or path.name in layout.OURS or (folder / path.name).is_dir():
        raise UsageError(f"{path.name} of stage {stored.name}: something else has that name in {folder}")


def _link(path: Path, final: Path) -> None:
    """A second name for a file, or a copy where a disk has no links."""
    if final.exists() and final.samefile(path):
        return  # to rename one name to another of the same file does nothing, and leaves both
    with atomic(final, durable=False) as draft:
        try:
            os.link(path, draft)
        except OSError:
            shutil.copyfile(path, draft)
