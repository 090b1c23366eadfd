"""Runs the main script once in the fork server, as ``spawn`` runs it in each of its workers.

What it defines and sets is then in every worker, on shared pages. What it prints or raises is told once.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.util import find_spec
from multiprocessing import process
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from penstock import foreign, forks, script
from penstock.backends import untouched
from penstock.errors import UsageError

NAME = "__mp_main__"
running = False
"""Whether the script is being run here: nothing in it may make workers now."""


def of_this_process() -> tuple[str, str]:
    """The main script's file and the module given to ``python -m``, if it is to be run; else two empty texts.

    Says what workers will not have of a script that is not.
    """
    if running:
        raise UsageError(
            "the main script makes workers at its top, outside its main guard, which workers import: put it "
            'below `if __name__ == "__main__":`'
        )
    found = script.find()
    if found is None:
        return "", ""
    if found.path and script.has_guard(found.source):
        script.tell(script.missing_below(found, script.places_now()))
        return found.path, found.module
    script.tell(script.missing(found, script.line_now()))
    return "", ""


def run(path: str, module: str) -> str:
    """Run it, from its file or as ``python -m`` would; returns a one-line warning, if any.

    Where it raises, the workers go on without it.
    """
    global running
    main, before = ModuleType(NAME), sys.modules["__main__"]
    heard = [_Heard(sys.stdout, path), _Heard(sys.stderr, path)]
    streams, show = (sys.stdout, sys.stderr), warnings.showwarning
    here = forks.Here()
    sys.stdout, sys.stderr = heard
    warnings.showwarning = lambda *_, **__: None  # the main process has shown them
    sys.modules[NAME] = sys.modules["__main__"] = main
    mine: Any = process.current_process()
    running = mine._inheriting = True
    told = ""
    folder, variables = os.curdir, dict(os.environ)
    with suppress(OSError):  # it may be gone
        folder = os.fspath(Path.cwd())
    try:
        code = _code(main, path, module)
        with untouched.kept(untouched.start_of(os.getppid())):
            exec(code, vars(main))
    except BaseException as error:
        here.stay(error)
        sys.modules["__main__"] = before
        del sys.modules[NAME]
        where = _where(path, _line_of(error, path))
        told = f"{where} raises {_in_words(error)} when workers import it: they go on without it"
    finally:
        running = False
        del mine._inheriting
        here.stay()
        _put_back(folder, variables)
        for each in heard:  # whoever took one of them to write to later goes on with what it stands for
            each.over = True
        sys.stdout, sys.stderr = streams
        warnings.showwarning = show
    said = next((each for each in heard if each.said), None)
    if said is not None and not told:
        where = _where(path, said.line)
        told = f"{where} writes `{said.said}` outside its main guard, so also when workers import it"
    return told


def _put_back(folder: str, variables: dict[str, str]) -> None:
    """The folder and the environment as the main process has them by now, whose top has long been run."""
    with suppress(OSError):
        os.chdir(folder)
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _code(main: ModuleType, path: str, module: str) -> CodeType:
    if module == "__main__":
        spec = PathFinder.find_spec(module, [os.path.dirname(path)])  # noqa: PTH120 - it may be in a zip
    else:
        spec = find_spec(module) if module else None
    main.__file__ = path
    if spec is not None:
        main.__package__, main.__spec__ = spec.parent, spec
        get_code = getattr(spec.loader, "get_code", None)
        if get_code is not None and (code := get_code(module)) is not None:
            return code  # type: ignore[no-any-return]
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec")


def _line_of(error: BaseException, path: str) -> int | None:
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == path]
    return lines[-1] if lines else getattr(error, "lineno", None)


def _in_words(error: BaseException) -> str:
    return f"{foreign.kind_of(error)}: {foreign.line(foreign.told(error), 300)}".rstrip(": ")


def _where(path: str, line: int | None) -> str:
    return f"{foreign.line(path, 300)}{'' if line is None else f', line {line},'}"


class _Heard:
    """In place of a stream: keeps the first line that is written; afterwards it is the stream itself."""

    def __init__(self, stream: Any, path: str) -> None:
        self._stream = stream
        self._path = path
        self.over = False
        self.said = ""
        self.line: int | None = None

    def write(self, text: str) -> Any:
        """Keep it, or hand it on."""
        if self.over:
            return self._stream.write(text)
        if not self.said and text.strip():
            self.said = foreign.line(text.strip(), 60)
            frame = sys._getframe(1)
            while frame is not None and frame.f_code.co_filename != self._path:
                frame = frame.f_back  # type: ignore[assignment]
            self.line = None if frame is None else frame.f_lineno
        return len(text)

    def writelines(self, lines: Any) -> None:
        """As a stream does it."""
        for each in lines:
            self.write(each)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
