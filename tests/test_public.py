"""The public names: complete, sorted, documented, typed, and cheap to import."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

TYPED = Path(__file__).parent / "typing"


def test_all_is_what_is_public():
    program = "import penstock; print(*(name for name in dir(penstock) if not name.startswith('_')))"
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = {path.stem for path in Path(penstock.__file__).parent.glob("*")}
    helpers = {"annotations", "import_module", "TYPE_CHECKING", "Any"}
    public = set(seen.stdout.split()) - helpers - (modules - set(penstock.__all__))
    assert public == set(penstock.__all__)


def test_all_is_sorted_and_has_no_twice():
    assert sorted(set(penstock.__all__)) == penstock.__all__


@pytest.mark.parametrize("name", penstock.__all__)
def test_every_name_is_there_and_documented(name):
    assert inspect.getdoc(getattr(penstock, name))


def test_every_error_is_public():
    errors = importlib.import_module("penstock.errors")
    made = {
        name
        for name, each in vars(errors).items()
        if inspect.isclass(each) and each.__module__ == errors.__name__
    }
    assert made <= set(penstock.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'nope'"):
        penstock.nope


def test_the_package_says_that_it_is_typed():
    assert (Path(penstock.__file__).parent / "py.typed").exists()


def test_typed_user_code_passes_a_strict_checker_and_has_the_types_that_it_expects():
    """With the settings of ``make check``, whose cache is then of use: not all of src is looked at again."""
    files = sorted(str(path) for path in TYPED.glob("*.py"))
    assert len(files) == 2
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *files],
        capture_output=True,
        text=True,
        cwd=TYPED.parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --------------------------------------------------------------------------- one way in and another


def options_of(function, *, without=()):
    """Name -> default of what may be given by name."""
    parameters = list(inspect.signature(function).parameters.values())
    return {each.name: each.default for each in parameters if each.name not in {"self", *without}}


def test_every_way_to_run_takes_the_same_options():
    """``penstock.run`` takes those of Job and Run, ``Job.run`` those of Run, ``Run.step`` those of a Job."""
    job = options_of(penstock.Job, without=("source", "function"))
    run = options_of(penstock.Run)
    assert options_of(penstock.run, without=("function", "items")) == {**run, **job, "inputs": None}
    assert options_of(penstock.Job.run) == run
    step = options_of(penstock.Run.step, without=("name", "function"))
    assert step == {
        **{name: default for name, default in job.items() if name not in ("into", "batched")},
        "inputs": None,
    }


def test_type_checkers_are_told_of_every_option():
    """In the overloads stand those that the type of a result depends on, the others in these."""
    from penstock.runs import result_types

    bearing = {"function", "items", "folder", "into", "batched", "set_aside"}
    assert result_types.CallKeywords.__annotations__.keys() | bearing == {
        "function", "items", "folder", *options_of(penstock.run)
    }  # fmt: skip
    assert (
        result_types.JobRunKeywords.__annotations__.keys() | {"folder", "set_aside"}
        == options_of(penstock.Job.run).keys()
    )
    job = options_of(penstock.Job).keys() - {"source", "function", "into", "batched"}
    assert result_types.JobKeywords.__annotations__.keys() == job


@pytest.mark.parametrize(
    "name", ["seed", "private", "timeout", "memory", "threads", "stall", "inputs", "batched"]
)
def test_what_run_takes_reaches_the_job(name, monkeypatch):
    from penstock.runs import job

    made = {}
    monkeypatch.setattr(job.Job, "run", lambda self, folder, **options: made.update(vars(self), **options))
    given = {"seed": 3, "private": True, "timeout": "5s", "memory": "3MiB", "threads": 2, "stall": "2h",
             "inputs": {"a": 1}, "batched": 4}  # fmt: skip
    penstock.run(str, 3, **{name: given[name]})
    assert made[name] == given[name]


@pytest.mark.parametrize(
    "name",
    ["workers", "call", "set_aside", "accept_changes", "retry_set_aside", "private", "history", "budget"],
)
def test_what_run_takes_reaches_the_run(name, monkeypatch):
    from penstock.runs import job

    class Reached(Exception):
        pass

    def made(folder, **options):
        raise Reached(options[name])

    monkeypatch.setattr(job, "Run", made)
    given = {"workers": 2, "call": 3, "budget": "1GiB", "history": False}.get(name, True)
    with pytest.raises(Reached, match=str(given)):
        penstock.run(str, 3, **{name: given})


TABLES = {"### Sources": [penstock.sources], "### Sinks and reducers": [penstock.sinks, penstock.reducers]}


def documented_calls():
    """(class, call) of the first column of the tables of sources, sinks and reducers."""
    text = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
    for title, homes in TABLES.items():
        table = text[text.index(f"{title}\n") :].split("\n\n```", 1)[0].split("\n### ", 1)[0]
        for row in re.findall(r"^\| (`[A-Z].*?) \|", table, re.MULTILINE):
            for call in re.findall(r"`([A-Z]\w+\(.*?\))`(?=,|$)", row):
                name = call[: call.index("(")]
                yield next(getattr(home, name) for home in homes if hasattr(home, name)), call


@pytest.mark.parametrize(("kind", "call"), list(documented_calls()))
def test_what_the_tables_show_can_be_called_so(kind, call):
    """``Chain([...])`` was shown, and a list refused: names, number and defaults of arguments are as told."""
    tree = ast.parse(call.replace(", ...)", ")"), mode="eval").body
    signature = inspect.signature(kind)
    signature.bind_partial(*tree.args, **{each.arg: None for each in tree.keywords})
    for each in tree.keywords:  # a value that is shown is the default
        if isinstance(each.value, ast.Constant) and each.value.value is not ...:
            assert signature.parameters[each.arg].default == each.value.value or each.arg == "item"


def test_the_tables_are_found():
    assert {kind.__name__ for kind, _ in documented_calls()} >= {"Range", "Chain", "Fold", "Parquet", "Files"}
