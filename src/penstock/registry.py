"""Names to plug-ins: sources, sinks, reducers, backends, limits, workloads and clusters by entry point.

Built-ins use the same door as a stranger's package: a line under ``[project.entry-points]``, such as
``"penstock.sources"``. The lists are collected at the first question, a plug-in is imported when it is
first used.
"""

from __future__ import annotations

import functools
import re
from importlib import import_module
from typing import Any

from penstock import entry_points, foreign
from penstock.entry_points import Entry
from penstock.errors import MissingExtra, PenstockBug, PenstockError, PluginError, UnknownPlugin

KINDS = ("source", "sink", "reducer", "backend", "limit", "workload", "cluster")
"""What can be plugged in; the entry point group of ``"sink"`` is ``penstock.sinks``."""

# Packages whose import name is not their own.
_PACKAGES = {
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "PIL": "pillow",
    "sparse_dot_topn": "sparse-dot-topn",
    "xgboost": "xgboost-cpu",
}


def names(kind: str) -> list[str]:
    """The known names of one kind, sorted."""
    return sorted(_entries(kind))


def load(kind: str, name: str) -> Any:
    """Import a plug-in: the class (or object) that its entry point names.

    Raises:
        UnknownPlugin: no such name; lists the known ones.
        MissingExtra: a built-in needs a package that an extra installs; names the extra.
        PluginError: the plug-in cannot be imported, or two packages claim the name.
    """
    known = _entries(kind)
    if name not in known:
        raise UnknownPlugin(kind, name, known)
    entry, *rivals = known[name]
    if rivals:
        owners = ", ".join(sorted(f"{claim.value} of {claim.package}" for claim in known[name]))
        raise PluginError(f"the {kind} {name!r} is claimed twice: {owners}; uninstall one of them")
    try:
        loaded: Any = import_module(entry.module)
        for attribute in filter(None, entry.attr.split(".")):
            loaded = getattr(loaded, attribute)
        return loaded
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        ours = entry.package == "penstock" and missing != "penstock"
        extra = _extra(missing, name) if ours else None
        if extra is not None:
            raise MissingExtra(f"the {kind} {name!r}", _package(missing), extra) from error
        raise _unusable(kind, name, entry, error) from error
    except (Exception, SystemExit, GeneratorExit) as error:  # a stranger's module may do anything
        if foreign.is_of_descriptors(error):
            raise
        raise _unusable(kind, name, entry, error) from error


def make(kind: str, name: str) -> Any:
    """Load a plug-in and call it without arguments.

    Raises:
        PluginError: as for :func:`load`; or it cannot be called so.
    """
    plugin = load(kind, name)
    try:
        return plugin()
    except PenstockError:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:
        if foreign.is_of_descriptors(error):
            raise
        raise PluginError(
            f"the {kind} {name!r} ({_known_as(kind, name)}) cannot be made: {foreign.reason_of(error)}"
        ) from error


def owner(kind: str, name: str) -> str:
    """The installed package that a plug-in comes from.

    Raises:
        UnknownPlugin: no such name.
    """
    known = _entries(kind)
    if name not in known:
        raise UnknownPlugin(kind, name, known)
    return known[name][0].package


def family(kind: str, name: str) -> str:
    """The name of the workload family in whose folder a workload lies; empty for one that stands alone.

    Raises:
        UnknownPlugin: no such name.
    """
    known = _entries(kind)
    if name not in known:
        raise UnknownPlugin(kind, name, known)
    _, _, inside = known[name][0].module.partition(".workloads.")
    folder = inside.partition(".")[0]
    return "" if folder in ("", name) else folder


def name_of(kind: str, place: str) -> str | None:
    """The name under which an object is registered; None if it is not, or if two packages claim the name.

    Args:
        kind: of the plug-in.
        place: its module and qualified name, ``"package.module.Class"``.
    """
    for name, claims in _entries(kind).items():
        if len(claims) == 1 and f"{claims[0].module}.{claims[0].attr}" == place:
            return name
    return None


def raised_by(error: BaseException) -> str:
    """The foreign plug-in in whose code an exception was raised, in words; empty if it was ours."""
    theirs = {
        claim.module.partition(".")[0]: f"the {kind} {name!r} ({claim.value}, from {claim.package})"
        for kind in KINDS
        for name, claims in _entries(kind).items()
        for claim in claims
        if claim.package != "penstock"
    }
    found, frames = "", foreign.frames_of(error)
    while frames is not None:  # the innermost that is of either decides: libraries are used by both
        package = str(frames.tb_frame.f_globals.get("__name__")).partition(".")[0]
        if package == "penstock" or package in theirs:
            found = theirs.get(package, "")
        frames = frames.tb_next
    return found


def _entries(kind: str) -> dict[str, list[Entry]]:
    """Name -> the different entry points of one kind that claim it."""
    if kind not in KINDS:
        raise PenstockBug(f"no such kind of plug-in: {kind!r}")
    return _scan()[kind]


@functools.cache
def _scan() -> dict[str, dict[str, list[Entry]]]:
    """All of them by kind: whatever is asked for, every installed package must be looked at."""
    kinds = {f"penstock.{kind}s": kind for kind in KINDS}
    found: dict[str, dict[str, list[Entry]]] = {kind: {} for kind in KINDS}
    for entry in entry_points.installed(kinds):
        claims = found[kinds[entry.group]].setdefault(entry.name, [])
        # A package may be listed twice (an editable install beside a built one): the same claim.
        if all(entry.value != claim.value for claim in claims):
            claims.append(entry)
    return found


def _package(module: str) -> str:
    return _PACKAGES.get(module, module)


def _extra(module: str, name: str) -> str | None:
    """The extra of ours that installs a module: the one named like the plug-in, or the first."""
    from importlib.metadata import requires

    wanted = _normal(_package(module))
    extras = []
    for requirement in requires("penstock") or ():
        package = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)""", requirement)
        if package and extra and _normal(package[0]) == wanted:
            extras.append(extra[1])
    return name if name in extras else extras[0] if extras else None


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def _known_as(kind: str, name: str) -> str:
    entry = _entries(kind)[name][0]
    return f"{entry.value}, from {entry.package}"


def _unusable(kind: str, name: str, entry: Entry, error: BaseException) -> PluginError:
    return PluginError(
        f"the {kind} {name!r} ({entry.value}, from {entry.package}) cannot be imported: "
        f"{foreign.reason_of(error)}; reinstall or update {entry.package}"
    )
