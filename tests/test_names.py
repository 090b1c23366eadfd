"""One word, one meaning: no two classes of one name."""

import ast
from collections import defaultdict
from pathlib import Path

OURS = Path(__file__).resolve().parents[1] / "src" / "penstock"
READ_AND_WRITTEN = {"Files", "Partitions"}
"""Public pairs: ``sources.Files`` reads what ``sinks.Files`` writes, and so for ``Partitions``."""


def classes(folder):
    """Name -> the files that define a class of that name."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
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
