"""The last lines that nodes' workers printed, for the page. Empty for a private run, which drops them."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from penstock import layout
from penstock.foreign import in_html
from penstock.report.timeline import Timeline

_NAME = re.compile(r"workers(-[0-9a-f]{8})?\.log")
"""An event may name any file, and a folder may be anybody's."""
_LOGS = 32
"""Files that are shown at most."""
_BYTES = 2048
"""Of the end of each."""


def tails(run_folder: Path, timeline: Timeline) -> str:
    """HTML: the last lines of each file, under its nodes; empty if nothing was printed."""
    nodes: dict[str, list[str]] = {}
    for name, node in timeline.nodes.items():
        if _NAME.fullmatch(node.log) and (node.log in nodes or len(nodes) < _LOGS):
            nodes.setdefault(node.log, []).append(name)
    return "".join(_shown(run_folder, file, names) for file, names in nodes.items())


def _shown(run_folder: Path, file: str, names: list[str]) -> str:
    text = _tail(run_folder / layout.STATE / file)
    if not text:
        return ""
    of = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    told = f"{of}: the end of {layout.STATE}/{file}"
    return f"<details><summary>{in_html(told)}</summary><pre>{in_html(text, _BYTES)}</pre></details>"


def _tail(path: Path) -> str:
    """The last whole lines of a plain file, or the end of its last one; links are not followed."""
    with suppress(OSError):
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            known = os.fstat(file.fileno())
            if not stat.S_ISREG(known.st_mode):
                return ""
            file.seek(max(known.st_size - _BYTES, 0))
            data = file.read(_BYTES)
        if known.st_size > _BYTES:
            data = data.partition(b"\n")[2].strip() or data  # a bar that is drawn anew has no line's end
        return data.decode(errors="replace").strip()
    return ""
