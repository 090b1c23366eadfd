"""Functions that numba compiles, called without it: kept, linked, compiled again where they changed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from penstock import compiling
from penstock.machine_code import Function, _read

TOY = """
import numpy as np
def total(numbers, times, salt, into):
    found = 0
    for i in range(len(numbers)):
        found += numbers[i] * times
    into[0, 1] = np.int64(salt >> np.uint64(60))
    return found
def allocates(numbers):
    held = np.zeros(len(numbers), np.int64)
    for i in range(len(numbers)):
        held[i] = 2 * numbers[i]
    return held.sum()
"""
ARGUMENTS = ["const uint8[::1]", "int64", "uint64", "int64[:,::1]"]
ASK = """
import json, sys
import numpy as np
from penstock.machine_code import Function
numbers = np.frombuffer(bytes(range(100)), np.uint8)
total = Function("toy", "total", {arguments}, returns="int64")
allocates = Function("toy", "allocates", ["const uint8[::1]"], returns="int64")
into = np.zeros((2, 3), np.int64)
told = [total.note(), total(numbers, -3, 2**64 - 1, into), into.tolist()]
told += ["numba" in sys.modules, total.note()]
if "allocates" in sys.argv:
    told += [allocates(numbers), allocates.note()]
print(json.dumps(told))
"""
ANSWER = [-3 * 4950, [[0, 15, 0], [0, 0, 0]]]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A module of functions to compile, and a way to call them in a process of their own."""
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    script = ASK.replace("{arguments}", repr(ARGUMENTS))

    def ask(*options):
        done = subprocess.run(
            [sys.executable, "-c", script, *options], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    ask.folder = tmp_path
    return ask


def test_what_is_kept_is_called_without_numba_until_its_text_is_another(toy):
    assert toy() == [compiling.ONCE, *ANSWER, True, ""]
    assert toy() == ["", *ANSWER, False, ""]
    (kept,) = toy.folder.glob("kept/*/toy.total-*.o")
    whole = kept.read_bytes()
    for damaged in (whole[:-1], whole[:40], b"", bytes(32) + whole[32:], whole[:60] + b"x" + whole[61:]):
        kept.write_bytes(damaged)
        assert _read(kept) is None
    assert toy()[1:4] == [*ANSWER, True]
    assert kept.read_bytes() == whole
    (toy.folder / "toy.py").write_text(TOY.replace("found +=", "found -="))
    assert toy() == [compiling.ONCE, 3 * 4950, ANSWER[1], True, ""]


def test_what_needs_memory_of_numba_is_left_to_it(toy):
    assert toy("allocates")[5:] == [2 * 4950, ""]
    assert list(toy.folder.glob("kept/*/toy.allocates*.nbi"))
    assert not list(toy.folder.glob("kept/*/toy.allocates*.o"))
    assert toy("allocates")[:4] == ["", *ANSWER, False]


def without_new_passes(monkeypatch):
    import llvmlite.binding as llvm

    monkeypatch.delattr(llvm, "create_new_module_pass_manager")


def with_other_insides(monkeypatch):
    monkeypatch.setattr("penstock.machine_code._object_of", lambda compiled, symbol: compiled.library.gone)


@pytest.mark.parametrize("change", [without_new_passes, with_other_insides])
def test_another_numba_or_llvmlite_leaves_it_to_numba(toy, monkeypatch, change):
    change(monkeypatch)
    monkeypatch.syspath_prepend(str(toy.folder))
    total = Function("toy", "total", ARGUMENTS, returns="int64")
    into = np.zeros((2, 3), np.int64)
    assert total.note() == compiling.ONCE
    assert [total(np.frombuffer(bytes(range(100)), np.uint8), -3, 2**64 - 1, into), into.tolist()] == ANSWER
    assert Function("toy", "total", ARGUMENTS, returns="int64").note() == ""
    assert list(toy.folder.glob("kept/*/toy.total*.nbi"))


def test_a_folder_that_takes_nothing_costs_the_compiling_alone(toy):
    (toy.folder / "kept").write_text("no folder")
    assert toy() == [compiling.ONCE, *ANSWER, True, ""]
    assert toy()[0] == compiling.ONCE


def test_arguments_that_are_not_what_was_said_are_refused(toy, monkeypatch):
    monkeypatch.syspath_prepend(str(toy.folder))
    total = Function("toy", "total", ARGUMENTS, returns="int64")
    numbers, into = np.zeros(9, np.uint8), np.zeros((2, 3), np.int64)
    locked = np.zeros((2, 3), np.int64)
    locked.flags.writeable = False
    for wrong in (
        (numbers.astype(np.int8), 1, 1, into), (numbers[::2], 1, 1, into), (numbers, 1, 1, into[0]),
        (numbers, 1, 1, into.T), (numbers, 1, 1, locked), (bytes(9), 1, 1, into),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="an array"):
            total(*wrong)
    with pytest.raises(ValueError, match="zip"):
        total(numbers, 1, 1)
    for arguments in (["int64[:]"], ["float64"], ["int32"]):
        with pytest.raises(ValueError, match="int64"):
            Function("toy", "total", arguments)


def test_the_workloads_kernels_are_kept_so():
    """None of them needs what only numba has: its import would cost more than most of their runs."""
    code = (
        "import sys\n"
        "from penstock.workloads.codons import reckoning, record_scanning, scanning\n"
        "from penstock.workloads.kmers import scanning as words\n"
        "for each in (scanning.scan, scanning.settle, scanning.scan_rows, record_scanning.scan, words.scan, "
        "words.finish, reckoning):\n"
        "    each.load()\n"
        "print('numba' in sys.modules)"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
