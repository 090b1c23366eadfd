"""The joblib backend, alone and under scikit-learn."""

import multiprocessing
import os
import sys
import threading
import time

import executor_programs as programs
import joblib
import numpy as np
import pytest
from executor_programs import MiB, beside, python
from joblib import Parallel, delayed
from memory_groups import group, needs_groups
from waiting import LIMIT, said, until

import penstock
import penstock.joblib
import penstock.pool.warm
from penstock.meter import Meter


@pytest.fixture(autouse=True)
def ours():
    with joblib.parallel_config(backend="penstock", budget=beside(400)):
        yield
    penstock.pool.warm.clear()


@pytest.mark.parametrize("n_jobs", [None, 1, 2, 3, -1])
def test_a_list(n_jobs):
    assert Parallel(n_jobs=n_jobs)(delayed(abs)(-n) for n in range(200)) == list(range(200))
    assert Parallel(n_jobs=n_jobs)([]) == []


def test_how_many_jobs():
    backend = penstock.joblib.Backend()
    assert backend.effective_n_jobs(None) == 1
    assert backend.effective_n_jobs(5) == 5
    assert backend.effective_n_jobs(-1) == penstock.joblib.cpus()
    assert backend.effective_n_jobs(-1000) == 1
    with pytest.raises(ValueError, match="no meaning"):
        backend.effective_n_jobs(0)
    assert joblib.effective_n_jobs(-1) == penstock.joblib.cpus()


def test_one_job_runs_here_and_several_elsewhere():
    here = threading.get_native_id()
    assert set(Parallel(n_jobs=1)(delayed(threading.get_native_id)() for _ in range(3))) == {here}
    assert here not in Parallel(n_jobs=2)(delayed(threading.get_native_id)() for _ in range(3))


def test_generators():
    results = Parallel(n_jobs=2, return_as="generator")(delayed(abs)(-n) for n in range(100))
    assert list(results) == list(range(100))
    results = Parallel(n_jobs=2, return_as="generator_unordered")(delayed(abs)(-n) for n in range(100))
    assert sorted(results) == list(range(100))
    # So slow that they cannot all be done before the generator is closed.
    results = Parallel(n_jobs=2, return_as="generator")(delayed(time.sleep)(0.05) for _ in range(1000))
    assert next(results) is None
    with pytest.warns(UserWarning, match=r"not used|cancelled"):
        results.close()


def test_results_of_a_slow_consumer_wait_in_files(tmp_path):
    meter = Meter()
    calls = (delayed(programs.ones_told)(8 * MiB, str(tmp_path / str(n))) for n in range(30))
    results = Parallel(n_jobs=2, return_as="generator", pre_dispatch="all")(calls)
    next(results)
    before, most = meter.held(), 0
    until(lambda: len(list(tmp_path.iterdir())) == 30)
    for result in results:
        assert len(result) == 8 * MiB
        most = max(most, meter.held())
    assert most - before < 60 * MiB


def test_an_exception_ends_it_and_the_next_one_runs():
    with pytest.raises(programs.Refused) as caught:
        Parallel(n_jobs=2)(delayed(programs.raises)(n) for n in range(50))
    assert "in raises" in str(caught.value.__cause__)
    with Parallel(n_jobs=2) as parallel:
        with pytest.raises(programs.Refused):
            parallel(delayed(programs.raises)(n) for n in range(50))
        assert parallel(delayed(abs)(-n) for n in range(50)) == list(range(50))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_call_too_large_is_named(batch_size):
    with pytest.raises(penstock.ItemTooLarge, match=r"the call holds\(2000\) needs more than"):
        Parallel(n_jobs=2, batch_size=batch_size)(
            delayed(programs.holds)(2000 if n == 3 else 1) for n in range(16)
        )


def test_calls_that_die_together_are_tried_alone(tmp_path):
    """Each dies twice whatever it is with: four at once are too many, one by one they are done."""
    results = Parallel(n_jobs=2, batch_size=4)(
        delayed(programs.crashes_at_first)(str(tmp_path / f"{n}"), 2) for n in range(8)
    )
    assert results == ["alive"] * 8
    with pytest.raises(penstock.WorkerDied, match=r"the call abort\(\) lost its worker"):
        Parallel(n_jobs=2, batch_size=4)(
            [delayed(os.abort)(), delayed(abs)(-1), delayed(abs)(-2), delayed(abs)(-3)]
        )


def test_a_timeout_of_the_whole_and_of_a_call():
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(n_jobs=2, timeout=0.3)(delayed(time.sleep)(2 * LIMIT) for _ in range(2))
    with (
        joblib.parallel_config(backend="penstock", budget=beside(400), timeout_per_call="300ms"),
        pytest.raises(penstock.Stalled),
    ):
        Parallel(n_jobs=2)(delayed(time.sleep)(2 * LIMIT) for _ in range(2))


def test_the_budget_is_heeded():
    with joblib.parallel_config(backend="penstock", budget="2MiB"), pytest.raises(penstock.NoBudget):
        Parallel(n_jobs=2)(delayed(abs)(n) for n in range(10))
    with pytest.raises(penstock.NoBudget):
        Parallel(n_jobs=2, backend="penstock", budget="2MiB")(delayed(abs)(n) for n in range(10))


