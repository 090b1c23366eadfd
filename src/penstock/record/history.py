"""What runs have learnt, kept for later runs: one small JSON file per job in the user's cache.

    $XDG_CACHE_HOME/penstock/history/DIGEST.json      ~/.cache where that is not set

Numbers alone: no name of an item, no path, no text of anybody. At most 256 files of 16 KiB; the oldest go.
A folder that is another user's, or that others may write, is not used, nor what cannot be read. Nothing of
this ever fails a run: without a history it explores.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock import foreign
from penstock.errors import RunTakenOver, UsageError
from penstock.files import atomic

VARIABLE = "PENSTOCK_HISTORY"
"""An absolute folder for it; ``off`` for none."""
SCHEMA = 1
MOST_FILES = 256
LARGEST = 16 << 10
"""Bytes of a file."""
_STALE = 3600.0
"""Seconds after which a draft is nobody's any more."""
_NAME = re.compile(r"[0-9a-f]{32}\.json")


def folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """The folder of the history; None if there is none, or if the home folder does not exist.

    Raises:
        UsageError: ``PENSTOCK_HISTORY`` is neither ``off`` nor an absolute folder.
    """
    environ = os.environ if environ is None else environ
    stated = environ.get(VARIABLE, "").strip()
    if stated == "off":
        return None
    if stated and not Path(stated).is_absolute():
        raise UsageError(
            f"the environment variable {VARIABLE} is {foreign.shown(stated, 60)}: 'off' or a folder from / "
            "on was expected"
        )
    if stated:
        return Path(stated)
    cache = Path(environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # as its specification says
        home = Path(environ.get("HOME", ""))
        if not home.is_absolute() or not _is_folder(home):  # a service's may be nowhere
            return None
        cache = home / ".cache"
    return cache / "penstock" / "history"


def read(path: Path) -> Mapping[str, Any] | None:
    """The content of such a file, or of a run folder's; None if there is none that is valid."""
    with suppress(OSError, ValueError):
        told = foreign.read_json(path, LARGEST)
        if isinstance(told, dict) and told.get("schema") == SCHEMA:
            return told
    return None


def write(path: Path, told: Mapping[str, Any]) -> None:
    """Write such a file atomically; does nothing if it cannot be written."""
    text = json.dumps({"schema": SCHEMA, **told}, separators=(",", ":"))
    if len(text) <= LARGEST:
        with suppress(OSError, RunTakenOver), atomic(path, durable=False) as draft:
            draft.write_text(text + "\n", encoding="ascii")


def find(place: Path, key: str) -> Mapping[str, Any] | None:
    """A job's history.

    Args:
        place: of the history.
        key: 32 hex digits.
    """
    path = place / f"{key}.json"
    return read(path) if _is_used(place) and _is_ours(path, stat.S_ISREG) else None


def keep(place: Path, key: str, told: Mapping[str, Any]) -> None:
    """Save a job's history, removing old files for room."""
    with suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_used(place):
        write(place / f"{key}.json", told)
        _make_room(place)


def _is_folder(path: Path) -> bool:
    with suppress(OSError):  # it may not be ours to look at
        return path.is_dir()
    return False


def _is_used(place: Path) -> bool:
    return _is_ours(place, stat.S_ISDIR) and not place.lstat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_ours(path: Path, is_kind: Callable[[int], bool]) -> bool:
    with suppress(OSError):
        status = path.lstat()
        return is_kind(status.st_mode) and status.st_uid == os.geteuid()
    return False


def _make_room(place: Path) -> None:
    """Remove the oldest files of ours; of what was left of a draft, that nobody writes any more."""
    ages: list[tuple[float, Path]] = []
    with suppress(OSError):
        for path in place.iterdir():
            with suppress(OSError):
                written = path.lstat().st_mtime
                if _NAME.fullmatch(path.name):
                    ages.append((written, path))
                elif path.name.startswith(".") and _NAME.match(path.name[1:]) and _is_old(written):
                    path.unlink()
    for _, path in sorted(ages)[: max(len(ages) - MOST_FILES, 0)]:
        with suppress(OSError):
            path.unlink()


def _is_old(written: float) -> bool:
    return time.time() - written > _STALE
