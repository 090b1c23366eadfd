"""Workers that outlive the Parallel that used them."""

import os
import signal
import sys
from pathlib import Path
from pickle import PicklingError

import joblib
import pytest
from executor_programs import beside
from joblib import Parallel, delayed
from waiting import said, until

import penstock.joblib
import penstock.pool.warm
from penstock.pool.warm import Shelf


class Pool:
    """Stands for an executor; ``busy`` and ``closed`` say what it is."""

    def __init__(self, forker, options):
        self.forker, self.options = forker, dict(options)
        self.busy = self.closed = False
        self.renewed = self.rested = 0
        self.most_workers = options["workers"]

    @property
    def idle(self):
        return not self.busy and not self.closed

    def rest(self):
        self.rested += 1

    def renew(self):
        self.renewed += not self.closed
        return not self.closed

    def shutdown(self, wait, cancel_futures):
        self.closed = True


class Forker:
    closed = False

    def close(self):
        self.closed = True


@pytest.fixture
def shelf(monkeypatch):
    monkeypatch.setattr(penstock.pool.warm, "new_backend", Forker)
    rung, now = [], [100.0]

    class Timer:
        daemon = True

        def __init__(self, seconds, function):
            rung.append(seconds)

        def start(self):
            pass

        cancel = start

    monkeypatch.setattr(penstock.pool.warm.threading, "Timer", Timer)
    made = Shelf(Pool, lambda: now[0])
    made.now, made.rung = now, rung
    return made


def options(**more):
    return {"workers": 2, "budget": "1GiB", "initializer": None, **more}


def test_the_same_options_find_the_same_workers_again(shelf):
    first = shelf.take(options())
    shelf.give_back(first, 60)
    again = shelf.take(options(workers=4))
    assert again is first
    assert (again.executor.rested, again.executor.renewed, again.executor.most_workers) == (1, 1, 4)


def test_the_same_initializer_with_the_same_arguments_finds_its_workers_again(shelf):
    first = shelf.take(options(initializer=print, initargs=([1], {"a": 2})))
    shelf.give_back(first, 60)
    assert shelf.take(options(initializer=print, initargs=([1], {"a": 2}))) is first


@pytest.mark.parametrize("how", ["other options", "closed", "environment", "threads", "initializer"])
def test_others_get_workers_of_their_own_forked_from_what_is_there(shelf, how, monkeypatch):
    began = {"initializer": print, "initargs": ([1],)}
    more = began if how == "initializer" else {}
    first = shelf.take(options(**more))
    first.executor.busy = how == "closed"  # calls were left: they are cancelled
    shelf.give_back(first, 60)
    if how == "environment":
        monkeypatch.setenv("PENSTOCK_BUDGET", "300MiB")
    if how == "threads":
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
    if how == "initializer":
        began["initargs"][0].append(2)  # the very same list, not with what it held
    again = shelf.take(options(**more, budget="2GiB") if how == "other options" else options(**more))
    assert again is not first
    assert again.forker is first.forker
    assert first.executor.closed
    assert not again.executor.closed


def test_two_at_once_do_not_share_and_only_one_waits(shelf):
    one, two = shelf.take(options()), shelf.take(options())
    assert one.forker is not two.forker
    shelf.give_back(one, 60)
    shelf.give_back(two, 60)
    assert one.executor.closed
    assert one.forker.closed
    assert shelf.take(options()) is two


def test_who_waits_too_long_ends_and_who_was_used_meanwhile_waits_on(shelf):
    warm = shelf.take(options())
    shelf.give_back(warm, 60)
    shelf.now[0] += 50
    shelf.give_back(shelf.take(options()), 60)
    shelf.now[0] += 20
    shelf.tidy()  # the first bell
    assert not warm.executor.closed
    assert shelf.rung == [60, 40]
    shelf.now[0] += 40
    shelf.tidy()
    assert warm.executor.closed
    assert warm.forker.closed
    again = shelf.take(options())
    assert again is not warm
    shelf.give_back(again, 300)
    shelf.give_back(shelf.take(options()), 5)  # sooner than the bell
    assert shelf.rung == [60, 40, 300, 5]


def pid(_):
    return os.getpid()


def total(array):
    return float(array.sum())


