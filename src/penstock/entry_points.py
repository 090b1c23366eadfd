"""The entry points of installed packages that are for us, found without importing ``importlib.metadata``.

What that imports and parses would be a tenth of the start of a run. Covers packages
whose metadata lie in folders of ``sys.path``, which is where installers put them; where anything else may
have some (a zip file, a finder of its own), ``importlib.metadata`` is asked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from penstock import foreign

_NAME = re.compile(r"^Name:[ \t]*(\S+)", re.MULTILINE)
_ELSEWHERE = "an unknown package"


class Entry(NamedTuple):
    """One entry point."""

    group: str
    name: str
    value: str
    package: str
    """As its metadata name it."""

    @property
    def module(self) -> str:
        """The module that it names."""
        return self.value.partition("[")[0].partition(":")[0].strip()

    @property
    def attr(self) -> str:
        """The object in the module that it names, which may have dots; empty for the module itself."""
        return self.value.partition("[")[0].partition(":")[2].strip()


_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What says that there is no file to be read; another error leaves open what there is."""


def installed(groups: Collection[str]) -> list[Entry]:
    """All of these groups; of two packages of one name, those of the first on the path.

    Raises:
        OSError: no more files may be opened, or a file that is there cannot be read.
    """
    found: list[Entry] = []
    seen: set[str] = set()
    if _has_other_finders():
        return _asked(groups)
    for place in dict.fromkeys(sys.path):
        try:
            folders = os.listdir(place or ".")
        except OSError as error:
            if foreign.is_of_descriptors(error):
                raise
            if Path(place).is_file():
                return _asked(groups)
            continue
        for folder in sorted(folders):
            package = _package_of(place, folder)
            if package and package not in seen:
                seen.add(package)
                found += _entries_in(os.path.join(place, folder), package, groups)
    return found


def _has_other_finders() -> bool:
    return any(
        hasattr(finder, "find_distributions") and getattr(finder, "__name__", "") != "PathFinder"
        for finder in sys.meta_path
    )


def _package_of(place: str, folder: str) -> str:
    """The package whose metadata a folder holds, in one spelling; empty if it holds none."""
    kind = folder.lower()
    if kind == "egg-info" and place.lower().endswith(".egg"):
        folder = Path(place).name
    elif not kind.endswith((".dist-info", ".egg-info")):
        return ""
    return re.sub(r"[-_.]+", "-", folder.rpartition(".")[0].partition("-")[0]).lower()


def _entries_in(folder: str, package: str, groups: Collection[str]) -> Iterator[Entry]:
    group = owner = ""
    for line in map(str.strip, _text_of(folder, "entry_points.txt").splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
        elif group in groups and line and not line.startswith("#"):
            owner = owner or _name_in(folder) or package
            name, _, value = map(str.strip, line.partition("="))
            yield Entry(group, name, value, owner)


def _name_in(folder: str) -> str:
    told = _NAME.search(_text_of(folder, "METADATA") or _text_of(folder, "PKG-INFO"))
    return told[1] if told else ""


def _text_of(folder: str, file: str) -> str:
    try:
        with open(os.path.join(folder, file), encoding="utf-8", errors="replace") as opened:
            return opened.read()
    except _ABSENT:
        return ""


def _asked(groups: Collection[str]) -> list[Entry]:
    from importlib.metadata import entry_points

    every = entry_points()
    return [
        Entry(group, each.name, each.value, each.dist.name if each.dist is not None else _ELSEWHERE)
        for group in groups
        for each in every.select(group=group)
    ]
