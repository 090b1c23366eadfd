"""Functions that workers call, and scripts of their own, for the tests of executors and pools.

Each of their fork servers imports this: what only one of them needs, that one imports.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

from waiting import LIMIT, MARK, left_behind, until

from penstock.proc import held

MiB = 1 << 20


def beside(mib):
    """A budget with so many MiB beside what this process holds already."""
    return held(os.getpid()) + mib * MiB


# --------------------------------------------------------------------------- functions


def describe(*args, **kwargs):
    return args, kwargs


def nothing():
    return None


def nothing_of(_):
    return None


def add(a, b):
    return a + b


class Refused(Exception):
    def __init__(self, why, code):
        super().__init__(why, code)
        self.code = code


def raises(code):
    raise Refused("refused", code)


def raises_from(n):
    return n // (1 if n else 0)


def exits(code):
    sys.exit(code)


def interrupts():
    raise KeyboardInterrupt


def a_lock():
    return threading.Lock()


class Awkward(Exception):
    """Cannot be made from its ``args``, and holds what cannot be pickled."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.b = b
        self.lock = threading.Lock()


def raises_awkward():
    raise Awkward(1, 2)


def raises_hopeless():
    class Hopeless(Exception):
        def __reduce_ex__(self, protocol):
            raise TypeError("no")

    raise Hopeless(threading.Lock())


def raises_much():
    raise ValueError("x" * (1 << 20))


class Fussy:
    """Can be pickled, not unpickled."""

    def __reduce__(self):
        return int, ("not a number",)


def does_not_load():
    return Fussy()


def until_there(path):
    until(Path(path).exists)
    return 1


def has_module(name):
    return name in sys.modules


_value = None


def remember(value):
    global _value
    _value = value


def remembered(_):
    return _value


def no_licence():
    raise OSError("no licence")


def holds(mib):
    block = bytearray(b"x") * (mib * MiB)
    time.sleep(0.02)
    return len(block) // MiB


def dies_once(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), 9)
    return None


