"""The target of a run: a workload by name with its options, or a Job in a file or module.

Covers finding it, its options as JSON (paths made absolute, so that they mean the same from
elsewhere), and the file ``.penstock/command.json`` from which ``resume`` builds it again.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock import foreign, layout, registry
from penstock.budget import parse_size
from penstock.errors import (
    BadInput,
    CannotResume,
    JobChanged,
    JournalDamaged,
    PenstockError,
    PluginError,
    UsageError,
)
from penstock.files import atomic
from penstock.record import journal

if TYPE_CHECKING:
    from penstock.abc import Workload

SCHEMA = 1
_LARGEST = 256 << 20
"""Bytes of a command; one names every input file."""
_KINDS: dict[str, type] = {"workload": str, "job": str, "where": str, "options": dict, "asked": dict}
_JOB = re.compile(r"(/[^\0]*\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):[^\W\d]\w*", re.DOTALL)
"""FILE.py:JOB with the file's whole path, or module:JOB."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something to run."""

    name: str
    """A workload's name, or ``FILE.py:JOB`` or ``module:JOB`` with the place made absolute."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """A workload's options, as click gives them."""
    where: str = ""
    """For ``module:JOB``: the folder that it was found from."""
    is_folder: bool = False
    """Whether the name is that of a run folder, of which only what it says is read."""

    @property
    def is_job(self) -> bool:
        """Whether it is a Job in a file or module, not a workload."""
        return ":" in self.name and not self.is_folder

    def workload(self) -> Workload:
        """The workload, ready to run."""
        return load_workload(self.name)

    def job(self) -> Any:
        """The Job.

        Raises:
            BadInput: no such file, module or name, an error while importing it, or not a Job.
        """
        place, _, name = self.name.rpartition(":")
        if place.endswith(".py"):
            module = _import_file(Path(place))
        else:
            module = _import(place, self.where or str(Path.cwd()))
        job = getattr(module, name, None)
        if job is None:
            raise BadInput(
                f"has nothing called {name!r}; jobs in it: {', '.join(_jobs(module)) or 'none'}", file=place
            )
        if not _is_job(job):
            raise BadInput(f"{name!r} is of type {type(job).__name__}, not a penstock.Job", file=place)
        return job


def _is_job(value: Any) -> bool:
    import penstock

    return isinstance(value, penstock.Job)


def _jobs(module: Any) -> list[str]:
    return sorted(name for name, value in vars(module).items() if _is_job(value))


def only_job(place: str) -> str:
    """``FILE.py:JOB`` of a file that has exactly one job.

    Raises:
        BadInput: no such file, it cannot be imported, or it has no job or several.
    """
    path = Path(place).resolve()
    if not path.is_file():
        raise BadInput("no such file", file=place)
    jobs = _jobs(_import_file(path))
    if len(jobs) != 1:
        said = "has no penstock.Job; expected one at its top: job = penstock.Job(source=..., function=...)"
        if jobs:
            said = f"has {len(jobs)} jobs: say which, as {place}:{jobs[0]} ({', '.join(jobs)})"
        raise BadInput(said, file=place)
    return f"{place}:{jobs[0]}"


def find_job(text: str) -> Target:
    """Load the job named ``FILE.py:JOB`` or ``module:JOB``.

    Raises:
        BadInput: the file is not there.
    """
    place, _, name = text.rpartition(":")
    if not place.endswith(".py"):
        return Target(text, where=str(Path.cwd()))
    path = Path(place).resolve()
    if not path.is_file():
        raise BadInput("no such file", file=place)
    return Target(f"{path}:{name}")


def load_workload(name: str) -> Workload:
    """Load a workload by name.

    Raises:
        PluginError: no such workload, or it cannot be imported.
    """
    loaded = registry.load("workload", name)
    workload: Workload = loaded() if isinstance(loaded, type) else loaded
    return workload


def _import_file(path: Path) -> Any:
    # Under its own name and from its own folder, so that a worker finds it in the same way.
    if not path.is_file():
        raise BadInput("no such file", file=path)
    module = _import(path.stem, str(path.parent))
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path:
        raise BadInput(f"another module is called {path.stem!r} ({found}); rename the file", file=path)
    return module


