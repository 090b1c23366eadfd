"""Temporary folders with an owner, so that a killed process's leftovers are removed by the next one.

A process that is killed removes nothing. Its folders are known to be nobody's when their owner's process,
on this very boot and among the processes that can be seen from here, is gone; any other folder is left alone.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from penstock import foreign
from penstock.identity import UNSEEN, boot, namespace, started

PREFIX = "penstock-"
_JSON = json.JSONEncoder(separators=(",", ":"))
"""Ours: a script may change for its whole process how ``json.dumps`` writes."""
_OWNER = ".owner"


def make(prefix: str, where: str | os.PathLike[str] | None = None) -> Path:
    """A new folder that only its user can enter; removes our leftovers beside it.

    Args:
        prefix: of its name; begins with ``penstock-``.
        where: the folder to make it in; the one for temporary files where there is none.
    """
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
    own(path)
    return path


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """A new folder from :func:`make`, for the duration of the context."""
    path = make(prefix)
    try:
        yield path
    finally:
        remove(path)


def own(path: Path) -> None:
    """Mark a folder as this process's; removes our leftovers beside it."""
    with suppress(OSError):  # a full disk: who uses the folder is told
        (path / _OWNER).write_text(_JSON.encode(_here(os.getpid())))
    sweep(path.parent)  # later, as it takes a while: of what is not marked nobody can tell whose it is


def remove(path: Path) -> None:
    """Remove a folder, its mark last: when a kill leaves a part of it, that is still known to be ours."""
    with suppress(OSError), os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != _OWNER:
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108 - pathlib may be gone at the interpreter's end
    shutil.rmtree(path, ignore_errors=True)


@functools.cache
def sweep(where: Path) -> None:
    """Remove folders here whose owners are gone; once per process."""
    sweep_again(where)


def sweep_again(where: Path) -> None:
    """The same, even if this process has done it before."""
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and is_left(Path(entry.path)):
                remove(Path(entry.path))


def is_left(path: Path) -> bool:
    """Whether a folder is ours and its owner is certainly gone."""
    try:
        status = path.lstat()
        if not path.is_dir() or path.is_symlink() or status.st_uid != os.geteuid():
            return False
        owner = foreign.read_json(path / _OWNER, 4096)
        pid = owner["pid"]
        if type(pid) is not int or pid <= 0 or not isinstance(owner["started"], str):
            return False
        here = _here(pid)
    except (OSError, ValueError, TypeError, KeyError):
        return False
    seen = all(owner.get(key) == here[key] != "" for key in ("boot", "processes"))
    return seen and owner["started"] != "" and here["started"] not in (owner["started"], UNSEEN)


def is_own(path: Path) -> bool:
    """Whether a folder is marked as this process's."""
    with suppress(OSError, ValueError):
        return path.lstat().st_uid == os.geteuid() and foreign.read_json(path / _OWNER, 4096) == _here(
            os.getpid()
        )
    return False


def _here(pid: int) -> dict[str, Any]:
    """A process as it can be told from any other: which, of what time, where it can be seen from."""
    return {"pid": pid, "started": started(pid), "boot": boot(), "processes": namespace()}
