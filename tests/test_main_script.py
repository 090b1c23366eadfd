"""The main script in every form in which people start it, and what its decorators make of functions."""

import ast
import io
import pickle
import subprocess
import sys
import weakref
import zipfile
from pathlib import Path
from types import MappingProxyType

import pytest
from executor_programs import left_of, python, start
from waiting import LIMIT, said, until

from penstock import script
from penstock.pool.by_value import Tabled
from penstock.script import Script, ScriptFrame

PROGRAM = """
import decimal
import penstock
{imports} factor

decimal.getcontext().prec = 50

def told(n):
    return decimal.getcontext().prec, n * factor.FACTOR

if __name__ == "__main__":
    with penstock.Executor(2, budget="400MiB") as pool:
        print(list(pool.map(told, range(2))))
"""


@pytest.mark.parametrize("form", ["package", "folder", "zip"])
def test_a_program_of_several_files_is_run_where_workers_are_forked_from(form, tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    imports = "from . import" if form == "package" else "import"
    (app / "__main__.py").write_text(PROGRAM.format(imports=imports))
    (app / "factor.py").write_text("FACTOR = 3\n")
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "app.zip", "w") as file:
            for each in app.iterdir():
                file.write(each, each.name)
    what = {"package": ["-m", "app"], "folder": ["app"], "zip": ["app.zip"]}[form]
    done = subprocess.run(
        [sys.executable, *what], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout == "[(50, 0), (50, 3)]\n", done.stderr
    assert said(done.stderr) == ""


POOLS = """
import dataclasses, functools, multiprocessing, penstock

@dataclasses.dataclass
class Number:
    value: int

def twice(number):
    return {result}

def with_a_pool(n):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return [each for each in pool.map(twice, [{argument}])]

class Callable:
    def __call__(self, n):
        return with_a_pool(n)

{guard}
    for function in (with_a_pool, functools.partial(with_a_pool), Callable()):
        print(penstock.run(function, 2, budget="400MiB").result)
"""


@pytest.mark.parametrize("guard", ['if __name__ == "__main__":', "if True:"], ids=["guarded", "bare"])
def test_a_pool_inside_the_function_of_a_job_finds_the_scripts_functions(guard, tmp_path):
    classes = "__name__" in guard  # without it the script is not run in workers, and pickle finds none
    argument, result = ("Number(n)", "Number(2 * number.value)") if classes else ("n", "2 * number")
    (tmp_path / "script.py").write_text(POOLS.format(guard=guard, argument=argument, result=result))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    expected = "[[Number(value=0)], [Number(value=2)]]" if classes else "[[0], [2]]"
    assert done.stdout.splitlines() == [expected] * 3, done.stderr


def test_an_installed_package_is_no_script_of_the_users():
    assert script._is_installed(pytest.__file__)
    assert script._is_installed(ast.__file__)
    assert not script._is_installed(__file__)


DECORATED = """
import functools
from dataclasses import dataclass
import penstock

calls = 0

@functools.lru_cache(maxsize=None)
def fib(n):
    global calls
    calls += 1
    return n if n < 2 else fib(n - 1) + fib(n - 2)

@functools.singledispatch
def kind(value):
    return "any"

@kind.register
def _(value: int):
    return "int"

def one_more(function):
    @functools.wraps(function)
    def more(*args):
        return function(*args) + 1
    return more

@one_more
def same(n):
    return n

@dataclass(frozen=True)
class Box:
    n: int

    @functools.cached_property
    def double(self):
        return 2 * self.n

@functools.cache
def box():
    return Box(4)

def work(n):
    return fib(n), kind(n), kind("a"), same(n), box().double, box() is box()

def count(_):
    return calls

with penstock.Executor(1, budget="400MiB") as pool:
    print(pool.submit(work, 20).result(), pool.submit(fib, 20).result(), pool.submit(count, 0).result())
    print(pool.submit(functools.partial(fib, 21)).result(), pool.submit(count, 0).result())
    print(*(pool.submit(*call).result() for call in ((kind, 3), (same, 3), (Box(3).__eq__, Box(3)))))
"""


def test_decorated_functions_of_a_script_without_a_guard(tmp_path):
    done = python(tmp_path, DECORATED)
    assert done.stdout.splitlines() == [
        "(6765, 'int', 'any', 21, 8, True) 6765 21",
        "10946 22",  # what was computed before is kept, in the same worker
        "int 4 True",
    ], done.stderr


def test_what_decorators_keep_is_made_anew_of_what_it_holds():
    class Key:
        """Can be referred to weakly."""

    def sent(value):
        file = io.BytesIO()
        Tabled(file, lambda table: table).dump(value)
        return pickle.loads(file.getvalue())

    key, weak = Key(), weakref.WeakKeyDictionary()
    weak[key] = 3
    came_key, came = sent((key, weak))
    assert came[came_key] == 3
    assert len(sent(weakref.WeakSet([int, str]))) == 2
    assert sent(MappingProxyType({"a": 1})) == {"a": 1}


PATCHES = """
import json, os, sys, time
from pathlib import Path
import penstock

json.JSONEncoder.item_separator = "; "
json.dumps = json.loads = None
os.getpid, time.time, time.monotonic = lambda: 1, lambda: 0.0, lambda: 0.0
sys.path.append(Path("/nowhere"))
with penstock.Executor(1, budget="400MiB") as pool:
    print(pool.submit(abs, -3).result())
"""


def test_a_script_may_patch_what_others_use(tmp_path):
    done = python(tmp_path, PATCHES)
    assert done.stdout == "3\n", done.stderr


# --------------------------------------------------------------------------- below the guard

BELOW = """
import decimal, shutil
import numpy as np
from logging import basicConfig

np.seterr(all="raise")

def main():
    np.set_printoptions(3)
    shutil.rmtree("x")
    decimal.getcontext().prec = 50
    work()
    np.seterr(all="warn")

if __name__ == "__main__":
    basicConfig()
    main()
"""


def test_what_is_set_below_the_guard_so_far_is_named():
    found = Script("/a/it.py", "", BELOW)
    at = [ScriptFrame("<module>", 1, 17), ScriptFrame("main", 8, 12)]
    assert script.missing_below(found, at) == (
        "workers do not have what it.py has set: `basicConfig()` (line 16), `np.set_printoptions(3)` "
        "(line 9), `decimal.getcontext().prec = 50` (line 11); set it above the main guard, in the function, "
        "or in initializer="
    )
    assert script.missing_below(found, [ScriptFrame("<module>", 1, 16)]) == ""


# --------------------------------------------------------------------------- a top that waits

WAITS = """
import sys, threading
if __name__ != "__main__":
    threading.Event().wait()

import penstock
from penstock.backends import server

if __name__ == "__main__":
    server._TOP_SECONDS = float(sys.argv[1])
    print("begun", flush=True)
    with penstock.Executor(1, budget="400MiB") as pool:
        print(pool.submit(abs, -3).result())
"""


def test_a_top_that_waits_is_left_out_and_told_of(tmp_path):
    done = python(tmp_path, WAITS, "1")
    assert done.stdout == "begun\n3\n", done.stderr
    assert "ends its process, or waits, when workers import it: they go on without it" in done.stderr


def test_while_it_waits_its_process_ends_with_the_program(tmp_path):
    program = start(tmp_path, WAITS, str(LIMIT))
    assert program.stdout.readline() == "begun\n"
    servers = Path(f"/proc/{program.pid}/task/{program.pid}/children")
    until(lambda: servers.read_text().split())
    program.kill()
    program.communicate()
    until(lambda: not left_of(program))


FORKED = """
import os
import numpy as np
import penstock

def sum(numbers):
    return sorted(numbers)[-1]  # the script's own, not the builtin

def who(n):
    return __name__, sum([1, n]), os.environ["STEP"], os.environ.get("GONE")

def work(n):
    return sum([1, 2, n])

os.environ["STEP"] = "top"
os.environ["GONE"] = "top"

if __name__ == "__main__":
    os.environ["STEP"] = "below"
    del os.environ["GONE"]
    with penstock.Executor(1, budget="400MiB") as pool:
        print(pool.submit(work, 5).result(), pool.submit(who, 5).result(), pool.submit(work, 5).result())
"""


def test_a_function_that_names_the_module_finds_the_scripts_names_and_so_does_the_next(tmp_path):
    done = python(tmp_path, FORKED)
    assert done.stdout == "5 ('__main__', 5, 'below', None) 5\n", done.stderr


WRITES = """
import os
import shutil
import penstock

FIRST
OUT = open("results.csv", "w")

def square(n):
    return n * n

if __name__ == "__main__":
    os.makedirs("work", exist_ok=True)
    open("work/input", "w").close()
    print("params", file=OUT, flush=True)
    with penstock.Executor(2, budget="400MiB") as pool:
        for each in pool.map(square, range(3)):
            print(each, file=OUT)
    OUT.close()
    print(open("results.csv").read().split(), os.listdir("work"))
"""


@pytest.mark.parametrize("first", ["", 'shutil.rmtree("work", ignore_errors=True); os.makedirs("work")'])
def test_what_a_script_has_written_is_not_emptied_by_its_own_top(tmp_path, first):
    (tmp_path / "work").mkdir()
    (tmp_path / "script.py").write_text(WRITES.replace("FIRST", first))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout == "['params', '0', '1', '4'] ['input']\n", done.stderr
    assert "what this program has written would be" in done.stderr
    assert len(said(done.stderr).splitlines()) == 1


CHANGING = """
import numpy as np
import penstock.joblib
from joblib import Parallel, delayed

state = {"k": 5}
written = np.memmap("out", dtype="f8", mode="w+", shape=(4,))

def told(n):
    return state["k"]

def write(out, n):
    out[n] = n + 1

with Parallel(2, backend="penstock") as parallel:
    for _ in range(3):
        print(*parallel(delayed(told)(n) for n in range(2)))
        state["k"] += 1
    parallel(delayed(write)(written, n) for n in range(4))
print(written.tolist())
"""


def test_each_call_of_a_parallel_sees_the_globals_as_they_are_and_writes_into_small_files(tmp_path):
    (tmp_path / "script.py").write_text(CHANGING)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout == "5 5\n6 6\n7 7\n[1.0, 2.0, 3.0, 4.0]\n", done.stderr
