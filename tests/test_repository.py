"""The repository as a whole: the cost of importing, public names, the wheel, the lock, forbidden words."""

import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from waiting import LIMIT

import penstock

TOP = Path(__file__).resolve().parents[1]

IMPORT = """
import os, time
def private():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before, begin = private(), time.process_time()
import penstock
print(time.process_time() - begin, private() - before)
"""


def python(*arguments, **options):
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environ | options.pop("environ", {}),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        **options,
    )


def test_importing_penstock_is_cheap(tmp_path):
    cost = []
    for _ in range(6):  # the first one writes the byte code
        out = python("-c", IMPORT, environ={"PYTHONPYCACHEPREFIX": str(tmp_path)})
        assert out.returncode == 0, out.stderr
        cost.append([float(number) for number in out.stdout.split()])
    seconds, grown = (min(column) for column in zip(*cost, strict=True))
    assert seconds < 0.060
    assert grown < 15 << 20


def test_importing_penstock_loads_nothing_heavy():
    heavy = {"numpy", "pyarrow", "numba", "click", "rich", "multiprocessing", "asyncio", "importlib.metadata"}
    out = python("-c", "import sys, penstock; print(*sys.modules)")
    assert out.returncode == 0, out.stderr
    assert not heavy & set(out.stdout.split())


PUBLIC = ["penstock", *(f"penstock.{name}" for name in ("abc", "reducers", "sinks", "sources", "testing"))]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_sorted_and_real(module):
    loaded = importlib.import_module(module)
    names = list(loaded.__all__)
    assert names == sorted(set(names))
    for name in names:
        assert getattr(loaded, name) is not None, name


def test_every_module_imports_and_says_what_it_is_for():
    bare = []
    for module in pkgutil.walk_packages(penstock.__path__, "penstock."):
        loaded = importlib.import_module(module.name)
        if not loaded.__doc__:
            bare.append(module.name)
    assert bare == []


def tracked():
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]  # the checkout may be another user's
    listing = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True)
    files = [TOP / name for name in listing.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


# Written so that this file does not contain what it looks for.
FORBIDDEN = re.compile(
    r"/wor[k]/(main|shared)|/roo[t]/|/op[t]/(pypi|wheels)|pyp[i]\.org|pythonhoste[d]|registry\.npmj[s]|deb\.debia[n]",
    re.IGNORECASE,
)


def test_no_machine_path_and_no_registry_stands_in_any_file():
    found = []
    for file in tracked():
        content = file.read_bytes()
        if b"\0" in content[:4096] or file.name.endswith(".min.js"):
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), start=1):
            if FORBIDDEN.search(line):
                found.append(f"{file.relative_to(TOP)}:{number}: {line.strip()[:100]}")
    assert found == []


LOCKS = {"requirements.lock": ("dev", None), "requirements-docs.lock": ("docs", {"joblib", "parquet"})}
"""Lock -> the group of dependencies that it holds, and the extras: None for all."""


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_hashes_and_no_address(lock):
    text = (TOP / lock).read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=[a-zA-Z])", text.strip())
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[a-zA-Z0-9._-]+==\S+", entry)
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
        assert not re.match(r"(torch|nvidia-|triton)", entry)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_covers_what_is_declared(lock):
    group, extras = LOCKS[lock]
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (TOP / lock).read_text(), re.MULTILINE))
    declared = [*project["project"]["dependencies"], *project["dependency-groups"][group]]
    for extra, requirements in project["project"]["optional-dependencies"].items():
        declared += requirements if extras is None or extra in extras else ()
    # Names are compared as the packaging standards normalise them: backports.zstd is backports-zstd.
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", each)[0].lower()) for each in declared}
    assert names - {"penstock"} <= locked


def test_the_wheel_is_complete(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(TOP / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    out = python("-c", build, cwd=source)
    assert out.returncode == 0, out.stderr
    assert "Deprecat" not in out.stderr, out.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert "penstock/py.typed" in inside
    files = {path.relative_to(TOP / "src") for path in (TOP / "src/penstock").rglob("*") if path.is_file()}
    wanted = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    assert wanted <= inside, "list data files under [tool.setuptools.package-data]"
    assert not [name for name in inside if "tests" in name.split("/")]
    program = f"import sys; sys.path.insert(0, {str(wheel)!r}); import penstock; print(penstock.__file__)"
    out = python("-c", program, cwd=tmp_path)
    assert out.stdout.startswith(str(wheel)), out.stderr


def test_what_is_cited_is_this_version_and_the_tests_run_on_what_is_supported():
    told = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    cited = (TOP / "CITATION.cff").read_text()
    assert f"\nversion: {told['version']}\n" in cited
    assert f"\nlicense: {told['license']}\n" in cited
    workflow = (TOP / ".github" / "workflows" / "tests.yml").read_text()
    assert f'python: ["{told["requires-python"].removeprefix(">=")}", ' in workflow
    targets = set(re.findall(r"^([\w-]+):", (TOP / "Makefile").read_text(), re.M))
    run = re.findall(
        r"(?:run|entry): make ([\w-]+)", workflow + (TOP / ".pre-commit-config.yaml").read_text()
    )
    assert set(run) == {"check", "docs", "recipes", "release", "test"}
    assert set(run) <= targets
