"""Scripts that know nothing of us, with their pools replaced."""

import os
import subprocess
import sys
from pathlib import Path

import executor_programs as programs
import pytest
from executor_programs import MiB, left_of
from memory_groups import group, needs_groups
from waiting import said

import penstock
from penstock import rescue


def rescued(tmp_path, text, *arguments, environ=None, command=(sys.executable,), budget="400MiB"):
    """Run a script under rescue; it must end well and leave nothing behind."""
    (tmp_path / "temporary").mkdir(exist_ok=True)
    environ = {"PENSTOCK_BUDGET": budget, "TMPDIR": str(tmp_path / "temporary"), **(environ or {})}
    environ = rescue.environment({**os.environ, **environ})
    out = programs.python(tmp_path, text, *arguments, environ=environ, command=command)
    assert out.returncode == 0, out.stderr
    assert left_of(out) == []
    assert list((tmp_path / "temporary").iterdir()) == []
    return out


# --------------------------------------------------------------------------- concurrent.futures

FUTURES = """
{how}

def work(n):
    return n * n, Pool.__module__, {about}

def fails(n):
    raise KeyError(n)

if __name__ == "__main__":
    with Pool({arguments}) as pool:
        results = list(pool.map(work, range(20), chunksize=4))
        assert [each[0] for each in results] == [n * n for n in range(20)]
        assert pool.submit(pow, 2, 5).result() == 32
        assert repr(pool.submit(fails, 3).exception()) == "KeyError(3)"
    print(Pool.__module__, results[0][2])
"""


@pytest.mark.parametrize(
    "how",
    [
        "from concurrent.futures import ProcessPoolExecutor as Pool",
        "import concurrent.futures as cf\nPool = cf.ProcessPoolExecutor",
        "from concurrent.futures.process import ProcessPoolExecutor as Pool",
        "import multiprocessing.pool, concurrent.futures\nPool = concurrent.futures.ProcessPoolExecutor",
    ],
)
def test_a_process_pool_executor(how, tmp_path):
    about = "'PENSTOCK_RESCUE' in __import__('os').environ"
    out = rescued(tmp_path, FUTURES.format(how=how, about=about, arguments="4"))
    assert (out.stdout, said(out.stderr)) == ("penstock.rescue.process_pool False\n", "")


def test_its_arguments_and_what_is_seen_of_it(tmp_path):
    out = rescued(tmp_path, ARGUMENTS)
    assert (out.stdout, said(out.stderr)) == ("ok\n", "")


ARGUMENTS = """
import multiprocessing, pickle
from concurrent.futures import Executor, ProcessPoolExecutor

value = None
def start(given):
    global value
    value = given
def get(_):
    return value

class Counting(ProcessPoolExecutor):
    submitted = 0
    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)

def optional(pool: ProcessPoolExecutor | None = None):
    return isinstance(pool, ProcessPoolExecutor) and isinstance(pool, Executor)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, context, start, (7,), max_tasks_per_child=5) as pool:
        assert set(pool.map(get, range(5))) == {7}
        assert pool._max_workers == 3 and optional(pool)
        try:
            pickle.dumps(pool)
        except TypeError:
            pass
        else:
            raise SystemExit("it was pickled")
    with Counting(max_workers=2) as pool:
        assert pool.submit(abs, -1).result() == 1 and pool.submitted == 1 and optional(pool)
    for wrong in (0, -1):
        try:
            ProcessPoolExecutor(wrong)
        except ValueError as error:
            assert "max_workers must be greater than 0" in str(error)
    print("ok")
"""


def test_what_cannot_be_replaced_stays_as_it_is(tmp_path):
    out = rescued(tmp_path, LOCKS)
    assert out.stdout == "[0, 1, 2] [0, 1, 2]\n"
    assert out.stderr.count("stays as it is") == 2
    assert "cannot pickle '_thread.lock' object" in out.stderr


LOCKS = """
import multiprocessing, threading
from concurrent.futures import ProcessPoolExecutor

def start(given):
    global lock
    lock = given
def locked(n):
    with lock:
        return n

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, context, start, (threading.Lock(),)) as pool:
        first = list(pool.map(locked, range(3)))
    with multiprocessing.Pool(2, start, (threading.Lock(),)) as pool:
        print(first, pool.map(locked, range(3)))
"""


