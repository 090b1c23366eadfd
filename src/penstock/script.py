"""Reads the main script by its syntax tree, never running it here, to know what workers will have of it.

A script with a main guard is run once where workers are forked from, as the standard library's ``spawn`` runs
it in each worker. One without would do its work there again, so nothing of it is run; what it has set in
modules that it imports is then missing in workers, and is named.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import foreign

_MOST = 5
_PARSES = 100
"""So often a text is parsed where other threads parse at the same time."""
_LONGEST = 60
_HANDED_ON = frozenset(("os", "sys.path", "sys.argv", "sys.stdout", "sys.stderr", "sys.exit", "time"))
"""What workers have as well, because processes inherit it or we hand it on; or what sets nothing."""
_SEEDED = frozenset(("seed", "set_seed"))
"""Generators are seeded for each item."""
_POOLS = frozenset(
    ("penstock", "joblib", "multiprocessing", "concurrent", "threading", "asyncio", "unittest")
)
_NO_SETTINGS = frozenset((
    "debug", "info", "warning", "warn", "error", "exception", "critical", "log",
    "show", "savefig", "save", "savez", "savetxt", "dump", "close", "sleep", "exit", "main", "run",
))  # fmt: skip
"""Names of calls that are made for what they write."""


@dataclass(frozen=True, slots=True)
class Script:
    """The main script of this process."""

    path: str
    """Its file; empty where there is none, in a notebook and under ``python -c``."""
    module: str
    """What ``python -m`` was told to run; ``__main__`` for a folder or a zip; empty for a file."""
    source: str

    @property
    def name(self) -> str:
        """Its display name."""
        path = Path(self.path)
        if self.module == "__main__":  # of a folder or a zip that is run
            return path.parent.name
        return self.module or path.name or "this program"


def find() -> Script | None:
    """The main script of this process; None if there is none, or if it is no script of the user's."""
    main = sys.modules.get("__main__")
    if main is None:
        return None
    module = getattr(getattr(main, "__spec__", None), "name", None) or ""
    path = getattr(main, "__file__", None) or ""
    if module.rpartition(".")[2] == "__main__" and _is_installed(path):  # a package's command
        return None
    if not path:
        source = _typed(main)
        return Script("", "", source) if source else None
    path = os.path.abspath(path)  # noqa: PTH100 - with its links as they are
    # A command that was installed beside the interpreter: all that it does is to call a package.
    if not module and Path(path).parent == Path(sys.executable).parent:
        return None
    text = _source(main, path)
    return None if text is None else Script(path, module, text)


def _is_installed(path: str) -> bool:
    """Whether it is a package's that somebody else wrote, by where it lies."""
    places = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return any(Path(path).is_relative_to(place) for place in places)


def _source(main: Any, path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 24).decode("utf-8", "replace")
    except NotADirectoryError:  # inside of a zip
        get_source = getattr(getattr(main, "__loader__", None), "get_source", None)
        return get_source("__main__") if get_source is not None else None
    except OSError:
        return None


def _typed(main: Any) -> str:
    """What was typed into a notebook, or given to ``python -c``."""
    cells = getattr(main, "In", None)
    if isinstance(cells, list):
        return "\n".join(cell for cell in cells if isinstance(cell, str) and _tree(cell) is not None)
    arguments = sys.orig_argv
    return arguments[arguments.index("-c") + 1] if "-c" in arguments[:-1] else ""


def _tree(source: str) -> ast.Module | None:
    for _ in range(_PARSES):
        try:
            return ast.parse(source)
        except SystemError:  # before 3.13 Python counts the depth of all threads that parse as one
            continue
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            break
    return None


def has_guard(source: str) -> bool:
    """Whether the script keeps its work behind ``if __name__ == "__main__":``."""
    tree = _tree(source)
    return tree is not None and any(_is_guard(each) for each in tree.body)


def is_run() -> bool:
    """Whether workers run this process's script."""
    found = find()
    return found is not None and bool(found.path) and has_guard(found.source)


def _is_guard(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.If):
        return False
    return any(_compares_name(each) for each in ast.walk(statement.test))


def _compares_name(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq)):
        return False
    sides = (node.left, node.comparators[0])
    named = any(isinstance(each, ast.Name) and each.id == "__name__" for each in sides)
    return named and any(isinstance(each, ast.Constant) and each.value == "__main__" for each in sides)


@dataclass(frozen=True, slots=True)
class Setting:
    """A top-level statement of a script that sets something in a module."""

    line: int
    text: str


def settings(source: str, before: int | None = None) -> list[Setting]:
    """Top-level calls and assignments of a script that affect imported modules.

    Args:
        source: of the script.
        before: only what stands above this line.
    """
    tree = _tree(source)
    if tree is None:
        return []
    imported: dict[str, str] = {}
    found = []
    for statement in _top(tree.body):
        if before is not None and statement.lineno >= before:
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imported.update(_names(statement))
        elif isinstance(statement, ast.Assign):
            imported.update(_got(statement, imported))
        if _sets(statement, imported):
            found.append(Setting(statement.lineno, foreign.line(ast.unparse(statement), _LONGEST)))
    return found


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that are executed when the script is, in order; also inside ``if``, ``try`` and such."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from _top(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from _top(handler.body)