@pytest.fixture
def context():
    with joblib.parallel_config(backend="penstock", n_jobs=2, budget=beside(400)):
        yield
    penstock.pool.warm.clear()


def test_one_parallel_after_another_has_the_same_workers(context):
    seen = [set(Parallel(batch_size=1)(delayed(pid)(n) for n in range(8))) for _ in range(4)]
    assert len(set.union(*seen)) <= 2
    penstock.pool.warm.clear()
    for number in set.union(*seen):
        until(lambda number=number: not Path(f"/proc/{number}").exists())


def test_after_an_exception_the_next_one_runs(context):
    with pytest.raises(ZeroDivisionError):
        Parallel()(delayed(divmod)(1, n % 2) for n in range(10))
    assert Parallel()(delayed(abs)(-n) for n in range(10)) == list(range(10))


def test_what_was_changed_in_place_is_sent_anew(context):
    numpy = pytest.importorskip("numpy")
    array = numpy.ones(300_000)
    assert Parallel()(delayed(total)(array) for _ in range(2)) == [3e5, 3e5]
    array[:] = 2
    assert Parallel()(delayed(total)(array) for _ in range(2)) == [6e5, 6e5]


SCRIPT = """
import os, sys, time
import joblib, penstock.joblib
from joblib import Parallel, delayed

table = {"scale": 1}

def scaled(n):
    return n * table["scale"], os.getpid()

with joblib.parallel_config(backend="penstock", n_jobs=2, budget="400MiB"):
    first = Parallel()(delayed(scaled)(n) for n in range(4))
    table["scale"] = 10
    second = Parallel()(delayed(scaled)(n) for n in range(4))
print([n for n, _ in first], [n for n, _ in second], flush=True)
if sys.argv[1] == "wait":
    print(*{pid for _, pid in first + second}, flush=True)
    time.sleep(600)
"""


def test_a_global_changed_in_place_is_sent_anew_and_the_end_is_clean(tmp_path):
    from executor_programs import left_of, python

    done = python(tmp_path, SCRIPT, "end")
    assert (done.returncode, said(done.stderr)) == (0, "")
    assert done.stdout == "[0, 1, 2, 3] [0, 10, 20, 30]\n"
    assert left_of(done) == []


def test_no_worker_is_left_when_their_parent_is_killed(tmp_path):
    import subprocess

    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        script.stdout.readline()
        pids = [int(word) for word in script.stdout.readline().split()]
        assert pids
        assert all(Path(f"/proc/{number}").exists() for number in pids)
        script.send_signal(signal.SIGKILL)
    for number in pids:
        until(lambda number=number: not Path(f"/proc/{number}").exists())


def variable(name):
    return os.environ.get(name)


def test_threads_of_libraries_are_those_of_the_moment(context, monkeypatch):
    def seen(**more):
        with joblib.parallel_config(backend="penstock", n_jobs=2, budget=beside(400), **more):
            return set(Parallel()(delayed(variable)("OMP_NUM_THREADS") for _ in range(4)))

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert seen() == {"1"}
    assert seen(inner_max_num_threads=3) == {"3"}
    for threads in ("4", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert seen() == {threads}
        assert seen(inner_max_num_threads=3) == {"3"}


def test_nothing_stays_in_a_folder_of_the_callers(context, tmp_path):
    numpy = pytest.importorskip("numpy")
    array, workers = numpy.ones(1000), set()
    for _ in range(2):
        with Parallel(temp_folder=str(tmp_path), max_nbytes=1) as parallel:
            assert parallel(delayed(total)(array) for _ in range(4)) == [1000.0] * 4
            assert list(tmp_path.iterdir())
            workers |= set(parallel(delayed(pid)(n) for n in range(20)))
        assert list(tmp_path.iterdir()) == []
    assert len(workers) <= 2, "the workers are warm nevertheless"


class Stays:
    def __reduce__(self):
        raise RuntimeError("123")


def test_what_cannot_be_sent_is_said_in_lokys_words(context):
    with pytest.raises(
        PicklingError, match="Could not pickle the task to send to the workers: 123"
    ) as raised:
        Parallel()(delayed(id)(Stays()) for _ in range(4))
    assert isinstance(raised.value.__cause__, RuntimeError)
