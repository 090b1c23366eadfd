"""The size of the house: files, functions, classes and parameters, so that each can be read as one thing.

What is over a limit is listed by name, with the reason.
"""

import ast
from functools import cache
from pathlib import Path

OURS = Path(__file__).resolve().parents[1] / "src" / "penstock"
LINES, FUNCTION, ATTRIBUTES, PARAMETERS = 400, 50, 20, 7

LONG_FILES = {
    "workloads/codons/kernel.py": "a kernel",
}
LONG_FUNCTIONS = {
    "workloads/superres/kernel.py add_plane": "a kernel",
    "workloads/kmers/kernel.py scan": "a kernel",
    "workloads/snv/network/sparse.py _forward": "a kernel",
    "workloads/snv/kernel/filters.py _depth": "a kernel",
    "clusters/node.py Engine._make_loop": "to be split",
}
WIDE_CLASSES = {
    "supervise/tree.py Process": "what the kernel tells of a process, read every 10 ms: slots",
    "supervise/supervisor.py Supervisor": "to be split",
    "engine/parent/lead.py Lead": "to be split",
}
MANY_PARAMETERS = {
    # What people call: keywords, each with a default.
    "runs/job.py run", "runs/job.py Job.run", "runs/run.py Run.__init__", "runs/run.py Run.step",
    "pool/executor.py Executor.__init__",
    # Options of a command, and a clock that is passed in.
    "cli/exec.py exec", "supervise/supervisor.py Supervisor.__init__",
    # Arithmetic: numbers in, one number out, by keyword.
    "engine/decide/plan.py size_up",
    "engine/worker/calling.py Caller.__init__", "engine/parent/lead.py Lead.__init__",
    "sources/fasta.py Block.__init__",
}  # fmt: skip


@cache
def trees():
    return {path.relative_to(OURS).as_posix(): ast.parse(path.read_text()) for path in OURS.rglob("*.py")}


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


def test_a_file_has_at_most_400_lines():
    long = {
        path.relative_to(OURS).as_posix()
        for path in OURS.rglob("*.py")
        if len(path.read_text().splitlines()) > LINES
    }
    assert long <= LONG_FILES.keys()


def test_a_function_fits_on_a_screen():
    """50 lines, the docstring not counted."""
    long = {
        f"{file} {name}"
        for file, tree in trees().items()
        for name, each in functions(tree)
        if each.end_lineno - each.lineno + 1 - docstring(each) > FUNCTION
    }
    assert long <= LONG_FUNCTIONS.keys()


def test_an_object_has_at_most_20_attributes():
    """Those that its methods set; a record of named values is as wide as what it tells."""
    wide = set()
    for file, tree in trees().items():
        for each in ast.walk(tree):
            if not isinstance(each, ast.ClassDef):
                continue
            attributes = {
                node.attr
                for node in ast.walk(each)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            }
            if len(attributes) > ATTRIBUTES:
                wide.add(f"{file} {each.name}")
    assert wide <= WIDE_CLASSES.keys()


def test_a_private_function_has_at_most_7_parameters():
    """Of the library; workloads compute, and their kernels take what they need as numbers."""
    many = set()
    for file, tree in trees().items():
        if file.startswith(("workloads/", "testing/")):
            continue
        for name, each in functions(tree):
            asked = each.args
            count = len(asked.posonlyargs) + len(asked.args) + len(asked.kwonlyargs)
            first = (asked.posonlyargs + asked.args)[:1]
            if count - bool(first and first[0].arg in ("self", "cls")) > PARAMETERS:
                many.add(f"{file} {name}")
    assert many <= MANY_PARAMETERS
