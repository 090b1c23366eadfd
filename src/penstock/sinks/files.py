"""Files and folders that the function wrote, moved to their final names."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from penstock import files, foreign
from penstock.abc import Batch, Closed, Part, Receipt, SetAside
from penstock.outputs import check_many
from penstock.sharing import share
from penstock.sinks.parts import kept, sweep

_LISTING = "files.txt"
_NAMES = f"{'[0-9]' * 9}*-*"


@dataclass(frozen=True, kw_only=True)
class Files:
    """Keeps files or folders that the function wrote; the result is a list of their paths.

    The function writes into ``penstock.share().folder``, a fresh folder of each item, and returns
    the path of a file or folder in it, or a list of paths, or None. They are moved, not copied, to
    ``000000031-NAME`` in the run folder: the item's number and their own name, and ``files.txt``
    lists them in item order. An item set aside has no files.

    For large outputs; many small ones belong in a table or an array.

    Args:
        grain: items that are kept together; more than 1 only where items are many and small.

    Raises:
        UsageError: a grain that is no whole number of at least 1.
        TypeError: from ``write``: a result that is no path.
        ValueError: from ``write``: a path that is not there or not in the item's folder, or two of
            one item with the same name.
    """

    unit: ClassVar[str] = "item"

    grain: int = 1

    def __post_init__(self) -> None:
        check_many(self, grain=self.grain)

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Move what each item wrote to its final name, item by item as results come."""
        parts: list[Part] = []
        try:
            for item, result in enumerate(results, batch.start):
                parts.extend(_keep(item, _paths(item, result), folder))
        except BaseException:
            for part in parts:
                files.discard(folder / part.name)
            raise
        return Receipt(parts=tuple(parts))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """List the names of all files in ``files.txt``, and remove leftovers of earlier attempts."""
        names: set[str] = set()
        sweep(folder, _LISTING)
        with files.atomic(folder / _LISTING) as draft, _open(draft, "w") as listing:
            for _, receipt in receipts:
                listing.writelines(f"{part.name}\n" for part in receipt.parts)
                names.update(part.name for part in receipt.parts)
        sweep(folder, _NAMES, names)
        return Closed((kept(folder / _LISTING, folder),), pattern=_NAMES)

    def result(self, folder: Path) -> list[Path]:
        """The paths of the kept files, in item order."""
        with _open(folder / _LISTING, "r") as listing:
            return [folder / line.rstrip("\n") for line in listing]


def _open(path: Path, mode: str) -> IO[str]:
    """A list of names, which may hold any byte but a line break: no text at all, or a carriage return."""
    return open(path, mode, encoding="utf-8", errors="surrogateescape", newline="\n")


def _paths(item: int, result: Any) -> list[Path]:
    """The paths that an item's result names, each checked."""
    if result is None or isinstance(result, SetAside):
        return []
    given = result if isinstance(result, Sequence) and not isinstance(result, str) else [result]
    paths = []
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"item {item}: Files keeps paths that the function wrote, or lists of them, not a "
                f"{type(path).__qualname__}"
            )
        paths.append(_inside(item, Path(path)))
    names = [path.name for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"item {item}: two of its paths are called {name!r}: return their folder instead"
            )
        if "\n" in name:
            raise ValueError(f"item {item}: the name {name!r} holds a line break: choose another")
    return paths


def _inside(item: int, path: Path) -> Path:
    """The path, if it is the function's own to give: what lies elsewhere may be somebody's input."""
    root = share().scratch or Path(tempfile.gettempdir())
    if not path.exists():
        raise ValueError(f"item {item}: the path {str(path)!r} is not there: return it after it was written")
    if path.is_symlink() or not foreign.is_inside(path, root):
        raise ValueError(
            f"item {item}: {str(path)!r} is not in the folder of its item, so it is not moved: "
            "write into penstock.share().folder and return the path there"
        )
    return path


def _keep(item: int, paths: list[Path], folder: Path) -> Iterator[Part]:
    for path in paths:
        final = folder / f"{item:09d}-{path.name}"
        if path.is_dir():
            _move_folder(path, final)
        else:
            if final.is_dir():  # an earlier attempt returned a folder
                files.discard(final)
            with files.atomic(final) as draft:
                _move(path, draft)
        yield kept(final, folder)


def _move(path: Path, draft: Path) -> None:
    try:
        path.rename(draft)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if path.is_dir():  # on another disk
            shutil.copytree(path, draft, symlinks=True)
            files.settle(draft)
        else:
            shutil.copyfile(path, draft)


def _move_folder(path: Path, final: Path) -> None:
    files.settle(path)
    with files.atomic(final) as draft:
        _move(path, draft)
        files.discard(final)  # of an earlier attempt: a folder does not replace one that is not empty