# --------------------------------------------------------------------------- multiprocessing


@pytest.mark.parametrize(
    "how",
    [
        "from multiprocessing import Pool",
        "import multiprocessing as mp\nPool = mp.Pool",
        "from multiprocessing.pool import Pool",
        "from multiprocessing import get_context\nPool = get_context('spawn').Pool",
    ],
)
def test_a_multiprocessing_pool(how, tmp_path):
    out = rescued(tmp_path, how + POOL)
    assert (out.stdout, said(out.stderr)) == ("ok\n", "")


POOL = """
import time, multiprocessing, pickle

def work(n):
    return n * n
def add(a, b=10):
    return a + b
def fails_at_two(n):
    return 10 // (n - 2)
def slow(n):
    time.sleep(n)
    return n
def put(queue, n):
    queue.put(n)

if __name__ == "__main__":
    squares = [n * n for n in range(50)]
    seen, wrong = [], []
    with Pool(3) as pool:
        assert type(pool).__module__ == "penstock.rescue.pool"
        assert isinstance(pool, multiprocessing.pool.Pool)
        assert pool.map(work, range(50)) == squares
        assert pool.map(work, iter(range(50)), chunksize=7) == squares
        assert list(pool.imap(work, range(50))) == squares
        assert sorted(pool.imap_unordered(work, range(50), 3)) == squares
        assert list(pool.imap_unordered(work, [])) == [] == pool.map(work, [])
        assert pool.starmap(add, [(1, 2), (3,)]) == [3, 13]
        assert pool.starmap_async(add, [(1, 2)]).get(300) == [3]
        assert pool.apply(add, (1,), {"b": 5}) == 6
        result = pool.apply_async(add, (1, 2), callback=seen.append)
        assert result.get(timeout=300) == 3 and result.ready() and result.successful()
        result = pool.map_async(work, range(50), callback=seen.append)
        assert result.get() == squares and result.get() is result.get()
        failed = pool.apply_async(fails_at_two, (2,), error_callback=wrong.append)
        failed.wait(300)
        assert not failed.successful()
        results = pool.imap(fails_at_two, range(4))
        told = []
        while True:
            try:
                told.append(next(results))
            except ZeroDivisionError:
                told.append(None)
            except StopIteration:
                break
        assert told == [-5, -10, None, 10], told
        for results in (pool.imap(slow, [1]), pool.imap_unordered(slow, [1])):
            try:
                results.next(timeout=0.1)
            except multiprocessing.TimeoutError:
                assert results.next() == 1
        try:
            pool.apply_async(slow, (1,)).get(0.1)
        except multiprocessing.TimeoutError:
            pass
        try:
            pickle.dumps(pool)
        except NotImplementedError:
            pass
        with multiprocessing.Manager() as manager:
            queue = manager.Queue()
            pool.starmap(put, [(queue, 1), (queue, 2)])
            assert {queue.get(), queue.get()} == {1, 2}
        while len(seen) < 2 or not wrong:
            time.sleep(0.01)
        assert seen == [3, squares] and len(wrong) == 1
    try:
        pool.map(work, [1])
    except ValueError as error:
        assert "Pool not running" in str(error)
    pool = Pool(2)
    late = pool.map_async(work, range(5))
    pool.close()
    pool.join()
    assert late.get() == squares[:5]
    Pool(2).apply_async(slow, (1000,))  # forgotten: ends with the script
    print("ok")
"""


LIKE_WORKERS = """
import multiprocessing, threading, time
from concurrent.futures import ProcessPoolExecutor

def who(_):
    mine = multiprocessing.current_process()
    return mine.name.partition("-")[0], mine.daemon

def nested(_):
    multiprocessing.Pool(1)

if __name__ == "__main__":
    told, may_go_on = [], threading.Event()
    def late(value):
        may_go_on.wait(60)
        told.append(value)
    with multiprocessing.Pool(2) as pool:
        print(set(pool.map(who, range(4))))
        result = pool.apply_async(abs, (-1,), callback=late)
        result.wait(0.5)
        print(result.ready(), told)
        may_go_on.set()
        print(result.get(), told, result.ready(), result.successful())
        print(pool.map_async(abs, [-1, 2], callback=told.append).get(), told)
        result = pool.apply_async(int, ("x",), error_callback=told.append)
        result.wait()
        print(type(told[-1]).__name__, result.successful())
        try:
            pool.apply(nested, (1,))
        except AssertionError as error:
            print(error)
    with ProcessPoolExecutor(2) as pool:
        print(set(pool.map(who, range(4))))
"""


