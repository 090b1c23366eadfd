"""What a worker's world looks like: as in the pools that the executor stands in for."""

import os
import subprocess
import sys
import threading
import traceback
import weakref
from concurrent.futures import process
from contextlib import contextmanager
from multiprocessing import Manager, current_process, parent_process, shared_memory
from pathlib import Path

import numpy
import pytest
from executor_programs import beside, python
from waiting import LIMIT, said, until

import penstock
from penstock import foreign, groups, script
from penstock.pool.calls import Call, keep_words


def ours(**options):
    return penstock.Executor(2, budget=beside(250), **options)


# --------------------------------------------------------------------------- what a call is told by


class Aborts:
    """Ends whoever loads it."""

    def __reduce__(self):
        return os.abort, ()


ABORTS = """
import os, penstock

class Aborts:
    def __reduce__(self):
        return os.abort, ()

if __name__ == "__main__":
    with penstock.Executor(1, budget="300MiB") as pool:
        error = pool.submit(print, 17, Aborts()).exception()
        print(type(error).__name__, "print(17, ...)" in str(error), pool.submit(abs, -1).result())
"""


def test_a_call_that_aborts_when_it_is_loaded_ends_no_caller(tmp_path):
    assert python(tmp_path, ABORTS).stdout == "WorkerDied True 1\n"


def told(*args, **kwargs):
    return str(Call("f", b"", [], None, keep_words(args, kwargs)))


def test_a_call_is_told_by_what_its_caller_had():
    assert told(17, "a", b=2.5) == "f(17, 'a', b=2.5)"
    assert told(10**10_000) == "f(...)"
    assert told((1, 2), [3, "x"], None) == "f((1, 2), [3, 'x'], None)"
    assert told({"a": 1}, Aborts(), [Aborts()]) == "f(..., ..., [...])"
    assert told("x" * 1000) == f"f({'x' * 17!r}".rstrip("'") + "..." + "x" * 18 + "')"
    assert len(told(list(range(10**6)), "y" * 10**7)) < 120


def test_what_a_call_is_told_by_holds_nothing_large():
    large = [bytes(10**6)] * 100
    ((kept, text), _) = keep_words((large, "z" * 10**6), {})
    assert all(len(each) <= 41 for each in kept if isinstance(each, bytes))
    assert len(text) <= 41


# --------------------------------------------------------------------------- tracebacks


def fails(_):
    raise KeyError("seven")  # as it stands here


def test_a_workers_traceback_is_the_cause():
    with ours() as pool:
        error = pool.submit(fails, 7).exception(LIMIT)
    assert type(error.__cause__) is process._RemoteTraceback
    assert "raise KeyError" in str(error.__cause__)
    assert "as it stands here" in "".join(traceback.format_exception(error))


def test_lines_that_only_the_caller_knows_are_put_in(monkeypatch):
    import linecache

    lines = ["def f():\n", "    raise ValueError(1)\n"]
    monkeypatch.setitem(linecache.cache, "<cell 3>", (0, None, lines, "<cell 3>"))
    text = 'Traceback (most recent call last):\n  File "<cell 3>", line 2, in f\nValueError: 1\n'
    assert '  File "<cell 3>", line 2, in f\n    raise ValueError(1)\nValueError' in foreign.with_sources(
        text
    )
    there = '  File "<cell 3>", line 2, in f\n    another\nValueError: 1\n'
    assert foreign.with_sources(there) == there
    unknown = '  File "<cell 4>", line 2, in f\nValueError: 1\n'
    assert foreign.with_sources(unknown) == unknown


# --------------------------------------------------------------------------- arguments


def kind_of(array):
    return type(array).__name__, float(array.sum())


def test_a_memmap_stays_one(tmp_path):
    path = tmp_path / "array"
    numpy.full(1 << 18, 2.0).tofile(path)
    mapped = numpy.memmap(path, mode="r")
    plain = numpy.ones(1 << 18)
    with ours() as pool:
        assert pool.submit(kind_of, mapped).result(LIMIT)[0] == "memmap"
        assert pool.submit(kind_of, plain).result(LIMIT) == ("ndarray", float(1 << 18))


