"""One word, one meaning: no two classes of one name."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest
from source_trees import parsed

OURS = Path(__file__).resolve().parents[1] / "src" / "penstock"
READ_AND_WRITTEN = {"Files", "Partitions"}
"""Public pairs: ``sources.Files`` reads what ``sinks.Files`` writes, and so for ``Partitions``."""


def classes(folder):
    """Name -> the files that define a class of that name."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path.relative_to(OURS).as_posix())
    return found


def test_no_two_classes_of_the_library_have_one_name():
    """Workloads do not know each other, and a key may name their classes: they are left out."""
    library = {
        name: kept
        for name, paths in classes(OURS).items()
        if (kept := [path for path in paths if not path.startswith("workloads/")])
    }
    assert len(library) > 300
    twice = {name: paths for name, paths in library.items() if len(paths) > 1}
    assert twice.keys() == READ_AND_WRITTEN
    for paths in twice.values():
        assert [path.partition("/")[0] for path in paths] == ["sinks", "sources"]


def test_no_docstring_has_what_a_terminal_obeys():
    """A backslash that is not doubled makes an escape or a bidirectional override of what is only shown."""
    found = {
        (path.relative_to(OURS).as_posix(), letter)
        for path in OURS.rglob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for letter in (ast.get_docstring(node, clean=False) or "").replace("\n", "")
        if not letter.isprintable()
    }
    # click's mark of a paragraph that is not to be wrapped
    assert found == {("cli/__init__.py", "\b"), ("cli/completion.py", "\b")}


RETIRED = {
    "machinery": "state folder (`state_dir`)",
    "upkeep": "periodic work",
    "bury": "reap",
    "stillborn": "a death at startup",
}
"""Words that had several meanings, or none of the field's -> what it is called now."""


def names(path):
    """Every name that a file gives or uses."""
    for node in ast.walk(parsed(path)):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Name():
                yield node.id
            case ast.Attribute():
                yield node.attr
            case ast.arg():
                yield node.arg


def test_a_retired_word_is_no_name_any_more():
    used = {
        (path.relative_to(OURS).as_posix(), word)
        for path in OURS.rglob("*.py")
        for name in names(path)
        for word in name.lower().split("_")
        if word in RETIRED
    }
    # ``importlib.machinery`` is the standard library's.
    assert (
        used - {("rescue/__init__.py", "machinery"), ("rescue/site/sitecustomize.py", "machinery")} == set()
    )


@pytest.mark.parametrize("word", ["state folder", "reap", "evicted", "recycled", "set aside"])
def test_a_word_of_the_code_is_explained(word):
    page = (OURS.parents[1] / "docs" / "words.md").read_text()
    assert re.search(rf"^\*\*{word}\*\*", page, re.MULTILINE)
