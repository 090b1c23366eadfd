import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT, until

from penstock.testing import misfortune as m

MB = 1 << 20

PROGRAM = """
import pickle, sys
from penstock.testing import misfortune
function = pickle.loads(bytes.fromhex(sys.argv[1]))
def kilobytes(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))
before = kilobytes("VmRSS")
for item in map(int, sys.argv[2:]):
    assert function(item) == misfortune.answer(item), item
print(kilobytes("VmHWM") - before, kilobytes("VmRSS") - before)
"""


def start(function, *items):
    command = [sys.executable, "-c", PROGRAM, pickle.dumps(function).hex(), *map(str, items)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(function, *items):
    """Peak and retained MiB of a child that calls a function with these items."""
    child = start(function, *items)
    out, err = child.communicate(timeout=LIMIT)
    assert child.returncode == 0, err
    peak, kept = out.split()[-2:]
    return int(peak) / 1024, int(kept) / 1024


def code(function, *items):
    child = start(function, *items)
    child.communicate(timeout=LIMIT)
    return child.returncode


@pytest.mark.parametrize(
    "function",
    [
        m.Allocate(80 * MB),
        m.Allocate([0, 80 * MB]),
        m.Spike(80 * MB, {1}),
        m.SecondHalfHeavy(80 * MB, 2),
        m.AllocateInThread(80 * MB),
        m.FillShm(80 * MB),
    ],
    ids=lambda function: type(function).__name__,
)
def test_memory_is_taken_and_given_back(function):
    peak, kept = run(function, 0, 1)
    assert 75 < peak < 100
    assert kept < 20


@pytest.mark.parametrize(
    "function", [m.Allocate([0, 80 * MB]), m.Spike(80 * MB, {1}), m.SecondHalfHeavy(80 * MB, 2)]
)
def test_items_that_are_not_meant_are_spared(function):
    assert run(function, 0)[0] < 20


def test_a_leak_stays():
    peak, kept = run(m.Leak(20 * MB), *range(4))
    assert 75 < kept <= peak < 100


def test_children_take_the_memory():
    assert run(m.Children(150 * MB, count=2), 3)[0] < 20  # not the process itself
    program = (
        "import resource; from penstock.testing import misfortune as m;"
        f"assert m.Children(150 * {MB}, count=2)(3) == m.answer(3);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 150 < int(done.stdout) / 1024 < 200


def test_children_that_fail_are_told():
    with pytest.raises(ChildProcessError, match="item 3"):
        m.Children(1 << 60)(3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
def test_a_crash_is_by_that_signal(number):
    assert code(m.Crash(number, {2}), 0, 1, 2) == -number
    assert code(m.Crash(number, {2}), 0, 1) == 0


def test_an_exit_has_its_code():
    assert code(m.Exit(3, {1}), 0, 1) == 3
    assert code(m.Exit(3, {1}), 0) == 0


def test_dies_once_for_each_item(tmp_path):
    function = m.DieOnce(tmp_path, {1, 2})
    assert [code(function, 0, 1, 2) for _ in range(3)] == [-9, -9, 0]


@pytest.mark.parametrize("function", [m.Hang({1}), m.BusyLoop({1})], ids=["Hang", "BusyLoop"])
def test_runs_for_ever(function):
    assert function(0) == m.answer(0)
    child = start(function, 1)
    with pytest.raises(subprocess.TimeoutExpired):
        child.communicate(timeout=1)
    child.kill()
    child.communicate(timeout=LIMIT)


def ignores(pid, number):
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    return int(mask, 16) >> (number - 1) & 1


def test_ignores_being_asked_to_end():
    child = start(m.IgnoreTerm(1.0), 0)
    until(lambda: ignores(child.pid, signal.SIGTERM))
    child.terminate()
    child.communicate(timeout=LIMIT)
    assert child.returncode == 0


def test_raises_what_was_asked_for():
    assert m.Raise({5})(4) == m.answer(4)
    with pytest.raises(ValueError, match="item 5 was asked to fail"):
        m.Raise({5})(5)
    with pytest.raises(ZeroDivisionError):
        m.Raise({5}, ZeroDivisionError)(5)


def test_results_that_are_hard_to_keep():
    result = m.HugeOutput(1000)(7)
    assert (len(result), result.rstrip("x")) == (1000, str(m.answer(7)))
    assert m.Unkeepable({1})(0) == m.answer(0)
    with pytest.raises(TypeError):
        pickle.dumps(m.Unkeepable({1})(1))


def test_prints_by_python_and_past_it(capfd):
    assert m.Print(30)(8) == m.answer(8)
    out, err = capfd.readouterr()
    assert out == err == f"{'item 8 '.ljust(30, '.')}\n" * 2


def test_all_are_small_when_pickled_and_compare():
    for function in (
        m.Allocate(1),
        m.Children(1, 2),
        m.DieOnce("x", (1,)),
        m.Raise((1,)),
        m.Crash(9, range(4)),
    ):
        copy = pickle.loads(pickle.dumps(function))
        assert copy == function
        assert len(pickle.dumps(function)) < 300