def nested(_):
    import joblib

    return joblib.Parallel(n_jobs=2, backend="penstock")(joblib.delayed(abs)(-n) for n in range(3))


def test_our_backend_is_known_by_name_inside_a_worker_too():
    joblib = pytest.importorskip("joblib")
    import penstock.joblib  # noqa: F401 - registers it

    with joblib.parallel_config(backend="penstock", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(nested)(n) for n in range(2)) == [[0, 1, 2]] * 2


# --------------------------------------------------------------------------- the main script

SETTINGS = """
import csv, decimal, sys, threading
from decimal import getcontext
import penstock

getcontext().prec = 50
csv.field_size_limit(12345)
LOCK = threading.Lock()

class Point:
    scale = 1
    def __init__(self, x):
        self.x = x

ORIGIN = Point(0)

def told(_):
    return getcontext().prec, csv.field_size_limit()

def same(point):
    with LOCK:
        return isinstance(point, Point), type(ORIGIN) is Point, Point.scale

def a_point(n):
    return Point(n)

def main():
    how = sys.argv[1]
    if how == "executor":
        with penstock.Executor(2, budget="300MiB") as pool:
            print(set(pool.map(told, range(4))))
            Point.scale = 3
            print(pool.submit(same, Point(1)).result())
            print(type(pool.submit(a_point, 4).result()) is Point)
    elif how == "run":
        print(set(penstock.run(told, 4, budget="300MiB").result))
    elif how == "joblib":
        import joblib; from penstock import joblib as ours
        with joblib.parallel_config(backend="penstock", budget="300MiB"):
            print(set(joblib.Parallel(n_jobs=2)(joblib.delayed(told)(n) for n in range(4))))
    else:
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            print(set(pool.map(told, range(4))), type(pool).__module__.split(".")[0])

"""
GUARD = 'if __name__ == "__main__":\n    main()\n'


@pytest.mark.parametrize("how", ["executor", "run", "joblib"])
def test_what_a_script_sets_at_its_top_is_set_in_workers(tmp_path, how):
    done = python(tmp_path, SETTINGS + GUARD, how)
    assert done.stdout.splitlines()[0] == "{(50, 12345)}", done.stderr
    assert said(done.stderr) == ""


def test_the_same_under_rescue(tmp_path):
    penstock_command = str(Path(sys.executable).parent / "penstock")
    command = [penstock_command, "exec", "--rescue", "--budget", "400MiB", "--", sys.executable]
    done = python(tmp_path, SETTINGS + GUARD, "rescue", command=command)
    assert "{(50, 12345)} penstock" in done.stdout, done.stderr


def test_a_class_of_the_script_is_one_in_workers_and_what_it_names_need_not_travel(tmp_path):
    done = python(tmp_path, SETTINGS + GUARD, "executor")
    assert done.stdout.splitlines()[1:] == ["(True, True, 1)", "True"], done.stderr


STATE_OF_CLASSES = """
import sys
from multiprocessing import Pool

class Model:
    weights = None
    total = 0

def begin(weights):
    Model.weights = weights

def work(number):
    Model.total += number
    return Model.weights, Model.total

def main():
    with Pool(1, begin, ("m",)) as pool:
        print([pool.apply(work, (number,)) for number in range(4)])
        Model.total = 100
        print(pool.apply(work, (1,)), Model.weights)

%s
"""


