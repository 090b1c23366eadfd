"""What may lie in a state folder: files and folders, as a run makes them, and nothing that leads elsewhere.

A run folder may come from anybody. Pipes and devices would have us wait, or read for ever; and through a link
what a run adds to its journal and logs, cuts off them or clears away would be a file of somebody's elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from penstock import foreign, layout
from penstock.errors import CannotResume


def check(state_dir: Path) -> None:
    """Look at what lies in a state folder, before any of it is touched.

    Of a stage only what is written to in place counts: what else lies there is replaced as a whole. A folder
    has a file's name where somebody moved it there; nothing could be written then, and a report be lost.

    Raises:
        CannotResume: something in it is neither file nor folder, or not the one of the two that it should be.
    """
    odd = [*_odd(state_dir), *(path for path in _in_stages(state_dir) if path.is_symlink())]
    odd += [path for path in _files(state_dir) if path.is_dir()]
    if odd:
        path = min(odd)
        what = "is a folder" if path.is_dir() else "is neither file nor folder"
        what = "is a link" if path.is_symlink() else what
        raise CannotResume(
            f"{foreign.line(str(path))} {what}, so no run made it: put what it stands for in its place, or "
            "remove it, then try again"
        )


def _odd(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for each in entries:
            if not each.is_dir(follow_symlinks=False) and not each.is_file(follow_symlinks=False):
                yield Path(each.path)


def _files(state_dir: Path) -> Iterator[Path]:
    """What is a file wherever it is there."""
    yield from (state_dir.parent / name for name in (layout.REPORT, layout.PAGE))
    yield from (state_dir / name for name in sorted(layout.RESERVED - {layout.DRAFTS}))
    for name in (layout.JOURNAL, layout.TRIAL):
        yield from state_dir.glob(f"*/{name}")


def _in_stages(state_dir: Path) -> Iterator[Path]:
    for name in (layout.JOURNAL, layout.TRIAL):
        yield from state_dir.glob(f"*/{name}")
