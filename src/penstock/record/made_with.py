"""Provenance of a run: command, host, versions, and the commit of its code.

Kept beside the events for who looks at the page or the report later. Nothing is run to find it: of a
repository only the few files of ``.git`` that name the commit are read.
"""

from __future__ import annotations

import inspect
import json
import platform
import re
import shlex
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from penstock import foreign, layout, version
from penstock.files import atomic

_LONGEST = 2_000
"""Letters of a command."""
_FEW = 20
"""Packages that are named."""
_SMALL = 1 << 20
"""Bytes of a file of ``.git`` that are read."""
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def note(state: Path, stage: str, key: Mapping[str, Any], function: Any, *, private: bool) -> None:
    """Save the provenance before a stage starts; that of other stages stays.

    Args:
        state: the run's state folder.
        stage: its name.
        key: of the job, which names the function.
        function: it.
        private: leave the command out: it may name people.
    """
    try:
        known = foreign.read_json(state / layout.MADE_WITH, _SMALL)
    except (OSError, ValueError):
        known = {}
    stages = known.get("stages") if isinstance(known, dict) else None
    module = sys.modules.get(getattr(_plain(function), "__module__", None) or "")
    of_stage = {"function": _name(key.get("function")), "commit": commit_of(_file_of(module))}
    told = {
        "command": "" if private else shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:_LONGEST],
        "host": socket.gethostname(),
        "versions": {
            "Python": platform.python_version(),
            "Penstock": version.__version__,
            **_packages(module),
        },
        "stages": {**(stages if isinstance(stages, dict) else {}), stage: of_stage},
    }
    with suppress(OSError), atomic(state / layout.MADE_WITH, durable=False) as draft:
        draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8", errors="replace")


def commit_of(file: Path | None) -> str:
    """The commit checked out in a file's repository; empty if there is none.

    Whether the files were changed since is not looked at. What is installed belongs to no repository around.
    """
    if file is None or _INSTALLED & set(file.parts):
        return ""
    for folder in file.parents:
        git = folder / ".git"
        with suppress(OSError, ValueError):
            if git.is_dir():
                return _head(git)
            if git.is_file():  # of a work tree, or a submodule
                return _head(folder / _read(git).removeprefix("gitdir:").strip())
    return ""


def _head(git: Path) -> str:
    head = _read(git / "HEAD")
    if not head.startswith("ref:"):
        return head if _COMMIT.fullmatch(head) else ""
    name = head.removeprefix("ref:").strip()
    if ".." in name or name.startswith("/"):
        return ""
    common = git / "commondir"
    shared = git / _read(common) if common.is_file() else git
    for place in (git, shared):
        if (place / name).is_file():
            found = _read(place / name)
            return found if _COMMIT.fullmatch(found) else ""
    for entry in _read(shared / "packed-refs").splitlines():
        commit, _, of = entry.partition(" ")
        if of == name and _COMMIT.fullmatch(commit):
            return commit
    return ""


def _read(path: Path) -> str:
    return foreign.read_text(path, _SMALL).strip()


def _plain(function: Any) -> Any:
    while hasattr(function, "func"):
        function = function.func
    known = inspect.isroutine(function) or inspect.isclass(function)
    return function if known else type(function)


def _name(key: Any) -> str:
    while isinstance(key, dict) and "partial" in key:
        key = key["partial"]
    name = key.get("name") if isinstance(key, dict) else None
    return name if isinstance(name, str) else ""


def _file_of(module: Any) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if isinstance(file, str) else None


def _packages(module: Any) -> dict[str, str]:
    """The packages that a module names at its top and that tell their version."""
    tops = {
        getattr(value, "__module__", None) if not inspect.ismodule(value) else value.__name__
        for value in list(vars(module).values() if module is not None else ())
        if not isinstance(value, str | bytes | int | float)
    }
    found: dict[str, str] = {}
    for top in sorted({name.partition(".")[0] for name in tops if isinstance(name, str)} - {"penstock"}):
        package = sys.modules.get(top)
        # Not getattr: some make the attribute when it is asked for, and warn.
        told = vars(package).get("__version__") if package is not None else None
        if isinstance(told, str) and top not in sys.stdlib_module_names and len(found) < _FEW:
            found[top] = told
    return found
