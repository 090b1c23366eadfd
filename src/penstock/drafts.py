"""Drafts are made in a folder of their owner; removing it fences the owner off from final names.

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
    """Have this process, and those forked from it, make their drafts in ``place`` from now on.

    Args:
        place: ``RUN/.penstock/drafts/TOKEN``, or a folder in it; for what lies in ``RUN``.
    """
    _places[_root(place)] = place


def make_own_in(token: Path) -> str:
    """The same with a folder of this process's own, so that its drafts can be told should it die; its name.

    Raises:
        OSError: the owner's folder is gone, or cannot be written in.
    """
    place = token / f"worker-{os.urandom(8).hex()}"
    place.mkdir()
    _places[_root(token)] = place
    return place.name


def forget(token: Path) -> None:
    """The run has ended: what is written into its folder from now on is nobody's in particular."""
    _places.pop(_root(token), None)


def place_for(path: Path) -> Path | None:
    """Where a draft of what will be ``path`` is made; None for what lies in no run of this process."""
    if not _places:
        return None
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    inside = [root for root in _places if root in absolute.parents]
    return _places[max(inside, key=lambda root: len(root.parts))] if inside else None


def new_name() -> str:
    """A name for a draft that no other process gives: not one with our number in another container either."""
    return f"draft-{os.urandom(8).hex()}.tmp"


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fence(token: Path, into: Path) -> None:
    """Take an owner's folder away, so that nothing that it still writes gets a final name.

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
