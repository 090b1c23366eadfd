"""May ``penstock resume`` run what a folder names? A run folder may come from anybody.

Its command names a file with code: that file, and nothing in the folder, is what runs. It is named before
it does, and refused where somebody else could have put it there.
"""

from __future__ import annotations

import os
import stat
from importlib.machinery import PathFinder
from pathlib import Path

from penstock import foreign
from penstock.cli.target import Target, path_of
from penstock.errors import UsageError


def code_of(target: Target) -> Path | None:
    """The file or package with a job's code, found without importing it; None for a workload.

    Packages that are installed are found as Python finds them; None where nothing is found either.
    """
    if not target.is_job:
        return None
    place = target.name.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place).absolute()
    # Only the outermost package: finding what is in it would run it.
    spec = PathFinder.find_spec(place.partition(".")[0], [target.where or str(Path.cwd())])
    spec = spec or PathFinder.find_spec(place.partition(".")[0])
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(spec.origin).absolute()
    places = list(spec.submodule_search_locations or ())
    return Path(places[0]).absolute() if places else None


def check(target: Target, folder: Path) -> None:
    """Refuse code that another user could have put there.

    Raises:
        UsageError: it lies in the run folder, or others may write it.
    """
    code = code_of(target)
    if code is None:
        return
    doubt = _doubt(path_of(folder)) or _within(code, folder) or _doubt(code) or _doubt(code.parent)
    if doubt:
        raise UsageError(
            f"the command of {folder} runs {code}, and {doubt}: look at that file, then run it with --trust"
        )


def _within(code: Path, folder: Path) -> str:
    inside = foreign.is_inside(code, folder) or code.is_relative_to(folder.absolute())
    return "it lies in the run folder itself, which may come from anybody" if inside else ""


def _doubt(path: Path) -> str:
    """Why somebody else may have written a file, or put one into a folder; empty where nobody has."""
    try:
        status = path.stat()
    except OSError:
        return ""  # not there: told by who opens it
    if status.st_uid not in (os.geteuid(), 0):
        return f"{path} is owned by another user (number {status.st_uid})"
    # In a folder like /tmp nobody replaces a file of another's.
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return f"everybody may write in {path}" if path.is_dir() else f"everybody may write {path}"
    return ""
