"""The public names: complete, sorted, documented, typed, and cheap to import."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

TYPED = Path(__file__).parent / "typing" / "api.py"


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


def test_typed_user_code_passes_a_strict_checker(tmp_path):
    pytest.importorskip("mypy")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            str(tmp_path),
            "--follow-imports=silent",
            str(TYPED),
        ],
        capture_output=True,
        text=True,
        cwd=TYPED.parent.parent.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