@pytest.mark.parametrize("guard", ["if __name__ == '__main__': main()", "main()"])
def test_what_is_set_on_a_class_in_a_worker_stays_for_the_calls_after_it(tmp_path, guard):
    script = tmp_path / "script.py"
    script.write_text(STATE_OF_CLASSES % guard)
    words = ["exec", "--rescue", "--budget", "1GiB", "-q", "--", sys.executable, str(script)]
    done = subprocess.run(
        [sys.executable, "-m", "penstock", *words], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    kept, renewed = done.stdout.splitlines()
    assert kept == "[('m', 0), ('m', 1), ('m', 3), ('m', 6)]", done.stderr
    assert renewed == "('m', 101) None"  # what the script has bound anew is taken, and nothing else


def test_without_a_guard_nothing_is_run_and_what_is_missing_is_named_once(tmp_path):
    done = python(tmp_path, SETTINGS + "print('top')\nmain()\nmain()\n", "run")
    assert done.stdout.splitlines() == ["top", "{(28, 131072)}", "{(28, 131072)}"]
    (line,) = said(done.stderr).splitlines()
    assert "`getcontext().prec = 50` (line 6), `csv.field_size_limit(12345)` (line 7);" in line
    assert "__main__" in line


def test_the_same_under_python_c(tmp_path):
    program = (
        "import csv, penstock; csv.field_size_limit(7)\nprint(penstock.run(abs, 2, budget='300MiB').result)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout == "[0, 1]\n"
    assert "`csv.field_size_limit(7)` (line 1); set it in the function" in done.stderr


TOPS = {
    "raise ValueError('not here')": "line 4, raises ValueError: not here",
    "print('hello'); print('again')": "line 4, writes `hello` outside its main guard",
    "penstock.Executor(2, budget='300MiB')": "line 4, raises UsageError: the main script makes workers",
    "os._exit(3)": "ends its process, or waits",
    "sys.exit('no')": "line 4, raises SystemExit: no",
}


@pytest.mark.parametrize("top", TOPS)
def test_what_a_script_raises_or_prints_in_workers_is_told_once_and_the_run_goes_on(tmp_path, top):
    program = f"""
import os, sys, penstock
if __name__ != "__main__":
    {top}
def double(n):
    return 2 * n
if __name__ == "__main__":
    for _ in range(2):
        with penstock.Executor(2, budget="300MiB") as pool:
            print(list(pool.map(double, range(3))))
"""
    done = python(tmp_path, program)
    assert done.stdout == "[0, 2, 4]\n" * 2, done.stderr
    (line,) = said(done.stderr).splitlines()
    assert TOPS[top] in line


def test_who_took_a_stream_at_the_top_goes_on_writing_to_it(tmp_path):
    program = """
import logging, penstock
logging.basicConfig(level="INFO", format="%(message)s")
def says(n):
    logging.info("said %d", n)
if __name__ == "__main__":
    with penstock.Executor(1, budget="300MiB") as pool:
        pool.submit(says, 5).result()
"""
    assert "said 5\n" in python(tmp_path, program).stderr


def found(text, before=None):
    return [each.text for each in script.settings(text, before)]


def test_settings_are_found_in_the_syntax_tree():
    text = """
import numpy as np, csv, os.path, random, sys
from PIL import Image
from decimal import getcontext as context
import pkg.sub
np.seterr(all="raise")
Image.MAX_IMAGE_PIXELS = None
context().prec = 50
pkg.STATE["scale"] = 10
if csv:
    try:
        csv.field_size_limit(9)
    except Exception:
        pass
sys.setrecursionlimit(9999)
np.random.seed(0); random.seed(1); sys.path.append("x"); os.environ["A"] = "1"
print(1); x = np.ones(3); own = {}; own["a"] = 1
def f():
    np.seterr(all="ignore")
np.set_printoptions(precision=3)
"""
    expected = ["np.seterr(all='raise')", "Image.MAX_IMAGE_PIXELS = None", "context().prec = 50"]
    expected += ["pkg.STATE['scale'] = 10", "csv.field_size_limit(9)", "sys.setrecursionlimit(9999)"]
    assert found(text, before=20) == expected
    assert found(text)[-1] == "np.set_printoptions(precision=3)"
    assert found("import (") == []
    text = """
import logging, requests
log = logging.getLogger("app")
log.setLevel(10)
log.info("begun")
page = requests.get("x")
page.raise_for_status()
"""
    assert found(text) == ["log.setLevel(10)"]


def test_a_main_guard_is_found_in_the_syntax_tree():
    assert script.has_guard('x = 1\nif __name__ == "__main__":\n    pass')
    assert script.has_guard("if '__main__' == __name__ and x: pass")
    assert not script.has_guard('if __name__ != "__main__": pass')
    assert not script.has_guard('# if __name__ == "__main__":\ndef f():\n  if __name__ == "__main__": pass')
    assert not script.has_guard("if (")


# --------------------------------------------------------------------------- shared memory, managers, names


def attached(name):
    block = shared_memory.SharedMemory(name)
    first = block.buf[0]
    block.close()
    return first


def made(value):
    block = shared_memory.SharedMemory(create=True, size=100)
    block.buf[0] = value
    block.close()
    return block.name


def test_shared_memory_outlives_the_worker_that_used_or_made_it():
    with ours() as pool:
        assert pool.submit(abs, -1).result(LIMIT) == 1  # workers are older than what they attach
        block = shared_memory.SharedMemory(create=True, size=100)
        try:
            block.buf[0] = 7
            assert pool.submit(attached, block.name).result(LIMIT) == 7
            name = pool.submit(made, 9).result(LIMIT)
            pool.shutdown()
            assert attached(block.name) == 7
            assert attached(name) == 9
        finally:
            block.close()
            block.unlink()
    shared_memory.SharedMemory(name).unlink()


def puts(places, key):
    places[key] = key
    return dict(places)


def whoami(_):
    return current_process().name, parent_process().pid, parent_process().is_alive()


def test_a_manager_knows_workers_and_they_have_names_and_a_parent():
    with Manager() as manager, ours() as pool:
        assert pool.submit(puts, manager.dict(), 4).result(LIMIT) == {4: 4}
        told = {pool.submit(whoami, n).result(LIMIT) for n in range(4)}
    assert told <= {(f"PenstockWorker-{n}", os.getpid(), True) for n in (1, 2)}


KILLED = """
import os, signal, sys, time, penstock
from concurrent.futures import ProcessPoolExecutor

def kill(parent):
    os.kill(parent, signal.SIGKILL)
    time.sleep(1000)

if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        pool.submit(kill, os.getpid()).result()
"""


@contextmanager
def other_runs_starting():
    """Runs that start all the time, and sweep what killed runs left."""
    over = threading.Event()

    def start():
        while not over.is_set():
            if (run := groups.find().run) is not None:
                run.close()

    thread = threading.Thread(target=start)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_killed_run_leaves_nothing_in_the_temporary_folder(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = [str(Path(sys.executable).parent / "penstock"), "exec", "--rescue", "--", sys.executable]
    with other_runs_starting():
        python(tmp_path, KILLED, command=command, environ={"TMPDIR": str(folder)})
    until(lambda: [each.name for each in folder.iterdir() if each.name.startswith("penstock-")] == [])


# --------------------------------------------------------------------------- what initializers are given

HANDED = """
import sys
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
import penstock

def take(*handed):
    global queue, lock, count
    queue, lock, count = handed

def use(n):
    with lock:
        count.value += n
    queue.put(n)

def work(make, context):
    handed = context.Queue(), context.Lock(), context.Value("i", 0)
    with make(initializer=take, initargs=handed) as pool:
        list(pool.map(use, range(5)))
        print(sorted(handed[0].get(timeout=60) for _ in range(5)), handed[2].value, type(pool).__module__)

if __name__ == "__main__":
    if sys.argv[1] == "executor":
        work(lambda **more: penstock.Executor(2, budget="300MiB", **more), mp.get_context(sys.argv[2]))
    elif sys.argv[1] == "futures":
        work(lambda **more: ProcessPoolExecutor(2, **more), mp)
    else:
        work(lambda **more: mp.Pool(2, **more), mp)
"""


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_queues_locks_and_values_among_initargs(tmp_path, context):
    done = python(tmp_path, HANDED, "executor", context)
    assert done.stdout == "[0, 1, 2, 3, 4] 10 penstock.pool.executor\n", done.stderr


@pytest.mark.parametrize(("how", "ours"), [("futures", "process_pool"), ("pool", "pool")])
def test_queues_locks_and_values_among_initargs_under_rescue(tmp_path, how, ours):
    command = [str(Path(sys.executable).parent / "penstock"), "exec", "--rescue", "--", sys.executable]
    done = python(tmp_path, HANDED, how, command=command)
    assert f"[0, 1, 2, 3, 4] 10 penstock.rescue.{ours}\n" in done.stdout, done.stderr


class Kept:
    """Can be referred to weakly."""


def a_kept(_):
    return Kept()


def test_a_result_of_map_is_held_by_nobody_while_it_is_used():
    with ours() as pool:
        for result in pool.map(a_kept, range(5)):
            held = weakref.ref(result)
            del result
            until(lambda held=held: held() is None)