def _import(name: str, folder: str) -> Any:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return import_module(name)
    except PenstockError:
        raise
    except Exception as error:
        raise BadInput(
            f"cannot be imported: {type(error).__name__}: {error}", file=name, place=_line(error)
        ) from error


def _line(error: BaseException) -> str | None:
    """The file and line at which an import failed; where one of our calls refused, that of the call."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '?').name}, line {error.lineno}"
    trace, place = error.__traceback__, None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if (
            not name.startswith("<frozen")
            and not name.endswith("importlib/__init__.py")
            and not _is_ours(trace.tb_frame.f_globals.get("__name__", ""))
        ):
            place = f"{Path(name).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == __name__.split(".")[0]


# --------------------------------------------------------------------------- command.json


def path_of(folder: Path) -> Path:
    """The path at which a run folder keeps its command."""
    return folder / layout.STATE / layout.COMMAND


def as_json(target: Target) -> dict[str, Any]:
    """The target as JSON values.

    Raises:
        PluginError: an option's value is not of a kind that JSON has.
    """
    if target.is_job:
        return {"schema": SCHEMA, "job": target.name, "where": target.where}
    params = {param.name: param for param in target.workload().command.params}
    options = {name: _plain(value, params.get(name)) for name, value in sorted(target.options.items())}
    return {"schema": SCHEMA, "workload": target.name, "options": options}


def _plain(value: Any, param: click.Parameter | None) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item, param) for item in value]
    if isinstance(value, Path) or (
        isinstance(value, str) and isinstance(getattr(param, "type", None), click.Path)
    ):
        text = str(value)
        return text if text == "-" or "://" in text else str(Path(text).absolute())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise PluginError(
        f"the option {getattr(param, 'name', '')!r} is a {type(value).__name__}: it cannot be kept as JSON"
    )


def keep(target: Target, folder: Path, asked: Mapping[str, Any]) -> None:
    """Write the command into the run folder for ``penstock resume``.

    Args:
        target: what is run.
        folder: the run folder.
        asked: the budget and the like that were asked for, as JSON values; they are not compared.
    """
    path = path_of(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {**as_json(target), "asked": dict(asked)} if asked else as_json(target)
    with atomic(path) as draft:
        draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def check(target: Target, folder: Path, *, accept_changes: bool = False) -> None:
    """Refuse a folder that is neither free nor holds a run of this very command.

    Raises:
        JobChanged: it holds a run of another command, or of a script.
    """
    if not (folder / layout.STATE).is_dir():
        return
    if not path_of(folder).exists():
        if _holds_items(folder):
            raise JobChanged(
                f"{folder} holds a run that a script made; choose another folder, or run the script again"
            )
        return
    kept, ours = _read(folder), as_json(target)
    what = "workload" if "workload" in kept else "job"
    if kept.get(what) != ours.get(what):
        raise JobChanged(f"{folder} holds a run of {kept.get(what)}; choose another folder for {target.name}")
    theirs, mine = kept.get("options", {}), ours.get("options", {})
    free = set() if target.is_job else set(getattr(target.workload(), "incidental", ()))
    changed = [name for name in sorted({*theirs, *mine} - free) if theirs.get(name) != mine.get(name)]
    if changed and not accept_changes:
        list_of = "; ".join(
            f"{name} was {_brief(theirs.get(name))}, is {_brief(mine.get(name))}" for name in changed
        )
        raise JobChanged(
            f"{folder} holds a run with other options: {list_of}. Choose another folder; or pass "
            "--accept-changes, which keeps what the old ones made and does only the rest with the new"
        )


def _holds_items(folder: Path) -> bool:
    """Whether anything is done in it: a run that ended as it began leaves a journal of its first line."""
    for path in layout.journals(folder / layout.STATE):
        try:
            if journal.read(path).done:
                return True
        except JournalDamaged:  # told to whoever goes on with it
            return True
    return False


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read(folder: Path) -> dict[str, Any]:
    path = path_of(folder)
    try:
        kept = foreign.read_json(path, _LARGEST)
    except ValueError as error:
        raise BadInput(f"not the command of a run: {error}", file=path) from error
    if not isinstance(kept, dict) or ("workload" in kept) == ("job" in kept):
        what = "both" if isinstance(kept, dict) and "job" in kept else "neither"
        raise BadInput(f"not the command of a run: of a workload and a job it names {what}", file=path)
    if kept.get("schema") != SCHEMA:
        version = foreign.shown(kept.get("schema"), 40)
        raise BadInput(f"is of version {version}, this penstock reads {SCHEMA}", file=path)
    for name, kind in _KINDS.items():
        if not isinstance(kept.get(name, kind()), kind):
            wanted = "object" if kind is dict else "text"
            raise BadInput(f"not the command of a run: its {name!r} is no {wanted}", file=path)
    if "job" in kept and not _JOB.fullmatch(kept["job"]):
        raise BadInput(
            f"not the command of a run: no job is called {foreign.shown(kept['job'], 200)}", file=path
        )
    return kept


def _is_size(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    share = value.removesuffix("%")
    if value == "auto" or (share != value and share.replace(".", "", 1).isdecimal()):
        return True
    try:
        return parse_size(value) > 0
    except UsageError:
        return False


def _is_number(value: Any) -> bool:
    return value is None or (foreign.is_count(value) and value > 0)


_ASKED: dict[str, Callable[[Any], bool]] = {
    "budget": _is_size,
    "workers": _is_number,
    "call": _is_number,
    "history": lambda value: type(value) is bool,
    "set_aside": lambda value: type(value) is bool or (foreign.is_count(value) and value >= 0),
}


def read_asked(folder: Path) -> dict[str, Any]:
    """The budget and other options with which a run was last started from the command line.

    Raises:
        BadInput: its command cannot be read.
    """
    path = path_of(folder)
    asked: dict[str, Any] = _read(folder).get("asked", {})
    for name, value in asked.items():
        if name not in _ASKED or not _ASKED[name](value):
            raise BadInput(f"not the command of a run: {foreign.shown(name, 60)} asked for", file=path)
    return asked


def no_run(folder: Path) -> str:
    """The message for a folder that should hold a run and does not."""
    if not folder.is_dir():
        return f"{folder} is not there, or is no folder; expected the folder of a run"
    if (folder / layout.STATE).is_dir():
        return f"nothing was begun in {folder}: start it with penstock run ... --into {folder}"
    return f"{folder} holds no run: nothing of one is in {folder / layout.STATE}"


def read(folder: Path) -> Target:
    """Rebuild the target of a run folder.

    Raises:
        UsageError: not a run folder.
        CannotResume: nothing was begun in it, or a script made it.
        BadInput: its command cannot be read, or an option's value is no longer valid.
    """
    if not (folder / layout.STATE).is_dir():
        raise UsageError(no_run(folder))
    if not path_of(folder).exists() and not _holds_items(folder):
        raise CannotResume(no_run(folder))
    if not path_of(folder).exists():
        raise CannotResume(
            f"{folder} was made by a script: run your script again, with the same folder, to go on"
        )
    kept = _read(folder)
    if "job" in kept:
        return Target(kept["job"], where=kept.get("where", ""))
    command = load_workload(kept["workload"]).command
    return Target(kept["workload"], _cast(command, kept.get("options", {}), path_of(folder)))


def _cast(command: click.Command, options: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """JSON values through the types of the workload's parameters, as if they were typed again."""
    context = click.Context(command, info_name=command.name)
    known = {param.name: param for param in command.params if param.name is not None}
    unknown: Sequence[str] = sorted(set(options) - set(known))
    if unknown:
        raise BadInput(f"the workload no longer has the option {unknown[0]!r}", file=file)
    try:
        return {
            name: param.type_cast_value(context, options[name])
            for name, param in known.items()
            if name in options
        }
    except click.UsageError as error:
        raise BadInput(error.format_message(), file=file) from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:  # of a type that no option has
        raise BadInput(f"an option of it has no value of its type: {error}", file=file) from error
