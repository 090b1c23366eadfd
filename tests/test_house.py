"""The size of the house: files, functions, classes and parameters, so that each can be read as one thing.

What is over a limit is listed with its size, which must be what is measured: an exception can only shrink.
"""

import ast
from functools import cache
from pathlib import Path

from source_trees import parsed

OURS = Path(__file__).resolve().parents[1] / "src" / "penstock"
LINES, FUNCTION, ATTRIBUTES, PARAMETERS = 400, 50, 20, 7

LONG_FILES = {
    # A kernel.
    "workloads/codons/kernel.py": 433,
}
LONG_FUNCTIONS = {
    # Kernels.
    "workloads/superres/kernel.py add_plane": 66,
    "workloads/kmers/kernel.py scan": 67,
    "workloads/snv/network/sparse.py _forward": 54,
    "workloads/snv/kernel/filters.py _depth": 53,
}
WIDE_CLASSES = {
    # What the kernel tells of a process, read every 10 ms: slots.
    "supervise/tree.py Process": 28,
}
MANY_PARAMETERS = {
    # What people call: keywords, each with a default.
    "runs/job.py run": 25,
    "runs/job.py Job.run": 15,
    "runs/run.py Run.__init__": 15,
    "runs/run.py Run.step": 9,
    "pool/executor.py Executor.__init__": 15,
    # Options of a command.
    "cli/exec.py exec": 9,
    # Arithmetic: numbers in, one number out, by keyword.
    "engine/decide/plan.py size_up": 10,
    # What the function is called with and under; a stretch of a file.
    "engine/worker/calling.py Caller.__init__": 8,
    "sources/fasta.py Block.__init__": 8,
}


@cache
def trees():
    return {path.relative_to(OURS).as_posix(): parsed(path) for path in OURS.rglob("*.py")}


def functions(node, outer=""):
    """(qualified name, function) of all, also of those within functions."""
    for each in ast.iter_child_nodes(node):
        name = f"{outer}{getattr(each, 'name', '')}"
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, each
        inner = (
            f"{name}." if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else outer
        )
        yield from functions(each, inner)


def docstring(function):
    first = function.body[0]
    said = isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)
    return first.end_lineno - first.lineno + 1 if said else 0


def over(limit, sizes):
    return {name: size for name, size in sizes if size > limit}


def test_a_file_has_at_most_400_lines():
    sizes = (
        (path.relative_to(OURS).as_posix(), len(path.read_text().splitlines())) for path in OURS.rglob("*.py")
    )
    assert over(LINES, sizes) == LONG_FILES


def test_a_function_fits_on_a_screen():
    """50 lines, the docstring not counted."""
    sizes = (
        (f"{file} {name}", each.end_lineno - each.lineno + 1 - docstring(each))
        for file, tree in trees().items()
        for name, each in functions(tree)
    )
    assert over(FUNCTION, sizes) == LONG_FUNCTIONS


def attributes(node):
    """Those that its methods set; a record of named values is as wide as what it tells."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


def test_an_object_has_at_most_20_attributes():
    sizes = (
        (f"{file} {each.name}", len(attributes(each)))
        for file, tree in trees().items()
        for each in ast.walk(tree)
        if isinstance(each, ast.ClassDef)
    )
    assert over(ATTRIBUTES, sizes) == WIDE_CLASSES


def parameters(function):
    """How many there are, besides ``self`` or ``cls``."""
    asked = function.args
    names = [each.arg for each in (*asked.posonlyargs, *asked.args, *asked.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_a_private_function_has_at_most_7_parameters():
    """Of the library; workloads compute, and their kernels take what they need as numbers."""
    sizes = (
        (f"{file} {name}", parameters(each))
        for file, tree in trees().items()
        if not file.startswith(("workloads/", "testing/"))
        for name, each in functions(tree)
    )
    assert over(PARAMETERS, sizes) == MANY_PARAMETERS
