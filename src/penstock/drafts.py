"""Drafts are made in their owner's folder; removing it fences the owner: no draft gets a final name.

All processes of a run make their drafts in one folder inside the run folder, and what is finished gets its
final name by one rename out of it. Whoever takes the run over removes that folder first: from then on no
rename of the processes before succeeds, however late they wake up and whatever their clocks say.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from penstock import layout

_places: dict[Path, Path] = {}
"""Run folders that this process works in, and where in them it makes its drafts."""


def make_in(place: Path) -> None:
    """Make this process, and its forks, write drafts in ``place`` from now on.

    Args:
        place: ``RUN/.penstock/drafts/TOKEN``, or a folder in it; for what lies in ``RUN``.
    """
    _places[_root(place)] = place


def make_own_in(token: Path) -> str:
    """The same in a folder of this process's own, so that a dead process's drafts can be found; its name.

    Raises:
        OSError: the owner's folder is gone, or cannot be written in.
    """
    place = token / f"worker-{os.urandom(8).hex()}"
    place.mkdir()
    _places[_root(token)] = place
    return place.name


def forget(token: Path) -> None:
    """Stop: the run has ended, and later writes into its folder are no drafts of ours."""
    _places.pop(_root(token), None)


def place_for(path: Path) -> Path | None:
    """Where to make the draft of ``path``; None if that lies in no run of this process."""
    if not _places:
        return None
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    inside = [root for root in _places if root in absolute.parents]
    return _places[max(inside, key=lambda root: len(root.parts))] if inside else None


def new_name() -> str:
    """A name for a draft that no other process chooses, not even one with our pid in another container."""
    return f"draft-{os.urandom(8).hex()}.tmp"


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fence(token: Path, into: Path) -> None:
    """Remove an owner's draft folder, so that nothing it still writes gets a final name.

    Args:
        token: its folder of drafts.
        into: ours, on the same file system.

    Raises:
        OSError: it cannot be moved.
    """
    away = into / f"fenced-{os.urandom(8).hex()}"
    with suppress(FileNotFoundError):
        token.rename(away)  # at once, whoever is still making files in it
    # What cannot be removed now, as somebody is writing there, goes with our own folder.
    shutil.rmtree(away, ignore_errors=True)


def _root(place: Path) -> Path:
    for folder in place.parents:
        if folder.name == layout.DRAFTS:
            return folder.parents[1]
    raise ValueError(f"{place} is no folder for drafts")
