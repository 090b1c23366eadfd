"""That a stage which compiles says so beforehand: once on a machine, and never where nothing is compiled."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import penstock
from penstock import compiling
from penstock import events as ev
from penstock.workloads.codons.job import CountCodons
from penstock.workloads.kmers.counting import CountWords

KMERS = """
from penstock.workloads.kmers.counting import CountWords
functions = [CountWords(6, compiled=True)]
"""
ALL = """
import numpy as np
from penstock.workloads.codons.job import CountCodons
from penstock.workloads.kmers.counting import CountWords
from penstock.workloads.recsys.similar.jobs import FindNeighbors
from penstock.workloads.recsys.similar.search import Wanted
from penstock.workloads.snv import jobs, members
from penstock.workloads.snv.results import final
from penstock.workloads.superres.jobs import BlendNew, TakeMoments
functions = [
    CountCodons(), CountWords(6, compiled=True), FindNeighbors(Wanted(3, 0.1)),
    TakeMoments(16, None, "sobel", 1.0, "none", "refuse", False, (9, 8, 7), None),
    BlendNew({}), jobs.CountCarriers(), jobs.SurveyPositions(), members.ReadMember(False, 0, None),
    jobs.MakeFeatures(np.ones(1), np.ones(1, bool)), object.__new__(jobs.JudgePositions),
]
"""
ASK = """
import json, os
def ask():
    return [function.warming() for function in functions]
kept = os.environ.get("NUMBA_CACHE_DIR")
os.environ["NUMBA_CACHE_DIR"] = os.devnull
elsewhere = ask()
os.environ.pop("NUMBA_CACHE_DIR")
if kept:
    os.environ["NUMBA_CACHE_DIR"] = kept
before = ask()
for function in functions:
    function.warm()
print(json.dumps([elsewhere, before, ask()]))
"""


def asked(functions, **environment):
    """What functions say where nothing is kept, before they are warmed, and after that."""
    done = subprocess.run(
        [sys.executable, "-c", functions + ASK],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_said_before_the_first_compilation_and_not_before_the_next(tmp_path):
    fresh = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert asked(KMERS, **fresh) == [[compiling.ONCE], [compiling.ONCE], [""]]
    assert asked(KMERS, **fresh) == [[compiling.ONCE], [""], [""]]


def test_no_workload_says_it_again_of_what_it_has_compiled():
    elsewhere, _, after = asked(ALL)
    assert set(elsewhere) == {compiling.ONCE}
    assert set(after) == {""}


def test_small_inputs_compile_nothing_and_never_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert CountCodons(compiled=True).warming()
    assert CountWords(6, compiled=True).warming()
    assert not CountCodons(compiled=False).warming()
    assert not CountWords(6, compiled=False).warming()


CODE = """
from numba import njit
@njit(cache=True)
def doubled(value):
    return 2 * value
@njit(cache=True)
def doubled_twice(value):
    return 4 * value
doubled(1)
"""


def test_code_of_another_text_of_the_file_is_not_kept(tmp_path, monkeypatch):
    source = tmp_path / "own.py"
    source.write_text(CODE)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert not compiling.is_kept(source, "doubled")
    subprocess.run([sys.executable, str(source)], check=True)
    assert compiling.is_kept(source, "doubled")
    assert not compiling.is_kept(source, "doubled_twice")
    source.write_text(CODE.replace("2 *", "3 *"))
    assert not compiling.is_kept(source, "doubled")
    assert compiling.note(source, "doubled") == compiling.ONCE
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert compiling.note(source, "doubled") == ""


def test_numbas_own_place_beside_the_file_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    source = tmp_path / "own.py"
    source.write_text(CODE)
    subprocess.run([sys.executable, str(source)], check=True)
    assert list((tmp_path / "__pycache__").glob("*.nbi"))
    assert compiling.is_kept(source, "doubled")
    assert not compiling.is_kept(tmp_path / "none.py", "doubled")


class Slow:
    """Says that it will take a while to warm."""

    def warming(self):
        return "loading the model"

    def __call__(self, item):
        return item


def said(folder, **options):
    seen = []
    penstock.run(Slow(), range(4), folder=folder, backend="inline", observers=[seen.append], **options)
    return [type(event) for event in seen if isinstance(event, ev.Looking | ev.StageStarted)], seen


def test_what_a_function_says_comes_before_its_stage_and_only_where_work_is_left(tmp_path):
    kinds, seen = said(Path(tmp_path) / "run")
    assert kinds == [ev.Looking, ev.StageStarted]
    assert [event.message for event in seen if isinstance(event, ev.Looking)] == ["loading the model"]
    kinds, _ = said(Path(tmp_path) / "run")
    assert kinds == []
    kinds, _ = said(Path(tmp_path) / "private", private=True)
    assert kinds == [ev.StageStarted]


def test_versions_are_those_of_the_metadata(tmp_path, monkeypatch):
    for package in ("numba", "llvmlite", "numpy"):
        assert compiling.version_of(package) == metadata.version(package)
    with pytest.raises(ModuleNotFoundError):
        compiling.version_of("nobody_has_this")
    # Where its folder is not the only one, or elsewhere, the metadata are asked.
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice" / "__init__.py").touch()
    for version in ("1.0", "2.0"):
        told = tmp_path / f"twice-{version}.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(f"Name: twice\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert compiling.version_of("twice") == metadata.version("twice")
