"""Resolves a user's paths and patterns to files, or says why there are none."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from penstock import foreign
from penstock.errors import BadInput, UsageError
from penstock.files import check_readable

AnyPath = str | os.PathLike[str]


def find_files(paths: AnyPath | Iterable[AnyPath], *, may_be_unreadable: int | None = None) -> list[str]:
    """The files of paths and glob patterns (``*``, ``?``, ``[...]``, ``**``), in the order given.

    What a pattern matches is sorted by name, folders left out. A file whose own name looks like a
    pattern is taken as that file.

    Args:
        paths: as the user gave them.
        may_be_unreadable: of more files than this it is not asked whether they can be read; whoever looks at
            each of them later asks then (``files.check_readable``). None: it is asked here, of all.

    Raises:
        BadInput: a file that is missing, unreadable, a folder, a pipe or a device, or given twice; a
            name that no file can have; a pattern without a match; nothing given at all.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else foreign.listed(paths)
    if given is None or not all(isinstance(path, str | os.PathLike) for path in given):
        raise UsageError(f"a path or a list of paths was expected, not {foreign.shown(paths, 100)}")
    if not given:
        raise BadInput("no files were given: name at least one, or a pattern such as 'data/*.parquet'")
    found: dict[str, None] = {}
    for path in given:
        for name in _matches(os.fspath(path)):
            if name in found:
                raise BadInput("given twice: name each file once, and let patterns not overlap", file=name)
            found[name] = None
    if may_be_unreadable is None or len(found) <= may_be_unreadable:
        for name in found:
            check_readable(name)
    return list(found)


def _matches(path: str) -> list[str]:
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        pattern = str(Path(path) / "*")
        raise BadInput(f"a folder, where a file was expected: name its files, as in {pattern!r}", file=path)
    if mode and not stat.S_ISREG(mode):  # it can be read once, and opening it may wait for ever
        raise BadInput("no regular file: a pipe or device must be saved to a file first", file=path)
    if mode:
        return [path]
    if not glob.has_magic(path):
        raise BadInput(f"no such file; looked from the folder {_here()}", file=path)
    names = _in_folders(path)
    if names is None:
        # Not Path.glob: it cannot take an absolute pattern, and would rewrite "./a/*".
        names = [name for name in glob.glob(path, recursive=True) if stat.S_ISREG(_mode(name))]  # noqa: PTH207
    if not names:
        raise BadInput(f"no file matches this pattern; looked from the folder {_here()}", file=path)
    return sorted(names)


def _in_folders(path: str) -> list[str] | None:
    """As ``glob`` finds them, without a look at each file: there may be 10^5. None for other patterns."""
    folder, pattern = os.path.split(path)
    if not folder or "**" in pattern or not glob.has_magic(pattern):
        return None
    if folder.startswith("**"):  # of the folders that it matches one has no name
        return None
    folders = [folder]
    if glob.has_magic(folder):  # with a separator behind it: folders only
        folders = glob.glob(os.path.join(folder, ""), recursive=True)  # noqa: PTH207
    names = []
    for each in folders:
        found = _in_one_folder(each, pattern)
        if found is None:
            return None
        names += found
    return names


def _in_one_folder(folder: str, pattern: str) -> list[str] | None:
    """The files of a folder; None where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return None
    if not pattern.startswith("."):
        names = [name for name in names if not name.startswith(".")]
    start = os.path.join(folder, "")
    if pattern != "*":
        names = fnmatch.filter(names, pattern)
    return [start + name for name in names]


def _mode(path: str) -> int:
    """The mode of a file, links followed; 0 where there is none."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - of many thousands of names
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as error:  # too long, a loop of links, a folder that may not be entered
        if glob.has_magic(path):
            return 0
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"cannot be used: {reason}", file=_shown(path)) from error


def _here() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - as text
    except OSError:
        return "that was removed while this process was in it"


def _shown(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:100]}...{path[-90:]}"