def _names(statement: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """The names that an import binds, and what of which module each is."""
    if isinstance(statement, ast.Import):
        return {each.asname or each.name.partition(".")[0]: each.name for each in statement.names}
    return {each.asname or each.name: f"{statement.module or ''}.{each.name}" for each in statement.names}


_GETTER = re.compile(r"get_?(logger|context|config\w*|settings)", re.IGNORECASE)
"""What calls are named that give what a module keeps, the same for all who ask."""


def _got(statement: ast.Assign, imported: dict[str, str]) -> dict[str, str]:
    """The name of such a thing: ``log = logging.getLogger("app")``."""
    chain = _chain(statement.value.func) if isinstance(statement.value, ast.Call) else None
    if chain is None or chain[0] not in imported or not _GETTER.fullmatch(chain[-1]):
        return {}
    full = ".".join([imported[chain[0]], *chain[1:]])
    return {each.id: full for each in statement.targets if isinstance(each, ast.Name)}


def _sets(statement: ast.stmt, imported: dict[str, str]) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call) and _may_set(statement.value.func, imported)
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
        targets = [statement.target]
    else:
        return False
    hang_on = (each for each in targets if isinstance(each, ast.Attribute | ast.Subscript))
    return any(_may_set(each, imported) for each in hang_on)


def _may_set(place: ast.expr, imported: dict[str, str]) -> bool:
    """Whether what is called, or assigned to, hangs on something imported that workers do not have anyway."""
    chain = _chain(place)
    if chain is None or chain[0] not in imported:
        return False
    full = ".".join([imported[chain[0]], *chain[1:]])
    parts = full.split(".")
    if parts[0] in _POOLS or parts[0] in _HANDED_ON or ".".join(parts[:2]) in _HANDED_ON:
        return False
    return parts[-1] not in _NO_SETTINGS and not (parts[-1] in _SEEDED and "random" in parts)


def _chain(place: ast.expr) -> list[str] | None:
    """The names that lead to a place: of ``a.b().c[0]`` they are a, b and c."""
    chain: list[str] = []
    at: ast.expr = place
    while not isinstance(at, ast.Name):
        if isinstance(at, ast.Attribute):
            chain.append(at.attr)
            at = at.value
        elif isinstance(at, ast.Subscript):
            at = at.value
        elif isinstance(at, ast.Call):
            at = at.func
        else:
            return None
    return [at.id, *reversed(chain)]


def missing(script: Script, before: int | None = None) -> str:
    """What workers lack of a script without a main guard, in one line; empty if nothing."""
    where = (
        'put the work below `if __name__ == "__main__":`, and workers run what is above it'
        if script.path
        else "set it in the function, or in initializer="
    )
    return _told_missing(script, settings(script.source, before), where)


def _told_missing(script: Script, found: list[Setting], instead: str) -> str:
    if not found:
        return ""
    told = ", ".join(f"`{each.text}` (line {each.line})" for each in found[:_MOST])
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return f"workers do not have what {foreign.line(script.name, 200)} has set: {told}{more}; {instead}"


_SETTER = re.compile(
    r"_?(set|use|enable|disable|register|config|basicConfig|filterwarnings|simplefilter|field_size_limit"
    r"|addHandler|addFilter|addLevelName|update|patch|monkey_?patch)"
)
"""What calls are named that set something: below the guard most calls do work."""


def missing_below(script: Script, at: list[ScriptFrame]) -> str:
    """What workers lack of a script with a main guard, in one line: what was set below it so far.

    Args:
        script: the script.
        at: where in it this process is.
    """
    tree = _tree(script.source)
    if tree is None:
        return ""
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported.update(_names(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            imported.update(_got(node, imported))
    found = [
        Setting(each.lineno, foreign.line(ast.unparse(each), _LONGEST))
        for place in at
        for each in _top(_body(tree, place))
        if each.lineno < place.line and _surely_sets(each, imported)
    ]
    return _told_missing(script, found, "set it above the main guard, in the function, or in initializer=")


def _body(tree: ast.Module, place: ScriptFrame) -> list[ast.stmt]:
    """The statements that are executed there: a function's, or those below the guard."""
    if place.name == "<module>":
        return [each for guard in tree.body if _is_guard(guard) for each in getattr(guard, "body", [])]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == place.name:
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            if first == place.first:
                return node.body
    return []


def _surely_sets(statement: ast.stmt, imported: dict[str, str]) -> bool:
    if not _sets(statement, imported):
        return False
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return True
    called = statement.value.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return _SETTER.match(name) is not None


@dataclass(frozen=True, slots=True)
class ScriptFrame:
    """A frame of the main script."""

    name: str
    """Of the function; ``<module>`` for the script itself."""
    first: int
    """The function's first line, with its decorators."""
    line: int
    """Where it is."""


def places_now() -> list[ScriptFrame]:
    """This thread's positions in the main script, from the script itself inwards."""
    main, found = vars(sys.modules["__main__"]), []
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_globals is main:
            code = frame.f_code
            found.append(ScriptFrame(code.co_name, code.co_firstlineno, frame.f_lineno))
        frame = frame.f_back
    return found[::-1]


def line_now() -> int | None:
    """The line of the main script that this thread is executing."""
    return next((each.line for each in places_now() if each.name == "<module>"), None)


_told: set[str] = set()


def tell(sentence: str) -> None:
    """Print something about the script on stderr, once per process."""
    if sentence and sentence not in _told:
        _told.add(sentence)
        print(f"penstock: {sentence}", file=sys.stderr)