def nested(n):
    return Parallel(n_jobs=2)(delayed(programs.where)(k) for k in range(n))


def test_nested_parallel_stays_in_its_worker():
    for pids in Parallel(n_jobs=2)(delayed(nested)(3) for _ in range(4)):
        assert len(set(pids)) == 1


def threads_inside():
    import threadpoolctl

    return [each["num_threads"] for each in threadpoolctl.threadpool_info()]


def test_inner_max_num_threads():
    config = {"backend": "penstock", "budget": beside(400), "inner_max_num_threads": 1}
    with joblib.parallel_config(**config):
        inside = Parallel(n_jobs=2)(delayed(threads_inside)() for _ in range(4))
    assert {count for counts in inside for count in counts} <= {1}


def test_lambdas_of_a_main_script_in_threads(tmp_path):
    out = python(tmp_path, IN_THREADS)
    assert (out.returncode, said(out.stderr), out.stdout) == (0, "", "[45, 45, 45]\n")
    assert programs.left_of(out) == []


IN_THREADS = """
import threading
import joblib, penstock.joblib

found = []
def work():
    with joblib.parallel_config(backend="penstock", budget="500MiB"):
        found.append(sum(joblib.Parallel(n_jobs=2)(joblib.delayed(lambda n: n)(n) for n in range(10))))

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(found)
"""


# --------------------------------------------------------------------------- large arrays


def column_sum(table, column):
    table[0, column] += 0.0  # its own copy of that page
    return float(table[:, column].sum())


def test_a_large_array_of_many_tasks_is_not_pickled_for_each():
    table = np.arange(50 * MiB // 8, dtype="f8").reshape(-1, 100)
    meter = Meter()
    before, most = meter.held(), 0
    sums = Parallel(n_jobs=2, return_as="generator", batch_size=1)(
        delayed(column_sum)(table, n) for n in range(100)
    )
    for n, each in enumerate(sums):
        assert each == table[:, n].sum()
        most = max(most, meter.held())
    assert most - before < 25 * MiB


def test_max_nbytes_none_sends_arrays_as_they_are():
    table = np.ones(2 * MiB)
    for max_nbytes, mapped in (("1M", True), (None, False), ("100M", False)):
        told = Parallel(n_jobs=2, max_nbytes=max_nbytes)(delayed(is_mapped)(table) for _ in range(2))
        assert told == [mapped] * 2


def is_mapped(array):
    return type(array) is np.memmap  # as joblib's own backends have it


def fill(output, n):
    output[n] = n


def test_an_array_in_a_file_is_shared_for_writing(tmp_path):
    output = np.memmap(tmp_path / "output", dtype="f8", mode="w+", shape=(10, 200_000))
    Parallel(n_jobs=2)(delayed(fill)(output, n) for n in range(10))
    assert (output == np.arange(10)[:, None]).all()
    part = np.memmap(tmp_path / "output", dtype="f8", mode="r", shape=(10, 200_000))[3:7]
    assert Parallel(n_jobs=2)(delayed(mean)(part) for _ in range(2)) == [4.5, 4.5]


def mean(array):
    return float(array.mean())


# --------------------------------------------------------------------------- scikit-learn


@pytest.fixture(scope="module")
def flowers():
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


def test_cross_validation_is_as_the_serial_one(flowers):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    model = LogisticRegression(max_iter=500)
    there = cross_val_score(model, *flowers, cv=6, n_jobs=2)
    assert (there == cross_val_score(model, *flowers, cv=6, n_jobs=1)).all()


def test_grid_search_is_as_the_serial_one(flowers):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV

    grid = {"n_estimators": [3, 6], "max_depth": [2, None]}
    searches = [
        GridSearchCV(RandomForestClassifier(random_state=0, n_jobs=n_jobs), grid, cv=3, n_jobs=n_jobs).fit(
            *flowers
        )
        for n_jobs in (2, 1)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    assert (scores[0] == scores[1]).all()
    assert searches[0].best_params_ == searches[1].best_params_


HEAVY = """
import sys
import joblib, numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import cross_val_score

class Heavy(ClassifierMixin, BaseEstimator):
    "Needs 120 MiB for a moment."
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        kernel = np.ones((120 << 20) // 8)
        __import__("time").sleep(0.2)
        self.mean_ = float(kernel.mean()) * y.mean()
        return self
    def predict(self, X):
        return np.full(len(X), self.classes_[int(self.mean_ > 0.5)])

backend = sys.argv[1]
if backend == "penstock":
    import penstock.joblib
X, y = np.zeros((120, 3)), np.arange(120) % 2
with joblib.parallel_config(backend=backend):
    print(cross_val_score(Heavy(), X, y, cv=12, n_jobs=4).tolist())
"""


@needs_groups
def test_heavy_cross_validation_finishes_where_loky_dies(tmp_path):
    for backend, ends in (("loky", False), ("penstock", True)):
        with group(420 * MiB) as inside:
            out = python(tmp_path, HEAVY, backend, command=inside.command(sys.executable))
            kills = inside.kills
        assert (out.returncode == 0) is ends, out.stderr
        assert (kills == 0) is ends
        if ends:
            assert out.stdout == f"{[0.5] * 12}\n"
        else:
            assert "TerminatedWorkerError" in out.stderr