def test_workers_and_callbacks_are_as_the_originals(tmp_path):
    done = rescued(tmp_path, LIKE_WORKERS)
    assert done.stdout.splitlines() == [
        "{('ForkPoolWorker', True)}",
        "False []",
        "1 [1] True True",
        "[1, 2] [1, [1, 2]]",
        "ValueError False",
        "daemonic processes are not allowed to have children",
        "{('ForkProcess', False)}",
    ], done.stderr


def test_pools_of_threads_and_derived_pools_are_left_alone(tmp_path):
    out = rescued(tmp_path, OTHERS)
    assert (out.stdout, said(out.stderr)) == ("ok\n", "")


OTHERS = """
import multiprocessing, multiprocessing.pool, os
from multiprocessing.pool import ThreadPool
from multiprocessing.dummy import Pool as DummyPool

class Process(multiprocessing.get_context("fork").Process):
    @property
    def daemon(self):
        return False
    @daemon.setter
    def daemon(self, value):
        pass

class Nestable(multiprocessing.pool.Pool):
    "As seen in many a forum."
    @staticmethod
    def Process(ctx, *args, **kwargs):
        return Process(*args, **kwargs)
    def map(self, *args):
        return super().map(*args)

def inner(n):
    with multiprocessing.Pool(1) as pool:
        return pool.map(abs, [n])

if __name__ == "__main__":
    here = os.getpid()
    for kind in (ThreadPool, DummyPool):
        with kind(2) as pool:
            assert pool.map(lambda n: os.getpid() - here, range(5)) == [0] * 5
            assert list(pool.imap_unordered(abs, [-1])) == [1]
    with Nestable(1) as pool:
        assert pool.map(inner, [-1, -2]) == [[1], [2]]
        assert isinstance(pool, multiprocessing.pool.Pool)
    print("ok")
"""


# --------------------------------------------------------------------------- joblib


def test_joblib(tmp_path):
    out = rescued(tmp_path, JOBLIB)
    assert (out.stdout, said(out.stderr)) == ("ok\n", "")


JOBLIB = """
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import get_active_backend
import os

def work(n):
    return os.getpid(), n * n

for options in ({}, {"backend": "loky"}, {"backend": "multiprocessing"}, {"prefer": "processes"}):
    results = Parallel(n_jobs=2, **options)(delayed(work)(n) for n in range(20))
    assert [square for _, square in results] == [n * n for n in range(20)]
    assert os.getpid() not in {pid for pid, _ in results}
with parallel_config("loky", n_jobs=2, inner_max_num_threads=1, idle_worker_timeout=10):
    Parallel()(delayed(work)(n) for n in range(20))
assert type(get_active_backend()[0]).__module__ == "penstock.joblib"
results = Parallel(n_jobs=2, prefer="threads")(delayed(work)(n) for n in range(5))
assert {pid for pid, _ in results} == {os.getpid()}
print("ok")
"""


# --------------------------------------------------------------------------- the script's surroundings


def test_a_script_without_pools_notices_nothing(tmp_path):
    text = """
    import sys, os
    assert not {"concurrent.futures.process", "penstock.pool.executor", "numpy"} & set(sys.modules)
    assert "PENSTOCK_RESCUE" not in os.environ and "site" not in os.environ.get("PYTHONPATH", "")
    assert not any("rescue" in path for path in sys.path)
    print(sys.argv[1:], __name__)
    """
    out = rescued(tmp_path, text, "a", "b")
    assert (out.stdout, said(out.stderr)) == ("['a', 'b'] __main__\n", "")