def crashes_at_first(path, times):
    """Aborts so many times."""
    for number in range(times):
        try:
            os.close(os.open(f"{path}.{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        os.abort()
    return "alive"


_kept = []


def leaks(_):
    _kept.append(bytearray(b"x") * (10 * MiB))
    return 1


def at_once(folder):
    """How many of these run now."""
    mine = Path(folder) / uuid.uuid4().hex
    mine.touch()
    time.sleep(0.15)
    count = len(list(Path(folder).iterdir()))
    mine.unlink()
    return count


def where(_):
    time.sleep(0.005)
    return os.getpid()


def ones(count):
    import numpy as np

    return np.ones(count, "u1")


def ones_told(count, path):
    Path(path).touch()
    return ones(count)


def total(a, b):
    a[1] += 0  # its own
    return int(a.sum()), float(b.sum()), a.flags.writeable, b.flags.c_contiguous


def item_of(array):
    """A closure over a large array."""
    return lambda n: int(array[n])


# --------------------------------------------------------------------------- scripts


def start(folder, text, *arguments, environ=None, command=(sys.executable,)):
    """A script in a folder, marked so that whatever it leaves behind can be found."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    mark = uuid.uuid4().hex
    program = subprocess.Popen(
        [*command, str(script), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, MARK: mark, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    program.mark = mark
    return program


def python(folder, text, *arguments, **options):
    """Run such a script to its end."""
    program = start(folder, text, *arguments, **options)
    program.args_out, program.args_err = program.communicate(timeout=LIMIT)
    done = subprocess.CompletedProcess(program.args, program.returncode, program.args_out, program.args_err)
    done.mark = program.mark
    return done


def left_of(done):
    """Processes that a script has left behind."""
    return list(left_behind(done.mark))


def wait_for(path):
    """Return when the file is there."""
    until(path.exists)
    return str(path)


def meet(folder, count, number):
    """Return when so many have come."""
    (folder / str(number)).touch()
    until(lambda: len(list(folder.iterdir())) >= count)
    return number


POOLS = ["penstock.Executor(2, budget='300MiB')", "concurrent.futures.ProcessPoolExecutor(2)"]

EXIT_WITHOUT_SHUTDOWN = """
import sys, time
import concurrent.futures, penstock

def touch(n):
    time.sleep(0.1)
    open(f"done-{n}", "w").close()

if __name__ == "__main__":
    pool = eval(sys.argv[1])
    for n in range(6):
        pool.submit(touch, n)
"""

NO_GUARD = """
import penstock

class Point:
    def __init__(self, x): self.x = x
    def __repr__(self): return f"Point({self.x})"

class Odd(Exception):
    pass

SCALE = 2

def scaled(n):
    return SCALE * n

def moved(point):
    return Point(point.x + 1)

def odd(n):
    raise Odd(n)

with penstock.Executor(2, budget="300MiB") as pool:
    point = pool.submit(moved, Point(2)).result()
    error = pool.submit(odd, 3).exception()
    assert type(error) is Odd
    SCALE = 7
    print(
        [n // 7 * 2 for n in pool.map(scaled, range(3))], point, type(point) is Point, repr(error),
        pool.submit(scaled, 1).result(),
    )
"""

GLOBALS = """
import os, sys
import concurrent.futures, penstock

value, loaded, cache = None, 0, {}

def start(given):
    global value
    value = given

def get(_):
    return value

def load_once(_):
    global loaded
    loaded += 1
    return os.getpid(), loaded

def remember(n):
    cache[n] = n
    return os.getpid(), len(cache)

def fib(n):
    return n if n < 2 else fib(n - 1) + helper.fib(n - 2)

class Helper:
    def fib(self, n):
        return fib(n)

helper = Helper()

if __name__ == "__main__":
    with eval(sys.argv[1].replace("(2", "(2, initializer=start, initargs=(7,)")) as pool:
        assert {future.result() for future in [pool.submit(get, n) for n in range(9)]} == {7}
        assert set(pool.map(get, range(9))) == {7}
        for function in (load_once, remember):
            last = dict(pool.map(function, range(10)))
            assert sum(last.values()) == 10, last
            last.update([pool.submit(function, 100 + n).result() for n in range(4)])
            assert sum(last.values()) == 14, last
        assert pool.submit(fib, 10).result() == 55
    print("ok")
"""

BOUND_ANEW = """
import penstock

def both(_):
    return SCALE["by"]

def one():
    return SCALE["by"]

with penstock.Executor(2, budget="300MiB") as pool:
    for scale in (1, 2, 3):
        SCALE = {"by": scale}
        print(list(pool.map(both, range(2))), end=" ")
    print(pool.submit(one).result(), end=" ")
    SCALE = {"by": 7}
    print(pool.submit(one).result())
"""

LARGE_RESULTS = """
import sys
from concurrent.futures import as_completed
import penstock
from penstock.meter import Meter

def block(n):
    return bytes([n]) * (8 << 20)

meter = Meter()
with penstock.Executor(2, budget="400MiB") as pool:
    assert len(pool.submit(block, 1).result()) == 8 << 20
    before, most = meter.held(), 0
    if sys.argv[1] == "map":
        results = pool.map(block, range(60))
    else:
        results = (future.result() for future in as_completed([pool.submit(block, n) for n in range(60)]))
    seen = set()
    for result in results:
        seen.add(result[0])
        most = max(most, meter.held())
    assert seen == set(range(60))
print((most - before) >> 20)
"""

GATHERS = """
import penstock

def block(n):
    return bytes([n]) * (8 << 20)

with penstock.Executor(2, budget="200MiB") as pool:
    futures = [pool.submit(block, n) for n in range(60)]
    gathered = []
    try:
        for future in futures:
            gathered.append(future.result())
    except penstock.CannotFit as error:
        print(len(gathered), error)
"""

INTERRUPTED = """
import sys, time
import penstock

def slow(n):
    open("began", "w").close()
    time.sleep(900)
    open(f"done-{n}", "w").close()

try:
    with penstock.Executor(2, budget="300MiB") as pool:
        futures = [pool.submit(slow, n) for n in range(50)]
        for future in futures:
            future.result()
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(7)
"""

FORKS = """
import gc, os, sys
import penstock

with penstock.Executor(1, budget="300MiB") as pool:
    future = pool.submit(bytes, 1 << 20)
    future.exception()
    pid = os.fork()
    if pid == 0:
        del future
        gc.collect()
        sys.exit(0)
    os.waitpid(pid, 0)
    print(len(future.result()))
"""


# --------------------------------------------------------------------------- pools of loky in workers


def nests_loky(told, dies):
    """Write down this process, its semaphores and folders for a pool of loky; die once with that in use."""
    import numpy as np
    from joblib import Parallel, delayed

    with Parallel(n_jobs=2, backend="loky", max_nbytes=1) as parallel:
        parallel(delayed(np.sum)(np.arange(1000.0)) for _ in range(2))
        names = [name for name in os.listdir("/dev/shm") if name.startswith(f"sem.loky-{os.getpid()}-")]
        entries = os.listdir(os.environ["JOBLIB_TEMP_FOLDER"])
        with open(told, "a") as file:
            file.write(f"{os.getpid()} {len(names)} {len(entries)}\n")
        if dies and Path(told).read_text().count("\n") == 1:
            os.kill(os.getpid(), signal.SIGTERM)
