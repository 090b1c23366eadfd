"""Every argument of every API that we stand in for is known here: honoured, or refused by name.

A new Python or joblib that adds one fails this: decide what becomes of it, then write it down.
"""

import concurrent.futures
import inspect
import multiprocessing
import os
import warnings
from multiprocessing.pool import Pool as StandardPool

import joblib
import pytest
from executor_programs import beside
from joblib import Parallel, delayed, parallel_config
from joblib.executor import MemmappingExecutor
from joblib.externals.loky.reusable_executor import get_reusable_executor
from joblib.pool import MemmappingPool

import penstock
import penstock.joblib
import penstock.pool.warm
from penstock.errors import UsageError
from penstock.pool import asked
from penstock.rescue.pool import Pool
from penstock.rescue.process_pool import ProcessPool


def public(kind):
    """The methods of a class and how it is made."""
    return {
        name: method
        for name in dir(kind)
        if (name == "__init__" or not name.startswith("_")) and callable(method := getattr(kind, name))
    }


def taken(method):
    return [name for name in inspect.signature(method).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize(
    ("theirs", "ours", "private"),
    [
        (concurrent.futures.ProcessPoolExecutor, penstock.Executor, ()),
        (concurrent.futures.ProcessPoolExecutor, ProcessPool, ()),
        (StandardPool, Pool, ("Process",)),  # how the original makes its processes
    ],
)
def test_pools_take_what_they_stand_in_for_takes_in_the_same_order(theirs, ours, private):
    for name, method in public(theirs).items():
        if name in private:
            continue
        stand_in = getattr(ours, name)
        assert getattr(stand_in, "__module__", "").startswith("penstock."), f"{name} is still the original's"
        wanted, have = taken(method), taken(stand_in)
        assert set(wanted) <= set(have), f"{name} takes {wanted} in the original and {have} here"
        kinds = inspect.signature(method).parameters
        by_place = [each for each in wanted if kinds[each].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        assert have[: len(by_place)] == by_place, name


PARALLEL = {  # what joblib's Parallel deals with itself, before any backend hears of it
    "n_jobs", "backend", "return_as", "verbose", "timeout", "pre_dispatch", "batch_size", "prefer",
    "require", "inner_max_num_threads", "backend_kwargs", "backend_params",
}  # fmt: skip
REFUSED = {
    "forward_reducers", "backward_reducers", "job_reducers", "result_reducers",  # how it pickles
    "env", "kill_workers", "reuse", "timeout",  # of loky's own executor, which Parallel does not pass on
}  # fmt: skip
OWN = {  # of joblib's inside: given by its backends, never by who calls Parallel
    "processes", "kwargs", "max_workers", "context_id", "backend_args", "n_jobs",
}  # fmt: skip


@pytest.mark.parametrize(
    "function",
    [
        Parallel.__init__,
        parallel_config.__init__,
        MemmappingPool.__init__,
        StandardPool.__init__,
        MemmappingExecutor.get_memmapping_executor,
        get_reusable_executor,
    ],
    ids=lambda function: function.__qualname__,
)
def test_every_argument_of_joblib_is_decided_on(function):
    known = PARALLEL | REFUSED | OWN | penstock.joblib._TAKEN
    assert set(taken(function)) <= known
    assert not REFUSED & penstock.joblib._TAKEN


@pytest.fixture
def small():
    with parallel_config(backend="penstock", n_jobs=2, budget=beside(300)):
        yield
    penstock.pool.warm.clear()


@pytest.mark.parametrize("name", [*sorted(REFUSED - {"timeout"}), "budegt"])
def test_joblib_options_that_we_do_not_know_are_refused_by_name(small, name):
    with pytest.raises(TypeError, match=f"'{name}'.*it takes budget"):
        Parallel(**{name: None})(delayed(abs)(n) for n in range(3))


STATE = []


def begin(*given):
    STATE.extend(given)


def state(_):
    return os.getpid(), list(STATE)


@pytest.mark.parametrize("how", ["Parallel", "parallel_config"])
def test_joblib_runs_the_initializer_in_every_worker(small, how):
    options = {"initializer": begin, "initargs": (7, "x")}
    calls = [delayed(state)(n) for n in range(20)]
    if how == "Parallel":
        seen = Parallel(**options, batch_size=1)(calls)
    else:
        with parallel_config(backend="penstock", n_jobs=2, budget=beside(300), **options):
            seen = Parallel(batch_size=1)(calls)
    assert {tuple(each) for _, each in seen} == {(7, "x")}
    assert all(not each for _, each in Parallel(batch_size=1)(calls))  # other workers: it was not asked for


def test_joblib_replaces_workers_after_so_many_tasks(small):
    seen = Parallel(maxtasksperchild=2, batch_size=1)(delayed(state)(n) for n in range(8))
    pids = [pid for pid, _ in seen]
    assert max(map(pids.count, pids)) <= 2


def fill(array, n):
    array[n] = n + 1


def test_joblib_modes_of_mapped_arrays_and_its_folder(small, tmp_path, numpy):
    array = numpy.zeros(300_000)
    mapped = Parallel(mmap_mode=None)(delayed(is_mapped)(array) for _ in range(2))
    assert mapped == [False, False]
    assert all(Parallel(mmap_mode="c")(delayed(is_mapped)(array) for _ in range(2)))
    where = Parallel(temp_folder=str(tmp_path))(delayed(file_of)(array) for _ in range(2))
    assert all(each.startswith(str(tmp_path)) for each in where)
    Parallel(mmap_mode="r+")([delayed(fill)(array, 0), delayed(fill)(array, 1)])
    assert not array.any()  # it is their copy that they share, not ours
    with pytest.raises(ValueError, match="mmap_mode must be"):
        Parallel(mmap_mode="x")(delayed(abs)(n) for n in range(2))


@pytest.fixture
def numpy():
    return pytest.importorskip("numpy")


def is_mapped(array):
    return file_of(array) is not None


def file_of(array):
    base = array
    while base is not None and not hasattr(base, "filename"):
        base = getattr(base, "base", None)
    return None if base is None else str(base.filename)


def pid(_):
    return os.getpid()


def test_executor_takes_numbers_first_and_says_where_a_budget_belongs():
    with pytest.raises(UsageError, match=r"budget is given by keyword: Executor\(budget='2GiB'\)"):
        penstock.Executor("2GiB")
    with pytest.raises(UsageError, match="give one of them"):
        penstock.Executor(4, workers=3)
    with pytest.raises(UsageError, match="must be a number"):
        penstock.Executor(2.5)
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        penstock.Executor(max_tasks_per_child=1.5)
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        penstock.Executor(max_tasks_per_child=0)
    with penstock.Executor(3, budget=beside(300)) as pool:
        assert pool._max_workers == 3  # as dask looks at it
        assert pool.submit(abs, -2).result() == 2


def test_a_fork_context_is_taken_and_said_once_to_have_no_effect(monkeypatch):
    monkeypatch.setattr(asked, "_said", set())
    fork, spawn = (multiprocessing.get_context(method) for method in ("fork", "spawn"))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for context in (spawn, fork, fork):
            with penstock.Executor(1, context, budget=beside(200)) as pool:
                assert pool.submit(abs, -2).result() == 2
    assert [str(each.message).split(":")[0] for each in seen] == [
        "mp_context with the start method 'fork' has no effect"
    ]


def test_workers_are_replaced_after_so_many_calls():
    with penstock.Executor(2, budget=beside(300), max_tasks_per_child=3) as pool:
        pids = list(pool.map(pid, range(30)))
    assert max(map(pids.count, pids)) <= 3
    with penstock.Executor(1, budget=beside(300), max_tasks_per_child=1) as pool:
        pids = [pool.submit(pid, n).result() for n in range(4)]
    assert len(set(pids)) == 4


def test_a_pool_counts_chunks_as_tasks(monkeypatch):
    monkeypatch.setenv("PENSTOCK_BUDGET", f"{beside(300) >> 20}MiB")
    with Pool(2, maxtasksperchild=1) as pool:
        assert type(pool) is Pool
        pids = pool.map(pid, range(16), chunksize=4)
        assert max(map(pids.count, pids)) <= 4
        assert len(set(pids)) < 16
        pids = pool.map(pid, range(8))  # eight chunks of one
        assert len(set(pids)) == 8
        pids = [pool.apply(pid, (n,)) for n in range(3)]
        assert len(set(pids)) == 3
        pids = list(pool.imap(pid, range(4)))
        assert len(set(pids)) == 4
    with pytest.raises(ValueError, match="maxtasksperchild"):
        Pool(2, maxtasksperchild=0)


def test_joblib_knows_its_own_name(small, capfd):
    Parallel(verbose=1)(delayed(abs)(n) for n in range(4))
    told = capfd.readouterr()
    assert "Using backend PenstockBackend with 2 concurrent workers." in told.out + told.err
    assert [kind.__name__ for kind in penstock.joblib.RESCUING.values()] == [
        "LokyBackend",
        "MultiprocessingBackend",
    ]
    assert joblib.parallel.BACKENDS["penstock"] is penstock.joblib.Backend