def test_a_sitecustomize_of_the_users_own_still_runs(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("import builtins; builtins.OWN = __file__")
    environ = {"PYTHONPATH": str(tmp_path / "own")}
    text = "import os, sitecustomize; print(OWN == sitecustomize.__file__, os.environ['PYTHONPATH'])"
    out = rescued(tmp_path, text, environ=environ)
    assert out.stdout == f"True {tmp_path / 'own'}\n"


def test_programs_that_the_script_starts_are_their_own(tmp_path):
    text = """
    import subprocess, sys
    from concurrent.futures import ProcessPoolExecutor
    code = "from concurrent.futures import ProcessPoolExecutor as P; print(P.__module__)"
    print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
    """
    assert rescued(tmp_path, text).stdout.strip() == "concurrent.futures.process"


def test_a_pool_inside_a_worker_is_a_plain_one(tmp_path):
    text = """
    from concurrent.futures import ProcessPoolExecutor
    def inner(n):
        from concurrent.futures import ProcessPoolExecutor as Inner
        return Inner.__module__
    if __name__ == "__main__":
        with ProcessPoolExecutor(1) as pool:
            print(pool.submit(inner, 1).result())
    """
    assert rescued(tmp_path, text).stdout.strip() == "concurrent.futures.process"


def test_workers_write_to_the_scripts_output_and_we_do_not(tmp_path):
    text = """
    from multiprocessing import Pool
    if __name__ == "__main__":
        with Pool(1) as pool:
            pool.map(print, ["from a worker"])
    """
    out = rescued(tmp_path, text)
    assert (out.stdout, said(out.stderr)) == ("from a worker\n", "")


def test_an_environment_without_us(tmp_path):
    """A Python that has neither penstock nor what it needs: both are lent, and nothing else is."""
    there = tmp_path / "there"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", there], check=True)
    text = """
    from concurrent.futures import ProcessPoolExecutor
    import importlib.util

    def work(n):
        return n + 1

    if __name__ == "__main__":
        with ProcessPoolExecutor(2) as pool:
            print(sum(pool.map(work, range(10))), type(pool).__module__, importlib.util.find_spec("click"))
    """
    out = rescued(tmp_path, text, command=(there / "bin" / "python",))
    assert (out.stdout, said(out.stderr)) == ("55 penstock.rescue.process_pool None\n", "")


def test_the_environment_bounds_workers(tmp_path):
    text = """
    import os, time
    from concurrent.futures import ProcessPoolExecutor
    def where(n):
        time.sleep(0.05)
        return os.getpid()
    with ProcessPoolExecutor(4) as pool:
        print(len(set(pool.map(where, range(8)))), pool._max_workers)
    """
    assert rescued(tmp_path, text, environ={"PENSTOCK_WORKERS": "1"}).stdout == "1 4\n"


def test_the_environment_is_made_of_what_there_is():
    made = rescue.environment({"PYTHONPATH": "/there", "HOME": "/home"})
    first, second = made["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "sitecustomize.py").is_file()
    assert second == "/there"
    assert made["HOME"] == "/home"
    places = made[rescue.VARIABLE].split(os.pathsep)
    assert os.path.dirname(penstock.__file__) in places  # noqa: PTH120
    assert all(Path(place).exists() for place in places)


# --------------------------------------------------------------------------- in a real memory group

MIXES = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool
from joblib import Parallel, delayed

def wide(n):
    held = bytearray(b"x") * (150 << 20)
    time.sleep(0.05)
    return n, len(held)

def crashonce(n):
    if n == 5:
        try:
            os.close(os.open("crashed", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), 9)
    return n, len(bytearray(b"x") * (5 << 20))

if __name__ == "__main__":
    function, pool = globals()[sys.argv[1]], sys.argv[2]
    if pool == "futures":
        with ProcessPoolExecutor(4) as executor:
            results = list(executor.map(function, range(12)))
    elif pool == "pool":
        with Pool(4) as workers:
            results = workers.map(function, range(12))
    else:
        results = Parallel(n_jobs=4)(delayed(function)(n) for n in range(12))
    print([n for n, _ in results] == list(range(12)))
"""


@pytest.mark.parametrize("pool", ["futures", "pool", "joblib"])
@pytest.mark.parametrize("mix", ["wide", "crashonce"])
@needs_groups
def test_scripts_that_die_without_us_finish(mix, pool, tmp_path):
    with group(320 * MiB) as inside:
        out = rescued(tmp_path, MIXES, mix, pool, command=inside.command(sys.executable), budget="1TiB")
        assert inside.kills == 0
    assert out.stdout == "True\n"
